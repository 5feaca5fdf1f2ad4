"""A progress line on stderr."""

from types import TracebackType

__all__ = ["Progress"]


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

        self._console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=20),
            TextColumn("{task.percentage:>3.0f}%", markup=False),
            TimeRemainingColumn(compact=True),
            TextColumn("{task.fields[state]}", markup=False),
            console=self._console,
            disable=not enabled,
        )
        self._title, self._note, self._total, self._enabled = title, note, total, enabled

    def __enter__(self) -> "Progress":
        if self._enabled:
            self._console.print(f"{self._title}: {self._note}", markup=False, highlight=False)
        self._bar.start()
        self._task = self._bar.add_task(self._title, total=self._total, state="")
        return self

    def update(self, steps: int, state: str) -> None:
        """Advance by `steps` and show `state` at the end of the line."""
        self._bar.update(self._task, advance=steps, state=state)

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
