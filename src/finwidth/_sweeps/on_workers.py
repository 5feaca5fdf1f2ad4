"""Tasks done by dask's workers, each of which may be lost at any time."""

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from .._basics.errors import FinwidthError
from .cluster import dashboard
from .keys import data_digest
from .tasks import split
from .work import Task, failed, work_on

if TYPE_CHECKING:
    from distributed import Client, Future

__all__ = ["Told", "on_workers"]

# Seconds after which a worker hands back what it has done of a task, solved or sampled: results
# come in time, and the loss of a worker costs no more.
_SECONDS = {False: 1.0, True: 30.0}

# numbers of points in the sweep, their results, how many tasks are worked at
Told = Callable[[tuple[int, ...], list[dict[str, Any]], int], None]


def on_workers(
    client: "Client",
    tasks: list[Task],
    told: Told,
    say: Callable[[str], None],
    n_threads: int = 0,
) -> None:
    """Have dask's workers do tasks; points whose worker is lost are tried once more.

    A worker has one task at a time, so that losing it costs no other.
    """
    from distributed import KilledWorker, as_completed

    where = dashboard(client)
    if where:
        say(where)
    parts = 4 * max(n_threads, _threads(client), 1)
    solved, sampled = ([t for t in tasks if t.sampled is kind] for kind in (False, True))
    queue = deque((task, 0) for task in (*split(solved, parts), *split(sampled, parts)))
    shipped = _Shipped(client)
    running: dict[Future, tuple[Task, int]] = {}
    finished = as_completed(loop=client.loop)
    try:
        while queue or running:
            n_threads = max(_threads(client), 1)
            while queue and len(running) < n_threads:
                task, losses = queue.popleft()
                future = shipped.submit(task)
                running[future] = task, losses
                finished.add(future)
            told((), [], len(running))
            future = next(finished)
            task, losses = running.pop(future)
            if future.status == "finished":
                found = future.result()
                told(task.numbers[: len(found)], found, len(running))
                if len(found) < len(task.points):
                    left = split([task.part(len(found))], n_threads)
                    queue.extendleft((one, losses) for one in reversed(left))
            elif future.status == "error":
                error = future.exception()
                if isinstance(error, KilledWorker):
                    if not losses:
                        queue.extendleft((one, 1) for one in split([task], len(task.points)))
                        continue
                    error = ChildProcessError("its worker was lost, twice")
                assert error is not None
                told(task.numbers, [failed(error) for _ in task.points], len(running))
            else:
                raise FinwidthError(
                    "expected the scheduler to stay until the end, got a task that is "
                    f"{future.status}; the same call goes on with what is stored"
                )
            future.release()
    finally:
        client.cancel(list(running))


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
        more = task.cases, task.effort, task.checkpoints, _SECONDS[task.sampled]
        return self._client.submit(work_on, self._data[key], *more, pure=False)


def _same(value: Any) -> Any:
    return value
