"""The network as plain NumPyro models, usable with any NumPyro tool.

`network` is the posterior in weight space, `marginal` the same posterior with the readout
integrated exactly; `student_t` is the scale mixture whose saddle point the theory is. A model
follows the precision that JAX is set to; `finwidth.sample` sets float64.

Source: theory.md, sections 1, 5 and 9.
"""

from ._features import (
    hidden_features as hidden_features,
    readout_features as readout_features,
    unit_dim as unit_dim,
)
from ._mixture import student_t as student_t
from ._weights import marginal as marginal, network as network

__all__ = [
    "hidden_features",
    "marginal",
    "network",
    "readout_features",
    "student_t",
    "unit_dim",
]
