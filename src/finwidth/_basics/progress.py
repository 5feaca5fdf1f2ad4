"""A progress line on stderr."""

import contextlib
import importlib.util
import io
import sys
from types import TracebackType
from typing import IO, Any, cast

__all__ = ["Patient", "Progress"]


class Patient(io.TextIOBase):
    """A stream for text whose failures, on a full disk, cost what is shown and not the run."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def isatty(self) -> bool:
        return self._stream.isatty()

    def fileno(self) -> int:
        return self._stream.fileno()

    @property
    def encoding(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return self._stream.encoding

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError):
            self._stream.flush()


class Progress:
    """Show the progress of a run on stderr; a context manager.

    Parameters
    ----------
    title
        What runs.
    note
        Printed once, at the start.
    total
        Number of steps.
    enabled
        Whether anything is shown.
    """

    def __init__(self, title: str, note: str, total: int, enabled: bool) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

        shown = enabled and sys.stderr is not None  # a program of windows alone has none
        self._console = Console(
            file=cast(IO[str], Patient(sys.stderr)) if shown else None,
            # a bar in a notebook takes ipywidgets: without, rich would warn and show none
            force_jupyter=None if importlib.util.find_spec("ipywidgets") else False,
        )
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[state]}", markup=False),
            console=self._console,
            disable=not shown,
        )
        self._title, self._note, self._total, self._enabled = title, note, total, shown

    def __enter__(self) -> "Progress":
        if self._enabled:
            self._console.print(f"{self._title}: {self._note}", markup=False, highlight=False)
        self._bar.start()
        self._task = self._bar.add_task(self._title, total=self._total, state="")
        return self

    def update(self, steps: int, state: str) -> None:
        """Advance by `steps` and show `state` at the end of the line."""
        self._bar.update(self._task, advance=steps, state=state)

    def say(self, text: str) -> None:
        """Print a line above the progress, if anything is shown."""
        if self._enabled:
            self._console.print(text, markup=False, highlight=False, soft_wrap=True)

    def skip(self, steps: int) -> None:
        """Take `steps` off the total: they turned out not to be needed."""
        self._total -= steps
        self._bar.update(self._task, total=self._total)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._bar.stop()
