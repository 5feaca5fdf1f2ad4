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


def test_far_out_it_is_a_relu_and_close_by_it_is_linear() -> None:
    x = np.random.default_rng(0).normal(size=(5, 3))
    gelu, relu = (fw.Network((4,), name) for name in ("gelu", "relu"))
    for scale in (1e10, 1e100, 1e150):
        np.testing.assert_allclose(
            fw.nngp_kernel(gelu, scale * x), fw.nngp_kernel(relu, scale * x), rtol=1e-8
        )
    for scale in (1e-10, 1e-140):
        unit = scale / np.sqrt(3)
        got = fw.nngp_kernel(gelu, scale * x) / unit / unit
        np.testing.assert_allclose(got, x @ x.T / 4, atol=1e-8)


def test_derivatives_at_every_scale(gelu: fw.Activation) -> None:
    """On the diagonal E[σ'²] → 1/2 and ∂K/∂C_xx → −1/(8π√(2C)), a difference of terms in √C."""
    kernel = gelu.kernel
    assert kernel is not None
    with jax.enable_x64(True):
        gradient = jax.jit(jax.grad(kernel, argnums=(0, 1, 2)))
        hessian = jax.jit(jax.hessian(kernel, argnums=(0, 1, 2)))
        for c in (1e12, 1e100, 1e280):
            by_xx, by_xy, by_yy = gradient(c, c, c)
            assert float(by_xy) == pytest.approx(0.5, rel=1e-5)
            expected = -1 / (8 * np.pi * np.sqrt(2) * np.sqrt(c))
            assert float(by_xx) == pytest.approx(expected, rel=1e-9) == float(by_yy)
            assert np.isfinite(hessian(c, c, c)).all()
        assert np.isfinite(hessian(0.0, 0.0, 1.0)).all()
