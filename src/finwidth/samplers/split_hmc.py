"""Gaussian-split Hamiltonian Monte Carlo, the default."""

from ..infer import SplitHMC
from . import Sampler

__all__ = ["sampler"]

sampler = Sampler("split_hmc", SplitHMC, num_warmup=300, num_samples=1000)
