"""What both estimators do: network, standardised inputs, a theory or draws behind one law of f."""

import inspect
from collections.abc import Mapping
from typing import Any

import numpy as np
from jaxtyping import Float
from sklearn.base import BaseEstimator

from .._basics.arrays import shown
from .._basics.checks import check_choice, check_flag
from .._basics.errors import InputError
from .._likelihoods import Likelihood
from .._numerics.standardise import column_scale
from .._observables import Prediction
from .._problem.network import Network
from .._sampling.sample import sample
from .._solve import solve
from ..models._sites import all_sites
from ._draws import Draws
from ._inputs import generator, taken

__all__ = ["FiniteWidth"]

_SAMPLE = "sample"  # in place of a theory's name
# arguments of `sample` that the estimator fills in
_OF_THE_FIT = {"net", "X", "y", "temperature", "likelihood", "keep", "X_test", "y_test", "theory"}


class FiniteWidth(BaseEstimator):
    """The common part of the estimators, of which each lists its own parameters."""

    widths: Any
    activation: Any
    theory: Any
    weight_precision: Any
    bias_precision: Any
    layers: Any
    readout_precision: Any
    standardise_X: Any
    sampling: Any
    random_state: Any

    def _network(self, outputs: int) -> Network:
        hidden = {"widths": self.widths} if self.layers is None else {"layers": self.layers}
        return Network(
            **hidden,
            activation=self.activation,
            weight_precision=self.weight_precision,
            bias_precision=self.bias_precision,
            outputs=outputs,
        )

    def _learn(
        self,
        X: Float[np.ndarray, "pattern input"],
        y: Float[np.ndarray, " pattern"] | Float[np.ndarray, "pattern output"],
        network: Network,
        likelihood: Likelihood,
        temperature: Any,
        units: np.ndarray | float = 1.0,
    ) -> None:
        """Fit to checked inputs, and to labels as the network has them.

        `units`: what the labels were divided by, each output by itself.
        """
        mean, scale = np.zeros(X.shape[1]), np.ones(X.shape[1])
        if check_flag("standardise_X", self.standardise_X):
            mean, scale, _ = column_scale(X, type(self).__name__)
        inputs = (X - mean) / scale
        sampled = isinstance(self.theory, str) and self.theory == _SAMPLE
        options = self._sampling(sampled)
        solution = None
        if not sampled or (isinstance(temperature, str) and temperature == "evidence"):
            solution = solve(
                network,
                inputs,
                y,
                temperature=temperature,
                theory="nested" if sampled else self.theory,
                likelihood=likelihood,
                readout_precision=self.readout_precision,
            )
            network, temperature = solution.network, solution.temperature
        elif self.readout_precision is not None:
            raise InputError(
                "expected readout_precision = None unless temperature = 'evidence', got "
                f"{shown(self.readout_precision)}"
            )
        law: Any = solution
        if sampled:
            temperature = likelihood.temperature(temperature)
            law = self._drawn(network, inputs, y, likelihood, temperature, options)
        evidence = None
        if solution is not None:  # of the labels as they were given
            evidence = solution.log_evidence - len(y) * float(np.sum(np.log(units)))
        self.network_, self.temperature_, self.log_evidence_ = network, float(temperature), evidence
        self.X_mean_, self.X_scale_ = mean, scale
        self._law, self._likelihood = law, likelihood

    def _sampling(self, sampled: bool) -> dict[str, Any]:
        options = {} if self.sampling is None else self.sampling
        if not isinstance(options, Mapping) or not all(isinstance(name, str) for name in options):
            raise InputError(
                "expected sampling = a dict of arguments of finwidth.sample or None, got "
                f"{shown(options)}"
            )
        if options and not sampled:
            raise InputError(
                f"expected sampling = None unless theory = 'sample', got {shown(options)} with "
                f"theory = {shown(self.theory)}"
            )
        known = set(inspect.signature(sample).parameters) - _OF_THE_FIT
        for name in options:
            check_choice("sampling", name, known)
        return dict(options)

    def _drawn(
        self,
        network: Network,
        X: np.ndarray,
        y: np.ndarray,
        likelihood: Likelihood,
        temperature: float,
        options: dict[str, Any],
    ) -> Draws:
        exact = likelihood.conjugate and likelihood.homogeneous
        usual = {
            "model": "marginal" if exact else "network",
            "seed": generator(self.random_state).randint(2**31 - 1),
            "progress": False,
            "log_likelihood": False,
            "posterior_predictive": False,
        }
        tree = sample(
            network,
            X,
            y,
            temperature=temperature,
            likelihood=likelihood,
            keep=list(all_sites(network, X.shape[1:])),
            **usual | options,
        )
        return Draws(network, likelihood, temperature, tree)

    @property
    def posterior_(self) -> Any:
        """The theory's `finwidth.Solution`, or with theory="sample" the DataTree of draws."""
        law = self._law
        return law.tree if isinstance(law, Draws) else law

    def _inputs(self, X: Any) -> Float[np.ndarray, "point input"]:
        """Return checked inputs in the units of the network."""
        return (taken(self, X) - self.X_mean_) / self.X_scale_

    def _predictive(self, X: Any) -> Prediction:
        """Return all that is known of the law of f at each point, in the network's units."""
        inputs, law = self._inputs(X), self._law
        return law.predict(inputs) if isinstance(law, Draws) else law.predictive_law(inputs)
