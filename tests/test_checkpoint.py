"""Checkpoints: a killed run continues bit for bit; damage and mix-ups are refused."""

import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import finwidth as fw
from finwidth import samplers
from finwidth._sampling import engine as _engine
from finwidth._sampling.checkpoint import Checkpoint
from finwidth.samplers import Sampler

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


@pytest.mark.parametrize("stop", [2, pytest.param(5, marks=pytest.mark.slow)])
def test_run_stopped_after_any_block_continues(stop, reference_run, tmp_path, monkeypatch):
    advance = _engine.Engine.advance
    calls = []

    def stopping(self, count, *rest, **more):
        calls.append(count)
        if len(calls) > stop:
            raise Killed
        return advance(self, count, *rest, **more)

    with monkeypatch.context() as patch:
        patch.setattr(_engine.Engine, "advance", stopping)
        with pytest.raises(Killed):
            run(tmp_path / "c")
    calls.clear()

    def counting(self, count, *rest, **more):
        calls.append(count)
        return advance(self, count, *rest, **more)

    monkeypatch.setattr(_engine.Engine, "advance", counting)
    assert_same_draws(run(tmp_path / "c"), reference_run)
    total = reference_run.attrs["provenance"]
    # of 25 transitions each, but for the first of 10 and the second of 15; three blocks of draws
    blocks = -(-json.loads(total)["num_warmup"] // 25) + 1 + 3
    assert len(calls) == blocks - stop  # nothing was computed twice


def test_finished_run_can_be_extended(reference_run, tmp_path):
    run(tmp_path / "c", num_samples=30)
    assert_same_draws(run(tmp_path / "c"), reference_run)


def test_extension_keeps_what_the_run_kept(tmp_path, monkeypatch):
    """The default of `keep` depends on the number of draws; nobody asked for the change."""
    from finwidth._sampling import plan as _plan

    defaults, default = [], _plan._sites_to_keep
    monkeypatch.setattr(
        _plan,
        "_sites_to_keep",
        lambda *arguments: defaults.append(default(*arguments)) or defaults[-1],
    )
    run(tmp_path / "c", num_samples=30)
    monkeypatch.setattr(_plan, "_DEFAULT_STORE", 1)
    assert "W_1" in run(tmp_path / "c", num_samples=40)["posterior"]
    assert ["W_1" in names for names in defaults] == [True, False]
    with pytest.raises(fw.InputError, match="expected a checkpoint of the same run, got keep ="):
        run(tmp_path / "c", num_samples=40, keep=["v"])


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
        ({"net": NET.replace(activation=fw.Activation("erf", jnp.sin, "odd"))}, "network"),
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


def slower(model, **options):
    return fw.infer.SplitHMC(model, trajectory=0.5, **options)


def longer(model, **options):
    return fw.infer.SplitHMC(model, trajectory=1.0, **options)


def test_a_sampler_of_ones_own_is_told_from_a_built_in_one(finished, monkeypatch):
    own = Sampler("split_hmc", slower, num_warmup=50, num_samples=50, adaptive=True)
    assert own.digest != Sampler("split_hmc", longer, 50, 50, adaptive=True).digest
    monkeypatch.setattr(samplers.SHELF, "get", {"split_hmc": own}.get)
    with pytest.raises(fw.InputError, match="of the same run, got sampler_digest ="):
        run(finished)


@pytest.mark.slow
def test_a_sampler_of_ones_own_is_told_apart_by_its_code(tmp_path, monkeypatch):
    def use(kernel):
        own = Sampler("mine", kernel, num_warmup=50, num_samples=50, adaptive=True)
        monkeypatch.setattr(samplers.SHELF, "get", {"mine": own}.get)

    use(slower)
    first = run(tmp_path / "c", sampler="mine", num_warmup=10, num_samples=10)
    again = run(tmp_path / "c", sampler="mine", num_warmup=10, num_samples=10)
    assert_same_draws(first, again)
    use(longer)
    with pytest.raises(fw.InputError, match="of the same run, got sampler_digest ="):
        run(tmp_path / "c", sampler="mine", num_warmup=10, num_samples=10)


def test_checkpoint_needs_an_activation_that_can_be_told_apart(tmp_path, monkeypatch):
    monkeypatch.setattr(fw.Activation, "digest", None)
    with pytest.raises(fw.InputError, match=r"expected an activation .* a checkpoint"):
        run(tmp_path / "c")


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
    with Checkpoint(tmp_path / "c", {}), pytest.raises(fw.InputError, match="another process"):
        Checkpoint(tmp_path / "c", {})


def test_a_checkpoint_that_cannot_be_a_folder_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(fw.InputError, match="expected checkpoint = a folder"):
        run(tmp_path / "file")
    with pytest.raises(fw.InputError, match="expected checkpoint = a folder"):
        run(tmp_path / "missing" / "c")


@pytest.mark.parametrize("error", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_told_in_one_line_and_loses_no_earlier_block(tmp_path, monkeypatch, error):
    def refuse(*_):
        raise OSError(error, os.strerror(error))

    folder = tmp_path / "c"
    with Checkpoint(folder, {}) as checkpoint:
        checkpoint.write({"n": jnp.zeros(1)}, {"done": 1}, {"x": np.ones(3)})
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", refuse)
            with pytest.raises(fw.InputError, match=r"^expected path = .*block-000001.*unchanged$"):
                checkpoint.write({"n": jnp.ones(1)}, {"done": 2}, {"x": np.ones(3)})
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    with Checkpoint(folder, {}) as checkpoint:
        assert checkpoint.load({"n": jnp.zeros(1)}) is not None


# --- kills --------------------------------------------------------------------------------------

LONG = 4000  # draws: more blocks than twenty kills can let pass


@pytest.fixture(scope="module")
def long_run():
    return run(num_samples=LONG)


def child(folder: Path, cache: Path) -> None:
    """A run in a process of its own; compiled programs are kept for the next one."""
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    jax.config.update("jax_persistent_cache_min_entry_size_bytes", -1)
    run(folder, num_samples=LONG)


def kill_at_random_moments(folder: Path, cache: Path, kills: int) -> None:
    """Start the same run again and again, each time to be killed.

    Every fourth process is killed at any moment of its first seconds, while it compiles or reads
    the checkpoint; the others soon after they have begun to write. The processes are forks of a
    server that has imported everything and not used it.
    """
    rng = np.random.default_rng(kills)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        [
            "numpyro.infer",
            "finwidth._sampling.sample",
            "arviz_stats.base",
            "threadpoolctl",
            "xarray",
        ]
    )
    for number in range(kills):
        before = len(list(folder.glob("block-*")))
        process = context.Process(target=child, args=(folder, cache))
        process.start()
        if number % 4 == 1:
            process.join(rng.uniform(0, 3))
        else:
            deadline = time.monotonic() + 300
            while process.is_alive() and time.monotonic() < deadline:
                if len(list(folder.glob("block-*"))) > before:
                    break
                time.sleep(0.001)
            time.sleep(rng.uniform(0, 0.04))
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL  # it neither failed nor finished


@pytest.mark.slow
@pytest.mark.parametrize("kills", [2, 20])
def test_killed_processes_lose_nothing(kills, long_run, tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    kill_at_random_moments(folder, tmp_path / "cache", kills)
    assert len(list(folder.glob("block-*"))) >= kills // 2
    assert_same_draws(run(folder, num_samples=LONG), long_run)
    assert not list(folder.glob(".*"))


N_STEPS = 4


def count_up(folder: Path) -> list[int]:
    """A run whose state is a number: continue it to `N_STEPS`, return what its blocks hold."""
    state = {"n": jnp.zeros((), jnp.int32)}
    with Checkpoint(folder, {"seed": 1}) as checkpoint:
        stored = checkpoint.load(state)
        blocks = []
        if stored is not None:
            state, progress, blocks = stored
            assert progress == {"done": int(state["n"])} == {"done": len(blocks)}
        for step in range(len(blocks), N_STEPS):
            blocks.append({"x": np.full((2, 3), step)})
            state = {"n": state["n"] + 1}
            checkpoint.write(state, {"done": step + 1}, blocks[-1])
    return [int(block["x"][0, 0]) for block in blocks]


@pytest.mark.parametrize("moment", ["created", "half written", "written", "named"])
@pytest.mark.parametrize("file", range(1 + 2 * N_STEPS))
def test_kill_while_a_file_is_written(file, moment, tmp_path, monkeypatch):
    """run.json, then a block and the state for each step; a killed process removes nothing."""
    write_bytes, replace = Path.write_bytes, os.replace
    written = []

    def writing(self, content):
        written.append(self)
        if len(written) - 1 != file:
            return write_bytes(self, content)
        if moment == "created":
            raise Killed
        if moment == "half written":
            write_bytes(self, content[: len(content) // 2])
            raise Killed
        return write_bytes(self, content)

    def naming(source, target):
        if len(written) - 1 == file and moment == "written":
            raise Killed
        replace(source, target)
        if len(written) - 1 == file:
            raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", writing)
        patch.setattr(os, "replace", naming)
        patch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
        with pytest.raises(Killed):
            count_up(tmp_path / "c")
    assert bool(list((tmp_path / "c").glob(".*"))) == (moment != "named")
    assert count_up(tmp_path / "c") == list(range(N_STEPS))
    names = {path.name for path in (tmp_path / "c").iterdir()}
    blocks = {f"block-{number:06d}.npz" for number in range(N_STEPS)}
    assert names == {"lock", "run.json", "state.npz"} | blocks


def without_fcntl(code, *arguments):
    """Run code where there is no such module, as on Windows, and return what it prints."""
    code = "import sys; sys.modules['fcntl'] = None\n" + code
    command = [sys.executable, "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_checkpoints_need_no_fcntl(tmp_path):
    code = (
        "import numpy as np, jax.numpy as jnp\n"
        "from finwidth._sampling.checkpoint import Checkpoint\n"
        "for _ in range(2):\n"
        "    with Checkpoint(sys.argv[1], {}) as checkpoint:\n"
        "        stored = checkpoint.load({'n': jnp.zeros(1)})\n"
        "        checkpoint.write({'n': jnp.ones(1)}, {'done': 1}, {'x': np.ones(3)})\n"
        "print(float(stored[0]['n'][0]))"
    )
    assert without_fcntl(code, tmp_path / "c") == "1.0\n"


@pytest.mark.slow
def test_import_and_sample_need_no_fcntl(tmp_path):
    """Checkpoints included."""
    code = (
        "import numpy as np, finwidth as fw\n"
        "X, y = np.eye(3), np.ones(3)\n"
        "tree = fw.sample(fw.Network((4,), 'identity'), X, y, temperature=1.0, num_warmup=10,\n"
        "    num_samples=10, num_chains=1, checkpoint=sys.argv[1], progress=False,\n"
        "    log_likelihood=False, posterior_predictive=False)\n"
        "print(tree['posterior'].sizes['draw'])"
    )
    assert without_fcntl(code, tmp_path / "c") == "10\n"
