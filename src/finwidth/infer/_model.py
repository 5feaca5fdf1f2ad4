"""A NumPyro model as a sampler sees it: latent sites, log density, values to report."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer.util import constrain_fn, log_density, potential_energy
from numpyro.util import not_jax_tracer

from .._basics.arrays import as_float64, shown
from .._basics.errors import InputError

__all__ = [
    "Model",
    "Values",
    "check_init_params",
    "depends_on",
    "latent_sites",
    "negative_log_likelihood",
    "negative_log_joint",
    "prior_draw",
    "reported_values",
    "unconstrained_shape",
]

Model = Callable[..., Any]
Values = dict[str, Array]


def _seeded(model: Model, rng_key: Any = 0) -> Model:
    """Return `model` with a key for every random choice it makes, the same at each call."""
    # A seed handler splits its key as it goes, so each call needs a handler of its own.
    return lambda *args, **kwargs: handlers.seed(model, rng_key)(*args, **kwargs)


def latent_sites(
    model: Model, model_args: tuple, model_kwargs: dict, rng_key: Any = 0
) -> dict[str, dict]:
    """Return the continuous latent sites of one run of `model`, by name, as NumPyro traces them.

    Raises
    ------
    InputError
        If a plate subsamples its data, a latent site is discrete, or there is no latent site.
    """
    trace = handlers.trace(_seeded(model, rng_key)).get_trace(*model_args, **model_kwargs)
    sites = {}
    for name, site in trace.items():
        if site["type"] == "plate":
            size, subsample_size = site["args"]
            if subsample_size is not None and subsample_size != size:
                raise InputError(
                    f"expected plates without subsampling, got plate {name!r} with "
                    f"subsample_size = {subsample_size} of {size}"
                )
        if site["type"] == "sample" and not site["is_observed"]:
            if site["fn"].support.is_discrete:
                raise InputError(
                    "expected continuous latent sites, got "
                    f"{name!r} ~ {type(site['fn']).__name__} (discrete)"
                )
            sites[name] = site
    if not sites:
        raise InputError("expected model = a NumPyro model with latent sites, got one with none")
    return sites


def prior_draw(model: Model, model_args: tuple, model_kwargs: dict, rng_key: Array) -> Values:
    """Return one draw of the latent sites from the prior, in unconstrained coordinates."""
    sites = latent_sites(model, model_args, model_kwargs, rng_key)
    dtype = jnp.result_type(float)
    return {
        name: jnp.asarray(biject_to(site["fn"].support).inv(site["value"]), dtype)
        for name, site in sites.items()
    }


def unconstrained_shape(site: dict) -> tuple[int, ...]:
    """Return the shape of the unconstrained value of a latent site."""
    return biject_to(site["fn"].support).inverse_shape(site["fn"].shape())


def check_init_params(
    init_params: Any, sites: dict[str, dict], n_chains: int | None
) -> dict[str, Array]:
    """Return `init_params` as arrays, or raise InputError where sites or shapes do not match."""
    if not isinstance(init_params, dict) or set(init_params) != set(sites):
        got = shown(list(init_params) if isinstance(init_params, dict) else init_params)
        raise InputError(f"expected init_params = a dict of the sites {sorted(sites)}, got {got}")
    batch = () if n_chains is None else (n_chains,)
    dtype = jnp.result_type(float)
    values = {}
    for name, site in sites.items():
        value, shape = init_params[name], batch + unconstrained_shape(site)
        if not_jax_tracer(value):
            value = as_float64(f"init_params[{name!r}]", value, str(shape))
        if value.shape != shape:
            raise InputError(
                f"expected init_params[{name!r}] of shape {shape}, got shape {value.shape}"
            )
        values[name] = jnp.asarray(value, dtype)
    return values


def negative_log_joint(
    model: Model, model_args: tuple, model_kwargs: dict, values: Values
) -> Array:
    """Return −log p(data, latents) at unconstrained `values`, Jacobian terms included."""
    return jnp.asarray(potential_energy(_seeded(model), model_args, model_kwargs, values))


def negative_log_likelihood(
    model: Model, model_args: tuple, model_kwargs: dict, values: Values
) -> Array:
    """Return minus the log density of everything but the latent sites named in `values`."""
    likelihood = handlers.block(handlers.substitute(_seeded(model), data=values), hide=list(values))
    return -jnp.asarray(log_density(likelihood, model_args, model_kwargs, {})[0])


def reported_values(
    model: Model, model_args: tuple, model_kwargs: dict
) -> Callable[[Values], Values]:
    """Return the map from unconstrained values to constrained ones plus deterministic sites."""
    return partial(
        constrain_fn, _seeded(model), model_args, model_kwargs, return_deterministic=True
    )


def depends_on(function: Callable[[Values], Any], values: Values) -> list[bool]:
    """Say for each leaf of ``function(values)`` whether it can depend on `values`.

    The computation itself is followed, not its numbers, so the answer holds everywhere and may
    be asked while JAX traces.
    """
    jaxpr = jax.make_jaxpr(function)(values).jaxpr
    dependent = {id(variable) for variable in jaxpr.invars}

    def any_dependent(variables: Iterable[Any]) -> bool:
        return any(id(variable) in dependent for variable in variables)

    for equation in jaxpr.eqns:
        if any_dependent(equation.invars):
            dependent.update(id(variable) for variable in equation.outvars)
    return [id(variable) in dependent for variable in jaxpr.outvars]
