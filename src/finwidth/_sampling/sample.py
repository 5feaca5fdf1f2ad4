"""`sample`: from a network and a training set to draws from the exact posterior."""

import contextlib
import dataclasses
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.arrays import shown
from .._basics.blas import blas_threads as limit_blas
from .._basics.checks import check_choice, check_count, check_flag, check_path, check_seed
from .._basics.errors import InputError
from .._basics.files import digest
from .._basics.progress import Progress
from .._numerics.precision import precision
from .._problem.network import Network
from .._results.tree import build_tree
from ..models._posterior import (
    Task,
    check_sampler,
    checked_task,
    default_sampler,
    run_inputs,
    run_program,
    site_shapes,
    sites_to_keep,
    stored_text,
)
from ..samplers import SHELF, Sampler
from .checkpoint import Checkpoint
from .drive import drive
from .engine import Engine, default_chain_method
from .plan import Plan
from .stopping import Target

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["SamplingInterrupted", "sample"]


class SamplingInterrupted(KeyboardInterrupt):
    """Ctrl-C during `finwidth.sample`, after some draws.

    Attributes
    ----------
    tree
        The draws so far, as `finwidth.sample` returns them.
    """

    def __init__(self, message: str, tree: "xr.DataTree") -> None:
        super().__init__(message)
        self.tree = tree

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (*self.args, self.tree)


def sample(
    net: Network,
    X: Any,
    y: Any,
    *,
    temperature: float,
    X_test: Any = None,
    y_test: Any = None,
    model: str = "marginal",
    sampler: str | None = None,
    theory: str | None = None,
    num_warmup: int | None = None,
    num_samples: int | None = None,
    num_chains: int = 4,
    seed: int = 0,
    thin: int = 1,
    keep: Sequence[str] | None = None,
    dtype: str = "float64",
    blas_threads: int | None = 1,
    target_mcse: float | None = None,
    target_ess: float | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    chain_method: str | None = None,
    sampler_options: Mapping[str, Any] | None = None,
    data_name: str | None = None,
    progress: bool = True,
) -> "xr.DataTree":
    """Sample the exact posterior of a network.

    Parameters
    ----------
    net
        The network.
    X, y
        Training set, shapes (pattern, input) and (pattern,).
    temperature
        T > 0.
    X_test, y_test
        Test points, shapes (test_pattern, input) and (test_pattern,), for predictions of f.
    model
        "marginal" (readout integrated exactly) or "network" (all weights): the network's own
        posterior. "student_t": that of the scale mixture (`models.student_t`), the theory with
        the fluctuations of its order parameters, which is the network's for the identity.
    sampler
        "split_hmc", "nuts", "hmc" or "langevin". Default: "split_hmc"; "nuts" with
        model="student_t", whose sites are not Gaussian, as "split_hmc" needs them.
    theory
        With model="student_t" how the order parameters enter the kernel: "nested" (default) or
        "wishart".
    num_warmup
        Transitions that adapt the sampler, per chain. By default the run decides: the warm-up of
        "split_hmc" and "langevin" ends when the chains agree on the log density and the
        step size stays; that of "nuts" and "hmc" takes 500.
    num_samples
        Draws per chain; with a target, the most. Default: 1000 (langevin 4000), with a target
        50 000.
    num_chains
        Number of chains.
    seed
        Seed of all randomness: the same call gives the same draws.
    thin
        Transitions per stored draw.
    keep
        Names of the sites to store. Default: all while they take less than 256 MiB, else all but
        the hidden layers' weights and biases; a run continued from a checkpoint keeps what it kept.
    dtype
        "float64" or "float32".
    blas_threads
        Threads of each linear-algebra call while this runs; more than one slows batches of
        small factorisations down. None leaves the process as it is.
    target_mcse, target_ess
        Stop when the Monte Carlo standard error of the test error is at most, and its effective
        sample size at least this (and R-hat ≤ 1.01); needs X_test and y_test. AccuracyWarning
        where `num_samples` draws do not reach it.
    checkpoint
        A folder that takes the draws and the sampler's state as they come. The same call
        continues a run that was killed and gives the draws of one that was not, bit for bit
        on CPUs; with a larger `num_samples` it extends a finished run.
    chain_method
        "threads": each chain on a thread of its own, "vectorized": all chains side by side in
        one call, spread over `jax.devices()`; None: threads on CPUs, else vectorized.
    sampler_options
        Options of the sampler's kernel, for example ``{"trajectory": 1.5}``.
    data_name
        Name of the data, for the provenance.
    progress
        Whether to show progress on stderr.

    Returns
    -------
    xarray.DataTree
        Groups posterior, sample_stats, observed_data, constant_data and, with test points,
        predictions (f; but for model="network" also f_mean and f_variance, the exact moments of f
        given the hidden weights or the order parameters of a draw) and
        predictions_constant_data. Dimensions chain, draw, pattern, test_pattern, unit (unit_ℓ for
        several hidden layers), input, layer. The attribute provenance is a JSON record.

    Raises
    ------
    InputError
        If an argument is not as described; before any sampling.
    SamplingInterrupted
        On Ctrl-C after some draws; they are in ``.tree``.

    References
    ----------
    theory.md, sections 1, 5 and 9.
    """
    task = checked_task(net, X, y, temperature, X_test, y_test, model, theory, dtype, data_name)
    chosen = SHELF.get(default_sampler(model) if sampler is None else sampler)
    sampler = chosen.name
    check_sampler(model, sampler)
    target = Target(target_mcse, target_ess)
    if target.active and task.y_test is None:
        raise InputError("expected X_test and y_test together with a target, got y_test=None")
    plan = Plan(
        num_warmup=check_count(
            "num_warmup", chosen.num_warmup if num_warmup is None else num_warmup, 0
        ),
        adaptive=num_warmup is None and chosen.adaptive,
        num_samples=_draws(num_samples, chosen.num_samples, target),
        thin=check_count("thin", thin),
        target=target,
        y_test=task.y_test,
    )
    check_count("num_chains", num_chains)
    check_seed(seed)
    check_flag("progress", progress)
    if checkpoint is not None:
        checkpoint = check_path("checkpoint", checkpoint, "a folder")
    if blas_threads is not None:
        check_count("blas_threads", blas_threads)
    if chain_method is None:
        chain_method = default_chain_method()
    check_choice("chain_method", chain_method, ("threads", "vectorized"))
    draws = plan.num_samples * num_chains
    task = dataclasses.replace(task, keep=sites_to_keep(task, keep, draws))
    options = _options(sampler_options)
    settings = {
        "model": model,
        "sampler": sampler,
        "sampler_options": {name: _written_out(value) for name, value in options.items()},
        "num_chains": num_chains,
        "seed": seed,
        "thin": thin,
        "keep": list(task.keep),
        "dtype": dtype,
        "chain_method": chain_method,
        "data": digest(task.X, task.y, task.X_test, task.y_test),
    }
    if model == "student_t":
        settings["theory"] = task.theory
    with contextlib.ExitStack() as stack:
        stack.enter_context(precision(dtype))
        stack.enter_context(limit_blas(blas_threads))
        saved = None
        if checkpoint is not None:
            if net.activation.digest is None:
                raise InputError(
                    "expected an activation whose values on float64 arrays can be computed, with "
                    f"a checkpoint to be found again by them, got {net.activation.name!r}"
                )
            run = settings | {
                "network": net.record(),
                "temperature": task.temperature,
                "num_warmup": "adaptive" if plan.adaptive else plan.num_warmup,
            }
            # the default depends on the number of draws, which an extension changes
            unset = {"keep"} if keep is None else set()
            saved = stack.enter_context(Checkpoint(checkpoint, run, unset))
            settings["keep"] = saved.run["keep"]
            task = dataclasses.replace(task, keep=tuple(saved.run["keep"]))
        engine = stack.enter_context(
            _engine(task, chosen, options, plan, num_chains, seed, chain_method)
        )
        blocks: list[dict[str, np.ndarray]] = []
        bar = Progress(
            f"{sampler} on {model}, N={list(net.widths)}, T={task.temperature:g}",
            stored_text(task, draws),
            plan.num_warmup + plan.num_samples,
            progress,
        )
        settings |= {"data_name": data_name, "biased": getattr(engine.kernel, "biased", False)}
        try:
            with bar:
                outcome = drive(engine, plan, blocks, saved, bar)
        except KeyboardInterrupt:
            if not blocks:
                raise
            tree = build_tree(task, site_shapes(task), blocks, settings | {"interrupted": True})
            raise SamplingInterrupted(
                f"interrupted after {tree['posterior'].sizes['draw']} of {plan.num_samples} draws "
                "per chain; they are in .tree",
                tree,
            ) from None
    return build_tree(task, site_shapes(task), blocks, settings | outcome)


def _options(sampler_options: Any) -> dict[str, Any]:
    options = {} if sampler_options is None else sampler_options
    if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
        raise InputError(
            "expected sampler_options = a mapping from names of options to values, got "
            f"{shown(sampler_options)}"
        )
    return dict(options)


def _written_out(value: Any) -> str:
    """Return an option as text; of arrays, however deep inside, every entry."""
    with np.printoptions(threshold=sys.maxsize, precision=17):
        return str(value)


def _draws(num_samples: Any, default: int, target: Target) -> int:
    if num_samples is None:
        return 50_000 if target.active else default
    return check_count("num_samples", num_samples)


@contextlib.contextmanager
def _engine(
    task: Task,
    sampler: Sampler,
    options: dict[str, Any],
    plan: Plan,
    num_chains: int,
    seed: int,
    chain_method: str,
) -> Iterator[Engine]:
    """Give the compiled chains of a run, and stop their threads at the end."""
    engine = Engine(
        run_program(task),
        run_inputs(task),
        sampler,
        options,
        num_chains=num_chains,
        num_warmup=plan.num_warmup,
        seed=seed,
        chain_method=chain_method,
    )
    try:
        yield engine
    finally:
        engine.close()
