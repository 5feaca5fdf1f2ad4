"""Running chains: side by side, on several devices, from a bad start."""

import os
import subprocess
import sys

import numpy as np
import pytest
import reference

import finwidth as fw

RNG = np.random.default_rng(29)
X, Y = RNG.normal(size=(12, 5)), RNG.normal(size=12)
X_TEST, Y_TEST = RNG.normal(size=(3, 5)), RNG.normal(size=3)

SEVERAL_DEVICES = """
import jax, numpy as np, finwidth as fw
from finwidth._sampling import engine as _engine
assert jax.device_count() == 2
seen = []
advance = _engine.Engine.advance
def watched(self, count, *rest, **more):
    result = advance(self, count, *rest, **more)
    seen.append(len(self.states.potential_energy.sharding.device_set))
    return result
_engine.Engine.advance = watched
rng = np.random.default_rng(0)
X, y = rng.normal(size=(8, 3)), rng.normal(size=8)
tree = fw.sample(fw.Network((3,), "erf"), X, y, temperature=0.1, X_test=X, y_test=y,
                 num_chains=4, num_samples=30, chain_method="vectorized", progress=False)
assert set(seen) == {2}, seen
f = tree["predictions"]["f"].values
assert f.shape == (4, 30, 8) and np.all(np.isfinite(f))
assert all(not np.allclose(f[0], f[i]) for i in range(1, 4))
"""


@pytest.mark.slow
def test_chains_are_spread_over_devices():
    environment = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    subprocess.run([sys.executable, "-c", SEVERAL_DEVICES], check=True, env=environment)


@pytest.mark.parametrize("sampler", ["split_hmc", pytest.param("nuts", marks=pytest.mark.slow)])
def test_chains_side_by_side_sample_the_posterior(sampler):
    net = fw.Network((5,), "identity")
    tree = fw.sample(
        net, X, Y, temperature=0.1, X_test=X_TEST, y_test=Y_TEST, sampler=sampler,
        num_samples=1500, num_chains=4, chain_method="vectorized", progress=False,
    )  # fmt: skip
    _, mean, variance = reference.identity_mixture(net, X, Y, 0.1, X_TEST, nodes=300)
    report = fw.compare(fw.solve(net, X, Y, temperature=0.1), tree)
    z = (report.mean_exact.values - mean) / report.mean_mcse.values
    assert np.max(np.abs(z)) < 4
    exact = np.mean((Y_TEST - mean) ** 2 + variance)
    error = report.sel(quantity="error")
    assert abs(float(error.exact) - exact) < 4 * float(error.mcse)
    steps = tree["sample_stats"]["step_size"].values
    if sampler == "split_hmc":  # chains side by side share the step size
        assert np.all(steps == steps[0, 0])


@pytest.mark.filterwarnings("ignore:expected y = labels")
def test_a_start_without_finite_density_is_refused():
    with pytest.raises(fw.InputError, match="expected a finite log density"):
        fw.sample(fw.Network((3,), "erf"), X, 1e200 * Y, temperature=0.1, progress=False)
