"""Likelihoods: how labels follow from the network's output, one file each."""

from typing import Any

from .._basics.checks import check_choice
from .gaussian import Gaussian
from .likelihood import Conditioned as Conditioned, Likelihood as Likelihood, check_likelihood

__all__ = ["GAUSSIAN", "Conditioned", "Gaussian", "Likelihood", "choose_likelihood"]

GAUSSIAN = Gaussian()

_NAMED = {"gaussian": GAUSSIAN}


def choose_likelihood(likelihood: Any) -> Likelihood:
    """Return the likelihood of this name, or `likelihood` itself if it is one that can be used."""
    if isinstance(likelihood, str):
        return _NAMED[check_choice("likelihood", likelihood, _NAMED)]
    return check_likelihood(likelihood)
