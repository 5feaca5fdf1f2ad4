"""Which posterior a name stands for."""

from typing import Any

from .._basics.checks import check_choice
from ._posterior import Posterior

__all__ = ["posterior_kind"]


def _marginal() -> type[Posterior]:
    from ._weights import Marginal

    return Marginal


def _network() -> type[Posterior]:
    from ._weights import Weights

    return Weights


def _student_t() -> type[Posterior]:
    from ._mixture import Mixture

    return Mixture


# imported when asked for, so that sampling the weights loads no theory
_KINDS = {"marginal": _marginal, "network": _network, "student_t": _student_t}


def posterior_kind(model: Any) -> type[Posterior]:
    """Return the class of a posterior by its name, or a class as it is; else raise InputError."""
    if isinstance(model, type) and issubclass(model, Posterior):
        return model
    return _KINDS[check_choice("model", model, _KINDS)]()
