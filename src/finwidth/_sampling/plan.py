"""What a run is to do: its arguments, checked, and the record of them."""

import dataclasses
import math
import numbers
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from .._basics.arrays import shown
from .._basics.checks import (
    LARGEST_COUNT,
    check_choice,
    check_count,
    check_flag,
    check_iterable,
    check_path,
    check_seed,
)
from .._basics.code_digest import code_digest
from .._basics.errors import InputError, PluginError
from .._basics.files import digest
from ..models._posterior import Posterior
from ..samplers import SHELF, Sampler
from .engine import default_chain_method
from .stopping import Target

__all__ = ["Plan", "make_plan"]

# Without `keep`, hidden weights are stored as long as the posterior group stays below this.
_DEFAULT_STORE = 256 * 2**20


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What a run is to do; made by `make_plan`.

    Parameters
    ----------
    posterior
        What is sampled.
    sampler, options
        With what, and the options of its kernel.
    num_warmup
        Transitions of the warm-up; the most, if it is adaptive.
    adaptive
        Whether the warm-up ends when it has settled.
    num_samples
        Draws per chain; the most, if there is a target.
    num_chains, seed, chain_method, dtype, blas_threads, checkpoint, data_name, progress
        As for `finwidth.sample`.
    thin
        Transitions per draw.
    target
        What allows the run to stop early.
    keep
        Sites to store.
    keep_given
        Whether the user named them.
    log_likelihood, posterior_predictive, prior
        As for `finwidth.sample`.
    """

    posterior: Posterior
    sampler: Sampler
    options: dict[str, Any]
    num_warmup: int
    adaptive: bool
    num_samples: int
    num_chains: int
    seed: int
    thin: int
    target: Target
    keep: tuple[str, ...]
    keep_given: bool
    log_likelihood: bool
    posterior_predictive: bool
    prior: int
    dtype: str
    blas_threads: int | None
    chain_method: str
    checkpoint: Path | None
    data_name: str | None
    progress: bool

    @property
    def observes(self) -> bool:
        """Whether f on the training set is needed of each draw, and can be had."""
        wanted = self.log_likelihood or self.posterior_predictive
        return wanted and "f" in self.posterior.derived

    @property
    def stored(self) -> tuple[str, ...]:
        """What the chains store of a draw: what to keep, and f where it is needed."""
        more = [
            name
            for name, wanted in (("f", self.observes), ("log_prior", self.log_likelihood))
            if wanted and name in self.posterior.derived and name not in self.keep
        ]
        return self.keep + tuple(more)

    @property
    def settings(self) -> dict[str, Any]:
        """What the provenance tells of the run, in JSON types."""
        posterior = self.posterior
        return {
            **posterior.settings,
            "model": posterior.name,
            "sampler": self.sampler.name,
            "sampler_options": {name: _written_out(value) for name, value in self.options.items()},
            "num_chains": self.num_chains,
            "seed": self.seed,
            "thin": self.thin,
            "keep": list(self.keep),
            "dtype": self.dtype,
            "chain_method": self.chain_method,
            "data": digest(posterior.X, posterior.y, posterior.X_test, posterior.y_test),
        }

    def identity(self) -> dict[str, Any]:
        """Return what makes it this run and no other, for a checkpoint; in JSON types.

        Raises
        ------
        InputError
            If the network's activation cannot be told apart from others of its name.
        """
        net, kind = self.posterior.network, type(self.posterior)
        if any(one.digest is None for one in net.activations):
            raise InputError(
                "expected an activation whose values on float64 arrays can be computed, with "
                f"a checkpoint to be found again by them, got {net.activation.name!r}"
            )
        identity = (
            self.settings
            | self.posterior.identity()
            | {
                "stores": [name for name in self.stored if name not in self.keep],
                "network": net.record(),
                "temperature": self.posterior.temperature,
                "num_warmup": "adaptive" if self.adaptive else self.num_warmup,
            }
        )
        if self.sampler.digest is not None:
            identity["sampler_digest"] = self.sampler.digest
        if kind.__module__.partition(".")[0] != __name__.partition(".")[0]:
            identity["posterior_digest"] = code_digest(kind)
        return identity

    def title(self) -> str:
        """Say what is sampled, and with what."""
        posterior = self.posterior
        return (
            f"{self.sampler.name} on {posterior.name}, N={list(posterior.network.widths)}, "
            f"T={posterior.temperature:g}"
        )

    def storage(self) -> str:
        """Say what the run will store."""
        posterior, draws = self.posterior, self.num_samples * self.num_chains
        size, what = _bytes(posterior, self.keep, draws, self.dtype), [*self.keep]
        if posterior.X_test is not None:
            size += sum(math.prod(site.shape) for site in posterior.predicted.values()) * draws * 8
            what.append("f(X_test)")
        labels = {"log_likelihood": self.log_likelihood, "y": self.posterior_predictive}
        if self.observes:
            names = [name for name, wanted in labels.items() if wanted]
            size += len(names) * self.posterior.y.size * draws * np.dtype(self.dtype).itemsize
            what += names
        return f"storing {', '.join(what)}: {size / 2**20:.1f} MiB"


def make_plan(
    posterior: Posterior,
    *,
    sampler: Any,
    num_warmup: Any,
    num_samples: Any,
    num_chains: Any,
    seed: Any,
    thin: Any,
    keep: Any,
    log_likelihood: Any,
    posterior_predictive: Any,
    prior: Any,
    dtype: Any,
    blas_threads: Any,
    target_mcse: Any,
    target_ess: Any,
    checkpoint: Any,
    chain_method: Any,
    sampler_options: Any,
    data_name: Any,
    progress: Any,
) -> Plan:
    """Check the arguments of a run, those of `finwidth.sample`, and return what it is to do.

    Raises
    ------
    InputError
        If an argument is not as described; before any long work.
    """
    check_choice("dtype", dtype, ("float32", "float64"))
    _check_numbers(posterior, dtype)
    if data_name is not None and not isinstance(data_name, str):
        raise InputError(f"expected data_name = a string or None, got {shown(data_name)}")
    chosen = _sampler(posterior, sampler)
    target = Target(target_mcse, target_ess)
    if target.active and posterior.y_test is None:
        raise InputError("expected X_test and y_test together with a target, got y_test=None")
    if num_samples is None:
        num_samples = 50_000 if target.active else chosen.num_samples
    check_count("num_samples", num_samples)
    check_count("num_chains", num_chains)
    if blas_threads is not None:
        check_count("blas_threads", blas_threads)
    if chain_method is None:
        chain_method = default_chain_method()
    return Plan(
        posterior=posterior,
        sampler=chosen,
        options=_options(posterior, chosen, sampler_options, dtype),
        num_warmup=check_count(
            "num_warmup",
            chosen.num_warmup if num_warmup is None else num_warmup,
            0,
            LARGEST_COUNT,
        ),
        adaptive=num_warmup is None and chosen.adaptive,
        num_samples=num_samples,
        num_chains=num_chains,
        seed=check_seed(seed),
        thin=check_count("thin", thin, 1, LARGEST_COUNT),
        target=target,
        keep=_sites_to_keep(posterior, keep, num_samples * num_chains, dtype),
        keep_given=keep is not None,
        log_likelihood=check_flag("log_likelihood", log_likelihood),
        posterior_predictive=check_flag("posterior_predictive", posterior_predictive),
        prior=_prior(posterior, prior),
        dtype=dtype,
        blas_threads=blas_threads,
        chain_method=check_choice("chain_method", chain_method, ("threads", "vectorized")),
        checkpoint=None if checkpoint is None else check_path("checkpoint", checkpoint, "a folder"),
        data_name=data_name,
        progress=check_flag("progress", progress),
    )


def _sampler(posterior: Posterior, name: Any) -> Sampler:
    """Return the sampler of this name, the posterior's own for None, or raise InputError.

    `name` may be the sampler itself.
    """
    if name is None:
        name = posterior.default_sampler
        if name not in SHELF.names():
            raise PluginError(
                f"expected default_sampler of model {posterior.name!r} = one of {SHELF.names()}, "
                f"got {name!r}"
            )
    chosen = name if isinstance(name, Sampler) else SHELF.get(name)
    if chosen.gaussian and not posterior.gaussian:
        others = [name for name, one in SHELF.items().items() if not one.gaussian]
        raise InputError(
            f"expected sampler = one of {others} with model={posterior.name!r}, whose sites are "
            f"not Gaussian, got {chosen.name!r}"
        )
    return chosen


def _prior(posterior: Posterior, prior: Any) -> int:
    """Return the number of draws from the prior, or raise InputError where it has none."""
    if check_count("prior", prior, 0, LARGEST_COUNT):
        posterior.prior()
    return prior


def _bytes(posterior: Posterior, names: tuple[str, ...], draws: int, dtype: str) -> int:
    sites = {**posterior.sites, **posterior.derived}
    count = sum(math.prod(sites[name].shape) for name in names)
    return count * draws * np.dtype(dtype).itemsize


def _sites_to_keep(posterior: Posterior, keep: Any, draws: int, dtype: str) -> tuple[str, ...]:
    sites = (*posterior.sites, *posterior.derived)
    if keep is None:
        sites = tuple(posterior.sites)
        small = _bytes(posterior, sites, draws, dtype) < _DEFAULT_STORE
        return tuple(name for name in sites if small or name in posterior.essential)
    names = check_iterable("keep", keep, f"names out of {list(sites)}")
    if not names or not all(isinstance(name, str) and name in sites for name in names):
        raise InputError(f"expected keep = names out of {list(sites)}, got {shown(keep)}")
    return tuple(name for name in sites if name in names)


def _options(
    posterior: Posterior, sampler: Sampler, sampler_options: Any, dtype: str
) -> dict[str, Any]:
    """Return the options of the sampler's kernel, or raise InputError where it refuses them."""
    options = {} if sampler_options is None else sampler_options
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise InputError(
            "expected sampler_options = a mapping from names of options to values, got "
            f"{shown(sampler_options)}"
        )
    sampler.make(_no_model, dict(options))
    for name, value in options.items():
        _check_range(f"sampler_options[{name!r}]", value, dtype)
    return {**posterior.default_options.get(sampler.name, {}), **options}


def _no_model() -> None:
    """Stand for the model while options are checked."""


def _check_range(name: str, value: Any, dtype: str) -> None:
    """Raise InputError if numbers, or the largest of an array, are beyond those of `dtype`."""
    info = np.finfo(dtype)
    for leaf in jax.tree.leaves(value):
        if isinstance(leaf, (numbers.Real, np.ndarray, jax.Array)):
            largest = np.max(np.abs(np.asarray(leaf, np.float64)), initial=0.0)
            if largest > info.max or 0 < largest < info.tiny:
                raise InputError(
                    f"expected {name} = numbers of a size that {dtype} holds ({info.tiny:.1e} … "
                    f"{info.max:.1e}), got {largest:.3g}"
                )


def _check_numbers(posterior: Posterior, dtype: str) -> None:
    """Raise InputError if data, temperature or precisions are beyond the numbers of `dtype`."""
    scales = {name: getattr(posterior, name) for name in ("X", "y", "temperature", "X_test")}
    for name in ("weight_precision", "bias_precision"):
        scales[name] = getattr(posterior.network, name)
    for name, value in scales.items():
        _check_range(name, value, dtype)


def _written_out(value: Any) -> str:
    """Return an option as text; of arrays, however deep inside, every entry."""
    with np.printoptions(threshold=sys.maxsize, precision=17):
        return str(value)
