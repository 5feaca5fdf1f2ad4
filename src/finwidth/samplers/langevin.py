"""Discrete Langevin dynamics, Metropolis-adjusted by default."""

from ..infer import Langevin
from . import Sampler

__all__ = ["sampler"]

sampler = Sampler("langevin", Langevin, num_warmup=10_000, num_samples=4000, adaptive=True)
