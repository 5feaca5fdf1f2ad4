"""Several classes: p(y|f) = exp(f_y)/Σ_d exp(f_d), y = 0 … D − 1, one output for each class."""

# SciPy makes the LAPACK wrappers at run time:
# pyright: reportAttributeAccessIssue=false
import functools
import math
from typing import Any

import numpy as np
import scipy.linalg
from jaxtyping import Float
from scipy.special import log_softmax, ndtri, softmax

from .._basics.errors import InputError
from ._laplace import Height, find_mode
from ._likelihood import Likelihood
from ._sites import SiteFactor

__all__ = ["Softmax", "SoftmaxConditioned", "likelihood", "softmax_laplace"]

_REACH = 8.8  # standard deviations that are integrated over
_NODES = 201  # to a direction, at most
_POINTS = 4096  # quasi-random ones, for more than two directions


class Softmax(Likelihood):
    """p(y|f) = exp(f_y)/Σ_d exp(f_d), tempered to p(y|f)^(1/T)."""

    name = "softmax"
    default_temperature = 1.0
    one_label = True

    def check(self, y: Float[np.ndarray, " pattern"]) -> Float[np.ndarray, " pattern"]:
        """Return labels that are integers from 0 on, of two classes at least."""
        expected = "expected y = class indices 0, 1, … with likelihood='softmax', got"
        other = y[(y != np.round(y)) | (y < 0)]
        if other.size:
            raise InputError(f"{expected} {other.size} other(s), the first {other[0]:g}")
        if np.all(y == y[0]):
            raise InputError(f"{expected} {y[0]:g} alone")
        return y

    def condition(self, kernel: np.ndarray, y: np.ndarray, temperature: float) -> Any:
        """Refuse: several outputs need `softmax_laplace`."""
        raise InputError(
            "expected solve(…) with theory='nested', 'wishart' or 'infinite' and an output for "
            "each class with likelihood='softmax'"
        )

    def record(self) -> dict[str, Any] | None:
        """Return the name."""
        return {"name": self.name} if type(self) is Softmax else None

    def probabilities(self, mean: np.ndarray, variance: np.ndarray) -> np.ndarray | None:
        """Return the softmax of f that is known, None for uncertain f: see `mean_softmax`."""
        return None if np.any(variance) else softmax(mean, axis=-1)

    def check_classes(self, y: np.ndarray, outputs: int) -> None:
        """Refuse labels without an output, and more classes than patterns."""
        if outputs < 2 or y.max() >= outputs:
            raise InputError(
                f"expected outputs > {max(y.max(), 1):g}, one for each class, with "
                f"likelihood='softmax', got outputs = {outputs}"
            )
        if outputs > y.size:
            raise InputError(
                f"expected at least as many patterns as classes, got {y.size} and {outputs}"
            )

    def observe(self, f: Any, y: Any, temperature: Any) -> None:
        """Sample y ~ p(y|f), or observe it with p(y|f)^(1/T)."""
        import jax
        import numpyro
        import numpyro.distributions as dist

        logits = jax.nn.log_softmax(f, axis=-1)
        with (
            numpyro.plate("pattern", f.shape[0]),
            numpyro.handlers.scale(scale=1.0 / temperature),
        ):
            index = None if y is None else y.astype(int)
            numpyro.sample("y", dist.CategoricalLogits(logits=logits), obs=index)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other)

    def __hash__(self) -> int:
        return hash(type(self))


class BlockFactor(SiteFactor):
    """Sites that are blocks, W_μ = diag(p) − p pᵀ over T: arrays are (pattern·output), p given.

    S_μ = diag(√p)(1 − √p √pᵀ)/√T, as 1 − √p √pᵀ is a projector.
    """

    def __init__(self, kernel: np.ndarray, p: np.ndarray, temperature: float) -> None:
        self.temperature = temperature
        super().__init__(kernel, p)

    def square_root(self, precision: np.ndarray) -> np.ndarray:
        """Return S, shape (pattern, output, output)."""
        root = np.sqrt(precision)
        eye = np.eye(root.shape[1])
        projector = eye - root[:, :, None] * root[:, None, :]
        return root[:, :, None] * projector / math.sqrt(self.temperature)

    def rooted(self, b: np.ndarray) -> np.ndarray:
        """Return Sᵀ b, for b of shape (pattern·output, b)."""
        blocks = b.reshape(*self.precision.shape, -1)
        return np.matmul(self.root.transpose(0, 2, 1), blocks).reshape(b.shape)

    def unrooted(self, b: np.ndarray) -> np.ndarray:
        """Return S b."""
        blocks = b.reshape(*self.precision.shape, -1)
        return np.matmul(self.root, blocks).reshape(b.shape)

    def weigh(self, f: np.ndarray) -> np.ndarray:
        """Return W f, for f of shape (pattern·output,)."""
        return self.unrooted(self.rooted(f[:, None]))[:, 0]

    def inverse(self) -> np.ndarray:
        """Return R, all of it."""
        inverse, _ = scipy.linalg.lapack.dpotri(self.lower, lower=1)
        whole = np.tril(inverse) + np.tril(inverse, -1).T
        return self.unrooted(self.unrooted(whole).T)


class SoftmaxConditioned:
    """f given the labels around its mode; arrays over (pattern·output).

    Attributes
    ----------
    factor
        Factorisation with W at the mode.
    mode
        f̂.
    weights
        g with E f(x) = k(x)·g.
    action
        −2 log Z − P log 2π.
    """

    def __init__(self, factor: BlockFactor, mode: np.ndarray, height: Height) -> None:
        self.factor, self.mode, self.weights = factor, mode, height.gradient
        constant = len(factor.precision) * math.log(2 * math.pi)
        self.action = float(mode @ self.weights) - 2.0 * height.value + factor.logdet - constant

    def whiten(self, b: np.ndarray) -> np.ndarray:
        """Return V b with VᵀV = R."""
        return self.factor.whiten(b)

    @functools.cached_property
    def gradient(self) -> np.ndarray:
        """∂action/∂K, the moving mode included, shape (pattern·output, pattern·output)."""
        p, a = self.factor.precision, self.weights
        n, d = p.shape
        kernel = self.factor.kernel
        half = self.factor.whiten(kernel)
        blocks = np.einsum("anb,anc->nbc", *(2 * [half.reshape(-1, n, d)]))
        blocks = np.einsum("nbnc->nbc", kernel.reshape(n, d, n, d)) - blocks
        # tr[Σ ∂W/∂f_d], by the third cumulant of the class
        along = np.einsum("nbc,nc->nb", blocks, p)
        own = np.einsum("nbb->nb", blocks)
        total = np.sum(own * p - 2.0 * along * p, axis=1, keepdims=True)
        moved = p * (own - 2.0 * along - total) / self.factor.temperature
        c = self.factor.reduced(moved.ravel())
        outer = np.outer(a, a - c)
        return self.factor.inverse() - 0.5 * (outer + outer.T)


def softmax_laplace(
    kernel: Float[np.ndarray, "n n"],
    y: Float[np.ndarray, " pattern"],
    temperature: float,
    start: Float[np.ndarray, " n"] | None = None,
) -> SoftmaxConditioned:
    """Return f ~ N(0, kernel) given class indices, by Laplace's approximation.

    Parameters
    ----------
    kernel
        Over (pattern·output), pattern slow.
    y
        Class indices.
    temperature
        T.
    start
        A guess of the mode, which only the number of steps depends on.
    """
    n = y.size
    one_hot = np.eye(len(kernel) // n)[y.astype(int)]

    def height(f: np.ndarray) -> Height:
        f = f.reshape(one_hot.shape)
        p = softmax(f, axis=1)
        value = float(np.sum(log_softmax(f, axis=1) * one_hot)) / temperature
        return Height(value, ((one_hot - p) / temperature).ravel(), p)

    def factorise(kernel: np.ndarray, p: np.ndarray) -> BlockFactor:
        return BlockFactor(kernel, p, temperature)

    mode, there = find_mode(height, factorise, kernel, start)
    return SoftmaxConditioned(factorise(kernel, there.precision), mode, there)


def mean_softmax(
    mean: Float[np.ndarray, "point output"], covariance: Float[np.ndarray, "point output output"]
) -> Float[np.ndarray, "point output"]:
    """Return E softmax(f) for f ~ N(mean, covariance), point by point.

    Softmax knows differences of outputs alone, D − 1 directions: up to two of them are integrated
    by the trapezoidal rule (to 1e-8 for standard deviations of up to 5), more by 4096 points of
    Sobol's sequence.
    """
    d = mean.shape[1]
    values, vectors = np.linalg.eigh(np.eye(d) - 1.0 / d)
    basis = vectors[:, values > 0.5]  # differences
    reduced = np.einsum("ab,nac,cd->nbd", basis, covariance, basis)
    values, vectors = np.linalg.eigh(reduced)
    root = vectors * np.sqrt(np.maximum(values, 0.0))[:, None, :]
    z, weights = _points(d - 1, float(np.sqrt(np.max(values, initial=0.0))))
    f = (mean @ basis)[:, None, :] + np.einsum("nab,kb->nka", root, z)
    return np.einsum("k,nkd->nd", weights, softmax(f @ basis.T, axis=-1))


def _points(dimensions: int, scale: float) -> tuple[np.ndarray, np.ndarray]:
    """Return points of a standard normal, and their weights, for functions of `scale` times it."""
    if dimensions > 2:
        from scipy.stats import qmc

        uniform = qmc.Sobol(dimensions, scramble=True, rng=0).random(_POINTS)
        return ndtri(uniform), np.full(_POINTS, 1.0 / _POINTS)
    count = min(_NODES, 2 * math.ceil(_REACH * max(1.5, 2.3 * scale)) + 1)
    z = np.linspace(-_REACH, _REACH, count)
    grid = np.stack(np.meshgrid(*dimensions * [z]), axis=-1).reshape(-1, dimensions)
    weights = np.exp(-0.5 * np.sum(grid**2, axis=1))
    return grid, weights / weights.sum()


likelihood = Softmax()
