"""The network as plain NumPyro models, usable with any NumPyro tool.

`network` is the posterior in weight space, `marginal` the same posterior with the readout
integrated exactly; `student_t` is the scale mixture whose saddle point the theory is. A model
follows the precision that JAX is set to; `finwidth.sample` sets float64.

Source: theory.md, sections 1, 5 and 9.
"""

from typing import TYPE_CHECKING, Any

from ._features import (
    hidden_features as hidden_features,
    readout_features as readout_features,
)
from ._sites import unit_dim as unit_dim
from ._weights import marginal as marginal, network as network

if TYPE_CHECKING:
    from ._mixture import student_t as student_t

__all__ = [
    "hidden_features",
    "marginal",
    "network",
    "readout_features",
    "student_t",
    "unit_dim",
]


def __getattr__(name: str) -> Any:
    if name != "student_t":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    # on first use: the theories, which it needs, are not loaded for the models of the weights
    from ._mixture import student_t

    return student_t


def __dir__() -> list[str]:
    return sorted(__all__)
