"""Slopes in the name, and the closed form of each."""

import copy
import pickle

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import finwidth as fw

RNG = np.random.default_rng(0)
X = RNG.normal(size=(7, 3))


def kernel(name: str) -> np.ndarray:
    """Return E[σ(h)σ(h')] for the inputs' own covariance, duplicates and opposites included."""
    points = np.concatenate([X, X[:1], -X[:1], 0 * X[:1]])
    found = fw.get_activation(name).kernel
    assert found is not None
    with jax.enable_x64(True):
        gram = jnp.asarray(points @ points.T)
        c = jnp.diag(gram)
        return np.asarray(found(c[:, None], gram, c[None, :]))


def test_the_installed_plugin_provides_the_family() -> None:
    assert "leaky_relu" in fw.list_activations()
    assert fw.get_activation("leaky_relu").name == "leaky_relu:0.01"
    assert fw.Network(widths=(10,), activation="leaky_relu:0.1").activation.name == "leaky_relu:0.1"


@pytest.mark.parametrize("text", ["0.1", "0.10", "1e-1", "slope=0.1"])
def test_a_slope_is_one_activation_however_it_is_written(text: str) -> None:
    assert fw.get_activation(f"leaky_relu:{text}") is fw.get_activation("leaky_relu:0.1")


def test_it_is_what_it_is_called() -> None:
    h = jnp.linspace(-3.0, 3.0, 7)
    for slope in (-1.0, 0.0, 0.2, 2.5):
        expected = jnp.maximum(h, 0) + slope * jnp.minimum(h, 0)
        np.testing.assert_allclose(fw.get_activation(f"leaky_relu:{slope}").fn(h), expected)


@pytest.mark.parametrize(("slope", "name"), [(0, "relu"), (1, "identity")])
def test_two_slopes_have_names_of_their_own(slope: int, name: str) -> None:
    one, other = kernel(f"leaky_relu:{slope}"), kernel(name)
    np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-15)


def test_the_absolute_value() -> None:
    """E|h h'| = (2/π) √(C_xx C_yy) [√(1 − ρ²) + ρ arcsin ρ], ρ the correlation."""
    leaky = fw.get_activation("leaky_relu:-1").kernel
    assert leaky is not None
    with jax.enable_x64(True):
        for rho in (-1.0, -0.4, 0.0, 0.7, 1.0):
            expected = 2 / np.pi * (np.sqrt(1 - rho**2) + rho * np.arcsin(rho))
            got = leaky(jnp.asarray(1.0), jnp.asarray(2 * rho), jnp.asarray(4.0))
            assert float(got) == pytest.approx(2 * expected, abs=1e-14)


def test_the_moments_are_those_of_draws() -> None:
    """Within 5 standard errors of 10⁵ of them."""
    leaky = fw.get_activation("leaky_relu:0.3")
    c = np.array([[1.0, -0.6], [-0.6, 2.0]])
    h = RNG.multivariate_normal(np.zeros(2), c, size=10**5)
    s = np.where(h > 0, h, 0.3 * h)
    assert leaky.kernel is not None and leaky.mean is not None
    expected = float(leaky.kernel(*map(jnp.asarray, (c[0, 0], c[0, 1], c[1, 1]))))
    product = s[:, 0] * s[:, 1]
    assert abs(product.mean() - expected) < 5 * product.std() / 316
    assert abs(s[:, 0].mean() - float(leaky.mean(jnp.asarray(1.0)))) < 5 * s[:, 0].std() / 316


@pytest.mark.parametrize(
    "text", ["", "x", "nan", "inf", "0.1,0.2", "slope=", "angle=0.1", "0.1,slope=0.2", ",", "0.1:2"]
)
def test_a_slope_that_is_none_is_refused_in_one_line(text: str) -> None:
    if text == "":  # the default, as without the colon
        assert fw.get_activation("leaky_relu:") is fw.get_activation("leaky_relu")
        return
    expected = "^expected activation = leaky_relu:SLOPE, its parameters finite floats, got "
    with pytest.raises(fw.InputError, match=expected) as caught:
        fw.Network((4,), f"leaky_relu:{text}")
    assert "\n" not in str(caught.value) and text in str(caught.value)


def test_copies_and_pickles_are_the_same_activation() -> None:
    net = fw.Network((4,), "leaky_relu:0.1")
    assert pickle.loads(pickle.dumps(net)) == net == copy.deepcopy(net)
    assert net.activation.digest != fw.get_activation("leaky_relu:0.2").digest


def test_it_is_solved() -> None:
    """At slope 1 it is the identity, for which every depth is one equation."""
    y = np.sign(X[:, 0])
    one, other = (
        fw.solve(fw.Network((6,), name), X, y, temperature=0.2)
        for name in ("leaky_relu:1", "identity")
    )
    assert one.action == pytest.approx(other.action, rel=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("slope", ["0.1", "-1", "3"])
def test_it_keeps_the_contract_of_an_activation(slope: str) -> None:
    report = fw.testing.check_activation(fw.get_activation(f"leaky_relu:{slope}"))
    assert report["kernel"] < 1e-9
    assert report["mean"] < 1e-9
