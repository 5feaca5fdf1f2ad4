"""Doing the tasks: in this process, or by dask's workers; results are told as they come."""

import itertools
import math
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from .._basics.errors import FinwidthError
from .cluster import connect, cores, dashboard, local_client
from .keys import data_digest
from .point import Point
from .tasks import split
from .work import Task, failed, forget, work

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Told", "do_all"]

# Seconds after which a worker hands back what it has done of a task: results come in time, and the
# loss of a worker costs no more.
_SECONDS = {False: 1.0, True: 30.0}
_HERE = 0.5  # in this process, between two writes
_ALONE = 5.0  # seconds of theories in this process before workers are thought of
_WORTH = 10.0  # seconds of work left that make workers worth their start
_SMALL = 3e4  # cost of all sampling together that takes seconds

# numbers of points in the sweep, their results, how many points are worked at
Told = Callable[[tuple[int, ...], list[dict[str, Any]], int], None]


def do_all(
    solved: list[Task],
    sampled: list[Task],
    scheduler: str | None,
    told: Told,
    say: Callable[[str], None],
) -> None:
    """Do tasks: theories, then what is sampled.

    Parameters
    ----------
    solved, sampled
        The tasks.
    scheduler
        Address of a dask scheduler. None: this machine, in this process as long as workers are not
        worth their start.
    told
        Called with results as they come.
    say
        Called with what there is to tell the user.
    """
    if scheduler is not None:
        with connect(scheduler, say) as client:
            on_workers(client, [*solved, *sampled], told, say)
        return
    left, rate = solved, 0.0
    try:
        while left:
            left, rate = _here(left, told, _ALONE)
            if not _alone_is_best(left, sampled, rate):
                break
        if _alone_is_best(left, sampled, rate):
            _here([*left, *sampled], told)
            return
    finally:
        forget()
    tasks = [*left, *sampled]
    n_workers = min(cores(), sum(len(task.points) for task in tasks))
    with local_client(n_workers) as client:
        on_workers(client, tasks, told, say, n_workers)


def _alone_is_best(left: list[Task], sampled: list[Task], rate: float) -> bool:
    """Say whether this process alone is as quick as workers, which take seconds to start."""
    if cores() == 1:
        return True
    count = sum(len(task.points) for task in sampled)
    if sum(_cost(point) for task in sampled for point in task.points) < _SMALL:
        count = 0
    remaining = sum(len(task.points) for task in left)
    return count < 2 and (count + remaining < 2 or remaining * rate < _WORTH)


def _cost(point: Point) -> float:
    """Return a number that grows with the time that sampling takes: weights times stiffness."""
    sizes = [point.data.X_train.shape[1], *point.network.widths]
    weights = sum(a * b for a, b in itertools.pairwise(sizes))
    return weights * len(point.data.y_train) / point.temperature**0.5


def _here(tasks: Iterable[Task], told: Told, seconds: float = math.inf) -> tuple[list[Task], float]:
    """Work in this process, for about some seconds.

    Returns
    -------
    list of Task
        What is left.
    float
        Seconds that a point took, where what it needs was compiled.
    """
    queue, end, rate = deque(tasks), time.monotonic() + seconds, math.inf
    while queue and time.monotonic() < end:
        task, start = queue.popleft(), time.monotonic()
        told((), [], 1)
        found = work(task.points[0].data, task, 0.0 if task.sampled else _HERE)
        rate = min(rate, (time.monotonic() - start) / len(found))
        told(task.numbers[: len(found)], found, 0)
        if len(found) < len(task.points):
            queue.appendleft(task.part(len(found)))
    return list(queue), rate


def on_workers(
    client: "Client",
    tasks: list[Task],
    told: Told,
    say: Callable[[str], None],
    n_threads: int = 0,
) -> None:
    """Have dask's workers do tasks; points whose worker is lost are tried once more."""
    from distributed import KilledWorker, as_completed

    where = dashboard(client)
    if where:
        say(where)
    n_threads = n_threads or _threads(client)
    solved, sampled = ([t for t in tasks if t.sampled is kind] for kind in (False, True))
    parts = 4 * max(n_threads, 1)
    queue = deque([*split(solved, parts), *split(sampled, parts)])
    shipped = _Shipped(client)
    running: dict[Future, Task] = {}
    finished = as_completed(loop=client.loop)
    try:
        while queue or running:
            n_threads = max(_threads(client), 1)
            while queue and len(running) < 2 * n_threads:
                task = queue.popleft()
                future = shipped.submit(task)
                running[future] = task
                finished.add(future)
            told((), [], min(len(running), n_threads))
            future = next(finished)
            task = running.pop(future)
            status = future.status
            if status == "finished":
                found = future.result()
                told(task.numbers[: len(found)], found, min(len(running), n_threads))
                if len(found) < len(task.points):
                    queue.extendleft(reversed(split([task.part(len(found))], n_threads)))
            elif status == "error":
                error = future.exception()
                if isinstance(error, KilledWorker) and len(task.points) > 1:
                    queue.extend(split([task], len(task.points)))  # which of them was it?
                    continue
                result = failed(_lost(error) if isinstance(error, KilledWorker) else error)
                told(task.numbers, [result] * len(task.points), min(len(running), n_threads))
            else:
                raise FinwidthError(
                    f"expected the scheduler to stay until the end, got a task that is {status}; "
                    "the same call goes on with what is stored"
                )
            future.release()
    finally:
        client.cancel(list(running))


def _lost(error: Any) -> Exception:
    return ChildProcessError(f"its worker was lost twice, the last one at {error.last_worker}")


def _threads(client: "Client") -> int:
    threads: Any = client.nthreads()
    return sum(threads.values())


class _Shipped:
    """Tasks on their way to workers; each data set is sent once."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._data: dict[str, Any] = {}

    def submit(self, task: Task) -> "Future":
        data = task.points[0].data
        key = data_digest(data)
        if key not in self._data:
            # a task, not a scattered value: made again where the worker that held it is lost
            self._data[key] = self._client.submit(_same, data, pure=False)
        seconds = _SECONDS[task.sampled]
        return self._client.submit(work, self._data[key], task.of(None), seconds, pure=False)


def _same(value: Any) -> Any:
    return value
