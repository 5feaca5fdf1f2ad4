"""Checkpoints: a killed run continues bit for bit; damage and mix-ups are refused."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import finwidth as fw
from finwidth import _engine

RNG = np.random.default_rng(17)
X, Y = RNG.normal(size=(10, 4)), RNG.normal(size=10)
X_TEST, Y_TEST = RNG.normal(size=(3, 4)), RNG.normal(size=3)
NET = fw.Network((3,), "erf", bias_precision=2.0)


def run(checkpoint=None, **changes):
    arguments = {
        "temperature": 0.1,
        "X_test": X_TEST,
        "y_test": Y_TEST,
        "num_samples": 60,
        "num_chains": 2,
        "seed": 5,
        "progress": False,
        "checkpoint": checkpoint,
    } | changes
    net = arguments.pop("net", NET)
    labels = arguments.pop("y", Y)
    return fw.sample(net, X, labels, **arguments)


def assert_same_draws(first, second):
    for group in ("posterior", "predictions", "sample_stats"):
        xr.testing.assert_equal(first[group].to_dataset(), second[group].to_dataset())


@pytest.fixture(scope="module")
def reference_run():
    return run()


class Killed(BaseException):
    """Stands for a kill at a point of the program."""


@pytest.mark.parametrize("stop", [2, 5])
def test_run_stopped_after_any_block_continues(stop, reference_run, tmp_path, monkeypatch):
    advance = _engine.Engine.advance
    calls = []

    def stopping(self, count, thin=1):
        calls.append(count)
        if len(calls) > stop:
            raise Killed
        return advance(self, count, thin)

    with monkeypatch.context() as patch:
        patch.setattr(_engine.Engine, "advance", stopping)
        with pytest.raises(Killed):
            run(tmp_path / "c")
    calls.clear()

    def counting(self, count, thin=1):
        calls.append(count)
        return advance(self, count, thin)

    monkeypatch.setattr(_engine.Engine, "advance", counting)
    assert_same_draws(run(tmp_path / "c"), reference_run)
    total = reference_run.attrs["provenance"]
    blocks = -(-json.loads(total)["num_warmup"] // 25) + 3
    assert len(calls) == blocks - stop  # nothing was computed twice


def test_finished_run_can_be_extended(reference_run, tmp_path):
    run(tmp_path / "c", num_samples=30)
    assert_same_draws(run(tmp_path / "c"), reference_run)


def test_finished_run_is_returned(reference_run, finished, monkeypatch):
    monkeypatch.setattr(_engine.Engine, "advance", None)  # would raise if it were called
    assert_same_draws(run(finished), reference_run)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"seed": 6}, "seed"),
        ({"temperature": 0.2}, "temperature"),
        ({"y": Y + 1}, "data"),
        ({"net": NET.replace(widths=(4,))}, "network"),
        ({"model": "network"}, "model"),
        ({"sampler": "langevin"}, "sampler"),
        ({"num_chains": 3}, "num_chains"),
        ({"thin": 2}, "thin"),
        ({"keep": ["v"]}, "keep"),
        ({"num_warmup": 50}, "num_warmup"),
        ({"sampler_options": {"trajectory": 1.0}}, "sampler_options"),
    ],
)
def test_checkpoint_of_another_run_is_refused_with_the_difference(change, name, finished):
    with pytest.raises(fw.InputError, match=f"expected a checkpoint of the same run, got {name} ="):
        run(finished, **change)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("checkpoint") / "c"
    run(folder)
    return folder


@pytest.mark.parametrize("damage", ["truncate", "flip", "empty", "remove"])
@pytest.mark.parametrize("name", ["state.npz", "block-000002.npz", "run.json"])
def test_damaged_files_are_detected(name, damage, finished, tmp_path):
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(finished, folder)
    path = folder / name
    content = path.read_bytes()
    if damage == "truncate":
        path.write_bytes(content[: len(content) // 2])
    elif damage == "flip":
        middle = len(content) // 2
        path.write_bytes(content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :])
    elif damage == "empty":
        path.write_bytes(b"")
    else:
        path.unlink()
    if damage == "remove" and name == "state.npz":
        return  # the state is written last: without it the run is one that has just begun
    with pytest.raises(fw.InputError, match=f"got a damaged {name}"):
        run(folder)


def test_a_checkpoint_is_used_by_one_process_at_a_time(tmp_path):
    from finwidth._checkpoint import Checkpoint

    with Checkpoint(tmp_path / "c", {}), pytest.raises(fw.InputError, match="another process"):
        Checkpoint(tmp_path / "c", {})


def test_a_checkpoint_that_cannot_be_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(fw.InputError, match="expected checkpoint = a folder"):
        run(tmp_path / "file")
    with pytest.raises(fw.InputError, match="expected checkpoint = a folder"):
        run(tmp_path / "missing" / "c")


CHILD = """
import sys, numpy as np, finwidth as fw
rng = np.random.default_rng(17)
X, y = rng.normal(size=(10, 4)), rng.normal(size=10)
X_test, y_test = rng.normal(size=(3, 4)), rng.normal(size=3)
fw.sample(
    fw.Network((3,), "erf", bias_precision=2.0), X, y, temperature=0.1, X_test=X_test,
    y_test=y_test, num_samples=2000, num_chains=2, seed=5, progress=False, checkpoint=sys.argv[1],
)
"""


def kill_at_random_moments(folder: Path, kills: int, seed: int) -> None:
    """Start the same run again and again, and kill it soon after it has begun to write."""
    rng = np.random.default_rng(seed)
    for _ in range(kills):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(folder)])
        before = len(list(folder.glob("block-*")))
        deadline = time.monotonic() + 120
        while child.poll() is None and time.monotonic() < deadline:
            if len(list(folder.glob("block-*"))) > before:
                break
            time.sleep(0.002)
        time.sleep(rng.uniform(0, 0.05))
        if child.poll() is None:
            os.kill(child.pid, signal.SIGKILL)
        child.wait()


@pytest.mark.parametrize("kills", [2, pytest.param(20, marks=pytest.mark.slow)])
def test_killed_processes_lose_nothing(kills, tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    kill_at_random_moments(folder, kills, seed=kills)
    assert list(folder.glob("block-*"))
    continued = run(folder, num_samples=2000)
    assert_same_draws(continued, run(num_samples=2000))
