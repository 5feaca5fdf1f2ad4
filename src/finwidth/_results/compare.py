"""Theory against posterior: z-scores with Monte Carlo standard errors, and an honest verdict.

What is compared is the theory's number with a Markov chain estimate of the exact one, so every
statement is bounded by the chain: the Monte Carlo standard error (MCSE) says how far off the
estimate may be, and R-hat and the effective sample size (ESS) say whether the MCSE itself can be
believed. Where it cannot, nothing is concluded (module `verdict` words this).
"""

import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._basics.checks import check_number, check_pair
from .._observables._observable import Observable, observables, predictions
from .attach import predictive_law
from .provenance import require_same_run
from .scores import TestRun, guesses, quantities_of, read_test_run
from .verdict import Limits, point_name, verdict

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["Predicted", "compare", "report_of"]


class Predicted(NamedTuple):
    """What a theory says of a run's test set.

    Attributes
    ----------
    theory
        Its name.
    network
        The record of the network.
    temperature
        T.
    mean
        Of f, shape (test_pattern,) or (test_pattern, output).
    scores
        Every quantity by its name.
    converged
        Whether the solver reached its tolerance.
    """

    theory: str
    network: Mapping[str, Any]
    temperature: float
    mean: np.ndarray
    scores: Mapping[str, float]
    converged: bool


def compare(
    theory: Any,
    tree: "xr.DataTree",
    *,
    r_hat_limit: float = 1.01,
    ess_per_chain: float = 100.0,
    z_limit: float = 4.0,
) -> "xr.Dataset":
    """Compare a theory with the sampled posterior of the same network.

    Parameters
    ----------
    theory
        What `finwidth.solve` or `finwidth.mixture` returned.
    tree
        What `finwidth.sample` returned with X_test and y_test, for the same network,
        temperature and training set.
    r_hat_limit
        Largest R-hat (rank-normalised, split) at which the chains count as mixed. It applies to
        f at every test pattern, to the error, to the variance and to plugins' observables.
    ess_per_chain
        Smallest bulk ESS of any of these series, for each chain. With four chains the default
        asks for 400, as Vehtari et al. recommend.
    z_limit
        Number of MCSE from which a difference counts as one. For the means at the test patterns
        it is raised, where there are so many of them that chance alone would exceed it in more
        than one comparison out of a hundred.

    Returns
    -------
    xarray.Dataset
        With dimension quantity ("error", "bias2", "variance", means over test patterns and
        outputs; for labels −1 and +1 and for one-hot rows "accuracy", of a posterior draw, and
        "accuracy_mean", of the posterior mean; then those of observables that plugins register):
        ``theory``, ``exact`` (the posterior's estimate), ``mcse``, ``z`` = (theory − exact)/mcse,
        ``relative_difference`` = theory/exact − 1, and ``baseline``, what a constant guess scores
        (of "error" the mean of the training labels, of the accuracies their most frequent class;
        NaN for the others). With dimension test_pattern, and output for several outputs:
        ``mean_theory``, ``mean_exact``, ``mean_mcse``, ``mean_z``, ``r_hat``, ``ess_bulk`` and
        ``y_test``. Scalars: ``fraction_beyond`` (share of these means with |mean_z| above
        ``attrs["pattern_z_limit"]``; the z-scores of different patterns come from the same
        draws, so they are correlated and the share is no test by itself), ``bias2_correction``,
        ``r_hat_max``, ``r_hat_error``, ``ess_bulk_min``, ``ess_bulk_error``, ``divergences``,
        ``n_draws``, ``n_chains``, ``outcome`` ("disagreement", "no disagreement" or "not
        judged") and ``verdict``, one sentence. Scalar coordinates width (N_1), depth,
        temperature and theory_name, so that ``xr.concat(reports, "width")`` gives one Dataset;
        attributes hold verdict, outcome, network (JSON), model, sampler, estimator and limits.

    Raises
    ------
    InputError
        If the tree lacks predictions, X_test or y_test, or belongs to another run.
    PluginError
        If an observable of a plugin gives no numbers, or of another shape.

    Notes
    -----
    Where the readout was integrated exactly (``f_mean`` and ``f_variance`` in the tree) every
    draw contributes the conditional moments of f instead of a draw of f (Rao-Blackwell): the
    same expectations with less noise. With m_t, s_t these moments (or f_t, 0) at draw t,
    ⟨·⟩ the mean over test patterns and m̄ the mean over all draws:

    * error is the mean of e_t = ⟨(y − m_t)² + s_t⟩, with the MCSE of that series;
    * bias2 = ⟨(y − m̄)²⟩ − c, where c = ⟨MCSE(m̄)²⟩ is the amount by which the noise of m̄ raises
      the square (``bias2_correction``). Its MCSE is that of the linearised series
      −2⟨(y − m̄)(m_t − m̄)⟩, with √2·c for the quadratic term (its value if all patterns move
      together, the worst case) added in quadrature;
    * variance is the mean of ⟨(m_t − m̄)² + s_t⟩, plus c, so that error = bias2 + variance; its
      MCSE likewise;
    * accuracy is the mean of ⟨Φ(y m_t/√s_t)⟩, or with several outputs of ⟨P(the label's is the
      largest)⟩, with the MCSE of that series;
    * accuracy_mean = ⟨1[y m̄ > 0]⟩ is a step function of m̄. Its MCSE is the root mean square change
      that the noise of m̄ makes: each point is on the other side with probability
      Φ(−|m̄|/MCSE(m̄)), two of them together as the correlation of their draws has it. It is 0 where
      no point is close to a boundary; a theory that puts one point elsewhere then has z = ±∞.

    A pattern at which f is the same in every draw of every chain (a zero input without biases)
    has no R-hat. It is left out of the diagnostics, its MCSE is 0, and its z is 0 if the theory
    gives the same value up to rounding, infinite otherwise. A quantity that is the same in every
    draw although f moves (a share of test points, where none has changed sides) has no MCSE, no z.

    References
    ----------
    Vehtari, Gelman, Simpson, Carpenter, Bürkner, Bayesian Anal. 16, 667 (2021).
    """
    limits = Limits(
        check_number("r_hat_limit", r_hat_limit, 1.0),
        check_number("ess_per_chain", ess_per_chain, 0.0),
        check_number("z_limit", z_limit, 0.0),
    )
    check_pair(theory, tree, "compare(theory, tree)")
    record = require_same_run(theory, tree)
    run = read_test_run(tree)
    prediction = predictive_law(theory, run.x_test)
    chosen = [
        one
        for one in observables(run.y_test)
        if one.covers(prediction, run.y_test) and one.covers(run.draws, run.y_test)
    ]
    said = Predicted(
        theory=str(theory.theory),
        network=theory.network.record(),
        temperature=float(theory.temperature),
        mean=np.asarray(prediction.mean, dtype=np.float64),
        scores=predictions(chosen, prediction, run.y_test),
        converged=bool(getattr(theory, "converged", True)),
    )
    return report_of(said, tree, run, chosen, record, limits)


def report_of(
    said: Predicted,
    tree: "xr.DataTree",
    run: TestRun,
    chosen: list[Observable],
    record: Mapping[str, Any],
    limits: Limits,
) -> "xr.Dataset":
    """Return what `compare` does, of a theory's numbers.

    Parameters
    ----------
    said
        The theory's numbers; its scores are those of `chosen`, in their order.
    tree, run, record
        The run, its draws at the test points and its provenance.
    chosen
        The observables.
    limits
        What counts as mixed, and as a difference.
    """
    import xarray as xr

    draws, y_test = run.draws, run.y_test
    predicted = np.array(list(said.scores.values()))

    patterns = draws.patterns
    sampled, quantities = quantities_of(run, chosen)
    guess = guesses(tree, y_test)
    watched = [i for i, one in enumerate(sampled.values()) if one.watched]
    mean_theory = said.mean
    n_chains, n_draws = draws.mean.shape[:2]
    points = ("test_pattern", "output")[: y_test.ndim]
    mean_z = _z(mean_theory - patterns.mean, patterns.mcse, patterns.mean)
    pattern_limit = limits.for_patterns(y_test.size)
    r_hat = np.append(patterns.r_hat, quantities.r_hat[watched])
    ess = np.append(patterns.ess_bulk, quantities.ess_bulk[watched])

    with np.errstate(divide="ignore", invalid="ignore"):
        relative_difference = predicted / quantities.mean - 1.0
    report = xr.Dataset(
        {
            "theory": ("quantity", predicted),
            "exact": ("quantity", quantities.mean),
            "mcse": ("quantity", quantities.mcse),
            "z": ("quantity", _z(predicted - quantities.mean, quantities.mcse, quantities.mean)),
            "relative_difference": ("quantity", relative_difference),
            "baseline": ("quantity", [guess.get(name, np.nan) for name in sampled]),
            "mean_theory": (points, mean_theory),
            "mean_exact": (points, patterns.mean),
            "mean_mcse": (points, patterns.mcse),
            "mean_z": (points, mean_z),
            "r_hat": (points, patterns.r_hat),
            "ess_bulk": (points, patterns.ess_bulk),
            "y_test": (points, y_test),
            "fraction_beyond": ((), float(np.mean(np.abs(mean_z) > pattern_limit))),
            "bias2_correction": ((), float(np.mean(patterns.mcse**2))),
            "r_hat_max": ((), _largest(r_hat)),
            "r_hat_error": ((), quantities.r_hat[0]),
            "ess_bulk_min": ((), -_largest(-ess)),
            "ess_bulk_error": ((), quantities.ess_bulk[0]),
            "divergences": ((), _divergences(tree)),
            "n_draws": ((), n_draws),
            "n_chains": ((), n_chains),
        },
        coords={
            "quantity": list(sampled),
            **{name: np.arange(n) for name, n in zip(points, y_test.shape, strict=True)},
            "width": said.network["widths"][0],
            "depth": len(said.network["widths"]),
            "temperature": said.temperature,
            "theory_name": said.theory,
        },
        attrs={
            "network": json.dumps(said.network),
            "model": str(record.get("model", "")),
            "sampler": str(record.get("sampler", "")),
            "posterior": _sampled(record),
            "estimator": run.estimator,
            "r_hat_limit": limits.r_hat,
            "ess_limit": limits.ess_per_chain * n_chains,
            "z_limit": limits.z,
            "pattern_z_limit": pattern_limit,
        },
    )
    labels = [point_name(report, index) for index in np.ndindex(y_test.shape)]
    labels += [f"the {list(sampled)[i]}" for i in watched]
    outcome, sentence = verdict(
        report, dict(zip(labels, zip(r_hat, ess, strict=True), strict=True)), said.converged
    )
    report["outcome"], report["verdict"] = ((), outcome), ((), sentence)
    report.attrs |= {"outcome": outcome, "verdict": sentence}
    return report


def _sampled(record: Mapping[str, Any]) -> str:
    """Return what the chains are draws of, in a word or two."""
    # in trees of before it was recorded, only draws of the scale mixture name a theory
    kind = record.get("posterior", "scale mixture" if "theory" in record else "exact")
    return "biased sampler" if kind == "exact" and record.get("biased") else str(kind)


def _z(difference: np.ndarray, mcse: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return difference/mcse; without noise, 0 where the difference is rounding, else ±inf."""
    rounding = 1e-12 * np.maximum(np.abs(scale), 1.0)
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        z = difference / mcse
    # a share of 1 − 1e-16 varies by rounding, too
    return np.where((mcse <= rounding) & (np.abs(difference) <= rounding), 0.0, z)


def _largest(values: np.ndarray) -> float:
    """Return the largest number, NaN if there is none."""
    known = values[~np.isnan(values)]
    return float(known.max()) if known.size else math.nan


def _divergences(tree: "xr.DataTree") -> int:
    """Return the number of divergent transitions, -1 if the tree does not record them."""
    stats = tree.children.get("sample_stats")
    if stats is None or "diverging" not in stats.data_vars:
        return -1
    return int(stats.data_vars["diverging"].values.sum())
