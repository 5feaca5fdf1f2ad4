"""Searches at several widths side by side: each pass over the kernels' tiles serves them all.

A pass reads far more numbers than it computes with, so that for eight searches it costs about what
it does for one. Each search is a thread that asks for passes as if it had the kernels for itself,
and waits; once all wait, one pass answers them. What is asked together is always the same, and so
are the results.
"""

import threading
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..._numerics.precision import float64
from .patch_kernels import PatchKernels, Square, Tile

__all__ = ["KernelView", "run_together"]


class _Stopped(Exception):
    """Another search has failed, or the user has stopped all."""


class KernelView:
    """The kernels as one of several searches sees them.

    Attributes
    ----------
    n_patterns, patches, mean, counted
        As of `PatchKernels`.
    """

    def __init__(self, kernels: PatchKernels, desk: "_Desk", number: int) -> None:
        self.n_patterns, self.patches, self.mean = kernels.n_patterns, kernels.patches, kernels.mean
        self.counted = kernels.counted
        self._desk, self._number = desk, number

    def assemble(self, weights: Square, means: Square | None = None) -> np.ndarray:
        """Return what `PatchKernels.assemble` does."""
        return self._desk.ask(self._number, ((weights, means), None))

    def contract(self, tile_of: Tile) -> Square:
        """Return what `PatchKernels.contract` does."""
        return self._desk.ask(self._number, (None, tile_of))


class _Desk:
    """Where searches leave what they ask for, and find the answers."""

    def __init__(self, count: int) -> None:
        self.changed = threading.Condition()
        self.asked: dict[int, tuple[Any, Any]] = {}
        self.answers: dict[int, Any] = {}
        self.active = count
        self.stopped = False

    def ask(self, number: int, request: tuple[Any, Any]) -> Any:
        with self.changed:
            self.asked[number] = request
            self.changed.notify_all()
            self.changed.wait_for(lambda: self.stopped or number in self.answers)
            if number not in self.answers:
                raise _Stopped
            return self.answers.pop(number)

    def leave(self) -> None:
        with self.changed:
            self.active -= 1
            self.changed.notify_all()

    def stop(self) -> None:
        with self.changed:
            self.stopped = True
            self.changed.notify_all()


def run_together[T](
    kernels: PatchKernels, searches: Sequence[Callable[[KernelView], T]]
) -> list[T]:
    """Return what each search finds, or raise what the first of them to fail raises."""
    desk = _Desk(len(searches))
    found: dict[int, T] = {}
    failed: dict[int, BaseException] = {}

    def work(number: int) -> None:
        try:
            with float64():
                found[number] = searches[number](KernelView(kernels, desk, number))
        except BaseException as error:  # told to the caller's thread
            failed[number] = error
        finally:
            desk.leave()

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(len(searches))]
    for thread in threads:
        thread.start()
    try:
        while True:
            with desk.changed:
                desk.changed.wait_for(lambda: failed or len(desk.asked) == desk.active)
                if failed or not desk.active:
                    break
                numbers = sorted(desk.asked)
                requests = [desk.asked.pop(number) for number in numbers]
            sums = [one for one, _ in requests if one is not None]
            cotangents = [one for _, one in requests if one is not None]
            made = [iter(part) for part in kernels.run(sums, cotangents)]
            answers = [next(made[0 if one is not None else 1]) for one, _ in requests]
            with desk.changed:
                desk.answers.update(zip(numbers, answers, strict=True))
                desk.changed.notify_all()
    finally:
        desk.stop()
        for thread in threads:
            thread.join()
    errors = [failed[number] for number in sorted(failed)]
    for error in errors:
        if not isinstance(error, _Stopped):
            raise error
    return [found[number] for number in range(len(searches))]
