"""What the numbers of a point depend on, and the key by which they are found again."""

import dataclasses
import hashlib
import json
import weakref
from typing import Any

from .._basics.code_digest import code_digest
from .._basics.files import digest
from .._basics.plain import plain
from .._observables._observable import observables
from ..datasets import Dataset
from .point import Effort, Point, theory_name, theory_record

__all__ = ["NUMERICS", "Keys", "data_digest"]

# Raised when the same settings give other numbers than before, beyond rounding: results of the
# versions before are then not found.
NUMERICS = 1

_digests: "weakref.WeakKeyDictionary[Dataset, str]" = weakref.WeakKeyDictionary()


def data_digest(data: Dataset) -> str:
    """Return a digest of the arrays of a data set, whatever it is called."""
    found = _digests.get(data)
    if found is None:
        found = digest(data.X_train, data.y_train, data.X_test, data.y_test)
        _digests[data] = found
    return found


class Keys:
    """The keys of a sweep's points; what points share is worked out once.

    Parameters
    ----------
    effort
        How well points are sampled.
    """

    def __init__(self, effort: Effort) -> None:
        self._effort = dataclasses.asdict(effort)
        self._known: dict[Any, Any] = {}

    def about(self, point: Point) -> dict[str, Any] | None:
        """Return all that the numbers at a point depend on, in JSON types.

        None where nothing tells it: of a theory, activation or likelihood without a record.
        """
        likelihood = point.likelihood.record()
        network = self._once(("network", point.network), point.network.record)
        digests = [network["activation_digest"], network.get("readout_activation_digest", "")]
        if likelihood is None or None in digests:
            return None
        about = {
            "numerics": NUMERICS,
            "data": data_digest(point.data),
            "network": network,
            "temperature": point.temperature,
            "likelihood": plain("likelihood", likelihood),
            "scores": self._once(("scores", id(point.data)), lambda: _scores(point.data)),
        }
        if point.seed is not None:
            return about | {"sampling": self._effort | {"seed": point.seed}}
        record = self._once(("theory", id(point.theory)), lambda: theory_record(point.theory))
        if record is None:
            return None
        return about | {"theory": {"name": theory_name(point.theory), "record": record}}

    def key(self, about: dict[str, Any]) -> str:
        """Return the key of what numbers depend on."""
        text = json.dumps(about, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:32]

    def _once(self, name: Any, make: Any) -> Any:
        if name not in self._known:
            self._known[name] = make()
        return self._known[name]


def _scores(data: Dataset) -> list[Any]:
    """Return what scores there are for a data set's labels: of plugins' ones with their code."""
    home = __name__.partition(".")[0]
    found = []
    for one in observables(data.y_test):
        ours = type(one).__module__.partition(".")[0] == home
        found.append(one.name if ours else [one.name, code_digest(type(one))])
    return found
