"""The checks as pytest fixtures, each the function of its name.

``pytest_plugins = ["finwidth.testing"]`` registers them; nothing is imported where that is not
said. PYTEST_DONT_REWRITE, as of `finwidth.testing`.
"""

from collections.abc import Callable
from typing import Any

import pytest

from . import (
    _activation,
    _dataset,
    _layer,
    _likelihood,
    _moments,
    _observable,
    _pickling,
    _sampler,
    _theory,
)

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


def _fixture(check: Callable[..., dict[str, float]]) -> Any:
    def give() -> Callable[..., dict[str, float]]:
        return check

    give.__doc__ = check.__doc__  # what `pytest --fixtures` shows
    return pytest.fixture(give, scope="session", name=check.__name__)


check_activation = _fixture(_activation.check_activation)
check_against_run = _fixture(_theory.check_against_run)
check_dataset = _fixture(_dataset.check_dataset)
check_layer = _fixture(_layer.check_layer)
check_likelihood = _fixture(_likelihood.check_likelihood)
check_monte_carlo = _fixture(_moments.check_monte_carlo)
check_observable = _fixture(_observable.check_observable)
check_pickling = _fixture(_pickling.check_pickling)
check_sampler = _fixture(_sampler.check_sampler)
check_scales = _fixture(_moments.check_scales)
check_theory = _fixture(_theory.check_theory)
