"""The Gaussian likelihood, y = f + √T ε: regression."""

# SciPy makes the LAPACK wrappers at run time:
# pyright: reportAttributeAccessIssue=false
import functools
from typing import Any

import numpy as np
import scipy.linalg

from .._numerics.factor import Factor, Factorization
from ._likelihood import Conditioned, Likelihood, Tile

__all__ = ["Gaussian", "GaussianConditioned", "likelihood"]


class GaussianConditioned(Conditioned):
    """f given labels with Gaussian noise, by a factorisation of A = T·1 + K.

    Parameters
    ----------
    factor
        The factorisation.
    y
        Labels, shape (pattern,).
    """

    def __init__(self, factor: Factorization, y: np.ndarray) -> None:
        self.factor, self._y = factor, y

    @property
    def action(self) -> float:
        """logdet A + yᵀA⁻¹y."""
        return self.factor.logdet + self.factor.quadratic(self._y)

    @functools.cached_property
    def weights(self) -> np.ndarray:
        """A⁻¹y."""
        return self.factor.solve(self._y)

    def whiten(self, b: np.ndarray) -> np.ndarray:
        """Return W b with WᵀW = A⁻¹."""
        return self.factor.whiten(b)

    def gradient(self) -> Tile:
        """Return the tiles of A⁻¹ − A⁻¹y yᵀA⁻¹."""
        return _tiles(self.factor.solve(np.eye(self._y.size)), self.weights)

    def warn(self) -> None:
        """Warn where rounding costs accuracy."""
        self.factor.warn()


class Gaussian(Likelihood):
    """y = f + √T ε with independent normal ε; T = 0 interpolates."""

    name = "gaussian"
    conjugate = True
    homogeneous = True

    def record(self) -> dict[str, Any] | None:
        """Return the name; of a class derived from this one nothing is known."""
        return {"name": self.name} if type(self) is Gaussian else None

    def __eq__(self, other: object) -> bool:
        return self is other or (type(self) is Gaussian and type(other) is Gaussian)

    def __hash__(self) -> int:
        return hash(Gaussian) if type(self) is Gaussian else object.__hash__(self)

    def check(self, y: np.ndarray) -> np.ndarray:
        """Return any finite labels."""
        return y

    def condition(self, kernel: np.ndarray, y: np.ndarray, temperature: float) -> Conditioned:
        """Factorise A = T·1 + K."""
        return GaussianConditioned(Factor(kernel, temperature, overwrite=True), y)

    def gradient(self, kernel: np.ndarray, y: np.ndarray, temperature: float) -> Tile | None:
        """Return the tiles of A⁻¹ − A⁻¹y yᵀA⁻¹ without a look at its conditioning."""
        kernel[np.diag_indices(y.size)] += temperature
        factor, info = scipy.linalg.lapack.dpotrf(kernel, lower=1, overwrite_a=1, clean=0)
        if info != 0 or not np.all(np.isfinite(np.diag(factor))):
            return None
        dual = scipy.linalg.cho_solve((factor, True), y)
        inverse, _ = scipy.linalg.lapack.dpotri(factor, lower=1, overwrite_c=1)
        return _tiles(inverse, dual)

    def observe(self, f: Any, y: Any, temperature: Any) -> None:
        """Sample y ~ N(f, T), of shape (pattern,), or (pattern, output) with several outputs."""
        import jax.numpy as jnp
        import numpyro
        import numpyro.distributions as dist

        law, dims = dist.Normal(f, jnp.sqrt(temperature)), {}
        if f.ndim > 1:  # the outputs of a pattern are one observation
            law, dims = law.to_event(1), {"event_dims": ["output"]}
        with numpyro.plate("pattern", f.shape[0]):
            numpyro.sample("y", law, obs=y, infer=dims)


likelihood = Gaussian()


def _tiles(inverse: np.ndarray, dual: np.ndarray) -> Tile:
    """Tiles of the lower triangle."""

    def tile(rows: slice, columns: slice) -> np.ndarray:
        return inverse[rows, columns] - np.outer(dual[rows], dual[columns])

    return tile
