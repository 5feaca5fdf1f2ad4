"""Threads of linear-algebra calls, a setting of the whole process, while runs last."""

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

__all__ = ["blas_threads"]

_guard = threading.Lock()
_wanted: list[int] = []  # by the runs that last
_original: Any = None  # what puts back the setting from before the first of them


@contextlib.contextmanager
def blas_threads(limit: int | None) -> Iterator[None]:
    """Limit the threads of each call; None leaves the process as it is.

    Where runs in several threads overlap the smallest limit holds, and the last to end puts back
    what the first one found.
    """
    global _original
    import threadpoolctl

    if limit is None:
        yield
        return
    with _guard:
        _wanted.append(limit)
        setting = threadpoolctl.threadpool_limits(min(_wanted), user_api="blas")
        if _original is None:
            _original = setting
    try:
        yield
    finally:
        with _guard:
            _wanted.remove(limit)
            if _wanted:
                threadpoolctl.threadpool_limits(min(_wanted), user_api="blas")
            else:
                _original.restore_original_limits()
                _original = None
