"""Finite-width Bayesian neural networks."""
