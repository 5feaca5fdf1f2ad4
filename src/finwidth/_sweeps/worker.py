"""A worker of this machine's own cluster: ``python -m finwidth._sweeps.worker ADDRESS``.

It ends when its stdin does, and that is when the process that started it ends, however it does.
"""

import asyncio
import os
import signal
import sys
import threading

__all__ = ["main"]


def _end_with_parent() -> None:
    while os.read(0, 4096):
        pass
    os.killpg(os.getpgrp(), signal.SIGKILL)  # with the process that works


async def _serve(address: str) -> None:
    from distributed import Nanny

    # without a limit on memory, at which dask would pause it; the system's limit counts
    async with Nanny(address, nthreads=1, memory_limit="0", dashboard=False) as nanny:
        await nanny.finished()


def main() -> None:
    """Work for the scheduler of the address until it or the parent ends."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    asyncio.run(_serve(sys.argv[1]))


if __name__ == "__main__":
    main()
