"""Several classes in deeper networks: one rotation of the outputs for the matrices of all layers.

Where matrices of several layers change the kernel's shape they are taken to commute, as they do
for the identity (theory.md, section 14). What labels see of f then has the kernel
Σ_k o_k o_kᵀ ⊗ K_L^(k), but does not decouple: all directions are solved for at once.
"""

import dataclasses
import functools
from typing import Any

import numpy as np
import scipy.linalg
import xarray as xr

from ..._layers.order import Chart, OrderParameters
from ..._layers.stack import infinite_width
from .action import kernel_pull, tile_covariance
from .class_kernels import ClassKernel, Slopes
from .outputs import rotated_dataset

__all__ = ["Directions"]

_FREE = 1e-9  # curvature of a rotation among directions that are alike; for the speed alone


@dataclasses.dataclass(frozen=True, eq=False)
class Directions(ClassKernel):
    """K_R = Σ_k o_k o_kᵀ ⊗ K_L^(k), one rotation of the outputs for the matrices of all layers.

    θ holds the generators of O = `start` exp(Ω), then the order parameters of each direction;
    along the shift these are those of infinite width.

    Attributes
    ----------
    start
        Shape (output, direction), without the shift.
    logs
        log q_ℓk close to the solution, shape (direction, layer).
    """

    start: np.ndarray
    logs: np.ndarray

    @property
    def first(self) -> np.ndarray:
        """θ of `start` and `logs`, where Q̄_ℓ = 1/(1 + Q_ℓ)."""
        repeats = self._chart.size // self.logs.shape[1]
        return np.concatenate([np.zeros(self.turns), np.repeat(self.logs, repeats, axis=1).ravel()])

    @functools.cached_property
    def _chart(self) -> Chart:
        return self.rule.chart(self.problem.network)

    @functools.cached_property
    def _pairs(self) -> tuple[np.ndarray, ...]:
        return np.triu_indices(self.start.shape[1], 1)

    @property
    def turns(self) -> int:
        """Number of generators."""
        return len(self._pairs[0])

    @property
    def size(self) -> int:
        return self.turns + self.start.shape[1] * self._chart.size

    def split(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return O and the order parameters of each direction."""
        omega = np.zeros((self.start.shape[1],) * 2)
        omega[self._pairs] = theta[: self.turns]
        rotation = self.start @ scipy.linalg.expm(omega - omega.T)
        return rotation, theta[self.turns :].reshape(rotation.shape[1], -1)

    def entropy(self, theta: np.ndarray) -> float:
        return sum(float(self._chart.entropy(row)) for row in self.split(theta)[1])

    def prior(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        parts = [self._chart.derivatives(row) for row in self.split(theta)[1]]
        free = np.zeros(self.turns)
        gradient = np.concatenate([free, *(part[0] for part in parts)])
        blocks = (part[1] for part in parts)
        hessian = scipy.linalg.block_diag(_FREE * np.eye(self.turns), *blocks)
        return gradient, np.asarray(hessian)

    def matrices(self, theta: np.ndarray) -> list[np.ndarray]:
        return [*(np.outer(o, o) for o in self.split(theta)[0].T), self.shift]

    def orders(self, theta: np.ndarray) -> list[OrderParameters]:
        rows = self.split(theta)[1]
        return [*map(self._chart.value, rows), infinite_width(self.problem.network)]

    def training(self, theta: np.ndarray) -> list[np.ndarray]:
        blocks = [self.block(order) for order in self.orders(theta)[:-1]]
        return [*blocks, self._of_shift]

    @functools.cached_property
    def _of_shift(self) -> np.ndarray:
        return self.block(infinite_width(self.problem.network))

    @functools.cached_property
    def _pull(self) -> Any:
        covariance = tile_covariance(self.problem)
        return kernel_pull(self.problem, self.rule.kernel, self._chart, covariance)

    def slopes(self, theta: np.ndarray, gradient: Slopes) -> np.ndarray:
        """Return those in the generators of a turn of O itself, and in the order parameters."""
        rotation, rows = self.split(theta)
        turned = np.einsum("mdne,dk,el->klmn", gradient, rotation, rotation, optimize=True)
        found = np.zeros(self.size)
        if self.turns:
            blocks = self.training(theta)
            for place, (k, other) in enumerate(zip(*self._pairs, strict=True)):
                found[place] = 2.0 * np.sum(turned[k, other] * (blocks[other] - blocks[k]))
        parts = [
            self._pull(row, lambda rows, columns, g=turned[k, k]: g[rows, columns])
            for k, row in enumerate(rows)
        ]
        found[self.turns :] = np.concatenate(parts)
        return found

    def dataset(self, theta: np.ndarray) -> xr.Dataset:
        rotation, _ = self.split(theta)
        orders = self.orders(theta)
        q_bar, q = (np.stack([getattr(one, name) for one in orders], 1) for name in ("q_bar", "q"))
        places = np.argsort(-np.sum(np.log(q_bar), axis=0), kind="stable")
        rotation = np.column_stack([rotation, np.sqrt(np.diag(self.shift))])
        return rotated_dataset(rotation[:, places], q_bar[:, places], q[:, places])
