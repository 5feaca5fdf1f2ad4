"""Points that stand for the law of one neuron: quasi-Monte Carlo on a mixture of Gaussians.

With b = a/√n and B = C/n the law is an integral over the neuron's readout weight,

    ρ(z) ∝ N(z) (1+q)^{−1/2} e^{ut/2} = ∫ dv N(v) N(z) exp(v u − v²q/2),   u = b·φ, q = φᵀBφ.

On a ladder of values v a Gaussian in z is fitted to the integrand by statistical linearisation, and
scrambled Sobol points of all of them, each weighted with the density of the mixture they come from
(the balance heuristic: Veach & Guibas, SIGGRAPH 1995), give moments of ρ, of the prior as well.
"""

import dataclasses
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import scipy.linalg
from jaxtyping import Float
from scipy.special import logsumexp, ndtri

# SciPy makes the BLAS wrappers at run time:
# pyright: reportAttributeAccessIssue=false

__all__ = [
    "MOST_COORDINATES",
    "SPACING",
    "TOP",
    "Cloud",
    "Given",
    "Nodes",
    "draw",
    "normals",
]

Activate = Callable[[np.ndarray], np.ndarray]

SPACING = 0.6  # of the ladder, in prior standard deviations of the readout weight
_FIRST_TOP, TOP = 4.8, 9.0
_SMALLEST = 0.5  # eigenvalue of a node's precision
_LONGEST = 3.0  # step of a node's mean, in its own standard deviations
_WIDENED = 1.5  # a variance below 1 is widened by as much: light tails ruin the weights
_CLOSE = 0.01  # deviations to draw with that are taken as one
_GRID = np.linspace(-4.5, 4.5, 37)  # for averages over one Gaussian preactivation
_WEIGHTS = np.exp(-0.5 * _GRID**2) / np.sum(np.exp(-0.5 * _GRID**2))
_BLOCK, _LEAST_BLOCK = 2**17, 256  # numbers, and points, at a time
MOST_COORDINATES = 21201  # MAXDIM of scipy.stats.qmc.Sobol


class Given(NamedTuple):
    """What the equations need to know of the network and the training set.

    Attributes
    ----------
    features
        Patterns as coefficients of whitened weights, h = z·features.
    scale
        1/√λ_1.
    temperature
        T.
    noise
        T·1 + 1/λ^b_1 on the training set.
    y
        Labels.
    kernel
        The prior's E φφᵀ.
    odd
        Whether σ is odd, so that the law is even.
    """

    features: Float[np.ndarray, "pattern coordinate"]
    scale: float
    temperature: float
    noise: Float[np.ndarray, "pattern pattern"]
    y: Float[np.ndarray, " pattern"] | Float[np.ndarray, "pattern output"]
    kernel: Float[np.ndarray, "pattern pattern"]
    odd: bool


@dataclasses.dataclass(frozen=True, eq=False)
class Nodes:
    """Gaussians N(mean, U diag(1/precision) Uᵀ), one for each value v of the readout weight.

    Attributes
    ----------
    v
        In prior standard deviations, shape (node,), increasing; from zero for an odd activation.
    mean
        Shape (node, coordinate).
    axes
        U, shape (node, coordinate, axis), most variance first.
    precision
        Shape (node, axis).
    """

    v: Float[np.ndarray, " node"]
    mean: Float[np.ndarray, "node coordinate"]
    axes: Float[np.ndarray, "node coordinate axis"]
    precision: Float[np.ndarray, "node axis"]

    @classmethod
    def prior(cls, coordinates: int, odd: bool) -> "Nodes":
        """Return the first ladder, each node at the prior."""
        steps = round(_FIRST_TOP / SPACING)
        v = SPACING * np.arange(0 if odd else -steps, steps + 1)
        axes = np.broadcast_to(np.eye(coordinates), (v.size, coordinates, coordinates))
        shape = (v.size, coordinates)
        return cls(v, np.zeros(shape), axes.copy(), np.ones(shape))

    def grown(self, below: bool) -> "Nodes":
        """Return the ladder with one more node at an end, which starts as its neighbour."""
        at, to = (0, 0) if below else (-1, self.v.size)
        v = self.v[at] + (-SPACING if below else SPACING)
        rest = (np.insert(x, to, x[at], axis=0) for x in (self.mean, self.axes, self.precision))
        return Nodes(np.insert(self.v, to, v), *rest)

    @property
    def deviations(self) -> Float[np.ndarray, "node axis"]:
        """Standard deviations to draw with, in each axis; one where they are close to it."""
        found = np.sqrt(np.maximum(1 / self.precision, np.minimum(1.0, _WIDENED / self.precision)))
        return np.where(np.abs(found - 1) < _CLOSE, 1.0, found)

    def fitted(
        self,
        given: Given,
        activate: Activate,
        field: np.ndarray,
        lower: np.ndarray,
        damping: float = 1.0,
    ) -> "Nodes":
        """Return the nodes after one step of statistical linearisation.

        Parameters
        ----------
        given
            The problem.
        activate
            σ.
        field
            b.
        lower
            Cholesky factor of B⁻¹.
        damping
            Share of the step that is made.
        """
        f = given.features
        middle = self.mean @ f.T
        turned = np.matmul(f, self.axes)
        spread = np.sqrt(np.sum(turned**2 / self.precision[:, None, :], axis=2))
        spread = np.maximum(spread, 1e-4)
        at = middle[..., None] + spread[..., None] * _GRID
        values = given.scale * activate(at)
        # Stein's identities: expected derivatives of σ, which need not have any
        first = values @ (_WEIGHTS * _GRID) / spread
        second = values @ (_WEIGHTS * (_GRID**2 - 1)) / spread**2
        v = self.v[:, None]
        coupled = scipy.linalg.cho_solve((lower, True), (values @ _WEIGHTS).T).T
        force = v * field - v**2 * coupled
        jacobian = first[..., None] * f
        pattern, size = f.shape
        white = jacobian.transpose(1, 0, 2).reshape(pattern, -1)
        white = scipy.linalg.solve_triangular(lower, white, lower=True, check_finite=False)
        white = white.reshape(pattern, -1, size).transpose(1, 2, 0)
        bent = np.matmul(f.T * (force * second)[:, None, :], f)
        matrix = v[..., None] ** 2 * np.matmul(white, white.transpose(0, 2, 1)) - bent
        precision, axes = np.linalg.eigh(matrix + np.eye(size))
        precision = np.maximum(precision, _SMALLEST)
        slope = np.einsum("kpr,kp->kr", jacobian, force) - self.mean
        along = np.einsum("krs,kr->ks", axes, slope)
        length = np.sqrt(np.sum(along**2 / precision, axis=1, keepdims=True))
        along = along / precision * (damping / np.maximum(1.0, length / _LONGEST))
        mean = self.mean + np.einsum("krs,ks->kr", axes, along)
        return Nodes(self.v, mean, axes, precision)

    def points(self, base: np.ndarray) -> Float[np.ndarray, "point coordinate"]:
        """Return the points that standard normals (`normals`) make, in pairs about each mean."""
        moved = np.matmul(base * self.deviations[:, None, :], self.axes.transpose(0, 2, 1))
        pairs = [self.mean[:, None] + moved, self.mean[:, None] - moved]
        return np.concatenate(pairs, axis=1).reshape(-1, self.mean.shape[1])

    def log_density(self, z: np.ndarray, odd: bool) -> np.ndarray:
        """Return the log density of the mixture, all nodes alike, relative to the prior's."""
        total = np.full(z.shape[0], -np.inf)
        for centre, axes, deviation in zip(self.mean, self.axes, self.deviations, strict=True):
            changed = deviation != 1  # few: the rest is the prior's
            some, stiff = axes[:, changed], 1 / deviation[changed] ** 2 - 1
            turned, along = z @ some, centre @ some
            cross = z @ (centre + some @ (stiff * along))
            fixed = np.sum(np.log(deviation)) + 0.5 * (centre @ centre + stiff @ along**2)
            rest = -0.5 * (np.square(turned, out=turned) @ stiff) - fixed
            if odd:  # either sign; one node is at zero
                cross = np.abs(cross)
                rest += np.log1p(np.exp(-2 * cross)) - np.log(2)
            total = np.logaddexp(total, rest + cross)
        return total - np.log(self.v.size)


def normals(shape: tuple[int, ...], points: int, seed: tuple[int, ...]) -> np.ndarray:
    """Return half as many standard normals for each node: consecutive blocks of a Sobol sequence.

    Parameters
    ----------
    shape
        Number of nodes that they are for, and of their coordinates.
    points
        Points of a node, a power of two.
    seed
        Of the scrambling.
    """
    import scipy.stats.qmc  # a second, which the other theories need not spend

    count, coordinates = shape
    rng = np.random.default_rng(seed)
    engine = scipy.stats.qmc.Sobol(coordinates, scramble=True, rng=rng)
    return ndtri(np.stack([engine.random(points // 2) for _ in range(count)]))


def square(phi: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return Σ_i weight_i φ_i φ_iᵀ for weights ≥ 0."""
    root = np.sqrt(weight)[:, None]
    lower = np.zeros((phi.shape[1], phi.shape[1]), order="F")
    for at in _blocks(phi):
        half = (phi[at] * root[at]).T
        lower = scipy.linalg.blas.dsyrk(1.0, half, beta=1.0, c=lower, lower=1, overwrite_c=1)
    return lower + np.tril(lower, -1).T


def whitened_squares(lower: np.ndarray, phi: np.ndarray) -> np.ndarray:
    """Return |L⁻¹φ_i|² of each point for a Cholesky factor L."""
    # of a small triangle against many points the inverse is twice as fast, and as accurate
    inverse = scipy.linalg.lapack.dtrtri(lower, lower=1)[0]
    squares = np.empty(phi.shape[0])
    for at in _blocks(phi):
        white = scipy.linalg.blas.dtrmm(1.0, inverse, phi[at].T, lower=1)
        np.einsum("pi,pi->i", white, white, out=squares[at])
    return squares


def _blocks(phi: np.ndarray) -> Iterator[slice]:
    """Yield slices of the points that fit into the processor's cache."""
    size = max(_LEAST_BLOCK, _BLOCK // phi.shape[1])
    for start in range(0, phi.shape[0], size):
        yield slice(start, start + size)


@dataclasses.dataclass(frozen=True, eq=False)
class Cloud:
    """Points, their features, and their weights under the prior.

    The points miss the prior's E φφᵀ by a known matrix. `share` of it is taken off the moments of
    the law, whose bulk is the prior's, and off the noise in the equation for a, where it keeps
    the identities between the moments exact.

    Attributes
    ----------
    phi
        Features, shape (point, pattern).
    log_prior
        Log probability of each point under the prior.
    missed
        share·(K̂ − K).
    share
        See above.
    """

    phi: Float[np.ndarray, "point pattern"]
    log_prior: Float[np.ndarray, " point"]
    missed: Float[np.ndarray, "pattern pattern"]
    share: float


def draw(given: Given, activate: Activate, nodes: Nodes, base: np.ndarray, share: float) -> Cloud:
    """Return the points that standard normals (`normals`) make of the nodes."""
    z = nodes.points(base)
    log_prior = -nodes.log_density(z, given.odd)
    log_prior -= logsumexp(log_prior)
    phi = given.scale * activate(z @ given.features.T)
    missed = share * (square(phi, np.exp(log_prior)) - given.kernel)
    return Cloud(phi, log_prior, missed, share)
