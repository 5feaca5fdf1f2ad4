"""`finwidth plugins` and `finwidth info`."""

import json
import os
import subprocess
import sys

import jax.numpy as jnp
import pytest

import finwidth as fw
from finwidth._plugins import registry as _plugins

BAD_KERNELS = {
    "wrong shape": lambda xx, xy, yy: jnp.sum(xy),
    "NaN": lambda xx, xy, yy: xy * jnp.nan,
    "asymmetric": lambda xx, xy, yy: xy + 0.1 * xx + 0 * yy,
}


@pytest.fixture(params=BAD_KERNELS)
def broken_activation(request):
    """The name of a registered activation whose kernel breaks its contract."""

    class Broken:
        @staticmethod
        @fw.hookimpl
        def finwidth_register_activations():
            kernel = BAD_KERNELS[request.param]
            return [fw.Activation("broken", jnp.tanh, parity="odd", kernel=kernel)]

    _plugins.register(Broken, "broken-plugin")
    yield "broken"
    _plugins.reset()


def test_list_names_every_built_in(run, run_json):
    records = run_json("plugins", "list")["plugins"]
    names = {name for record in records for name in record["activations"]}
    assert {"erf", "tanh", "relu", "identity"} <= names
    assert all(record["version"] and record["error"] is None for record in records)
    assert "identity" in run("plugins", "list").stdout


def test_check_passes_a_built_in(run, run_json):
    assert "all checks passed" in run("plugins", "check", "identity").stdout
    record = run_json("plugins", "check", "identity")
    assert record["passed"] is True
    assert set(record["deviations"]) >= {"parity", "kernel", "gradient", "positive semidefinite"}


def test_check_finds_out_what_a_name_is(run, run_json):
    record = run_json("plugins", "check", "random")
    assert (record["kind"], record["data"]) == ("data", "random")
    assert record["deviations"]["repeated"] == 0.0
    unknown = run("plugins", "check", "randmo")
    assert unknown.exit_code == 2 and unknown.stderr.count("\n") == 1
    assert "got 'randmo' (did you mean 'random'?)" in unknown.stderr
    wrong = run("plugins", "check", "random", "--kind", "theory")
    assert wrong.exit_code == 2 and "expected theory = one of" in wrong.stderr


def test_a_name_of_several_things_needs_its_kind(run):
    class Random:
        @staticmethod
        @fw.hookimpl
        def finwidth_register_activations():
            return [fw.Activation("random", jnp.tanh, parity="odd")]

    _plugins.register(Random, "random-plugin")
    try:
        result = run("plugins", "check", "random")
    finally:
        _plugins.reset()
    assert result.exit_code == 2
    assert "expected --kind = activation or data, since 'random' is the name of each" in (
        result.stderr
    )


def test_new_writes_a_folder_and_says_what_to_do_with_it(run, folder):
    result = run("plugins", "new", "soft_step", "--out", "mine")
    assert result.exit_code == 0
    assert (folder / "mine/finwidth-soft-step/pyproject.toml").exists()
    assert result.stdout.splitlines() == [
        "written: mine/finwidth-soft-step",
        "  pip install -e mine/finwidth-soft-step",
        "  finwidth plugins check soft_step",
        "  finwidth demo --activation soft_step",
        "without pip, in finwidth's repository: make plugin "
        f"DIR={folder.resolve() / 'mine/finwidth-soft-step'}",
    ]
    for arguments in (("soft_step", "--out", "mine"), ("Soft",), ("erf",), ("x", "--kind", "y")):
        refused = run("plugins", "new", *arguments)
        assert refused.exit_code == 2 and refused.stdout == ""
        assert refused.stderr.count("\n") == 1 and "expected " in refused.stderr
    assert [path.name for path in folder.iterdir()] == ["mine"]


@pytest.mark.parametrize(
    "arguments", [("plugins", "check"), ("solve", "--train", "9", "--test", "2", "--activation")]
)
def test_broken_kernel_is_named_in_one_line(run, folder, broken_activation, arguments):
    result = run(*arguments, broken_activation)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "kernel" in result.stderr and "'broken'" in result.stderr
    assert list(folder.iterdir()) == []


def test_plugin_that_raises_on_import(folder):
    """The rest works, the list says why it is left out, and what it should bring is missing."""
    info = folder / "crashing-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: crashing\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[finwidth]\nmain = crashing\n")
    (folder / "crashing.py").write_text("raise OSError('no such device')\n")
    program = (
        "import sys; from finwidth._cli import app\n"
        "for line in (['plugins', 'list', '--json'], ['plugins', 'check', 'crashing'],\n"
        "             ['solve', '--activation', 'crash']):\n"
        "    print(app(line, standalone_mode=False), file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        env=os.environ | {"PYTHONPATH": str(folder), "FINWIDTH_LOAD_PLUGINS": "crashing"},
        capture_output=True,
        text=True,
    )
    [record] = [one for one in json.loads(done.stdout)["plugins"] if one["name"] == "crashing"]
    assert "no such device" in record["error"]
    listed, check, refused, solve, unknown = done.stderr.splitlines()
    assert (listed, refused, unknown) == ("0", "2", "2")
    assert "'crashing': " in check and "no such device" in check
    assert "expected activation = one of" in solve


def test_info_names_what_options_take(run, run_json):
    record = run_json("info")
    assert record["versions"]["finwidth"] == fw.__version__
    assert "digits" in record["datasets"]
    assert "nested" in record["theories"]
    assert fw.__version__ in run("info").stdout
