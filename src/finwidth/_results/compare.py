"""Theory against posterior: z-scores with Monte Carlo standard errors, and an honest verdict.

What is compared is the theory's number with a Markov chain estimate of the exact one, so every
statement is bounded by the chain: the Monte Carlo standard error (MCSE) says how far off the
estimate may be, and R-hat and the effective sample size (ESS) say whether the MCSE itself can be
believed. Where it cannot, nothing is concluded (module `verdict` words this).
"""

import json
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .._basics.checks import check_number, check_solution
from .._basics.errors import InputError
from .._numerics.chains import Series, summarize
from .._observables._observable import Draws, Estimate, estimates, observables, predictions
from .attach import prediction_points
from .provenance import require_same_run
from .verdict import Limits, verdict

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["compare"]


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
        With dimension quantity ("error", "bias2", "variance", means over the test patterns; then
        those of observables that plugins register):
        ``theory``, ``exact`` (the posterior's estimate), ``mcse``, ``z`` = (theory − exact)/mcse
        and ``relative_difference`` = theory/exact − 1. With dimension test_pattern:
        ``mean_theory``, ``mean_exact``, ``mean_mcse``, ``mean_z``, ``r_hat``, ``ess_bulk`` and
        ``y_test``. Scalars: ``fraction_beyond`` (share of test patterns with |mean_z| above
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
      MCSE likewise.

    A pattern at which f is the same in every draw of every chain (a zero input without biases)
    has no R-hat. It is left out of the diagnostics, its MCSE is 0, and its z is 0 if the theory
    gives the same value up to rounding, infinite otherwise. A quantity that is the same in every
    draw although f moves (a share of test points, where none has changed sides) has no MCSE, no z.

    References
    ----------
    Vehtari, Gelman, Simpson, Carpenter, Bürkner, Bayesian Anal. 16, 667 (2021).
    """
    import xarray as xr

    limits = Limits(
        check_number("r_hat_limit", r_hat_limit, 1.0),
        check_number("ess_per_chain", ess_per_chain, 0.0),
        check_number("z_limit", z_limit, 0.0),
    )
    check_solution(theory, "theory")
    record = require_same_run(theory, tree)
    x_test, y_test = prediction_points(tree)
    if y_test is None:
        raise InputError(
            "expected tree with y_test in group 'predictions_constant_data', got none: "
            "sample with y_test=…"
        )
    draws, estimator = _draws(tree, y_test.size)
    y_test = np.asarray(y_test, dtype=np.float64)
    prediction = theory.predict(x_test)
    chosen = [
        one
        for one in observables(y_test)
        if one.covers(prediction, y_test) and one.covers(draws, y_test)
    ]
    answers = predictions(chosen, prediction, y_test)
    predicted = np.array(list(answers.values()))

    patterns = draws.patterns
    sampled = estimates(chosen, draws, y_test)
    quantities = _quantities(list(sampled.values()), bool(np.any(patterns.mcse > 0)))
    watched = [i for i, one in enumerate(sampled.values()) if one.watched]
    mean_theory = np.asarray(prediction.mean, dtype=np.float64)
    n_chains, n_draws, n_test = draws.mean.shape
    mean_z = _z(mean_theory - patterns.mean, patterns.mcse, patterns.mean)
    pattern_limit = limits.for_patterns(n_test)
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
            "mean_theory": ("test_pattern", mean_theory),
            "mean_exact": ("test_pattern", patterns.mean),
            "mean_mcse": ("test_pattern", patterns.mcse),
            "mean_z": ("test_pattern", mean_z),
            "r_hat": ("test_pattern", patterns.r_hat),
            "ess_bulk": ("test_pattern", patterns.ess_bulk),
            "y_test": ("test_pattern", y_test),
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
            "test_pattern": np.arange(n_test),
            "width": theory.network.widths[0],
            "depth": theory.network.depth,
            "temperature": float(theory.temperature),
            "theory_name": str(theory.theory),
        },
        attrs={
            "network": json.dumps(theory.network.record()),
            "model": str(record.get("model", "")),
            "sampler": str(record.get("sampler", "")),
            "posterior": _sampled(record),
            "estimator": estimator,
            "r_hat_limit": limits.r_hat,
            "ess_limit": limits.ess_per_chain * n_chains,
            "z_limit": limits.z,
            "pattern_z_limit": pattern_limit,
        },
    )
    converged = bool(getattr(theory, "converged", True))
    labels = [f"f(x_test[{index}])" for index in range(n_test)]
    labels += [f"the {list(sampled)[i]}" for i in watched]
    outcome, sentence = verdict(
        report, dict(zip(labels, zip(r_hat, ess, strict=True), strict=True)), converged
    )
    report["outcome"], report["verdict"] = ((), outcome), ((), sentence)
    report.attrs |= {"outcome": outcome, "verdict": sentence}
    return report


def _sampled(record: dict[str, Any]) -> str:
    """Return what the chains are draws of, in a word or two."""
    # in trees of before it was recorded, only draws of the scale mixture name a theory
    kind = record.get("posterior", "scale mixture" if "theory" in record else "exact")
    return "biased sampler" if kind == "exact" and record.get("biased") else str(kind)


def _draws(tree: "xr.DataTree", n_test: int) -> tuple[Draws, str]:
    """Return the draws of a run, and what they are in words."""
    group = tree.children.get("predictions")
    expected = "expected tree with f (chain, draw, test_pattern) in group 'predictions'"
    if group is None:
        raise InputError(f"{expected}, got no such group: sample with X_test=…")
    variables = group.data_vars
    conditional = "f_mean" in variables and "f_variance" in variables
    names = ("f_mean", "f_variance") if conditional else ("f",)
    arrays = []
    for name in names:
        if name not in variables:
            raise InputError(f"{expected}, got {sorted(map(str, variables))}")
        if set(variables[name].dims) != {"chain", "draw", "test_pattern"}:
            raise InputError(f"{expected}, got {name} with dimensions {variables[name].dims}")
        ordered = variables[name].transpose("chain", "draw", "test_pattern")
        arrays.append(ordered.values.astype(np.float64))
        if ordered.sizes["test_pattern"] != n_test:
            raise InputError(
                f"expected {name} at the {n_test} patterns of y_test, got "
                f"{ordered.sizes['test_pattern']} patterns"
            )
    if conditional:
        return Draws(arrays[0], arrays[1]), "conditional moments (Rao-Blackwell)"
    return Draws(arrays[0], np.zeros_like(arrays[0]), _probabilities(variables)), "draws of f"


def _probabilities(variables: Any) -> np.ndarray | None:
    """Return the probabilities of the classes given each draw, where the run has them."""
    if "p" not in variables:
        return None
    p = variables["p"].transpose("chain", "draw", "test_pattern", ...).values.astype(np.float64)
    return p if p.ndim == 4 else np.stack([1.0 - p, p], axis=-1)


def _quantities(sampled: list[Estimate], moving: bool) -> Series:
    """Return estimates, MCSE and diagnostics of quantities; `moving` says whether f varies."""
    series = summarize(np.stack([one.series for one in sampled], axis=-1))
    mean = series.mean + np.array([one.offset for one in sampled])
    mcse = np.hypot(series.mcse, np.array([one.noise for one in sampled]))
    if moving:
        mcse[series.mcse == 0] = np.nan
    return series._replace(mean=mean, mcse=mcse)


def _z(difference: np.ndarray, mcse: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return difference/mcse; without noise, 0 where the difference is rounding, else ±inf."""
    rounding = 1e-12 * np.maximum(np.abs(scale), 1.0)
    exact = mcse == 0
    with np.errstate(divide="ignore", invalid="ignore"):
        z = difference / mcse
    return np.where(exact & (np.abs(difference) <= rounding), 0.0, z)


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
