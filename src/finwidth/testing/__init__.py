"""Checks that a plugin's own tests call, each of what an interface promises; and pytest fixtures.

``pytest_plugins = ["finwidth.testing"]`` in a test module, or in the `conftest.py` at the top of
the tests, gives them as fixtures (`fixtures`); without it pytest knows nothing of them.

A check returns the worst deviation of each thing that it looked at, or raises `PluginError` at the
first that is wrong.

PYTEST_DONT_REWRITE: nothing here asserts, and a test may have imported it before.
"""

from ._activation import check_activation
from ._dataset import check_dataset
from ._layer import check_layer
from ._likelihood import check_likelihood
from ._moments import check_monte_carlo, check_scales
from ._observable import check_observable
from ._pickling import check_pickling
from ._sampler import check_sampler
from ._theory import check_against_run, check_theory

__all__ = [
    "check_activation",
    "check_against_run",
    "check_dataset",
    "check_layer",
    "check_likelihood",
    "check_monte_carlo",
    "check_observable",
    "check_pickling",
    "check_sampler",
    "check_scales",
    "check_theory",
]

#: What pytest registers with this module.
pytest_plugins = ["finwidth.testing.fixtures"]
