"""The scale mixture as a NumPyro model: its posterior is that of the quadrature."""

import jax
import numpy as np
import pytest
from arviz_stats.base import array_stats
from numpyro.infer import MCMC, NUTS

import finwidth as fw
from finwidth._precision import float64

RNG = np.random.default_rng(7)
X = RNG.normal(size=(12, 5))
Y = RNG.normal(size=12)


@pytest.mark.parametrize(
    ("net", "theory"),
    [
        (fw.Network((4,), "relu", (0.8, 1.3), 1.5), "nested"),
        (fw.Network((4, 7), "erf", (0.8, 1.3, 0.9)), "wishart"),
    ],
)
def test_nuts_agrees_with_quadrature(net, theory):
    expected = fw.mixture(net, X, Y, temperature=0.3, theory=theory).order_parameters
    with float64():
        mcmc = MCMC(
            NUTS(fw.models.student_t),
            num_warmup=500,
            num_samples=2000,
            num_chains=2,
            chain_method="vectorized",
            progress_bar=False,
        )
        mcmc.run(jax.random.key(0), net, X, Y, temperature=0.3, theory=theory)
        draws = mcmc.get_samples(group_by_chain=True)
    for name in ("q_bar", "a"):
        if name in expected:
            values = np.asarray(draws[name]).reshape(2, 2000, -1)
            mcse = array_stats.mcse(values, chain_axis=0, draw_axis=1, method="mean")
            assert np.all(np.abs(values.mean(axis=(0, 1)) - expected[name].values) < 4 * mcse)


def test_mean_terms_at_depth_are_refused():
    with pytest.raises(fw.InputError, match="expected one hidden layer"):
        fw.models.student_t(fw.Network((3, 3), "relu"), X, Y, temperature=0.1)
