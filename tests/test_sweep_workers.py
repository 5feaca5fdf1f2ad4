"""Sweeps on dask's workers: the same numbers, whatever is lost on the way."""

import ast
import contextlib
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import finwidth as fw
from finwidth._sweeps import engine as _engine
from finwidth._sweeps.store import Store
from finwidth.theories.infinite import Infinite

CHANGING = ["seconds", "cpu_seconds"]


@pytest.fixture(scope="module")
def data():
    return fw.load_dataset("random", n_train=6, n_test=4, n_inputs=3, seed=3)


@pytest.fixture(scope="module")
def grid(data):
    nets = [fw.Network((width,), "erf") for width in (3, 8)]
    return fw.grid(data=data, net=nets, temperature=[0.1, 0.5], theory=("infinite", "nested"))


def sweep(grid, store=None, **options):
    return fw.sweep(grid, store=store, progress=False, **options)


def assert_same(one, other):
    xr.testing.assert_identical(one.drop_vars(CHANGING), other.drop_vars(CHANGING))


@pytest.fixture(scope="module")
def here(grid):
    """The sweep without workers."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_engine, "_WORTH", np.inf)
        return sweep(grid)


@contextlib.contextmanager
def threads(n_workers=1):
    """A scheduler and workers in this process."""
    from distributed import LocalCluster

    with LocalCluster(
        n_workers=n_workers,
        threads_per_worker=1,
        processes=False,
        dashboard_address=None,
        scheduler_kwargs={"dashboard": False},
    ) as cluster:
        yield cluster.scheduler_address


class Refusing(Infinite):
    """A theory that fails at one width."""

    name = "refusing"

    def solve(self, problem):
        if problem.network.widths == (3,):
            raise ZeroDivisionError("of the user's code")
        return super().solve(problem)


def test_a_scheduler_gives_the_numbers_of_this_process(grid, here, tmp_path):
    with threads() as address:
        assert_same(sweep(grid, tmp_path, scheduler=address), here)
        more = fw.grid(
            data=grid[0].data,
            net=[point.network for point in grid[::4]],
            temperature=0.1,
            theory=[Refusing(), "infinite"],
        )
        with pytest.warns(fw.AccuracyWarning, match="got 1 that failed"):
            result = sweep(more, tmp_path, scheduler=address)
    assert result["state"].values.tolist() == [["failed", "solved"], ["solved", "solved"]]
    assert result["reason"].values[0, 0] == "ZeroDivisionError: of the user's code"
    assert_same(sweep(grid, tmp_path), here)


@pytest.mark.parametrize(
    "address",
    # the command line's own test waits for one, too
    [
        pytest.param("tcp://127.0.0.1:1", marks=pytest.mark.slow),
        "nowhere",
        "tcp://",
        "http://x",
        "",
    ],
)
def test_scheduler_that_does_not_answer_is_refused_before_any_work(grid, tmp_path, address):
    start = time.monotonic()
    with pytest.raises(fw.InputError, match="expected scheduler = ") as caught:
        sweep(grid, tmp_path, scheduler=address)
    assert "\n" not in str(caught.value)
    assert time.monotonic() - start < 20
    with Store(tmp_path) as store:
        assert store._db.execute("SELECT count(*) FROM results").fetchone() == (0,)


def test_job_script_of_a_cluster_starts_workers_of_one_thread():
    """As docs/how-to/run-on-a-cluster.md has it."""
    pytest.importorskip("dask_jobqueue")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from dask_jobqueue import PBSCluster, SLURMCluster
    text = (Path(__file__).parents[1] / "docs/how-to/run-on-a-cluster.md").read_text("utf-8")
    for kind, mark, time_line in (
        (SLURMCluster, "#SBATCH", "#SBATCH -t 12:00:00"),
        (PBSCluster, "#PBS", "#PBS -l walltime=12:00:00"),
    ):
        block = text.split(f"cluster = {kind.__name__}(", 1)[1].split("\n)\n", 1)[0]
        call = ast.parse(f"kind({block})", mode="eval").body
        options = {one.arg: ast.literal_eval(one.value) for one in call.keywords}
        with kind(**options) as cluster:
            script = cluster.job_script()
        assert script.startswith("#!") and mark in script and time_line in script
        assert "dask worker tcp://" in script or "distributed.cli.dask_worker tcp://" in script
        assert "--nthreads 1" in script and "OMP_NUM_THREADS=1" in script


# --- what is lost; processes of their own


class Deadly(Infinite):
    """A theory that ends its process at one width."""

    name = "deadly"

    def record(self):
        return {"version": 1}

    def solve(self, problem):
        if problem.network.widths == (3,):
            os.kill(os.getpid(), signal.SIGKILL)
        return super().solve(problem)


SCRIPT = """
    import sys, time
    import finwidth as fw
    from finwidth._sweeps import engine
    engine._SMALL = 0.0  # workers in any case
    data = fw.load_dataset("random", n_train=10, n_test=6, n_inputs=3, seed=3)
    nets = [fw.Network((width,), "erf") for width in (3, 8)]
    grid = fw.grid(data=data, net=nets, temperature=[0.1, 0.5], theory="nested", sample=True)
    result = fw.sweep(grid, store=sys.argv[1], scheduler=sys.argv[2] if sys.argv[2:] else None,
                      relative_mcse=0.02, target_ess=4000.0)
    result.drop_vars(["seconds", "cpu_seconds"]).to_zarr(sys.argv[1] + ".zarr", zarr_format=2)
"""


def start(store, *more):
    """Start a sweep of its own, which comes from stdin."""
    process = subprocess.Popen(
        [sys.executable, "-", str(store), *more], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    process.stdin.write(textwrap.dedent(SCRIPT).encode())
    process.stdin.close()
    return process


def result_of(store):
    with xr.open_zarr(f"{store}.zarr") as opened:
        return opened.load()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    store = tmp_path_factory.mktemp("sweep") / "undisturbed"
    assert start(store).wait(300) == 0
    return result_of(store)


def wait_for(what, seconds=200.0):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = what()
        if found:
            return found
        time.sleep(0.1)
    raise AssertionError("expected something to happen, got nothing")


def workers(process):
    """The processes that work for a sweep: children of the nannies."""
    command = ["ps", "-A", "-ww", "-o", "pid=,ppid=,args="]
    listed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [line.split(maxsplit=2) for line in listed.splitlines()]
    nannies = {pid for pid, parent, _ in rows if parent == str(process.pid)}
    return [int(pid) for pid, parent, what in rows if parent in nannies and "spawn_main" in what]


def runs(pid):
    """Whether there is such a process, other than one that nobody has waited for."""
    listed = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True)
    return listed.stdout.strip() not in ("", "Z")


def begun(store):
    return list(store.glob("runs/*/state.npz"))


def disturb(process, store):
    """Kill a worker, wait until the sweep goes on, and return the workers that there are then."""
    wait_for(lambda: begun(store))
    first = workers(process)
    os.kill(first[0], signal.SIGKILL)
    wait_for(lambda: set(workers(process)) - set(first))
    return wait_for(lambda: begun(store) and workers(process))


@pytest.mark.slow
def test_kill_of_a_worker_and_of_the_sweep_costs_nothing(undisturbed, tmp_path):
    store = tmp_path / "disturbed"
    process = start(store)
    try:
        last = disturb(process, store)
    finally:
        process.kill()
        process.wait()
    wait_for(lambda: not any(runs(one) for one in last), 20.0)
    assert start(store).wait(300) == 0
    xr.testing.assert_identical(result_of(store), undisturbed)
    assert (undisturbed["state"].sel(theory="exact") == "sampled").all()


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answers(port):
    with socket.socket() as one:
        return not one.connect_ex(("127.0.0.1", port))


@pytest.mark.slow
def test_a_scheduler_and_workers_of_their_own_give_the_same_numbers(undisturbed, tmp_path):
    port, dask = free_port(), (sys.executable, "-m", "dask")
    address = f"tcp://127.0.0.1:{port}"
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    scheduler = [*dask, "scheduler", "--host", "127.0.0.1", "--port", str(port), "--no-dashboard"]
    worker = [*dask, "worker", address, "--nthreads", "1", "--no-dashboard"]
    processes = []
    try:
        for command in (scheduler, worker, worker):
            processes.append(subprocess.Popen(command, cwd=tmp_path, **quiet))
        wait_for(lambda: answers(port))
        assert start(tmp_path / "store", address).wait(400) == 0
    finally:
        for one in reversed(processes):
            one.terminate()
            one.wait(30)
    xr.testing.assert_identical(result_of(tmp_path / "store"), undisturbed)


@pytest.mark.slow
def test_a_point_that_ends_its_worker_is_recorded_and_the_rest_goes_on(data, tmp_path, monkeypatch):
    monkeypatch.setattr(_engine, "_takes_workers", lambda _: True)
    monkeypatch.setattr(Deadly, "slow", True)
    nets = [fw.Network((width,), "erf") for width in (3, 4, 5, 6)]
    grid = fw.grid(data=data, net=nets, temperature=0.1, theory=[Deadly(), "infinite"])
    with pytest.warns(fw.AccuracyWarning, match="got 1 that failed"):
        result = sweep(grid, tmp_path)
    deadly = result.sel(theory="deadly")
    assert deadly["state"].values.tolist() == ["failed", *["solved"] * 3]
    assert "its worker was lost, twice" in deadly["reason"].values[0]
    expected = result["error"].sel(theory="infinite").values[1:]
    np.testing.assert_array_equal(deadly["error"].values[1:], expected)
