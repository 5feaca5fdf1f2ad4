"""Theories of the posterior, one file each.

A theory is a `Theory`: it takes a `Problem` to a `Solution`. The built-in ones are modules of this
package, named like the theory, with a function ``finwidth_register_theories`` as a plugin has;
adding one touches no other file. Users name them in ``finwidth.solve(..., theory=name)``.

For a theory of one's own: `SaddleTheory` for order parameters that enter the kernel in another
way, `Theory` and `Solution` for anything else. `Layer` and `Likelihood` are for
layers and likelihoods of one's own.
"""

from .._layers.covariance import Covariance as Covariance
from .._layers.law import Law as Law
from .._layers.layer import Layer as Layer, Link as Link, Site as Site
from .._layers.order import (
    OrderParameter as OrderParameter,
    OrderParameters as OrderParameters,
)
from .._layers.stack import Stack as Stack, recursion as recursion
from .._likelihoods import (
    Conditioned as Conditioned,
    Gaussian as Gaussian,
    Likelihood as Likelihood,
)
from .._observables._prediction import Prediction as Prediction
from .._problem.problem import Problem as Problem
from ._large import LargePrediction as LargePrediction, LargeSolution as LargeSolution
from ._mixture.outputs import WishartMixtureSolution as WishartMixtureSolution
from ._mixture.patches import PatchMixtureSolution as PatchMixtureSolution
from ._saddle.action import ScaledForm as ScaledForm
from ._saddle.matrix import MatrixSolution as MatrixSolution
from ._saddle.outputs import RotatedSolution as RotatedSolution
from ._saddle.patch_outputs import PatchOutputsSolution as PatchOutputsSolution
from ._saddle.patches import PatchSolution as PatchSolution
from ._saddle.point import SaddlePoint as SaddlePoint
from ._saddle.theory import SaddleSolution as SaddleSolution, SaddleTheory as SaddleTheory
from ._solution import Solution as Solution
from ._theory import SHELF as SHELF, Theory as Theory, available as available

__all__ = [
    "SHELF",
    "Conditioned",
    "Covariance",
    "Gaussian",
    "LargePrediction",
    "LargeSolution",
    "Law",
    "Layer",
    "Likelihood",
    "Link",
    "MatrixSolution",
    "OrderParameter",
    "OrderParameters",
    "PatchMixtureSolution",
    "PatchOutputsSolution",
    "PatchSolution",
    "Prediction",
    "Problem",
    "RotatedSolution",
    "SaddlePoint",
    "SaddleSolution",
    "SaddleTheory",
    "ScaledForm",
    "Site",
    "Solution",
    "Stack",
    "Theory",
    "WishartMixtureSolution",
    "available",
    "recursion",
]
