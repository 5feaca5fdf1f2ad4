"""Dask: workers of this machine, or a scheduler that runs already."""

import asyncio
import contextlib
import importlib.util
import logging
import os
import re
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from .._basics.arrays import shown
from .._basics.errors import InputError
from .keys import NUMERICS

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["connect", "cores", "dashboard", "local_client"]

_ADDRESS = re.compile(r"[a-z]+://[^\s\0/]+(/[^\s\0]*)?")
_TIMEOUT = 5.0  # seconds to reach a scheduler
_RETRIES = 1  # of a point whose worker was lost


def cores() -> int:
    """Return the number of cores that this process may use."""
    from dask.system import CPU_COUNT

    return max(1, int(CPU_COUNT))


@contextlib.contextmanager
def local_client(n_workers: int) -> Iterator["Client"]:
    """Start workers of one thread each on this machine, and stop them at the end.

    They are processes of their own, which do not import the program that called: it needs no
    ``if __name__ == "__main__"``, and may come from stdin.
    """
    import dask.config
    from distributed import Client, LocalCluster, Scheduler, SpecCluster
    from distributed.deploy.subprocess import SubprocessWorker

    class Worker(SubprocessWorker):
        """Out of reach of the terminal's Ctrl-C, which is for the sweep; it ends with the sweep."""

        async def _start(self) -> None:
            self.process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", f"{__package__}.worker", self.scheduler),
                env=os.environ | {"DASK_LOGGING__DISTRIBUTED": "critical"},
                stdin=asyncio.subprocess.PIPE,
                start_new_session=True,
            )

    scheduler = {
        "host": "127.0.0.1",
        "dashboard": True,
        "dashboard_address": "127.0.0.1:0",
        "allowed_failures": _RETRIES,
    }
    with dask.config.set({"logging.distributed": "critical"}):
        if os.name == "nt":  # where dask starts no subprocesses
            cluster: Any = LocalCluster(
                n_workers=n_workers, threads_per_worker=1, dashboard_address="127.0.0.1:0"
            )
        else:
            spec = {"cls": Worker}
            cluster = SpecCluster(
                workers=dict.fromkeys(range(n_workers), spec),
                worker=spec,
                scheduler={"cls": Scheduler, "options": scheduler},
                name="finwidth",
                silence_logs=logging.CRITICAL,  # pyright: ignore[reportArgumentType] - a level
            )
        with cluster, Client(cluster, set_as_default=False) as client:
            yield client


@contextlib.contextmanager
def connect(address: Any, say: Callable[[str], None]) -> Iterator["Client"]:
    """Connect to a scheduler that runs and wait for a worker of it, or raise InputError."""
    from distributed import Client

    expected = (
        "expected scheduler = the address of a running dask scheduler, such as tcp://host:8786"
    )
    if not isinstance(address, str) or not _ADDRESS.fullmatch(address):
        raise InputError(f"{expected}, got {shown(address)}")
    try:
        client = Client(address, timeout=_TIMEOUT, set_as_default=False)
    except OSError:
        raise InputError(f"{expected}, got {address!r}, where nothing answers") from None
    except Exception as error:  # of dask, or of what runs there
        raise InputError(f"{expected}, got {address!r} ({error})") from None
    with client:
        if not client.nthreads():
            say(f"waiting for workers of {address}: there are none yet")
            client.wait_for_workers(1)
        _check_workers(client)
        yield client


def _numerics() -> tuple[str, int]:
    return ".".join(map(str, sys.version_info[:2])), NUMERICS


def _check_workers(client: "Client") -> None:
    """Raise InputError where a worker that is there has no finwidth, or another one."""
    expected = f"expected workers with this finwidth (numerics {NUMERICS}) and Python"
    try:
        answers: Any = client.run(_numerics)
    except Exception as error:  # whatever the import of finwidth, or an older one, gives there
        raise InputError(f"{expected}, got {type(error).__name__}: {error}") from None
    for worker, answer in answers.items():
        if answer != _numerics():
            raise InputError(
                f"{expected}, got Python {answer[0]}, numerics {answer[1]} at {worker}"
            )


def dashboard(client: "Client") -> str:
    """Return where the workers can be watched, in words; empty where nowhere."""
    link = client.dashboard_link
    if not link:
        return ""
    if importlib.util.find_spec("bokeh") is not None:
        return f"dask's dashboard: {link}"
    root = link.rsplit("/", 1)[0]
    return f"workers: {root}/info/main/workers.html (dask's dashboard itself needs bokeh)"
