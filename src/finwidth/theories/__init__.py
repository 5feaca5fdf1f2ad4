"""Theories of the posterior, one file each.

A theory is a `Theory`: it takes a `Problem` to a `Solution`. The built-in ones are modules of this
package, registered like those of any plugin (hook ``finwidth_register_theories``); adding one
touches no other file. Users name them in ``finwidth.solve(..., theory=name)``.

For a theory of one's own: `SaddleTheory` for order parameters that enter the kernel in another
way, `Theory` and `Solution` for anything else.
"""

from .. import _plugins
from .._kernels import Covariance as Covariance, recursion as recursion
from .._problem import LayerConstants as LayerConstants, Problem as Problem
from .._solution import Prediction as Prediction, Solution as Solution
from ._action import OrderParameters as OrderParameters, ScaledForm as ScaledForm
from ._base import Theory as Theory
from ._saddle import SaddlePoint as SaddlePoint, SaddleSolution as SaddleSolution, SaddleTheory

__all__ = [
    "Covariance",
    "LayerConstants",
    "OrderParameters",
    "Prediction",
    "Problem",
    "SaddlePoint",
    "SaddleSolution",
    "SaddleTheory",
    "ScaledForm",
    "Solution",
    "Theory",
    "available",
    "recursion",
]


def available() -> dict[str, Theory]:
    """Return the theories by name, those of plugins included.

    Raises
    ------
    PluginError
        If two plugins register the same name, or a plugin misspells a hook.
    """
    found = _plugins.registered("finwidth_register_theories")
    return {name: theory for name, (theory, _) in sorted(found.items())}
