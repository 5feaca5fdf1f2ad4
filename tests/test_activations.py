"""Built-in activations: exact statements, accuracy near the diagonal, finite derivatives."""

import hypothesis.extra.numpy as npst
import jax
import jax.numpy as jnp
import mpmath
import numpy as np
import pytest
import scipy.special
from hypothesis import given, settings, strategies as st

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth.activations import _moments as _quadrature

CLOSED = ["erf", "relu", "identity"]

# where differentiating a square root or an arccosine would give NaN
EDGES = [
    (1.0, 1.0, 1.0),  # the diagonal
    (2.0, 1.0, 0.5),  # parallel patterns
    (1.0, -1.0, 1.0),  # opposite patterns
    (0.0, 0.0, 1.0),  # a zero input
    (0.0, 0.0, 0.0),
    (1.0, np.nextafter(1.0, 2.0), 1.0),  # beyond the diagonal by rounding
    (1.0, np.nextafter(1.0, 0.0), 1.0),
]


@pytest.fixture(autouse=True)
def in_float64():
    with float64():
        yield


def evaluate(name: str, *covariance: float) -> float:
    activation = fw.get_activation(name)
    return float(_quadrature.kernel(activation, *map(jnp.asarray, covariance)))


@pytest.mark.parametrize("name", [*CLOSED, pytest.param("tanh", marks=pytest.mark.slow)])
def test_it_keeps_its_contract(name: str) -> None:
    report = fw.testing.check_activation(fw.get_activation(name))
    assert report["kernel"] < 1e-8


@pytest.mark.parametrize("rho", [-0.7, 0.0, 0.3, 0.999])
@pytest.mark.parametrize(("c_xx", "c_yy"), [(1.0, 1.0), (0.01, 3.0), (50.0, 20.0)])
def test_erf_is_the_arcsine_of_the_literature(c_xx: float, c_yy: float, rho: float) -> None:
    c_xy = rho * np.sqrt(c_xx * c_yy)
    expected = 2 / np.pi * np.arcsin(2 * c_xy / np.sqrt((1 + 2 * c_xx) * (1 + 2 * c_yy)))
    assert evaluate("erf", c_xx, c_xy, c_yy) == pytest.approx(expected, rel=1e-13)


@pytest.mark.parametrize("angle", [0.0, 1e-9, 1e-6, 1e-3, 0.5, 2.0, 3.1, 3.141592])
def test_relu_is_the_arc_cosine_kernel_at_every_angle(angle: float) -> None:
    """Against 50 digits, for the covariance that these patterns have in float64."""
    x, y = np.array([1.5, 0.0]), 0.7 * np.array([np.cos(angle), np.sin(angle)])
    c_xx, c_xy, c_yy = x @ x, x @ y, y @ y
    with mpmath.workdps(50):
        product = mpmath.sqrt(mpmath.mpf(c_xx) * mpmath.mpf(c_yy))
        theta = mpmath.acos(min(mpmath.mpf(1), mpmath.mpf(c_xy) / product))
        inner = mpmath.sin(theta) + (mpmath.pi - theta) * mpmath.cos(theta)
        expected = float(product * inner / (2 * mpmath.pi))
    # relative to the scale √(c_xx c_yy)/2: at θ = π the kernel itself vanishes
    assert abs(evaluate("relu", c_xx, c_xy, c_yy) - expected) < 2e-15 * np.sqrt(c_xx * c_yy)


@pytest.mark.parametrize("c", [1e-12, 0.3, 1.0, 7.0, 1e9])
def test_the_diagonal_is_exact(c: float) -> None:
    """E[relu²] = c/2, E[h²] = c, E[erf²] = (2/π) arcsin(2c/(1 + 2c)), to rounding."""
    assert evaluate("relu", c, c, c) == pytest.approx(c / 2, rel=1e-15)
    assert evaluate("identity", c, c, c) == c
    with mpmath.workdps(40):
        ratio = 2 * mpmath.mpf(c) / (1 + 2 * mpmath.mpf(c))
        expected = float(2 / mpmath.pi * mpmath.asin(ratio))
    assert evaluate("erf", c, c, c) == pytest.approx(expected, rel=1e-14)


@pytest.mark.parametrize("name", CLOSED)
def test_two_derivatives_are_finite(name: str) -> None:
    kernel = fw.get_activation(name).kernel
    assert kernel is not None
    first = jax.jit(jax.grad(kernel, argnums=(0, 1, 2)))
    second = jax.jit(jax.hessian(kernel, argnums=(0, 1, 2)))
    for edge in EDGES:
        arguments = tuple(map(jnp.asarray, edge))
        assert np.isfinite(first(*arguments)).all(), edge
        assert np.isfinite(second(*arguments)).all(), edge


@pytest.mark.parametrize("edge", EDGES[:3])
def test_relu_derivatives_along_a_common_scale(edge: tuple[float, ...]) -> None:
    """K(qC) = qK(C): the first derivative in q is K, the second vanishes, on the edge too."""
    kernel = fw.get_activation("relu").kernel
    assert kernel is not None

    def scaled(q):
        return kernel(*(q * c for c in edge))

    one = jnp.asarray(1.0)
    assert jax.grad(scaled)(one) == pytest.approx(evaluate("relu", *edge), rel=1e-14)
    assert abs(jax.grad(jax.grad(scaled))(one)) < 1e-14


def test_relu_gradient_is_the_arc_cosine_kernel_of_order_zero() -> None:
    """Price: ∂K/∂c_xy = P(h > 0, h' > 0) = (π − θ)/2π."""
    kernel = fw.get_activation("relu").kernel
    assert kernel is not None
    for theta in (0.0, 0.1, 2.0, np.pi):
        slope = jax.grad(kernel, argnums=1)(*map(jnp.asarray, (1.0, np.cos(theta), 1.0)))
        assert slope == pytest.approx((np.pi - theta) / (2 * np.pi), rel=1e-12, abs=1e-15)


def test_relu_mean() -> None:
    mean = fw.get_activation("relu").mean
    assert mean is not None
    assert mean(jnp.asarray(2 * np.pi)) == pytest.approx(1.0, rel=1e-15)
    assert mean(jnp.asarray(0.0)) == 0.0
    assert np.isfinite(jax.grad(mean)(jnp.asarray(0.0)))


@settings(max_examples=25, deadline=None)
@given(
    name=st.sampled_from(CLOSED),
    points=npst.arrays(
        float,
        (6, 4),  # one program; fewer patterns are part of these, fewer inputs are columns of zeros
        elements=st.floats(-8, 8, allow_subnormal=False),
    ),
)
def test_gram_matrices_are_symmetric_and_positive_semidefinite(
    name: str, points: np.ndarray
) -> None:
    with float64():
        covariance = jnp.asarray(points @ points.T)
        c = jnp.diag(covariance)
        kernel = fw.get_activation(name).kernel
        assert kernel is not None
        gram = np.asarray(kernel(c[:, None], covariance, c[None, :]))
    np.testing.assert_allclose(gram, gram.T, rtol=1e-12, atol=1e-300)
    assert np.linalg.eigvalsh(gram).min() >= -1e-13 * max(np.trace(gram), 1e-300)


@pytest.mark.parametrize("name", CLOSED)
def test_kernels_accept_strict_promotion(name: str, strict_jax: None) -> None:
    c = jnp.asarray([[1.0]])
    kernel = fw.get_activation(name).kernel
    assert kernel is not None
    for dtype in (jnp.float64, jnp.float32):
        assert kernel(c.astype(dtype), c.astype(dtype), c.astype(dtype)).dtype == dtype


def test_erf_and_its_derivatives_keep_every_digit() -> None:
    x = np.concatenate([np.linspace(-7, 7, 20_001), np.logspace(-300, 0, 301), [0.0, np.inf]])
    with float64():
        fn = fw.get_activation("erf").fn
        value = np.asarray(fn(jnp.asarray(x)))
        first, second = (
            np.asarray(jax.vmap(d)(jnp.asarray(x))) for d in (jax.grad(fn), jax.grad(jax.grad(fn)))
        )
    exact = scipy.special.erf(x)
    assert np.max(np.abs(value - exact) / np.abs(np.spacing(exact))) <= 4
    x = x[:-1]
    slope = 2 / np.sqrt(np.pi) * np.exp(-(x**2))
    np.testing.assert_allclose(first[:-1], slope, rtol=1e-14)
    np.testing.assert_allclose(second[:-1], -2 * x * slope, rtol=1e-14)
    assert np.isnan(fn(jnp.asarray(np.nan)))
