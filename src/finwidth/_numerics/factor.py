"""Factorisations of A = T·1 + K_R, with their conditioning."""

# SciPy makes the LAPACK wrappers at run time:
# pyright: reportAttributeAccessIssue=false

import abc
import math

import numpy as np
import scipy.linalg
from jaxtyping import Float

from .._basics.errors import InputError, warn

__all__ = ["Factor", "Factorization", "check_conditioning"]


def check_conditioning(n: int, rcond: float, temperature: float) -> float:
    """Return the relative rounding error n·ε/rcond of A⁻¹, or raise InputError where it is large.

    Parameters
    ----------
    n
        Number of patterns.
    rcond
        Reciprocal condition number of A; 0 where it is not positive definite.
    temperature
        T, for the message.
    """
    rounding = n * np.finfo(np.float64).eps / rcond if rcond > 0 else math.inf
    if rounding > 1e-2:
        raise InputError(
            "expected a larger temperature, or a kernel on the training set that is positive "
            f"definite to working precision, got temperature = {temperature:g} and reciprocal "
            f"condition number {rcond:.1e} (duplicate patterns, or more of them than the "
            "kernel's rank?)"
        )
    return rounding


class Factorization(abc.ABC):
    """A factorised A = T·1 + K_R.

    Attributes
    ----------
    rounding
        Relative error of A⁻¹ that rounding causes, by the condition number.
    """

    rounding: float

    @property
    @abc.abstractmethod
    def logdet(self) -> float:
        """logdet A."""

    @abc.abstractmethod
    def solve(self, b: np.ndarray) -> np.ndarray:
        """Return A⁻¹ b, for b of shape (pattern,) or (pattern, b)."""

    @abc.abstractmethod
    def whiten(self, b: np.ndarray) -> np.ndarray:
        """Return W b with WᵀW = A⁻¹, for b of shape (pattern, b)."""

    def quadratic(self, y: np.ndarray) -> float:
        """Return yᵀA⁻¹y for y of shape (pattern,)."""
        return float(np.sum(self.whiten(y[:, None]) ** 2))

    def warn(self) -> None:
        """Warn where rounding costs more than the eighth digit."""
        if self.rounding > 1e-8:
            warn(
                "expected a relative accuracy of 1e-8, got about "
                f"{self.rounding:.0e}: the kernel is ill-conditioned at this temperature"
            )


class Factor(Factorization):
    """The Cholesky factor L of A = L Lᵀ.

    Parameters
    ----------
    kernel
        K_R on the training set, shape (pattern, pattern).
    temperature
        T ≥ 0.
    overwrite
        Whether `kernel`, in Fortran order, may be overwritten to save memory.

    Raises
    ------
    InputError
        If A is singular to working precision.
    """

    def __init__(
        self,
        kernel: Float[np.ndarray, "pattern pattern"],
        temperature: float,
        overwrite: bool = False,
    ) -> None:
        n = kernel.shape[0]
        a = np.array(kernel, dtype=np.float64, order="F", copy=None if overwrite else True)
        a[np.diag_indices(n)] += temperature
        norm = max(float(np.sum(np.abs(a[:, j]))) for j in range(n))
        lower, info = scipy.linalg.lapack.dpotrf(a, lower=1, overwrite_a=1, clean=0)
        rcond = 0.0
        if info == 0:
            rcond, _ = scipy.linalg.lapack.dpocon(lower, norm, uplo="L")
        self.lower = lower
        self.rounding = check_conditioning(n, rcond, temperature)

    @property
    def logdet(self) -> float:
        """logdet A."""
        return 2.0 * float(np.sum(np.log(np.diag(self.lower))))

    def solve(self, b: np.ndarray) -> np.ndarray:
        """Return A⁻¹ b, for b of shape (pattern,) or (pattern, b)."""
        return scipy.linalg.cho_solve((self.lower, True), b)

    def whiten(self, b: np.ndarray) -> np.ndarray:
        """Return L⁻¹ b."""
        return scipy.linalg.solve_triangular(self.lower, b, lower=True)
