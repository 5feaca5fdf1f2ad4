"""A layer of rank R is a linear layer of R units with a dense one after it."""

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import finwidth as fw
from finwidth_lowrank import LowRank

RNG = np.random.default_rng(3)
X, X_TEST = RNG.normal(size=(12, 5)), RNG.normal(size=(6, 5))
Y, Y_TEST = X[:, 0] + 0.3 * RNG.normal(size=12), X_TEST[:, 0]
T = 0.2

NET = fw.Network(layers=(fw.Dense(7), LowRank(6, rank=3)), activation="identity")
LINEAR = fw.Network((7, 3, 6), "identity")


def test_the_installed_plugin_provides_the_layer() -> None:
    from finwidth._layers import SHELF

    assert SHELF.get("lowrank") is LowRank


def test_for_the_identity_it_is_one_layer_more() -> None:
    one, other = (fw.solve(net, X, Y, temperature=T) for net in (NET, LINEAR))
    assert one.action == pytest.approx(other.action, rel=1e-10)
    q_bar = other.order_parameters.q_bar.values
    np.testing.assert_allclose(
        one.order_parameters.q_bar.values, [q_bar[0] * q_bar[1], q_bar[2]], rtol=1e-8
    )
    np.testing.assert_allclose(one.predict(X_TEST).mean, other.predict(X_TEST).mean, rtol=1e-7)


@pytest.mark.parametrize("bias", [None, 2.0])
def test_the_action_is_stationary(bias: float | None) -> None:
    """𝒮 of the README, with the kernel of erf, differentiated by differences."""
    net = NET.replace(activation="erf", bias_precision=bias)
    solution = fw.solve(net, X, Y, temperature=T)
    b = 0.0 if bias is None else 1.0 / bias

    def kernel(c: np.ndarray) -> np.ndarray:
        d = 1 + 2 * np.diag(c)
        return 2 / np.pi * np.arcsin(2 * c / np.sqrt(np.outer(d, d)))

    def action(theta: np.ndarray) -> float:
        q, p, last = np.exp(theta)
        k = q * p * kernel(X @ X.T / 5 + b) + b
        a = last * kernel(k) + b + T * np.eye(len(Y))
        entropy = sum(n * (np.exp(t) - t - 1) for n, t in zip((7, 3, 6), theta, strict=True))
        return entropy + np.linalg.slogdet(a)[1] + Y @ np.linalg.solve(a, Y)

    theta = solution.point.theta
    assert solution.action == pytest.approx(action(theta), rel=1e-10)
    steps = 1e-5 * np.eye(3)
    slopes = [(action(theta + step) - action(theta - step)) / 2e-5 for step in steps]
    np.testing.assert_allclose(slopes, 0.0, atol=1e-6)


def test_weights_forwards() -> None:
    sites = NET.layers[1].sites("unit_2", ("unit_1", 7), 1.0, None)
    keys = jax.random.split(jax.random.key(0), len(sites))
    weights = {
        name: jax.random.normal(key, site.shape)
        for key, (name, site) in zip(keys, sites.items(), strict=True)
    }
    x = jnp.asarray(RNG.normal(size=(7, 4)))
    h = NET.layers[1].forward(weights, x, None)
    np.testing.assert_allclose(h, weights["U"] @ weights["V"] @ x / np.sqrt(21), rtol=1e-5)


@pytest.mark.parametrize("rank", [0, True, 1.5])
def test_a_rank_that_is_none_is_refused(rank: object) -> None:
    with pytest.raises(fw.InputError, match="expected rank = an int of at least 1"):
        LowRank(5, rank=rank)  # pyright: ignore[reportArgumentType]


def test_it_is_no_first_layer_and_has_no_mean_term() -> None:
    with pytest.raises(fw.InputError, match="expected a layer before one of low rank"):
        fw.Network(layers=(LowRank(5, rank=2),))
    with pytest.raises(fw.InputError, match="expected an odd activation with a layer of low rank"):
        fw.solve(NET.replace(activation="relu"), X, Y, temperature=T)


@pytest.mark.slow
def test_the_posterior_of_the_identity_is_the_mixture_of_one_layer_more() -> None:
    exact = fw.mixture(LINEAR, X, Y, temperature=T).scores(X_TEST, Y_TEST)
    tree = fw.sample(
        NET,
        X,
        Y,
        temperature=T,
        X_test=X_TEST,
        y_test=Y_TEST,
        num_warmup=500,
        num_samples=3000,
        progress=False,
    )
    assert tree["posterior"].V_2.dims == ("chain", "draw", "rank_2", "unit_1")
    assert float(az.rhat(tree["predictions"].dataset[["f"]]).f.max()) < 1.02
    found = fw.scores(tree)
    assert abs(float(found.error) - float(exact.error)) < 4 * float(found.error_mcse)
