"""Cholesky factor of A = T·1 + K_R, with its conditioning."""

# SciPy makes the LAPACK wrappers at run time:
# pyright: reportAttributeAccessIssue=false

import math
import warnings

import numpy as np
import scipy.linalg
from jaxtyping import Float

from ._errors import AccuracyWarning, InputError

__all__ = ["Factor"]


class Factor:
    """Cholesky factor of A = T·1 + K_R with its conditioning.

    Parameters
    ----------
    kernel
        K_R on the training set, shape (pattern, pattern).
    temperature
        T ≥ 0.

    Raises
    ------
    InputError
        If A is singular to working precision.
    """

    def __init__(self, kernel: Float[np.ndarray, "pattern pattern"], temperature: float) -> None:
        n = kernel.shape[0]
        a = np.array(kernel, order="F")
        a[np.diag_indices(n)] += temperature
        norm = float(np.max(np.sum(np.abs(a), axis=0)))
        lower, info = scipy.linalg.lapack.dpotrf(a, lower=1, overwrite_a=1, clean=0)
        rcond = 0.0
        if info == 0:
            rcond, _ = scipy.linalg.lapack.dpocon(lower, norm, uplo="L")
        self.lower = lower
        self.rounding = n * np.finfo(np.float64).eps / rcond if rcond > 0 else math.inf
        if self.rounding > 1e-2:
            raise InputError(
                "expected a larger temperature, or a kernel on the training set that is positive "
                f"definite to working precision, got temperature = {temperature:g} and reciprocal "
                f"condition number {rcond:.1e} (duplicate patterns, or more of them than the "
                "kernel's rank?)"
            )

    def warn(self) -> None:
        """Warn where rounding costs more than the eighth digit."""
        if self.rounding > 1e-8:
            warnings.warn(
                "expected a relative accuracy of 1e-8, got about "
                f"{self.rounding:.0e}: the kernel is ill-conditioned at this temperature",
                AccuracyWarning,
                stacklevel=5,
            )

    @property
    def logdet(self) -> float:
        """logdet A."""
        return 2.0 * float(np.sum(np.log(np.diag(self.lower))))

    def solve(self, b: np.ndarray) -> np.ndarray:
        """Return A⁻¹ b."""
        return scipy.linalg.cho_solve((self.lower, True), b)

    def whiten(self, b: np.ndarray) -> np.ndarray:
        """Return L⁻¹ b with A = L Lᵀ."""
        return scipy.linalg.solve_triangular(self.lower, b, lower=True)
