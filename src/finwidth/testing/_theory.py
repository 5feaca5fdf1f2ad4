"""Checks of a theory: what any theory of the posterior has to keep to, and how close it comes."""

import functools
from typing import Any

import numpy as np

from .._basics.arrays import shown
from .._basics.errors import InputError, PluginError
from ._pickling import check_pickling

__all__ = ["check_against_run", "check_theory"]

_TEMPERATURE = 0.3
_WIDE = 10**7


def _patterns(network: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Return X, y, X_test, y_test: eight patterns, flat or images, and six to predict."""
    rng = np.random.default_rng(0)
    shape = (3, 3) if network.layers[0].images else (3,)
    X, X_test = rng.normal(size=(8, *shape)), rng.normal(size=(6, *shape))
    y, y_test = (points.reshape(len(points), -1)[:, 0] for points in (X, X_test))
    return X, y + 0.3 * rng.normal(size=8), X_test, y_test


def _theory(theory: Any) -> Any:
    from ..theories._theory import choose_theory

    return choose_theory(theory)


def _network(theory: Any) -> Any:
    """Return the first of some networks that the theory is defined for."""
    from .._layers.convolution import Convolution
    from .._problem.network import Network

    networks = [
        Network(widths, activation, bias_precision=bias)
        for widths in ((20,), (20, 20))
        for activation in ("erf", "identity", "relu")
        for bias in (None, 1.0)
    ]
    networks.append(Network(layers=(Convolution(20, 2),), activation="erf"))
    refused = ""
    for network in networks:
        try:
            theory.check(network)
            return network
        except InputError as error:
            refused = str(error)
    raise PluginError(
        f"theory {theory.name!r}: expected a theory of dense networks with one hidden layer or "
        f"two, or of one convolution, got none that it takes ({refused})"
    )


def check_theory(theory: Any) -> dict[str, float]:
    """Check a theory of a scalar output on eight patterns.

    Whatever it approximates, the posterior does not depend on the order of the patterns, is
    mirrored with the labels, and is that of infinite width where the network is wide.

    Parameters
    ----------
    theory
        A theory, or its name.

    Returns
    -------
    dict
        Check -> worst deviation found: "residual" of the solution; "blocks", predictions one by
        one; "covariance", its diagonal and symmetry; "order of patterns"; "sign of the labels";
        "infinite width"; "pickling". Those of predictions are relative to the prior's scale of f;
        what a theory states as its standard error is allowed for. The network has one or two dense
        layers of 20 units, or is a convolution, whatever the theory takes first.

    Raises
    ------
    PluginError
        At the first check that fails.
    InputError
        If `theory` is neither a theory nor the name of one.
    ConvergenceError
        If it does not converge.
    """
    theory = _theory(theory)
    network = _network(theory)
    X, y, X_test, _ = _patterns(network)
    solution = _solved(theory, network, X, y)
    given = solution.predict(X_test)
    what = f"theory {theory.name!r}: expected"
    _check_law(what, given, len(X_test))
    scale = _prior_scale(network, X_test)

    def deviation(name: str, mean: Any, variance: Any, allowed: float) -> float:
        gap = max(
            float(np.abs(mean - given.mean).max()) / scale,
            float(np.abs(variance - given.variance).max()) / scale**2,
        )
        error = getattr(given, "standard_error", None)
        error = 0.0 if error is None else float(np.max(error)) / scale
        if not gap <= allowed + 6 * error:
            raise PluginError(f"{what} {name}, got a deviation of {gap:.1e}, beyond {allowed:.0e}")
        return gap

    single = [solution.predict(point[None]) for point in X_test]
    report = {
        "residual": float(solution.residual),
        "blocks": deviation(
            "the same prediction for each point by itself",
            np.concatenate([one.mean for one in single]),
            np.concatenate([one.variance for one in single]),
            1e-8,
        ),
        "covariance": _check_covariance(what, solution, X_test, given, scale),
    }
    # averages over quasi-random points, which some theories take, differ by 1e-4
    order = np.random.default_rng(1).permutation(len(X))
    other = _solved(theory, network, X[order], y[order]).predict(X_test)
    report["order of patterns"] = deviation(
        "the same prediction for patterns in another order", other.mean, other.variance, 1e-3
    )
    other = _solved(theory, network, X, -y).predict(X_test)
    report["sign of the labels"] = deviation(
        "the opposite mean for the opposite labels", -other.mean, other.variance, 1e-3
    )
    wide = network.replace(layers=tuple(layer.resize(_WIDE) for layer in network.layers))
    given = _solved(theory, wide, X, y).predict(X_test)
    other = _solved("infinite", network, X, y).predict(X_test)
    report["infinite width"] = deviation(
        f"the infinite-width prediction at width {_WIDE:.0e}", other.mean, other.variance, 1e-3
    )
    return report | check_pickling(theory)


def _solved(theory: Any, network: Any, X: np.ndarray, y: np.ndarray) -> Any:
    from .._solve import solve
    from ..theories._solution import Solution

    found = solve(network, X, y, temperature=_TEMPERATURE, theory=theory)
    if not isinstance(found, Solution):
        raise PluginError(f"expected solve to return a finwidth.Solution, got {shown(found)}")
    return found


def _prior_scale(network: Any, X: np.ndarray) -> float:
    from .._problem.nngp import nngp_kernel

    return float(np.sqrt(np.diag(nngp_kernel(network, X)).max()))


def _check_law(what: str, prediction: Any, n: int) -> None:
    mean, variance = np.asarray(prediction.mean), np.asarray(prediction.variance)
    if mean.shape != (n,) or variance.shape != (n,):
        raise PluginError(
            f"{what} mean and variance of shape ({n},), got {mean.shape} and {variance.shape}"
        )
    if not (np.isfinite(mean).all() and np.isfinite(variance).all() and (variance >= 0).all()):
        raise PluginError(f"{what} finite means and variances ≥ 0, got {mean} and {variance}")


def _check_covariance(what: str, solution: Any, X: np.ndarray, given: Any, scale: float) -> float:
    """The covariance of predictions has their variances on its diagonal, and is one."""
    try:
        covariance = solution.predict(X, full_covariance=True).covariance
    except InputError:  # a theory need not have it
        return 0.0
    gap = float(np.abs(np.diag(covariance) - given.variance).max()) / scale**2
    gap = max(gap, float(np.abs(covariance - covariance.T).max()) / scale**2)
    lowest = float(np.linalg.eigvalsh(covariance).min()) / scale**2
    if not (gap <= 1e-8 and lowest >= -1e-8):
        raise PluginError(
            f"{what} a symmetric positive semidefinite covariance with the variances on its "
            f"diagonal, got a deviation of {gap:.1e} and an eigenvalue of {lowest:.1e}"
        )
    return max(gap, -lowest)


@functools.lru_cache(maxsize=16)
def _run(network: Any) -> Any:
    """Return a short exact run on the patterns of the checks."""
    from .._sampling.sample import sample

    X, y, X_test, y_test = _patterns(network)
    return sample(
        network,
        X,
        y,
        temperature=_TEMPERATURE,
        X_test=X_test,
        y_test=y_test,
        num_chains=2,
        num_warmup=300,
        num_samples=1000,
        seed=0,
        progress=False,
    )


def check_against_run(theory: Any) -> dict[str, float]:
    """Compare a theory's test error with that of a short exact run at width 20.

    A theory is an approximation, and how good it is at this width is for its author to say: what
    is refused is an error that is off by more than a half of the exact one.

    Parameters
    ----------
    theory
        A theory, or its name.

    Returns
    -------
    dict
        "against a run": the relative deviation of the test error; "of which Monte Carlo": the
        standard error of the run, likewise.

    Raises
    ------
    PluginError
        If the deviation is larger than a half and six standard errors.
    InputError
        If `theory` is neither a theory nor the name of one.
    """
    from .._results.compare import compare

    theory = _theory(theory)
    network = _network(theory)
    X, y, *_ = _patterns(network)
    report = compare(_solved(theory, network, X, y), _run(network)).sel(quantity="error")
    exact = float(report.exact)
    gap, error = abs(float(report.theory) - exact) / exact, float(report.mcse) / exact
    if not gap <= 0.5 + 6 * error:
        raise PluginError(
            f"theory {theory.name!r}: expected a test error near {exact:.4g} ± "
            f"{float(report.mcse):.1g} (a short exact run of {network}), got "
            f"{float(report.theory):.4g}"
        )
    return {"against a run": gap, "of which Monte Carlo": error}
