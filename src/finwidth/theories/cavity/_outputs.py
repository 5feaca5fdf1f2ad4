"""Predictions of several outputs by the cavity theory, and how it is solved for them."""

import dataclasses
import functools
from typing import Any

import numpy as np
from jaxtyping import Float

from ..._basics.errors import InputError
from ..._numerics.factor import Factor
from ..._observables._prediction import Prediction
from ..._problem.problem import Problem
from ._outputs_fit import fit_outputs
from ._outputs_law import all_outputs, second_weights
from ._points import Given, normals
from ._replicates import Replicate
from ._solution import CHUNK, CavityPrediction, CavitySolution, Patterns, jackknife, pooled
from ._values import activate

__all__ = ["CavityOutputsSolution", "solve_outputs"]


def _directions(given: Given) -> np.ndarray:
    """Return orthonormal directions of the outputs that turn with the labels.

    Eigenvectors of Yᵀ(T + K)⁻¹Y, the largest first, each of the sign of its largest label.
    """
    labels = given.y
    half = Factor(given.kernel + given.noise, 0.0).whiten(labels)
    directions = np.linalg.eigh(half.T @ half)[1][:, ::-1]
    along = labels @ directions
    largest = along[np.argmax(np.abs(along), axis=0), np.arange(along.shape[1])]
    return directions * np.where(largest < 0, -1.0, 1.0)


def solve_outputs(
    problem: Problem,
    given: Given,
    basis: np.ndarray,
    **settings: Any,
) -> "CavityOutputsSolution":
    """Solve the equations of all outputs, in directions of theirs that turn with the labels.

    Parameters
    ----------
    problem
        The problem.
    given, basis
        What the equations need to know of it, and the basis that its coordinates are in.
    **settings
        As for `fit_outputs`.
    """
    directions = _directions(given)
    found = fit_outputs(
        all_outputs(given, given.y @ directions),
        functools.partial(activate, problem.network.activation),
        float(problem.network.widths[0]),
        problem.network.outputs,
        **settings,
    )
    return CavityOutputsSolution(problem, given, found, basis, directions)


@dataclasses.dataclass(frozen=True, eq=False, repr=False)
class CavityOutputsSolution(CavitySolution):
    """A fixed point of the cavity equations of several outputs.

    As `CavitySolution`, with moments and their standard errors for each output, and the covariance
    of the outputs. `q_bar` is the mean over outputs of tr(S_dd)/tr K.

    Attributes
    ----------
    directions
        Those of the outputs that the equations were solved in, as columns.
    """

    directions: Float[np.ndarray, "output output"]

    @property
    def n_roots(self) -> int:
        """Not counted for several outputs.

        Raises
        ------
        InputError
            Always.
        """
        raise InputError(
            "expected one output to count the fixed points of theory='cavity', got "
            f"{self.network.outputs}"
        )

    def _law(self, mean: np.ndarray, spread: np.ndarray) -> Prediction:
        variance = np.einsum("xdd->xd", spread).copy()
        return Prediction(mean, variance, output_covariance=spread)

    def _q_bars(self) -> np.ndarray:
        prior = np.trace(self.given.kernel) * self.network.outputs
        return np.array([np.trace(one.law.moments) / prior for one in self.fit.replicates])

    def _moments(
        self, replicate: Replicate, patterns: Patterns, full: bool
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return m, k(x, X) and k(x, x) or k(x, x'), outputs first, at test patterns."""
        law, given, nodes = replicate.law, self.given, self.fit.nodes
        outputs, count = self.network.outputs, patterns.inside.shape[0]
        points = nodes.points(normals(nodes.mean.shape, self.fit.points, replicate.seed))
        shape = (outputs, outputs, count)
        cross = np.zeros((*shape, self.problem.n_patterns))
        own = np.zeros((*shape, count) if full else shape)
        linear, training = np.zeros((outputs, count)), np.zeros((outputs, cross.shape[-1]))
        prior_cross, prior_own = np.zeros(cross.shape[2:]), np.zeros(own.shape[2:])
        pull = law.weight[:, None] * law.pull
        for start in range(0, points.shape[0], CHUNK):
            at = slice(start, start + CHUNK)
            z, prior = points[at], replicate.prior[at]
            phi = given.scale * activate(self.network.activation, z @ given.features.T)
            mean, squares = self._features(z, patterns, full)
            linear += pull[at].T @ mean
            training += pull[at].T @ phi
            prior_cross += mean.T @ (phi * prior[:, None])
            prior_own += patterns.own_moment(squares, prior)
            for d in range(outputs):
                for e in range(d + 1):
                    weight = second_weights(law.weight[at], law.shrink[at], law.pull[at], d, e)
                    cross[d, e] += mean.T @ (phi * weight[:, None])
                    own[d, e] += patterns.own_moment(squares, weight)
        for d in range(outputs):
            for e in range(d):
                cross[e, d], own[e, d] = cross[d, e], own[d, e]
        missed = np.multiply.outer(replicate.share, prior_cross - patterns.cross)
        cross -= np.einsum("dx,ep->dexp", linear, training) + missed
        product = "dx,ez->dexz" if full else "dx,ex->dex"
        own -= np.einsum(product, linear, linear)
        own -= np.multiply.outer(replicate.share, prior_own - patterns.own)
        dual = law.dual.reshape(outputs, -1)
        mean = np.sqrt(self.network.widths[0]) * linear - np.einsum("dexp,ep->dx", missed, dual)
        return mean, cross, own

    def _estimates(self, X: np.ndarray, full: bool) -> tuple[np.ndarray, np.ndarray]:
        """Mean (x, d) and covariance (x, d, [z,] e) by all scramblings, then without each."""
        bias, means, spreads = self.problem.output_bias, [], []
        outputs, turn = self.network.outputs, self.directions
        patterns, unit = Patterns(self, X, full), np.eye(outputs)
        for replicate in self.fit.replicates:
            mean, cross, own = self._moments(replicate, patterns, full)
            constant = bias * np.ones((cross.shape[-1],) * 2)
            factor = Factor(replicate.law.moments + np.kron(unit, constant), self.temperature)
            cross += bias * unit[:, :, None, None]
            own += bias * unit.reshape(outputs, outputs, *[1] * (own.ndim - 2))
            rows = cross.transpose(1, 3, 0, 2).reshape(factor.lower.shape[0], -1)
            half = factor.whiten(rows).reshape(rows.shape[0], outputs, -1)
            own -= np.einsum("idx,iez->dexz" if full else "idx,iex->dex", half, half)
            mean += bias * np.sum(replicate.law.dual.reshape(outputs, -1), axis=1)[:, None]
            means.append(np.einsum("dx,cd->xc", mean, turn))
            turned = np.einsum("de...,bd,ce->bc...", own, turn, turn)
            spreads.append(turned.transpose(2, 0, 3, 1) if full else turned.transpose(2, 0, 1))
        spread = pooled(np.asarray(spreads))
        pairs = "xdxd->xd" if full else "xdd->xd"
        self._check_variances(np.einsum(pairs, spread[0]))
        return pooled(np.asarray(means)), spread

    def _predict_block(self, X_test: np.ndarray, full_covariance: bool) -> CavityPrediction:
        means, spreads = self._estimates(X_test, full_covariance)
        mean, mean_error = jackknife(means)
        spread, error = jackknife(spreads)
        covariance = None
        if full_covariance:
            covariance = spread
            spread, error = (np.einsum("xdxe->xde", x).copy() for x in (spread, error))
        variance, variance_error = (np.einsum("xdd->xd", x).copy() for x in (spread, error))
        return CavityPrediction(
            mean,
            variance,
            covariance,
            output_covariance=spread,
            standard_error=mean_error,
            variance_error=variance_error,
        )
