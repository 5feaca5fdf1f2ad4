"""Kernels where variances are huge or tiny: limits of the activations, or one line that refuses."""

import warnings
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth.activations import _moments as _quadrature, _rules

RNG = np.random.default_rng(0)
X = RNG.normal(size=(6, 5))
X[4], X[5] = X[3], -2 * X[2]  # a duplicate and an opposite
COVARIANCE = X @ X.T / 5
SIZE = np.linalg.norm(X, axis=1) / np.sqrt(5)
RHO = np.clip(COVARIANCE / SIZE[:, None] / SIZE, -1, 1)

BARE_ERF = fw.Activation("bare erf", jax.scipy.special.erf, "odd")
BARE_RELU = fw.Activation("bare relu", jax.nn.relu)
SWISH = fw.Activation("swish", jax.nn.silu)


def arc_cosine(rho: np.ndarray) -> np.ndarray:
    """E[relu(h) relu(h')] for unit variances."""
    theta = np.arccos(rho)
    return (np.sin(theta) + (np.pi - theta) * np.cos(theta)) / (2 * np.pi)


def net(activation: str | fw.Activation, depth: int = 1, **changes) -> fw.Network:
    return fw.Network((7,) * depth, activation, **changes)


def kernel(network: fw.Network, *inputs: np.ndarray, warned: bool = False) -> np.ndarray:
    if not warned:
        return fw.nngp_kernel(network, *inputs)  # a warning would be an error
    with pytest.warns(fw.AccuracyWarning):
        return fw.nngp_kernel(network, *inputs)


# what is left at tiny variances of an activation with σ(0) = 0: σ'(0)² C
SLOPES = [("erf", 4 / np.pi), ("tanh", 1.0), ("identity", 1.0), (SWISH, 0.25)]


@pytest.mark.parametrize(
    ("activation", "warned", "scale"),
    [
        ("erf", False, 1e9),
        ("erf", False, 1e77),
        ("erf", False, 1e150),
        ("tanh", True, 1e150),
        pytest.param("tanh", True, 1e9, marks=pytest.mark.slow),
        pytest.param(BARE_ERF, True, 1e77, marks=pytest.mark.slow),
    ],
)
def test_what_saturates_becomes_a_sign(activation, warned: bool, scale: float) -> None:
    """(2/π) arcsin ρ whatever the scale; by a series within 2 %, which is said."""
    got = kernel(net(activation), scale * X, warned=warned)
    np.testing.assert_allclose(got, 2 / np.pi * np.arcsin(RHO), atol=2e-2 if warned else 1e-7)


@pytest.mark.parametrize("scale", [1e-145, 1e-100, 1e100, 1e150])
@pytest.mark.parametrize("depth", [1, 3])
def test_relu_is_homogeneous(scale: float, depth: int) -> None:
    """K(s²C) = s²K(C), over 600 orders of magnitude."""
    usual = kernel(net("relu", depth), X)
    unit = np.sqrt(np.diag(usual))
    got = kernel(net("relu", depth), scale * X)
    np.testing.assert_allclose(
        got / (scale * unit[:, None]) / (scale * unit), usual / np.outer(unit, unit), atol=1e-12
    )


@pytest.mark.parametrize("scale", [1e-140, 1e140])
def test_a_kink_by_quadrature_is_homogeneous_too(scale: float) -> None:
    got = kernel(net(BARE_RELU), scale * X, warned=True)
    unit = scale * SIZE
    np.testing.assert_allclose(got / unit[:, None] / unit, arc_cosine(RHO), atol=1e-5)


def test_a_smooth_activation_becomes_its_asymptote() -> None:
    """h/(1 + e⁻ʰ) is a ReLU from afar."""
    got = kernel(net(SWISH), 1e120 * X, warned=True)
    unit = 1e120 * SIZE
    np.testing.assert_allclose(got / unit[:, None] / unit, arc_cosine(RHO), atol=1e-5)


@pytest.mark.parametrize("precision", [1e155, 1e280])
@pytest.mark.parametrize(("activation", "slope"), SLOPES)
def test_tiny_variances_are_linear(activation, slope: float, precision: float) -> None:
    got = kernel(net(activation, weight_precision=(precision, 1.0)), X)
    np.testing.assert_allclose(got * precision, slope * COVARIANCE, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    "activation",
    [
        "erf",
        "relu",
        pytest.param("tanh", marks=pytest.mark.slow),
        pytest.param(SWISH, marks=pytest.mark.slow),
    ],
)
def test_patterns_of_every_size_side_by_side(activation) -> None:
    """A pattern's entries do not depend on how large the others are."""
    sizes = np.array([1.0, 0.0, 1e-130, 1e130, 1e-20, 1e20])
    mixed = sizes[:, None] * X
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fw.AccuracyWarning)
        whole = kernel(net(activation), mixed)
        cross = kernel(net(activation), mixed, X)
        alone = [kernel(net(activation), row[None])[0, 0] for row in mixed]
    assert np.isfinite(whole).all() and np.isfinite(cross).all()
    assert (whole[1] == 0).all() and (cross[1] == 0).all()
    tolerance = 1e-12 if activation in ("erf", "relu") else 2e-2
    np.testing.assert_allclose(np.diag(whole), alone, rtol=tolerance)
    scale = np.sqrt(np.diag(whole))
    assert (np.abs(whole) <= (1 + 1e-9) * scale[:, None] * scale).all()


def test_a_bias_hides_what_is_tiny() -> None:
    network = net("erf", bias_precision=1.0)
    expected = kernel(network, 0 * X)
    np.testing.assert_allclose(kernel(network, 1e-170 * X), expected, rtol=1e-13)


@pytest.mark.parametrize("activation", ["erf", "relu", "tanh", "identity", SWISH])
@pytest.mark.parametrize("scale", [1e155, 1e300, 1e-160])
def test_inputs_without_a_covariance_are_refused(activation, scale: float) -> None:
    with pytest.raises(fw.InputError, match=r"expected X = patterns of variance .* in row 0"):
        kernel(net(activation), scale * X)
    with pytest.raises(fw.InputError, match=r"expected X2 = patterns of variance"):
        kernel(net(activation), X, scale * X)
    y = np.sign(X[:, 0])
    for theory in ("nested", "perturbative"):
        with pytest.raises(fw.InputError, match=r"expected X = patterns of variance"):
            fw.solve(net(activation), scale * X, y, temperature=0.1, theory=theory)


def test_test_patterns_without_a_covariance_are_refused() -> None:
    solution = fw.solve(net("erf"), X, np.sign(X[:, 0]), temperature=0.1)
    with pytest.raises(fw.InputError, match=r"expected X_test = patterns of variance"):
        solution.predict(1e160 * X)
    assert np.isfinite(solution.predict(1e150 * X).mean).all()


@pytest.mark.parametrize(
    ("activation", "precisions"),
    [
        ("relu", (1e-200, 1e-200)),
        ("identity", (1e200, 1e200)),
        ("erf", (1.0, 1e300)),
        ("tanh", (1.0, 1e300)),
        (fw.Activation("square", lambda h: h**2), (1e170, 1.0)),
        (fw.Activation("cube", lambda h: h**3, "odd"), (1e-120, 1.0)),
    ],
)
def test_layers_without_a_covariance_are_refused(activation, precisions: tuple) -> None:
    with pytest.raises(fw.InputError, match=r"expected X, weight_precision .* layer 2"):
        kernel(net(activation, weight_precision=precisions), X)


@pytest.mark.parametrize(
    "fn",
    [lambda h: jnp.exp(-(h**2)), jnp.sin, lambda h: jnp.where(h > 3, 0.0, 1.0) * jnp.exp(-h)],
    ids=["bump", "sine", "broken"],
)
def test_what_no_series_can_follow_is_refused(fn: Callable) -> None:
    """E[exp(−h²)exp(−h'²)] falls by an order of magnitude between ρ = 1 and ρ = 0.99."""
    with pytest.raises(fw.InputError, match="expected X, weight_precision .* by quadrature"):
        kernel(net(fw.Activation("wild", fn)), 1e6 * X)


def test_layers_that_shrink_the_largest_variances_get_a_rule_for_the_others() -> None:
    """exp(−h²) gives more to small patterns: the second layer's largest are theirs."""
    bump = fw.Activation("bump", lambda h: 3 * jnp.exp(-(h**2)))
    c = np.array([1e-4, 9.0])
    for _ in range(2):
        c = 9 / np.sqrt(1 + 4 * c)  # E[exp(−2h²)] = 1/√(1 + 4c)
    got = np.diag(kernel(net(bump, 2), np.array([[0.01], [3.0]])))
    np.testing.assert_allclose(got, c, rtol=1e-7)


@pytest.mark.parametrize("name", ["erf", "relu"])
def test_two_derivatives_are_finite_at_every_scale(name: str) -> None:
    """Of pairs in general position, duplicates, opposites, and with a zero input."""
    function = fw.get_activation(name).kernel
    assert function is not None
    pairs = np.array([(1.0, 0.3, 2.0), (1.0, 1.0, 1.0), (1.0, -1.0, 1.0), (0.0, 0.0, 1.0)])
    with float64():
        gradient = jax.jit(jax.vmap(jax.grad(lambda c: function(c[0], c[1], c[2]))))
        hessian = jax.jit(jax.vmap(jax.hessian(lambda c: function(c[0], c[1], c[2]))))
        for scale in (1e-280, 1e-155, 1.0, 1e17, 1e155, 1e280):
            points = jnp.asarray(scale * pairs)
            slopes = np.asarray(gradient(points))
            assert np.isfinite(slopes).all() and np.isfinite(hessian(points)).all()
            if name == "relu":  # homogeneous: the same slopes at every scale
                np.testing.assert_allclose(slopes, gradient(jnp.asarray(pairs)), rtol=1e-12)
            else:  # Price: E[σ'σ'] = (4/π)/√D, D = (1 + 2c_xx)(1 + 2c_yy) − 4c_xy²
                c = scale * 1.0
                expected = 4 / np.pi / np.sqrt(1 + 4 * c)
                np.testing.assert_allclose(slopes[1:3, 1], expected, rtol=1e-12)


@pytest.mark.parametrize("order", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_derivatives_of_a_series_at_large_variances(order: int) -> None:
    """They are small differences of large numbers there; against the closed form."""
    closed = fw.get_activation("erf").kernel
    assert closed is not None
    differentiate = jax.grad if order == 1 else jax.hessian
    with float64():
        rule = _rules.choose(BARE_ERF, 1e12)
        series = differentiate(lambda c: _quadrature.kernel(BARE_ERF, c[0], c[1], c[2], rule))
        exact = differentiate(lambda c: closed(c[0], c[1], c[2]))
        point = jnp.asarray([1e12, 3e11, 4e11])
        np.testing.assert_allclose(jax.jit(series)(point), exact(point), rtol=1e-6)


@pytest.mark.parametrize("theory", ["nested", "wishart", "infinite", "corrected", "perturbative"])
def test_a_theory_at_its_limit(theory: str) -> None:
    """erf is a sign at X·1e6 already: nothing changes beyond."""
    rng = np.random.default_rng(1)
    inputs = rng.normal(size=(10, 12))
    y = np.sign(inputs[:, 0])

    def evidence(scale: float) -> float:
        solution = fw.solve(net("erf"), scale * inputs, y, temperature=0.1, theory=theory)
        return solution.log_evidence

    limit = evidence(1e7)
    for scale in (1e9, 1e60, 1e150):
        assert evidence(scale) == pytest.approx(limit, rel=1e-5)


def test_a_kernel_of_any_size_in_the_infinite_theory() -> None:
    """s²K and T s² give the evidence of K and T, less P log s."""
    y = np.sign(X[:4, 0])
    usual = fw.solve(net("relu"), X[:4], y, temperature=0.1, theory="infinite").log_evidence
    for scale in (1e60, 1e100):
        solution = fw.solve(
            net("relu"), scale * X[:4], y * scale, temperature=0.1 * scale**2, theory="infinite"
        )
        assert solution.log_evidence == pytest.approx(usual - 4 * np.log(scale), rel=1e-12)


def test_inside_of_a_transformation_it_is_refused() -> None:
    network = net("erf")
    for function in (
        jax.jit(lambda x: fw.nngp_kernel(network, x)),
        jax.grad(lambda x: fw.nngp_kernel(network, x)[0, 1]),
        jax.vmap(lambda x: fw.nngp_kernel(network, X, x[None])),
    ):
        with pytest.raises(fw.InputError, match="got a JAX tracer.*outside of"):
            function(jnp.asarray(X))
