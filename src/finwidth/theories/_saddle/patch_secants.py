"""Where the actions of a convolution are stationary, for several widths at once.

The width enters the prior's terms alone: all widths share the gradient G of the data term, and so
what each evaluation of it says. Its Jacobian is modelled by secants through the points that any of
the widths has seen, the nearest first (multisecant Broyden's or Anderson's method, type I: Fang and
Saad, Numer. Linear Algebra Appl. 16, 197, 2009); the prior's part is exact. A step costs one
evaluation a width, and all widths are evaluated in the same passes over the kernels' tiles. Where
this does not arrive Newton's method goes on (`patch_search`).

Source: theory.md sections 14 and 16.
"""

import dataclasses
import functools
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float

from .patch_action import DataTerm, Evaluation, evaluate
from .patch_kernels import Square
from .patch_search import GOAL, TOLERANCE, Found, find_minimum, find_saddle, function, symmetric

__all__ = ["find_stationary"]

_ROUNDS = 100
_LONGEST = 2.0  # step in the logarithms of the matrices
_SHORTEST = 1e-7
_SECANTS = 40  # points that the model goes through, at most
_APART = 0.25  # a secant counts if this much of it is new, and if its points differ by
_DISTANCE = 1e-9
_TRIES = 3  # steps in vain after which rounding is what is left

Stack = Float[np.ndarray, "... unknown patch patch"]  # Q̄, or Q̄ and R


@dataclasses.dataclass(frozen=True, eq=False)
class _Sample:
    """The data term at a point: its value, and its gradients in the matrices of the point."""

    point: Stack
    value: float
    gradient: Stack


@dataclasses.dataclass(frozen=True, eq=False)
class _Place:
    """A point as one of the widths sees it, in the coordinates M ← M^½ exp(S) M^½."""

    sample: _Sample
    width: float
    rows: float  # N_c + P

    @functools.cached_property
    def roots(self) -> Stack:
        """M^½."""
        return np.stack([function(one, np.sqrt) for one in self.sample.point])

    @functools.cached_property
    def inverse_roots(self) -> Stack:
        """M^−½."""
        return np.stack([function(one, lambda v: v**-0.5) for one in self.sample.point])

    @functools.cached_property
    def slope(self) -> Stack:
        """The gradient of 𝒮 in S."""
        q_bar, one = self.sample.point[0], np.eye(self.sample.point.shape[-1])
        inverse = np.linalg.matrix_power(self.inverse_roots[-1], 2)
        prior = [one - inverse]
        if len(self.sample.point) > 1:
            prior.append(inverse @ q_bar @ inverse - inverse)
        return self.of_gradient(self.width * np.stack(prior) + self.sample.gradient)

    @functools.cached_property
    def value(self) -> float:
        """𝒮, which is minimised where there is no mean term."""
        values = np.linalg.eigvalsh(self.sample.point[0])
        return self.width * float(np.sum(values - np.log(values) - 1.0)) + self.sample.value

    @property
    def residual(self) -> float:
        """As that of `Found`."""
        return float(np.max(np.abs(self.slope))) / self.rows

    def of_gradient(self, gradient: Stack) -> Stack:
        """Return a gradient in the matrices as one in S."""
        return symmetric(self.roots @ gradient @ self.roots)

    def of_change(self, change: Stack) -> Stack:
        """Return a change of the matrices as one of S."""
        return symmetric(self.inverse_roots @ change @ self.inverse_roots)

    def moved(self, step: Stack) -> Stack:
        """Return the matrices a step S away, positive definite for any step."""
        factors = np.stack([function(one, np.exp) for one in step])
        return symmetric(self.roots @ factors @ self.roots)

    def divided(self, slopes: Stack) -> Stack:
        """Return P⁻¹ of gradients in S, P being the prior's part of the Jacobian."""
        if len(self.sample.point) == 1:
            return slopes / self.width
        q_bar, r = self.sample.point
        ratio = np.linalg.matrix_power(self.inverse_roots[1], 2) @ q_bar
        gradients = self.inverse_roots @ slopes @ self.inverse_roots
        dr = r @ gradients[..., 0, :, :] @ r / self.width
        turned = dr @ ratio
        dq = r @ gradients[..., 1, :, :] @ r / self.width + turned
        dq = dq + np.swapaxes(turned, -1, -2) - dr
        return self.of_change(np.stack([dq, dr], axis=-3))


class _Search:
    """The search of one width.

    Attributes
    ----------
    best
        The best place so far; None before the first.
    next
        The point to be evaluated next.
    over
        Whether the search has ended.
    """

    def __init__(self, data: DataTerm, start: Stack) -> None:
        self._data = data
        self._width = float(data.problem.network.widths[0])
        self._rows = self._width + data.problem.n_patterns
        self._radius, self._vain = 1.0, 0
        self._length, self._part, self._promised = 0.0, 1.0, 0.0  # of the last step
        self.best: _Place | None = None
        self.next, self.over = start, False

    def take(self, sample: _Sample | None) -> None:
        """Judge the point that was to be evaluated; None: the data term is not defined there."""
        new = None if sample is None else _Place(sample, self._width, self._rows)
        if self.best is None:
            self.best, self.over = new, new is None or new.residual <= GOAL
            return
        gain = -1.0 if new is None else self._gain(self.best, new)
        if new is not None and gain > 1e-4:
            self.best, self._vain = new, 0
            if gain > 0.5:
                self._radius = min(2.0 * self._radius, _LONGEST)
        else:
            self._radius, self._vain = 0.5 * self._length, self._vain + 1
        rounding = self._vain >= _TRIES and self.best.residual <= TOLERANCE
        self.over = self.best.residual <= GOAL or self._radius < _SHORTEST or rounding

    def _gain(self, old: _Place, new: _Place) -> float:
        """Return by how much a step has helped, as a part of what the model has promised."""
        part = self._part
        if not self._data.has_mean:
            decrease = self._promised * part * (1.0 - 0.5 * part)
            if decrease > 1e-13 * (abs(old.value) + self._rows):  # else it is all rounding
                return (old.value - new.value) / decrease
        norms = [float(np.linalg.norm(place.slope)) for place in (old, new)]
        return (1.0 - norms[1] / norms[0]) / part

    def step(self, samples: list[_Sample]) -> None:
        """Choose the next point, given all that is known of the data term."""
        place = self.best
        assert place is not None
        step = _model_step(place, samples)
        promised = -float(np.sum(step * place.slope))
        if not self._data.has_mean and promised <= 0:
            step = -place.slope / self._width
            promised = -float(np.sum(step * place.slope))
        length = float(np.max(np.abs(np.linalg.eigvalsh(step))))
        part = min(1.0, self._radius / length) if length > 0 else 1.0
        self._length, self._part, self._promised = part * length, part, promised
        self.next = place.moved(part * step)

    def found(self) -> Found | None:
        """Return the stationary point, or what Newton's method makes of the last one."""
        if self.best is None:
            return None
        q_bar, r = self.best.sample.point[0], self.best.sample.point[-1]
        residual = self.best.residual
        if residual <= TOLERANCE:
            return Found(q_bar, r, residual, True, "")
        if not self._data.has_mean:
            return find_minimum(self._data, q_bar)
        return find_saddle(self._data, (q_bar, r))


def _model_step(place: _Place, samples: list[_Sample]) -> Stack:
    """Return the step S to where the model of the data term's gradient makes 𝒮 stationary."""
    here, shape = place.sample, place.slope.shape
    others = [one for one in samples if one is not here]
    sizes = [float(np.linalg.norm(one.point - here.point)) for one in others]
    nearest = [others[i] for i in np.argsort(sizes, kind="stable")[:_SECANTS]]
    step = place.divided(-place.slope)
    if not nearest:
        return step
    changes = place.of_change(np.stack([one.point - here.point for one in nearest]))
    slopes = place.of_gradient(np.stack([one.gradient - here.gradient for one in nearest]))
    directions, images = _orthogonal(
        changes.reshape(len(nearest), -1), slopes.reshape(len(nearest), -1)
    )
    if not len(directions):
        return step
    # (P + Y Dᵀ) S = −g, by Woodbury's formula
    divided = place.divided(images.reshape(-1, *shape)).reshape(len(images), -1)
    matrix = np.eye(len(directions)) + directions @ divided.T
    return step - (np.linalg.solve(matrix, directions @ step.ravel()) @ divided).reshape(shape)


def _orthogonal(changes: np.ndarray, slopes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return orthonormal directions, shape (direction, entry), and the Jacobian's products."""
    directions, images = np.empty_like(changes), np.empty_like(slopes)
    count = 0
    sizes = np.linalg.norm(changes, axis=1)
    for i in np.argsort(sizes, kind="stable"):
        if sizes[i] < _DISTANCE:
            continue
        change, slope = changes[i] / sizes[i], slopes[i] / sizes[i]
        for _ in range(2):  # twice is enough
            parts = directions[:count] @ change
            change, slope = change - parts @ directions[:count], slope - parts @ images[:count]
        left = float(np.linalg.norm(change))
        if left > _APART:
            directions[count], images[count] = change / left, slope / left
            count += 1
    return directions[:count], images[:count]


def find_stationary(
    terms: Sequence[DataTerm], start: tuple[Square, Square] | None
) -> list[Found | None]:
    """Return the stationary point of each action, None where 𝒮 is not defined at the start.

    Parameters
    ----------
    terms
        Data terms of problems that differ in width alone, with the same kernels.
    start
        Q̄ and R at which all searches start; None: those of infinite width, 1.
    """
    one = np.eye(terms[0].kernels.patches)
    first = np.stack(start or (one, one))[: 2 if terms[0].has_mean else 1]
    searches = [_Search(data, first) for data in terms]
    samples = [one for one in [_sample(first, evaluate(terms[:1], [_pair(first)])[0])] if one]
    for search in searches:
        search.take(samples[0] if samples else None)
    for _ in range(_ROUNDS):
        active = [search for search in searches if not search.over]
        if not active:
            break
        for search in active:
            search.step(samples)
        points = [search.next for search in active]
        found = evaluate(
            [terms[searches.index(search)] for search in active], [_pair(one) for one in points]
        )
        new = [_sample(*both) for both in zip(points, found, strict=True)]
        for search, sample in zip(active, new, strict=True):
            search.take(sample)
        samples = samples + [sample for sample in new if sample is not None]
    return [search.found() for search in searches]


def _pair(point: Stack) -> tuple[Square, Square | None]:
    return point[0], point[1] if len(point) > 1 else None


def _sample(point: Stack, found: Evaluation | None) -> _Sample | None:
    if found is None:
        return None
    gradients = [found.d_q_bar] if found.d_r is None else [found.d_q_bar, found.d_r]
    return _Sample(point, found.value, np.stack(gradients))
