"""Settings of every test: one thread per process, shapes checked at run time."""

import os
import sys

# Before JAX or NumPy start: batches of small factorizations are slower on many threads, and
# the tests already run in several processes.
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS", "NPROC"):
    os.environ.setdefault(_variable, "1")
os.environ.setdefault(
    "XLA_FLAGS", "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"
)
os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("MPLBACKEND", "Agg")

from jaxtyping import install_import_hook  # noqa: E402

# The annotations Float[Array, "pattern input"] in finwidth are assertions in the tests; they can
# only be checked in modules that are imported after this line.
if "finwidth" in sys.modules:
    raise RuntimeError("expected finwidth to be imported after tests/conftest.py, got it before")
install_import_hook("finwidth", "beartype.beartype")

from collections.abc import Iterator  # noqa: E402

import jax  # noqa: E402
import pytest  # noqa: E402


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
