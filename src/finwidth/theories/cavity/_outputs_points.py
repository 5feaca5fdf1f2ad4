"""Points for the law of a neuron with several outputs: ladders along rays of readout weights.

With D outputs the law is an integral over the neuron's readout weights v ∈ R^D. Along a direction o
it is that of one output, with a·o in place of a and oᵀCo in place of C, so every ray has a ladder
of its own, and all of them make one mixture.
"""

import dataclasses
import math

import numpy as np
import scipy.linalg
from jaxtyping import Float
from scipy.special import ndtri

from ._points import SPACING, TOP, Activate, Given, Nodes

__all__ = ["Rays", "most_nodes", "room_for"]

_RAYS = {1: 1, 2: 8}  # in a half space, by the number of outputs
_MORE = 8  # for each output, where there are more


def _directions(outputs: int, odd: bool) -> np.ndarray:
    """Return unit vectors that are spread evenly: over a half space if `odd`, or with opposites."""
    if outputs == 1:
        half = np.ones((1, 1))
    elif outputs == 2:
        angle = np.pi * (np.arange(_RAYS[2]) + 0.5) / _RAYS[2]
        half = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    else:
        half = _spread(outputs, _MORE * outputs)
    return half if odd else np.concatenate([half, -half])


def _spread(outputs: int, count: int) -> np.ndarray:
    """Return lines through the origin that repel each other."""
    import scipy.stats.qmc

    engine = scipy.stats.qmc.Sobol(outputs, scramble=True, rng=np.random.default_rng(0))
    lines = ndtri(engine.random_base2(math.ceil(math.log2(count)))[:count])
    lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    for _ in range(200):
        # the force of a line on another and on its opposite, as of charges
        force = np.zeros_like(lines)
        for sign in (1, -1):
            apart = lines[:, None] - sign * lines[None]
            distance = np.linalg.norm(apart, axis=2)
            distance[distance < 1e-9] = np.inf
            force += np.sum(apart / distance[..., None] ** 3, axis=1)
        lines = lines + force / count / np.linalg.norm(force, axis=1).max()
        lines /= np.linalg.norm(lines, axis=1, keepdims=True)
    return lines


@dataclasses.dataclass(frozen=True, eq=False)
class Rays:
    """A ladder of nodes along each of several directions of the readout weights.

    Attributes
    ----------
    directions
        Unit vectors.
    ladders
        Of each; v = 0 is on the first alone.
    """

    directions: Float[np.ndarray, "ray output"]
    ladders: tuple[Nodes, ...]

    @classmethod
    def prior(cls, coordinates: int, odd: bool, outputs: int) -> "Rays":
        """Return the first ladders, each node at the prior."""
        whole = Nodes.prior(coordinates, True)
        rest = Nodes(whole.v[1:], whole.mean[1:], whole.axes[1:], whole.precision[1:])
        directions = _directions(outputs, odd)
        return cls(directions, (whole, *[rest] * (len(directions) - 1)))

    @property
    def top(self) -> float:
        """Largest |v|."""
        return float(self.ladders[0].v[-1])

    @property
    def nodes(self) -> Nodes:
        """All nodes, with |v| in place of v."""
        names = [field.name for field in dataclasses.fields(Nodes)]
        return Nodes(*(np.concatenate([getattr(n, name) for n in self.ladders]) for name in names))

    def grown(self) -> "Rays":
        """Return the ladders with one more node each."""
        return Rays(self.directions, tuple(nodes.grown(False) for nodes in self.ladders))

    def fitted(
        self, given: Given, activate: Activate, dual: np.ndarray, lower: np.ndarray, width: float
    ) -> "Rays":
        """Return the ladders after one step of statistical linearisation.

        Parameters
        ----------
        given, activate
            The problem, σ.
        dual
            a, shape (output·pattern,).
        lower
            Cholesky factor of C⁻¹.
        width
            n.
        """
        outputs = self.directions.shape[1]
        half = scipy.linalg.solve_triangular(lower, np.eye(lower.shape[0]), lower=True)
        half = half.reshape(half.shape[0], outputs, -1)
        dual = dual.reshape(outputs, -1)
        ladders = []
        for direction, nodes in zip(self.directions, self.ladders, strict=True):
            along = np.tensordot(half, direction, axes=(1, 0))
            root = np.linalg.qr(along, mode="r")  # oᵀCo = rootᵀ root
            inverse = scipy.linalg.solve_triangular(root, np.eye(root.shape[0]))
            field = direction @ dual / np.sqrt(width)
            found = np.sqrt(width) * np.linalg.cholesky(inverse @ inverse.T)
            ladders.append(nodes.fitted(given, activate, field, found))
        return Rays(self.directions, tuple(ladders))


def room_for(points: int, patterns: int, coordinates: int, odd: bool, outputs: int) -> int:
    """Return about how many bytes the points, and what is made of them at a time, take.

    On the longest ladders: weights and their normals, features with those that are weighted; and
    the matrices between all labels.
    """
    each = 3 * coordinates + 3 * patterns + 4 * outputs**2
    return 8 * (most_nodes(odd, outputs) * points * each + 8 * (outputs * patterns) ** 2)


def most_nodes(odd: bool, outputs: int) -> int:
    """Return the number of nodes of the longest ladders, of one output as well."""
    return len(_directions(outputs, odd)) * round(TOP / SPACING) + 1
