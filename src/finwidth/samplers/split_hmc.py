"""Gaussian-split Hamiltonian Monte Carlo, the default."""

from ..infer import SplitHMC
from . import Sampler

__all__ = ["sampler"]

sampler = Sampler(
    "split_hmc", SplitHMC, num_warmup=2000, num_samples=1000, adaptive=True, gaussian=True
)
