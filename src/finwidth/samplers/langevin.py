"""Discrete Langevin dynamics, Metropolis-adjusted by default."""

from ..infer import Langevin
from . import Sampler

__all__ = ["sampler"]

sampler = Sampler("langevin", Langevin, num_warmup=2000, num_samples=4000)
