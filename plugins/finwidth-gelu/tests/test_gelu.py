import jax
import jax.numpy as jnp
import numpy as np
import pytest

import finwidth as fw


@pytest.fixture
def gelu() -> fw.Activation:
    return fw.get_activation("gelu")


def test_the_installed_plugin_provides_gelu() -> None:
    assert "gelu" in fw.list_activations()
    assert fw.Network(widths=(10,), activation="gelu").activation.name == "gelu"


def test_it_keeps_the_contract_of_an_activation(gelu: fw.Activation) -> None:
    report = fw.testing.check_activation(gelu)
    assert report["kernel"] < 1e-9
    assert report["mean"] < 1e-9


def test_large_variances_approach_relu(gelu: fw.Activation) -> None:
    """hΦ(h) → max(h, 0) when h is large: K/c tends to ReLU's, with corrections of order 1/c."""
    relu = fw.get_activation("relu")
    with jax.enable_x64(True):
        c_xx, c_xy, c_yy = (jnp.asarray(1e6 * c) for c in (1.0, -0.4, 2.0))
        assert np.isclose(gelu.kernel(c_xx, c_xy, c_yy), relu.kernel(c_xx, c_xy, c_yy), rtol=1e-5)
        assert np.isclose(gelu.mean(c_xx), relu.mean(c_xx), rtol=1e-5)


def test_price_theorem(gelu: fw.Activation) -> None:
    """At independence ∂K/∂c_xy = E[σ']² = 1/4, because E[σ'] = E[Φ + hφ] = 1/2 by symmetry."""
    with jax.enable_x64(True):
        one = jnp.asarray(1.0)
        slope = jax.grad(gelu.kernel, argnums=1)(one, jnp.asarray(0.0), one)
    assert np.isclose(slope, 0.25, rtol=1e-14)
