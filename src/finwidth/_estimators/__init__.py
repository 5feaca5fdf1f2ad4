"""Estimators as scikit-learn knows them: `FiniteWidthRegressor`, `FiniteWidthClassifier`."""

from .classifier import FiniteWidthClassifier
from .regressor import FiniteWidthRegressor

__all__ = ["FiniteWidthClassifier", "FiniteWidthRegressor"]
