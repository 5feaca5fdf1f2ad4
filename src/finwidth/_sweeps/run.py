"""The one loop over points: what is stored is read, the rest is done, and stored as it comes."""

import contextlib
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from .._basics.errors import warn
from .._basics.progress import Progress
from .engine import do_all
from .keys import Keys
from .point import Effort, Point, theory_name
from .store import Store
from .tasks import make_tasks

__all__ = ["run"]

_KEPT = ("solved", "sampled", "not defined", "not converged")  # of others it is tried again


def run(
    points: Sequence[Point],
    effort: Effort,
    folder: Any,
    *,
    name: str = "store",
    scheduler: str | None = None,
    progress: bool = True,
    told: Callable[[int, dict[str, Any]], str] = lambda number, result: "",
) -> list[dict[str, Any]]:
    """Return the result of each point.

    Parameters
    ----------
    points
        The points.
    effort
        How well they are sampled.
    folder, name
        Where results are kept, and what that argument is called; None: nowhere.
    scheduler
        Address of a dask scheduler, or None for this machine.
    progress
        Whether to show on stderr how far it is.
    told
        What to say of a result as it comes, if anything.
    """
    with contextlib.ExitStack() as stack:
        store = None
        if folder is not None:
            store = stack.enter_context(Store(folder, name))
        return _Loop(points, effort, store, progress, told).run(scheduler)


class _Loop:
    """The state of one run of the loop."""

    def __init__(
        self,
        points: Sequence[Point],
        effort: Effort,
        store: Store | None,
        progress: bool,
        told: Callable[[int, dict[str, Any]], str],
    ) -> None:
        self._points, self._effort, self._store = points, effort, store
        keys = Keys(effort)
        self._about = [keys.about(point) for point in points]
        self._keys = [None if about is None else keys.key(about) for about in self._about]
        self._results: list[Any] = [None] * len(points)
        self._same: dict[int, list[int]] = {}  # points that come twice are done once
        self._told = told
        self._bar = Progress("sweep", f"{len(points)} points", len(points), progress)
        self._counts: Counter[str] = Counter()
        self._warnings: dict[str, None] = {}

    def run(self, scheduler: str | None) -> list[dict[str, Any]]:
        known = {}
        if self._store is not None:
            known = self._store.read(key for key in self._keys if key is not None)
        todo, first = [], {}
        for number, key in enumerate(self._keys):
            if key is not None and key in known:
                self._results[number] = known[key]
            elif key is not None and key in first:
                self._same[first[key]].append(number)
            else:
                self._same[number] = []
                if key is not None:
                    first[key] = number
                todo.append((number, self._points[number], self._checkpoint(number)))
        with self._bar:
            done = len(self._points) - sum(1 + len(same) for same in self._same.values())
            self._bar.update(done, f"{done} stored" if done else "")
            if todo:
                do_all(*make_tasks(todo, self._effort), scheduler, self._take, self._bar.say)
        for text in self._warnings:
            warn(text)
        self._tell_failures()
        return self._results

    def _checkpoint(self, number: int) -> Any:
        key = self._keys[number]
        if self._store is None or key is None or not self._points[number].sampled:
            return None
        return self._store.checkpoint(key)

    def _tell_failures(self) -> None:
        failed = [n for n, result in enumerate(self._results) if result["state"] == "failed"]
        if failed:
            point, reason = self._points[failed[0]], self._results[failed[0]]["reason"]
            warn(
                f"expected all {len(self._points)} points to be done, got {len(failed)} that "
                f"failed, the first at {point}, {theory_name(point.theory)}: {reason}"
            )

    def _take(self, numbers: tuple[int, ...], found: list[dict[str, Any]], running: int) -> None:
        """Store results, and say how far it is."""
        keep = []
        for number, result in zip(numbers, found, strict=True):
            self._warnings |= dict.fromkeys(result.pop("warnings", ()))
            about, key = self._about[number], self._keys[number]
            if key is not None and about is not None and result["state"] in _KEPT:
                keep.append((key, about, result))
        if self._store is not None:
            self._store.write(keep)
            for key, about, _ in keep:
                if "sampling" in about:
                    self._store.drop_checkpoint(key)
        for number, result in zip(numbers, found, strict=True):
            for one in (number, *self._same[number]):
                self._results[one] = result
                self._counts[result["state"]] += 1
                text = self._told(one, result)
                if text:
                    self._bar.say(text)
        steps = sum(1 + len(self._same[number]) for number in numbers)
        state = f"{running} running"
        if self._counts["failed"]:
            state += f", {self._counts['failed']} failed"
        self._bar.update(steps, state)
