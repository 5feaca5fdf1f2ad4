"""The law of a neuron with D outputs on given points, for a and C of all outputs together.

What `_law` has for one output, with a ∈ R^{DP}, C and S of DP rows (the output is the slow index)
and D×D matrices q of each point:

    D(a) = y·a − ½aᵀ(T + 1/λ^b_1)a − n log E_prior[det(1+q)^{−1/2} e^{u·t/2}],
    u_d = a_d·φ/√n,  q_de = φᵀC_deφ/n,  t = (1+q)⁻¹u,

with gradient y − Ta − m, m_d = √n E[t_dφ], and Hessian −(T + S),
S_de = E[((1+q)⁻¹_de + t_dt_e)φφᵀ] − m_dm_eᵀ/n.
"""

import dataclasses

import numpy as np
import scipy.linalg
from jaxtyping import Float
from scipy.special import logsumexp

from ._law import AtC, Law
from ._points import Cloud, Given, square

__all__ = ["OutputsCloud", "OutputsEquation", "OutputsLaw", "all_outputs", "second_weights"]


@dataclasses.dataclass(frozen=True, eq=False)
class OutputsCloud(Cloud):
    """Points, and what they miss of the prior's moments for each pair of outputs.

    Attributes
    ----------
    missed
        share ⊗ (K̂ − K).
    share
        By pairs of outputs.
    """

    missed: Float[np.ndarray, "label label"]
    share: Float[np.ndarray, "output output"]

    @classmethod
    def of(cls, cloud: Cloud, share: np.ndarray) -> "OutputsCloud":
        """Return the points of a `Cloud` whose share is one."""
        return cls(cloud.phi, cloud.log_prior, np.kron(share, cloud.missed), share)


@dataclasses.dataclass(frozen=True, eq=False)
class OutputsLaw(Law):
    """The law of a neuron on the points of a cloud, for a and C.

    Attributes
    ----------
    dual
        a, the output being the slow index.
    shrink, pull
        (1+q)⁻¹ and t at each point.
    moments
        S of this law.
    """

    dual: Float[np.ndarray, " label"]
    shrink: Float[np.ndarray, "point output output"]
    pull: Float[np.ndarray, "point output"]
    moments: Float[np.ndarray, "label label"]

    @property
    def bulk(self) -> Float[np.ndarray, "output output"]:
        """E[(1+q)⁻¹]."""
        return np.tensordot(self.weight, self.shrink, axes=1)

    @property
    def shares(self) -> Float[np.ndarray, " point"]:
        """Share of each point in E|t|²."""
        carried = self.weight * np.sum(self.pull**2, axis=1)
        return carried / np.sum(carried)

    def error_left_out(self, given: Given) -> float:
        """Return the mean error at each training pattern of a prediction from all others.

        Of the Gaussian process, all outputs of a pattern left out together.
        """
        lower = np.linalg.cholesky(given.noise + self.moments)
        half = scipy.linalg.solve_triangular(lower, np.eye(lower.shape[0]), lower=True)
        outputs = self.pull.shape[1]
        parts = half.reshape(lower.shape[0], outputs, -1)
        own = np.linalg.inv(np.einsum("idp,iep->pde", parts, parts))
        off = np.einsum("pde,ep->pd", own, self.dual.reshape(outputs, -1))
        spread = np.einsum("pdd->pd", own) - given.temperature
        return float(np.mean(off**2 + spread))


def all_outputs(given: Given, labels: np.ndarray) -> Given:
    """Return a problem with its labels, shape (pattern, output), and their noise in one vector."""
    noise = np.kron(np.eye(labels.shape[1]), given.noise)
    return given._replace(noise=noise, y=labels.T.ravel())


def second_weights(
    weight: np.ndarray, shrink: np.ndarray, pull: np.ndarray, d: int, e: int
) -> np.ndarray:
    """Return the weights of φφᵀ in a block of S, for each point."""
    return weight * (shrink[:, d, e] + pull[:, d] * pull[:, e])


class OutputsEquation(AtC):
    """What is fixed while a is sought: the points' q."""

    cloud: OutputsCloud

    def __init__(self, given: Given, cloud: OutputsCloud, width: float, lower: np.ndarray) -> None:
        self.given, self.cloud, self.width, self.lower = given, cloud, width, lower
        phi, outputs = cloud.phi, cloud.share.shape[0]
        size = phi.shape[1]
        half = scipy.linalg.solve_triangular(
            lower, np.eye(lower.shape[0]), lower=True, check_finite=False
        )
        one_and_q = np.empty((phi.shape[0], outputs, outputs))
        for d in range(outputs):
            rows = half[d * size :]  # above, the columns of output d are zero
            for e in range(d + 1):
                c = rows[:, d * size : (d + 1) * size].T @ rows[:, e * size : (e + 1) * size]
                q = np.einsum("ip,ip->i", phi @ c, phi) / width
                one_and_q[:, d, e] = one_and_q[:, e, d] = q + (d == e)
        root = np.linalg.cholesky(one_and_q)
        self.shrink = np.linalg.inv(one_and_q)
        log_root = np.sum(np.log(np.einsum("idd->id", root)), axis=1)
        self.log_base = cloud.log_prior - log_root
        self.noise = given.noise - cloud.missed
        self._last = (None, None)

    def value(self, a: np.ndarray) -> tuple[float, np.ndarray, np.ndarray]:
        """Return D, the points' probabilities and t."""
        outputs = self.cloud.share.shape[0]
        u = self.cloud.phi @ (a.reshape(outputs, -1).T / np.sqrt(self.width))
        pull = np.einsum("ide,ie->id", self.shrink, u)
        log = self.log_base + 0.5 * np.einsum("id,id->i", u, pull)
        top = float(np.asarray(logsumexp(log)))
        value = float(self.given.y @ a - 0.5 * a @ (self.noise @ a) - self.width * top)
        return value, np.exp(log - top), pull

    def gradient(self, a: np.ndarray, weight: np.ndarray, pull: np.ndarray) -> np.ndarray:
        mean = np.sqrt(self.width) * (self.cloud.phi.T @ (weight[:, None] * pull)).T.ravel()
        return self.given.y - self.noise @ a - mean

    def law(self, a: np.ndarray, weight: np.ndarray, pull: np.ndarray) -> OutputsLaw:
        return OutputsLaw(a, weight, self.shrink, pull, self.moments(weight, pull))

    def moments(self, weight: np.ndarray, pull: np.ndarray) -> np.ndarray:
        if self._last[0] is not weight:
            phi, outputs = self.cloud.phi, pull.shape[1]
            size = phi.shape[1]
            found = np.empty((outputs, size, outputs, size))
            for d in range(outputs):
                found[d, :, d] = square(phi, second_weights(weight, self.shrink, pull, d, d))
                for e in range(d):
                    pairs = second_weights(weight, self.shrink, pull, d, e)
                    found[d, :, e] = found[e, :, d] = phi.T @ (phi * pairs[:, None])
            mean = (phi.T @ (weight[:, None] * pull)).T.ravel()
            whole = found.reshape(outputs * size, outputs * size)
            self._last = weight, whole - np.outer(mean, mean) - self.cloud.missed
        return self._last[1]
