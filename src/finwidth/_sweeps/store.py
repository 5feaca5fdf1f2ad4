"""Results on disk, found again by all that they depend on."""

import dataclasses
import hashlib
import importlib.metadata
import json
import os
from pathlib import Path
from typing import Any

from .._basics.errors import InputError
from .._basics.files import atomic_path, digest
from ..theories import Theory
from .point import Effort, MapPoint, theory_name, theory_record

__all__ = ["Store", "exact_key", "theory_key"]

_FORMAT = 3


class Store:
    """A folder of results, one JSON file each, and of the checkpoints of runs that are under way.

    Parameters
    ----------
    folder
        The folder; made if absent.

    Raises
    ------
    InputError
        If it cannot be made, or is not writable.
    """

    def __init__(self, folder: Any) -> None:
        self.folder = Path(folder).expanduser()
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                "expected folder = a folder that is writable or can be made, "
                f"got {str(folder)!r} ({error.strerror})"
            ) from None
        if not os.access(self.folder, os.W_OK | os.X_OK):
            raise InputError(
                "expected folder = a folder that is writable or can be made, "
                f"got {str(folder)!r}, which is not writable"
            )

    def _path(self, key: dict[str, Any]) -> Path:
        text = json.dumps(key, sort_keys=True)
        name = hashlib.sha256(text.encode()).hexdigest()[:16]
        return self.folder / f"{key['kind']}-{name}.json"

    def checkpoint(self, key: dict[str, Any]) -> Path:
        """Return the folder of a run's checkpoint."""
        return self._path(key).with_suffix(".run")

    def read(self, key: dict[str, Any]) -> dict[str, Any] | None:
        """Return the result of this key, None if there is none yet."""
        path = self._path(key)
        if not path.exists():
            return None
        try:
            record = json.loads(path.read_text("utf-8"))
            return record["result"]
        except (OSError, ValueError, KeyError, TypeError):
            raise InputError(
                f"expected folder = whole files, got a damaged {str(path)!r}; remove it to have "
                "it computed anew"
            ) from None

    def write(self, key: dict[str, Any], result: dict[str, Any]) -> None:
        """Store the result of this key, whole or not at all."""
        with atomic_path(self._path(key)) as temporary:
            temporary.write_text(json.dumps({"key": key, "result": result}, indent=1) + "\n")


def _key(point: MapPoint) -> dict[str, Any]:
    """Return all that the numbers at a point depend on, in JSON types."""
    data = point.data
    return {
        "format": _FORMAT,
        "finwidth": importlib.metadata.version("finwidth"),
        "data": digest(data.X_train, data.y_train, data.X_test, data.y_test),
        "network": point.network.record(),
        "temperature": point.temperature,
    }


def exact_key(point: MapPoint, effort: Effort) -> dict[str, Any]:
    return _key(point) | {"kind": "exact", "effort": dataclasses.asdict(effort)}


def theory_key(point: MapPoint, theory: str | Theory) -> dict[str, Any] | None:
    """Return the key of a theory's result; None where nothing tells what it depends on."""
    record = theory_record(theory)
    if record is None or point.network.activation.digest is None:
        return None
    return _key(point) | {"kind": "theory", "theory": theory_name(theory), "record": record}
