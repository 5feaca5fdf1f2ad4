"""Likelihoods: how labels follow from the network's output, one file each.

A module of this package that defines ``likelihood``, a `Likelihood` of the module's name, is one
that users name; adding one touches no other file. A plugin's likelihood is such an instance, too.
"""

from typing import Any

from .._basics.errors import InputError, PluginError
from .._plugins.shelf import Shelf
from ._likelihood import Conditioned as Conditioned, Likelihood as Likelihood, check_likelihood
from .gaussian import Gaussian, likelihood as GAUSSIAN

__all__ = ["GAUSSIAN", "SHELF", "Conditioned", "Gaussian", "Likelihood", "choose_likelihood"]


def _check(likelihood: Likelihood) -> None:
    """Raise PluginError for a plugin's likelihood that could not be used."""
    try:
        _usable(likelihood)
    except InputError as error:
        raise PluginError(str(error)) from None


SHELF: Shelf[Likelihood] = Shelf(
    "finwidth._likelihoods",
    "likelihood",
    Likelihood,
    "finwidth.theories.Likelihood",
    attribute="likelihood",
    hook="finwidth_register_likelihoods",
    check=_check,
)


def choose_likelihood(likelihood: Any, approximation: Any = None) -> Likelihood:
    """Return the likelihood of this name, or `likelihood` itself if it is one that can be used.

    `approximation`: how f is conditioned on labels, None for the likelihood's own way.
    """
    chosen = SHELF.get(likelihood) if isinstance(likelihood, str) else _usable(likelihood)
    return chosen if approximation is None else chosen.approximated(approximation)


def _usable(likelihood: Any) -> Likelihood:
    likelihood = check_likelihood(likelihood)
    kind = type(likelihood)
    if likelihood.homogeneous and any(
        getattr(kind, name) is not getattr(Gaussian, name)
        for name in ("condition", "gradient", "observe")
    ):
        # what is homogeneous is taken through formulas written for normal labels
        raise InputError(
            "expected homogeneous = False of a likelihood that conditions or observes in its own "
            f"way, got {likelihood!r} with True"
        )
    return likelihood
