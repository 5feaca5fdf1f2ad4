"""What a sweep costs beside its computations: points that share a kernel, and stored ones.

Both sweeps are of theories in this process, with one thread; the first call of each kind, which
compiles, is not timed.

    python tests/benchmarks/bench_sweep.py [--points 200] [--stored 10000] [--json]
"""

import argparse
import json
import os
import tempfile
import time
from typing import Any

for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import numpy as np  # noqa: E402

import finwidth as fw  # noqa: E402
from finwidth._sweeps.keys import Keys  # noqa: E402
from finwidth._sweeps.point import Effort  # noqa: E402
from finwidth._sweeps.store import Store  # noqa: E402

DATA = fw.load_dataset("digits", n_train=100, n_test=100)


def grid(n_points: int, first: int) -> Any:
    """Networks of one hidden layer, all of one kernel."""
    nets = [fw.Network((width,), "erf") for width in range(first, first + n_points)]
    return fw.grid(data=DATA, net=nets, temperature=0.01)


def timed(points: Any, store: str) -> tuple[float, float]:
    """Return wall and CPU seconds of a sweep."""
    wall, cpu = time.perf_counter(), time.process_time()
    fw.sweep(points, store=store, progress=False)
    return time.perf_counter() - wall, time.process_time() - cpu


def solving(points: Any) -> float:
    """Return the seconds that theories report for the points of a sweep."""
    result = fw.sweep(points, progress=False)
    return float(result["seconds"].sum())


def stored(count: int) -> tuple[float, float]:
    """Return the seconds that it takes to open a store and read results, and a sweep of them."""
    points = grid(count, 10_000)
    with tempfile.TemporaryDirectory() as folder:
        solution = fw.sweep(grid(1, 10), progress=False).isel(net=0)
        scores = {str(k): value.item() for k, value in solution.items() if value.dtype == float}
        keys = Keys(Effort())
        rows = []
        for point in points:
            about = keys.about(point)
            assert about is not None
            rows.append((keys.key(about), about, scores | {"state": "solved", "reason": ""}))
        with Store(folder) as store:
            store.write(rows)
        start = time.perf_counter()
        with Store(folder) as store:
            assert len(store.read(key for key, _, _ in rows)) == count
        opened = time.perf_counter() - start
        start = time.perf_counter()
        result = fw.sweep(points, store=folder, progress=False)
        assert result.sizes["net"] == count and np.isfinite(result["error"]).all()
        return opened, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--stored", type=int, default=10_000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    n = arguments.points
    with tempfile.TemporaryDirectory() as folder:
        timed(grid(20, 10), folder)
        wall, cpu = timed(grid(n, 100), folder)
    solved = solving(grid(n, 100))
    opened, swept = stored(arguments.stored)
    record = {
        "milliseconds per point": 1e3 * wall / n,
        "CPU milliseconds per point": 1e3 * cpu / n,
        "of these solving and scoring": 1e3 * solved / n,
        f"seconds to open {arguments.stored} stored points": opened,
        "seconds of a sweep of them": swept,
    }
    if arguments.json:
        print(json.dumps(record))
    else:
        for name, value in record.items():
            print(f"{name}: {value:.3g}")


if __name__ == "__main__":
    main()
