"""The data term of a large kernel by stochastic Lanczos quadrature, at all scales from one run.

Quadratic forms of the labels are Gauss's rule of block Lanczos. A trace is a mean over random
probes z of zᵀf(K)z (Ubaru, Chen and Saad, SIAM J. Matrix Anal. Appl. 38, 1075 (2017)), but for
what the run has found of the spectrum: an eigenvector to which it has converged is a property of
K alone, so its eigenvalue counts once and only the rest is left to the probes.
"""

import math
from collections.abc import Callable

import numpy as np
from jaxtyping import Float

from .block_lanczos import BlockLanczos, Rule
from .data_term import DataTerm

__all__ = ["QuadratureTerm"]

_DISTINCT = 1e-8  # gap between eigenvalues, relative to the largest, that tells them apart
_FOUND = 1e-3  # residual of an eigenvector, relative to that gap, that counts as found

Function = Callable[[np.ndarray], np.ndarray]


class QuadratureTerm(DataTerm):
    """logdet A + yᵀA⁻¹y with the quadrature that a run of block Lanczos gives.

    Parameters
    ----------
    n
        P.
    rule
        Nodes, and components of y, of the columns U and of the probes, in this order.
    terms
        Number of columns.
    known
        Which nodes are eigenvalues of K, each with all its eigenvectors, shape (node,).

    Attributes
    ----------
    rest
        Components of the probes, what is known being taken out of them, shape (node, probe).
    """

    def __init__(self, n: int, rule: Rule, terms: int, known: np.ndarray) -> None:
        self.n, self.nodes, self.known = n, rule.nodes, known
        self.y, self.columns = rule.start[:, 0], rule.start[:, 1 : 1 + terms]
        rest = np.where(known[:, None], 0.0, rule.start[:, 1 + terms :])
        lengths = np.linalg.norm(rest, axis=0)
        wanted = math.sqrt(n - int(np.sum(known)))  # their length on average
        self.rest = rest * np.divide(
            wanted, lengths, out=np.zeros(lengths.shape), where=lengths > 0
        )
        self._shares = self.rest**2

    @classmethod
    def of(cls, n: int, run: BlockLanczos, rule: Rule, terms: int) -> "QuadratureTerm":
        """Return that of a run, its converged eigenvectors taken as known."""
        if run.size == n:
            return cls(n, rule, terms, np.ones(n, dtype=bool))
        largest = float(rule.nodes[-1])
        gaps = np.diff(rule.nodes, prepend=-math.inf, append=math.inf)
        gap = np.minimum(gaps[:-1], gaps[1:])
        known = (gap > _DISTINCT * largest) & (run.residuals(rule) <= _FOUND * gap)
        known &= rule.nodes > _DISTINCT * largest
        if known.all():  # nothing would be left to the probes, though the space is not whole
            known[:] = False
        return cls(n, rule, terms, known)

    @property
    def probes(self) -> int:
        """Number of probes."""
        return self.rest.shape[1]

    def traces(self, f: Function) -> Float[np.ndarray, " probe"]:
        """Return tr f(K) as each probe has it."""
        values = f(self.nodes)
        return float(np.sum(values[self.known])) + values @ self._shares

    def trace(self, f: Function) -> tuple[float, float]:
        """Return tr f(K) and its standard error."""
        values = self.traces(f)
        return float(np.mean(values)), float(np.std(values, ddof=1)) / math.sqrt(values.size)

    def logdet(self, scale: float, temperature: float) -> tuple[float, float]:
        """Return logdet B and its standard error."""
        value, error = self.trace(lambda x: np.log1p(scale / temperature * x))
        return self.n * math.log(temperature) + value, error

    def slope(self, scale: float, temperature: float) -> tuple[float, float]:
        """Return tr B⁻¹s·K_0 = d logdet B/d log s and its standard error."""
        return self.trace(lambda x: scale * x / (temperature + scale * x))

    def parts(
        self, scale: float, temperature: float, block: Float[np.ndarray, "basis b"]
    ) -> tuple[float, Float[np.ndarray, "basis b"], float]:
        solved = block / (temperature + scale * self.nodes)[:, None]
        return self.logdet(scale, temperature)[0], solved, self.slope(scale, temperature)[0]

    def times(
        self, scale: float, block: Float[np.ndarray, "basis b"]
    ) -> Float[np.ndarray, "basis b"]:
        return scale * self.nodes[:, None] * block
