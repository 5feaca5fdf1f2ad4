"""The Gaussian prior of a model's latent sites: found, checked, and whitened to N(0, I)."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpyro.distributions as dist
from jax import Array
from jax.flatten_util import ravel_pytree
from jax.scipy.linalg import solve_triangular
from numpyro import handlers

from .._basics.errors import InputError
from ._model import Model, Values, depends_on, latent_sites

__all__ = ["GaussianPrior", "check_gaussian", "gaussian_prior"]


class GaussianPrior(NamedTuple):
    """Independent latent sites x = loc + scale z with z ~ N(0, I).

    Attributes
    ----------
    loc
        Prior means, by site, each of the shape of its site.
    scale
        Prior scales, by site: of the shape of `loc` (elementwise), or with one axis more
        (lower Cholesky factors of the covariance over the last axis).
    """

    loc: Values
    scale: Values

    def whiten(self, x: Values) -> Array:
        """Return the flat z with x = loc + scale z."""
        return self._flat(_solve, {name: x[name] - self.loc[name] for name in self.loc})

    def unwhiten(self, z: Array) -> Values:
        """Return x = loc + scale z, by site."""
        sites = ravel_pytree(self.loc)[1](z)
        return {name: self.loc[name] + _multiply(self.scale[name], sites[name]) for name in sites}

    def whiten_gradient(self, gradient: Values) -> Array:
        """Return the flat gradient with respect to z of a function with `gradient` in x."""
        return self._flat(_multiply_transposed, gradient)

    def unwhiten_gradient(self, gradient: Array) -> Values:
        """Return the gradient with respect to x of a function with flat `gradient` in z."""
        sites = ravel_pytree(self.loc)[1](gradient)
        return {name: _solve_transposed(self.scale[name], sites[name]) for name in sites}

    def log_normalizer(self) -> Array:
        """Return log ∫ exp(−|z|²/2) dx, the constant of the prior density."""
        total = jnp.zeros(())
        for name, scale in self.scale.items():
            diagonal = scale
            if scale.ndim > self.loc[name].ndim:
                diagonal = jnp.diagonal(scale, axis1=-2, axis2=-1)
            total = total + jnp.sum(jnp.log(diagonal) + 0.5 * jnp.log(2 * jnp.pi))
        return total

    def _flat(self, function: Any, values: Values) -> Array:
        mapped = {name: function(self.scale[name], values[name]) for name in self.loc}
        return ravel_pytree(mapped)[0]


def _multiply(scale: Array, value: Array) -> Array:
    if scale.ndim == value.ndim:
        return scale * value
    return jnp.einsum("...ij,...j->...i", scale, value)


def _multiply_transposed(scale: Array, value: Array) -> Array:
    if scale.ndim == value.ndim:
        return scale * value
    return jnp.einsum("...ji,...j->...i", scale, value)


def _solve(scale: Array, value: Array, trans: int = 0) -> Array:
    if scale.ndim == value.ndim:
        return value / scale
    return solve_triangular(scale, value[..., None], lower=True, trans=trans)[..., 0]


def _solve_transposed(scale: Array, value: Array) -> Array:
    return _solve(scale, value, trans=1)


def _parameters(name: str, site: dict) -> tuple[Array, Array]:
    """Return loc and scale of a site in its full shape, or raise InputError."""
    base = site["fn"]
    while isinstance(base, dist.Independent | dist.ExpandedDistribution):
        base = base.base_dist
    shape = site["fn"].shape()
    if type(base) is dist.Normal:
        loc, scale, scale_shape = base.loc, base.scale, shape
    elif type(base) is dist.MultivariateNormal:
        loc, scale, scale_shape = base.loc, base.scale_tril, shape + shape[-1:]
    else:
        raise InputError(
            "expected Gaussian latent sites (Normal or MultivariateNormal), "
            f"got {name!r} ~ {type(base).__name__}"
        )
    if site["scale"] is not None:
        raise InputError(
            "expected Gaussian latent sites whose log density is not rescaled, "
            f"got {name!r} ~ {type(base).__name__} under a scale handler"
        )
    dtype = jnp.result_type(float)
    return (
        jnp.broadcast_to(jnp.asarray(loc, dtype), shape),
        jnp.broadcast_to(jnp.asarray(scale, dtype), scale_shape),
    )


def gaussian_prior(model: Model, model_args: tuple, model_kwargs: dict) -> GaussianPrior:
    """Return the prior of the latent sites of `model`.

    Raises
    ------
    InputError
        If a latent site is not Normal or MultivariateNormal (in plates, expanded or not), is
        rescaled by a handler, or the model subsamples.
    """
    sites = latent_sites(model, model_args, model_kwargs)
    parameters = {name: _parameters(name, site) for name, site in sites.items()}
    return GaussianPrior(
        {name: loc for name, (loc, _) in parameters.items()},
        {name: scale for name, (_, scale) in parameters.items()},
    )


def check_gaussian(model: Model, model_args: tuple, model_kwargs: dict) -> None:
    """Raise InputError unless the latent sites of `model` are Gaussian and independent.

    A site whose loc or scale is computed from other latent sites (a hierarchical prior) is
    found by following the model's computation, and is named.
    """
    prior = gaussian_prior(model, model_args, model_kwargs)

    def substituted(values: Values) -> GaussianPrior:
        return gaussian_prior(handlers.substitute(model, data=values), model_args, model_kwargs)

    flags = jax.tree.unflatten(jax.tree.structure(prior), depends_on(substituted, prior.loc))
    for name in prior.loc:
        if flags.loc[name] or flags.scale[name]:
            raise InputError(
                "expected Gaussian latent sites with fixed loc and scale, got "
                f"{name!r} with parameters that depend on other latent sites"
            )
