"""Doing the tasks, in this process or by dask's workers; results are told as they come."""

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from .cluster import cores, local_client
from .on_workers import Told, on_workers
from .point import Point
from .work import Task, forget, work

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["do_all"]

_HERE = 0.5  # seconds in this process between two writes
_ALONE = 5.0  # seconds of theories in this process before workers are thought of
_WORTH = 10.0  # seconds of work left that make workers worth their start
_SMALL = 3e4  # cost of all sampling together that takes seconds


def do_all(
    quick: list[Task],
    long: list[Task],
    client: "Client | None",
    told: Told,
    say: Callable[[str], None],
) -> None:
    """Do tasks.

    Parameters
    ----------
    quick, long
        The tasks: theories, and what takes long at each point, slow theories and sampling.
    client
        Of the dask scheduler that the user named. None: this machine, in this process as long as
        workers are not worth their start.
    told
        Called with results as they come.
    say
        Called with what there is to tell the user.
    """
    if client is not None:
        on_workers(client, [*quick, *long], told, say)
        return
    here = _Here(told)
    try:
        left = quick
        while left:
            left = here.work(left, _ALONE)
            if cores() > 1 and here.seconds(left) > _WORTH:
                break
        if not left and not _takes_workers(long):
            here.work(long)
            return
    finally:
        forget()
    tasks = [*left, *long]
    n_workers = min(cores(), sum(len(task.points) for task in tasks))
    with local_client(n_workers) as local:
        on_workers(local, tasks, told, say, n_workers)


def _takes_workers(long: list[Task]) -> bool:
    """Say whether tasks are enough for workers, which take seconds to start."""
    points = [point for task in long for point in task.points]
    if cores() == 1 or len(points) < 2:
        return False
    slow = not all(point.sampled for point in points)
    return slow or sum(_cost(point) for point in points) > _SMALL


def _cost(point: Point) -> float:
    """Return a number that grows with the time that sampling takes: weights times stiffness."""
    sizes = [point.data.n_inputs, *point.network.widths]
    weights = sum(a * b for a, b in itertools.pairwise(sizes))
    return weights * len(point.data.y_train) / point.temperature**0.5


class _Here:
    """Work in this process."""

    def __init__(self, told: Told) -> None:
        self._told = told
        self._rates: list[float] = []  # seconds a point, of each piece of work

    def seconds(self, tasks: Iterable[Task]) -> float:
        """Return about how long tasks will take, the least if it is not known."""
        # the first piece had to compile, and others may have
        rate = min(self._rates[1:], default=0.0)
        return rate * sum(len(task.points) for task in tasks)

    def work(self, tasks: Iterable[Task], seconds: float = math.inf) -> list[Task]:
        """Work for about some seconds; return what is left."""
        queue, end = deque(tasks), time.monotonic() + seconds
        while queue and time.monotonic() < end:
            task, start = queue.popleft(), time.monotonic()
            self._told((), [], 1)
            found = work(task, 0.0 if task.sampled else _HERE)
            self._rates.append((time.monotonic() - start) / len(found))
            self._told(task.numbers[: len(found)], found, 0)
            if len(found) < len(task.points):
                queue.appendleft(task.part(len(found)))
        return list(queue)
