"""What finwidth asks of the options of NumPyro's own samplers, which NumPyro takes as they come."""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from numpyro.infer import HMC
from numpyro.infer.initialization import init_to_sample
from numpyro.infer.util import ParamInfo
from numpyro.util import is_prng_key

from .._basics.arrays import as_float64, shown
from .._basics.checks import check_choice, check_flag, check_number
from .._basics.errors import InputError

__all__ = ["CheckedStart", "checked_options"]

type _Check = Callable[[str, Any], Any]


def checked_options(
    sampler: str, options: Mapping[str, Any], own: Mapping[str, _Check]
) -> dict[str, Any]:
    """Return the options of a NumPyro kernel, or raise InputError.

    Parameters
    ----------
    sampler
        What users call the sampler.
    options
        What they give.
    own
        Checks (name, value) -> value of options that only this sampler has.
    """
    checks = {**_COMMON, **own}
    for name in options:
        check_choice(f"sampler_options of {sampler!r}", name, checks)
    checked = {name: checks[name](name, value) for name, value in options.items()}
    _check_metric(checked.get("inverse_mass_matrix"), checked.get("dense_mass", False))
    return {"init_strategy": init_to_sample} | checked


class CheckedStart(HMC):
    """What needs the model's sites is checked where the chains start."""

    def init(self, *args: Any, **kwargs: Any) -> Any:
        given = self._inverse_mass_matrix
        try:  # NumPyro changes a dict that it is given
            self._inverse_mass_matrix = _real(given)
            return super().init(*args, **kwargs)
        finally:
            self._inverse_mass_matrix = given

    def _init_state(
        self, rng_key: Any, model_args: tuple, model_kwargs: dict, init_params: Any
    ) -> Any:
        try:
            params = super()._init_state(rng_key, model_args, model_kwargs, init_params)
        except Exception as error:
            if self._init_strategy is init_to_sample or isinstance(error, InputError):
                raise
            raise InputError(
                "expected init_strategy = one of numpyro.infer's that suits the model, got "
                f"{shown(self._init_strategy)} ({type(error).__name__}: {error})"
            ) from error
        z = params.z if isinstance(params, ParamInfo) else params
        lead = 0 if is_prng_key(rng_key) else 1
        sizes = {name: math.prod(jnp.shape(value)[lead:]) for name, value in z.items()}
        _check_sites(sizes, self._inverse_mass_matrix, self._dense_mass)
        return params


def _real(matrix: Any) -> Any:
    if isinstance(matrix, dict):
        return {sites: _real(block) for sites, block in matrix.items()}
    return None if matrix is None else jnp.asarray(matrix, jnp.result_type(float))


def _callable(name: str, value: Any) -> Any:
    if not callable(value) or isinstance(value, type):
        raise InputError(f"expected {name} = a function of numpyro.infer's, got {shown(value)}")
    return value


def _sites(name: str, value: Any) -> tuple[str, ...]:
    """Return the names of the sites of a block."""
    if not isinstance(value, tuple) or not value or not all(isinstance(v, str) for v in value):
        raise InputError(f"expected {name} = tuples of names of sites, got {shown(value)}")
    return value


def _check_once(name: str, blocks: Iterable[tuple[str, ...]]) -> None:
    sites = [site for block in blocks for site in block]
    for site in sites:
        if sites.count(site) > 1:
            raise InputError(f"expected {name} = each site in one block, got {site!r} twice")


def _dense_mass(name: str, value: Any) -> Any:
    if isinstance(value, list):
        blocks = [_sites(name, block) for block in value]
        _check_once(name, blocks)
        return blocks
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    raise InputError(
        f"expected {name} = True, False or a list of tuples of names of sites, got {shown(value)}"
    )


def _inverse_mass_matrix(name: str, value: Any) -> Any:
    if value is None:
        return None
    if isinstance(value, Mapping):
        blocks = {_sites(f"{name} with keys", sites): block for sites, block in value.items()}
        _check_once(name, blocks)
        return {
            sites: _inverse_mass_matrix(f"{name}[{sites!r}]", block)
            for sites, block in blocks.items()
            if block is not None
        }
    array = as_float64(name, value, "(coordinate,) or (coordinate, coordinate)")
    wanted = "positive entries" if array.ndim == 1 else "a symmetric, positive definite matrix"
    if array.ndim not in (1, 2) or array.size == 0 or len(set(array.shape)) > 1:
        raise InputError(
            f"expected {name} = an array of shape (coordinate,) or (coordinate, coordinate), got "
            f"shape {array.shape}"
        )
    if not np.all(np.isfinite(array)) or not _positive(array):
        raise InputError(f"expected {name} = {wanted}, got {shown(value)}")
    return array


def _positive(array: np.ndarray) -> bool:
    if array.ndim == 1:
        return bool(np.all(array > 0))
    try:
        np.linalg.cholesky(array)
    except np.linalg.LinAlgError:
        return False
    return np.array_equal(array, array.T)


def _check_metric(matrix: Any, dense: Any) -> None:
    """Raise InputError where NumPyro would take another matrix than was given."""
    if matrix is None:
        return
    if isinstance(dense, list) and dense and not isinstance(matrix, dict):
        raise InputError(
            "expected inverse_mass_matrix = a dict from blocks to arrays with dense_mass = a list "
            f"of blocks, got an array of shape {matrix.shape}"
        )
    if isinstance(dense, bool) and dense and isinstance(matrix, dict):
        raise InputError(
            "expected inverse_mass_matrix = an array with dense_mass=True, got a dict: name the "
            "blocks in dense_mass"
        )
    blocks = matrix if isinstance(matrix, dict) else {None: matrix}
    for sites, block in blocks.items():
        if block.ndim == 2 and not (dense is True or (isinstance(dense, list) and sites in dense)):
            of = "" if sites is None else f" of {sites!r}"
            raise InputError(
                f"expected inverse_mass_matrix{of} = its diagonal, of shape (coordinate,), where "
                f"dense_mass does not say that it is dense, got shape {block.shape}"
            )


def _check_sites(sizes: dict[str, int], matrix: Any, dense: Any) -> None:
    """Raise InputError where blocks name sites that the model lacks, or have another size."""
    blocks = matrix if isinstance(matrix, dict) else {}
    for name, given in (
        ("dense_mass", dense if isinstance(dense, list) else ()),
        ("inverse_mass_matrix", blocks),
    ):
        for site in (site for block in given for site in block):
            if site not in sizes:
                raise InputError(f"expected {name} = sites out of {sorted(sizes)}, got {site!r}")
    if matrix is not None and not isinstance(matrix, dict):
        blocks = {tuple(sorted(sizes)): matrix}
    covered = [*(dense if isinstance(dense, list) else ()), *blocks]
    _check_once("dense_mass and inverse_mass_matrix", dict.fromkeys(covered))
    for sites, block in blocks.items():
        size = sum(sizes[site] for site in sites)
        if block.shape[0] != size:
            raise InputError(
                f"expected inverse_mass_matrix of {sites} = {size} coordinates, got shape "
                f"{block.shape}"
            )


def _no_heuristic(name: str, value: Any) -> bool:
    # NumPyro's closes over the data of the first run, but runs of other data share its code
    if check_flag(name, value):
        raise InputError(f"expected {name} = False with finwidth.sample, got True")
    return False


def _number(low: float, high: float = math.inf) -> _Check:
    return lambda name, value: check_number(name, value, low, high)


_COMMON: dict[str, _Check] = {
    "step_size": _number(0.0),
    "target_accept_prob": _number(0.0, 1.0),
    "adapt_step_size": check_flag,
    "adapt_mass_matrix": check_flag,
    "regularize_mass_matrix": check_flag,
    "find_heuristic_step_size": _no_heuristic,
    "forward_mode_differentiation": check_flag,
    "dense_mass": _dense_mass,
    "inverse_mass_matrix": _inverse_mass_matrix,
    "init_strategy": _callable,
}
