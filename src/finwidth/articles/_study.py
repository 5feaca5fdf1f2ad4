"""What all figures are told: how large they are to be, which data there are, where results go."""

import dataclasses
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .._basics.checks import check_choice
from .._basics.errors import InputError
from .._sweeps.grid import Grid
from .._sweeps.sweep import sweep
from ..datasets import Dataset, load_dataset

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["SIZES", "Study"]

SIZES = ("quick", "default", "paper")

# Each task's data set, its classes (y = −1, y = +1) and how its images are read; and what stands
# for it where there is no file.
_TASKS: dict[str, tuple[str, dict[str, Any], str, dict[str, Any]]] = {
    "mnist": ("MNIST 0/1", {"classes": (0, 1)}, "digits 0/1", {"classes": (0, 1)}),
    "cifar": (
        "CIFAR-10 planes/cars",
        {"classes": (0, 1), "grayscale": True, "size": 28},
        "digits 3/8",
        {"classes": (3, 8)},
    ),
}
_NAMES = {"mnist": "mnist", "cifar": "cifar10"}


def _silent(_: str) -> None:
    pass


@dataclasses.dataclass(frozen=True)
class Study:
    """The size of figures, their data, and where results are kept.

    Parameters
    ----------
    size
        "quick" (two cores, minutes), "default", or "paper" (N_0 = 784, P = 500 and up).
    mnist, cifar
        Files of MNIST and CIFAR-10, as `finwidth.load_dataset` takes them. Where there is none,
        scikit-learn's digits 0/1 and 3/8 stand for MNIST 0/1 and CIFAR-10 airplanes and
        automobiles, but not with "paper", which shows what there is.
    store
        Folder of results, that of `finwidth.sweep`: a figure that was stopped goes on, and points
        that figures or sizes have in common are computed once. None: nothing is kept.
    scheduler
        Address of a dask scheduler; None: this machine.
    say
        Called with lines about what is being done.
    progress
        Whether sweeps show how far they are, on stderr.

    Raises
    ------
    InputError
        If a size is none of these, a file is not there or not one of the data set, or "paper" has
        no file.
    """

    size: str = "default"
    mnist: Path | str | None = None
    cifar: Path | str | None = None
    store: Path | str | None = None
    scheduler: str | None = None
    say: Callable[[str], None] = _silent
    progress: bool = False

    def __post_init__(self) -> None:
        check_choice("size", self.size, SIZES)
        if self.size == "paper" and self.mnist is None and self.cifar is None:
            raise InputError(
                "expected --mnist or --cifar = a file for --paper, whose patterns have 784 inputs, "
                "got neither"
            )
        self.tasks(2, 2)  # whether the files are what they should be

    def of[T](self, sizes: Mapping[str, T]) -> T:
        """Return what a figure has for this size."""
        return sizes[self.size]

    def tasks(self, n_train: int, n_test: int, seed: int | None = None) -> dict[str, Dataset]:
        """Return the tasks of two classes, an easy and a hard one, by what readers call them.

        A `seed` puts the rows in random order; None leaves that of the files.
        """
        found = {}
        for key, (title, options, stand_in, other) in _TASKS.items():
            path = getattr(self, key)
            sizes = {"n_train": n_train, "n_test": n_test, "seed": seed}
            if path is not None:
                found[title] = load_dataset(_NAMES[key], path=path, **options, **sizes)
            elif self.size != "paper":
                found[stand_in] = load_dataset("digits", **other, **sizes)
        return found

    def sweep(self, grid: Grid, **effort: Any) -> "xr.Dataset":
        """Return what `finwidth.sweep` makes of a grid, from the store as far as it is there."""
        return sweep(
            grid, store=self.store, scheduler=self.scheduler, progress=self.progress, **effort
        )
