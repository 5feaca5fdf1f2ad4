"""`sample`: from a network and a training set to draws from the exact posterior."""

import contextlib
import dataclasses
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.blas import blas_threads as limit_blas
from .._basics.progress import Progress
from .._likelihoods import GAUSSIAN, Likelihood, choose_likelihood
from .._numerics.precision import precision
from .._problem.network import Network
from .._results.tree import build_tree
from ..models._names import posterior_kind
from ..models._posterior import Posterior, make_posterior
from ..samplers import Sampler
from .checkpoint import Checkpoint
from .drive import drive
from .engine import Engine
from .plan import Plan, make_plan
from .predictive import observed_groups, prior_groups

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["SamplingInterrupted", "run", "sample"]


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
    temperature: float | None = None,
    X_test: Any = None,
    y_test: Any = None,
    model: str | type[Posterior] = "marginal",
    sampler: str | Sampler | None = None,
    theory: str | None = None,
    likelihood: str | Likelihood = "gaussian",
    num_warmup: int | None = None,
    num_samples: int | None = None,
    num_chains: int = 4,
    seed: int = 0,
    thin: int = 1,
    keep: Sequence[str] | None = None,
    log_likelihood: bool = True,
    posterior_predictive: bool = True,
    prior: int = 0,
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
        Training set, shapes (pattern, input) and (pattern,), or (pattern, output) with several
        outputs; images for a `Convolution`, (pattern, row, column) or (pattern, channel, row,
        column).
    temperature
        T > 0; it tempers the likelihood, p(y|f)^(1/T). For likelihoods of classes it is 1 if it is
        not given.
    X_test, y_test
        Test points, of such shapes, for predictions of f.
    model
        "marginal" (readout integrated exactly) or "network" (all weights): the network's own
        posterior. "student_t": that of the scale mixture (`models.student_t`), the theory with
        the fluctuations of its order parameters, which is the network's for the identity.
    sampler
        "split_hmc", "nuts", "hmc" or "langevin". Default: "split_hmc"; "nuts" with
        model="student_t" and one output, whose sites are not Gaussian, as "split_hmc" needs them.
        A plugin's by its name, or a `finwidth.samplers.Sampler` itself.
    theory
        With model="student_t" how the order parameters enter the kernel: "nested" (default) or
        "wishart".
    likelihood
        "gaussian"; with model="network" also "logit" and "probit", for labels −1 and +1, or a
        likelihood of your own.
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
        "f", on the training set, can be named, too.
    log_likelihood, posterior_predictive
        Whether the result has these groups, for model comparison and checks with ArviZ: log p(y|f)
        of each pattern (with it log_prior, the log density of the weights) and labels drawn anew,
        in each draw.
    prior
        Number of draws from the prior, for the groups prior and prior_predictive.
    dtype
        "float64" or "float32".
    blas_threads
        Threads of each linear-algebra call while this runs; more than one slows batches of
        small factorisations down. None leaves the process as it is.
    target_mcse, target_ess
        Stop when the Monte Carlo standard error of the test error (the mean over test points and
        outputs) is at most, and its effective sample size at least this (and R-hat ≤ 1.01); needs
        X_test and y_test. AccuracyWarning where `num_samples` draws do not reach it.
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
        given the hidden weights or the order parameters of a draw; for two classes p, the
        probability of +1 given f, for more those of all) and predictions_constant_data. Dimensions
        chain, draw, pattern, test_pattern, unit (unit_ℓ for several hidden layers), input, layer,
        and with several outputs output, the last one of y, f, its moments and the readout;
        model="student_t" then also has f_covariance, since its order parameters couple the
        outputs. The attribute provenance is a JSON record.

    Raises
    ------
    InputError
        If an argument is not as described; before any sampling.
    SamplingInterrupted
        On Ctrl-C after some draws; they are in ``.tree``.

    References
    ----------
    theory.md, sections 1, 5, 9 and 11.
    """
    kind = posterior_kind(model)
    chosen = choose_likelihood(likelihood)
    posterior = make_posterior(
        kind,
        net,
        X,
        y,
        chosen.temperature(temperature),
        X_test,
        y_test,
        theory=theory,
        likelihood=None if chosen == GAUSSIAN else chosen,
    )
    plan = make_plan(
        posterior,
        sampler=sampler,
        num_warmup=num_warmup,
        num_samples=num_samples,
        num_chains=num_chains,
        seed=seed,
        thin=thin,
        keep=keep,
        log_likelihood=log_likelihood,
        posterior_predictive=posterior_predictive,
        prior=prior,
        dtype=dtype,
        blas_threads=blas_threads,
        target_mcse=target_mcse,
        target_ess=target_ess,
        checkpoint=checkpoint,
        chain_method=chain_method,
        sampler_options=sampler_options,
        data_name=data_name,
        progress=progress,
    )
    return run(plan)


def run(plan: Plan) -> "xr.DataTree":
    """Do what is planned, and return the draws as `sample` does."""
    with contextlib.ExitStack() as stack:
        stack.enter_context(precision(plan.dtype))
        stack.enter_context(limit_blas(plan.blas_threads))
        saved = None
        if plan.checkpoint is not None:
            # the default depends on the number of draws, which an extension changes
            unset = set() if plan.keep_given else {"keep"}
            saved = stack.enter_context(Checkpoint(plan.checkpoint, plan.identity(), unset))
            plan = dataclasses.replace(plan, keep=tuple(saved.run["keep"]))
        engine = stack.enter_context(contextlib.closing(_engine(plan)))
        settings = plan.settings | {
            "data_name": plan.data_name,
            "posterior": plan.posterior.kind,
            "biased": getattr(engine.kernel, "biased", False),
        }
        blocks: list[dict[str, np.ndarray]] = []
        bar = Progress(
            plan.title(), plan.storage(), plan.num_warmup + plan.num_samples, plan.progress
        )
        try:
            with bar:
                outcome = drive(engine, plan, blocks, saved, bar)
        except KeyboardInterrupt:
            if not blocks:
                raise
            tree = _tree(plan, blocks, settings | {"interrupted": True})
            done = tree["sample_stats"].sizes["draw"]
            raise SamplingInterrupted(
                f"interrupted after {done} of {plan.num_samples} draws per chain; they are in "
                ".tree",
                tree,
            ) from None
        return _tree(plan, blocks, settings | outcome)


def _tree(
    plan: Plan, blocks: list[dict[str, np.ndarray]], settings: dict[str, Any]
) -> "xr.DataTree":
    """Return the result of a run from its blocks of draws."""
    posterior, groups = plan.posterior, {}
    if plan.observes:
        f = np.concatenate([block["site:f"] for block in blocks], axis=1)
        groups |= observed_groups(
            posterior, f, plan.seed, plan.log_likelihood, plan.posterior_predictive
        )
    if "log_prior" in plan.stored:
        prior = np.concatenate([block["site:log_prior"] for block in blocks], axis=1)
        groups["log_prior"] = {"weights": (("chain", "draw"), prior)}
    if plan.prior:
        groups |= prior_groups(posterior, plan.keep, plan.prior, plan.seed)
    return build_tree(posterior, blocks, plan.keep, groups, settings)


def _engine(plan: Plan) -> Engine:
    return Engine(
        plan.posterior,
        plan.stored,
        plan.sampler,
        plan.options,
        num_chains=plan.num_chains,
        num_warmup=plan.num_warmup,
        seed=plan.seed,
        chain_method=plan.chain_method,
    )
