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
        more = task.cases, task.effort, task.checkpoints, _SECONDS[task.sampled]
        return self._client.submit(work_on, self._data[key], *more, pure=False)


def _same(value: Any) -> Any:
    return value
