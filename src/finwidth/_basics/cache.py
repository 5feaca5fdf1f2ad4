"""Things that take long to make, by what they depend on; for any thread."""

import concurrent.futures
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

__all__ = ["Cache"]


class Cache:
    """The last `size` things that were made, by what they depend on; for any thread."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._guard = threading.Lock()
        self._entries: OrderedDict[Any, concurrent.futures.Future] = OrderedDict()

    def get(self, key: Any, make: Callable[[], Any]) -> Any:
        """Return what `make` returned for this key; a second thread waits for the first."""
        with self._guard:
            future = self._entries.get(key)
            mine = future is None
            if future is None:
                future = self._entries[key] = concurrent.futures.Future()
                if len(self._entries) > self._size:
                    self._entries.popitem(last=False)
            else:
                self._entries.move_to_end(key)
        if mine:
            try:
                future.set_result(make())
            except BaseException as error:
                with self._guard:
                    self._entries.pop(key, None)
                future.set_exception(error)
                raise
        return future.result()

    def clear(self) -> None:
        """Forget all; runs that last keep what they have."""
        with self._guard:
            self._entries.clear()
