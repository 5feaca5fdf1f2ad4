"""Settings of every test: one thread per process, shapes checked at run time."""

import gc
import sys

import settings  # noqa: F401 - before JAX or NumPy start
from jaxtyping import install_import_hook

# The annotations Float[Array, "pattern input"] in finwidth are assertions in the tests; they can
# only be checked in modules that are imported after this line.
if "finwidth" in sys.modules:
    raise RuntimeError("expected finwidth to be imported after tests/conftest.py, got it before")
install_import_hook("finwidth", "beartype.beartype")

from collections.abc import Iterator  # noqa: E402
from pathlib import Path  # noqa: E402

import jax  # noqa: E402
import pytest  # noqa: E402

gc.disable()  # while the tests are collected


def pytest_collection_finish() -> None:
    """Spare the garbage collector what has been imported: it would look it through all the time."""
    gc.collect()
    gc.freeze()
    gc.enable()


_MOST_MAPS = 40_000  # of the 65 530 memory maps that Linux gives a process by default


def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Between files, let go of compiled code before its memory maps run out.

    Each program takes several; at the limit the compiler aborts the process.
    """
    if nextitem is not None and nextitem.path != item.path:
        maps = Path("/proc/self/maps")
        if maps.exists() and maps.read_bytes().count(b"\n") > _MOST_MAPS:
            jax.clear_caches()
            gc.collect()


@pytest.fixture
def strict_jax() -> Iterator[None]:
    """Make JAX refuse to promote dtypes or to broadcast over ranks while a test runs.

    For code that is finwidth's own; NumPyro relies on both.
    """
    with jax.numpy_dtype_promotion("strict"), jax.numpy_rank_promotion("raise"):
        yield


@pytest.fixture
def unchecked_types(monkeypatch: pytest.MonkeyPatch) -> None:
    """Switch the annotations' run-time checks off: users do not have them."""
    import jaxtyping

    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
