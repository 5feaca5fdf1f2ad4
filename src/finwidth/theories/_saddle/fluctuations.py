"""`fluctuations`: the next order around a saddle point, for the evidence and for predictions.

The integral over the order parameters is ∫dθ J(θ) exp(−𝒮(θ)/2); the saddle point keeps its
exponent. Here follows what Gaussian fluctuations around that point, and the cubic term of 𝒮,
change in log p(y) at order 1 and in predictions at order 1/N (Laplace's method).
"""

import math
from typing import Any

import numpy as np
import xarray as xr

from ..._basics.arrays import check_labels
from ..._basics.errors import InputError
from ..._numerics.precision import in_float64
from ..._observables._prediction import Prediction
from ..._observables.squared_error import expected_error
from .expansion import DataTerm
from .theory import SaddleSolution

__all__ = ["fluctuations"]

_BLOCK = 512  # test patterns at a time


@in_float64
def fluctuations(solution: Any, X_test: Any = None, y_test: Any = None) -> xr.Dataset:
    """Compute what the fluctuations of the order parameters add to a saddle-point solution.

    Parameters
    ----------
    solution
        A converged solution of theory="nested" (one hidden layer, or an odd activation) or
        theory="wishart".
    X_test
        Test patterns, shape (test_pattern, input), for the corrected predictions; or None.
    y_test
        Labels, shape (test_pattern,), for the corrected error; or None.

    Returns
    -------
    xarray.Dataset
        ``log_evidence`` with the determinant of the fluctuations, ``log_evidence_leading``
        without; ``hessian`` of 𝒮/2 in the unknowns θ, dimensions (unknown, unknown_other), its
        ``hessian_eigenvalues`` (mode), and ``q_bar_sd`` (layer), the standard deviation of Q̄_ℓ
        to leading order (NaN with a mean term, where Q̄ is integrated along the imaginary
        direction), of residual blocks ``s_sd`` and ``r_sd`` (block). The unknowns are log Q̄_ℓ and,
        with a mean term, −log(1 + Q_ℓ).

        With `X_test` also ``mean`` and ``variance`` of the latent f (test_pattern), to first
        order in the fluctuations, and ``mean_leading``, ``variance_leading``; with `y_test` the
        scalars ``error``, ``bias2`` and ``error_leading``, ``bias2_leading``. The error is
        ``bias2`` plus the mean of ``variance``.

    Raises
    ------
    InputError
        If an argument is not as described, or if at this saddle point the Hessian has the wrong
        signs, so that no Gaussian integral exists.

    Notes
    -----
    With φ = 𝒮/2, H = φ'' and Σ = H⁻¹ at the saddle point, for any function g of θ

        ⟨g⟩ = g + ½ tr(Σ g'') − ½ (Σ g')·∇tr(Σ φ'') + (Σ g')·∇log J + O(N⁻²)

    where Σ is held fixed under the gradient. For one odd layer, "wishart", and odd layers in a
    nest, θ_ℓ = log Q̄_ℓ, J = 1, and exp(−𝒮/2) is the likelihood times the density of
    Q̄_ℓ ~ Gamma(N_ℓ/2, rate N_ℓ/2) over its largest value. That normalisation is expanded to the
    same order, so T → ∞ is exact, and

        log p(y) = −½(𝒮 + P log 2π) − ½ log det(H) + ½ Σ_ℓ log(N_ℓ/2) + O(1/N).

    With a mean term and one hidden layer the integral runs over Q̄ (imaginary direction) and Q,
    θ = (log Q̄, −log(1 + Q)), J = Q̄(1 + Q), and H has one negative eigenvalue. Both are
    expansions of `finwidth.mixture`, which has the same approximation of the features.

    References
    ----------
    theory.md, section 5; L. Tierney and J. Kadane, J. Am. Stat. Assoc. 81, 82 (1986).
    """
    _check(solution)
    if X_test is not None:
        X_test = solution.problem.test_inputs(X_test)
    if y_test is not None:
        if X_test is None:
            raise InputError("expected X_test along with y_test, got y_test alone")
        y_test = check_labels(y_test, X_test.shape[0], name="y_test", of="X_test")
    data = DataTerm(solution)
    hessian = data.hessian()
    integral = solution.point.chart.integral(data.theta)
    if integral is None:
        raise InputError(
            "expected order parameters over which an integral is known, got those of "
            f"{solution.network}"
        )
    negative, normalisation = integral
    values, vectors = np.linalg.eigh(hessian)
    _check_signs(values, negative)
    result = _evidence(solution, hessian, values, normalisation)
    if X_test is None:
        return result
    modes = data.modes(np.sign(values), (vectors / np.sqrt(np.abs(values))).T)
    blocks = [
        data.predict(modes, X_test[start : start + _BLOCK])
        for start in range(0, X_test.shape[0], _BLOCK)
    ]
    mean, variance, mean_change, variance_change = np.concatenate(blocks, axis=1)
    result["mean_leading"] = ("test_pattern", mean)
    result["variance_leading"] = ("test_pattern", variance)
    result["mean"] = ("test_pattern", mean + mean_change)
    result["variance"] = ("test_pattern", variance + variance_change)
    if y_test is not None:
        leading = expected_error(Prediction(mean, variance), y_test)
        bias2 = leading["bias2"] - 2.0 * float(np.mean((y_test - mean) * mean_change))
        result["error_leading"] = leading["error"]
        result["bias2_leading"] = leading["bias2"]
        result["error"] = bias2 + float(np.mean(variance + variance_change))
        result["bias2"] = bias2
    return result


def _check(solution: Any) -> None:
    expected = 'expected solution = a converged solution of theory="nested" or theory="wishart"'
    if not isinstance(solution, SaddleSolution):
        raise InputError(f"{expected}, got {type(solution).__name__}")
    if solution.point.equations is None:
        raise InputError(f"{expected}, got theory={solution.theory!r}, where nothing fluctuates")
    if not solution.converged:
        raise InputError(f"{expected}, got one that has not converged ({solution.message})")
    network = solution.network
    if network.depth > 1 and not solution.rule.eliminates_q(network):
        raise InputError(
            "expected one hidden layer, an odd activation or theory='wishart' (the mean terms of "
            "deeper layers are not derived from an integral), got activation "
            f"{network.activation.name!r} and {network.depth} hidden layers"
        )


def _check_signs(values: np.ndarray, negative: int) -> None:
    found = int(np.sum(values <= 0))
    if found != negative or np.any(values == 0) or not np.all(np.isfinite(values)):
        raise InputError(
            f"expected a saddle point where the Hessian of the action has {negative} negative "
            f"eigenvalue(s), got eigenvalues {values}: its fluctuations are no Gaussian integral"
        )


def _evidence(
    solution: SaddleSolution, hessian: np.ndarray, values: np.ndarray, normalisation: float
) -> xr.Dataset:
    """Return the part of the result that needs no test points."""
    point = solution.point
    determinant = -0.5 * float(np.sum(np.log(np.abs(values)))) + normalisation
    unknowns = point.chart.names
    result = xr.Dataset(
        {
            "log_evidence": solution.log_evidence + determinant,
            "log_evidence_leading": solution.log_evidence,
            "hessian": (("unknown", "unknown_other"), hessian),
            "hessian_eigenvalues": ("mode", values),
        },
        coords={"unknown": unknowns, "unknown_other": unknowns},
    )
    shown = solution.point.order.shown() or {}
    for name, (dim, layers, _) in shown.items():
        if name == "q":
            continue
        sd = np.full(len(layers), math.nan)
        if np.all(values > 0):
            slopes = np.asarray(point.slopes(name))
            sd = np.sqrt(np.einsum("li,li->l", slopes, np.linalg.solve(hessian, slopes.T).T))
        result = result.assign({f"{name}_sd": (dim, sd)}).assign_coords({dim: layers})
    return result
