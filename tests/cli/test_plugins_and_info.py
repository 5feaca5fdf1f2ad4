"""`finwidth plugins` and `finwidth info`."""

import jax.numpy as jnp
import pytest

import finwidth as fw
from finwidth import _plugins


@pytest.fixture
def broken_activation():
    """A registered activation whose kernel is not symmetric."""

    class Broken:
        @staticmethod
        @fw.hookimpl
        def finwidth_register_activations():
            kernel = lambda xx, xy, yy: xy + 0 * yy + 0.1 * xx  # noqa: E731
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
    assert run("plugins", "check", "erf").exit_code == 0
    record = run_json("plugins", "check", "erf")
    assert record["passed"] is True
    assert set(record["deviations"]) >= {"parity", "kernel", "gradient", "positive semidefinite"}


def test_check_names_what_is_wrong(run, broken_activation):
    result = run("plugins", "check", broken_activation)
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    assert "broken" in result.stderr


def test_info_names_what_options_take(run, run_json):
    record = run_json("info")
    assert record["versions"]["finwidth"] == fw.__version__
    assert "digits" in record["datasets"]
    assert "nested" in record["theories"]
    assert fw.__version__ in run("info").stdout
