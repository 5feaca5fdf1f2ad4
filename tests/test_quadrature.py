"""Hermite series of moments: accuracy against closed forms, honest bounds, derivatives."""

import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings, strategies as st

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth.activations import _moments as _quadrature, _rules


def bare(name: str) -> fw.Activation:
    """Make a built-in forget its closed forms."""
    known = fw.get_activation(name)
    return fw.Activation(f"bare {name}", known.fn, known.parity)


ERF, RELU, IDENTITY = bare("erf"), bare("relu"), bare("identity")
TANH = fw.get_activation("tanh")
SINE = fw.Activation("sine", jnp.sin, "odd")
SOFTPLUS = fw.Activation("softplus", jax.nn.softplus)
SIGN = fw.Activation("sign", jnp.sign, "odd")
SMOOTH = [ERF, TANH, SINE, SOFTPLUS]

EDGES = [(1.0, 1.0, 1.0), (2.0, 1.0, 0.5), (1.0, -1.0, 1.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)]


def named(value: object) -> str | None:
    return value.name if isinstance(value, fw.Activation) else None


@pytest.fixture(autouse=True)
def in_float64():
    with float64():
        yield


def rule_of(activation: fw.Activation, c_max: float) -> _rules.Rule:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fw.AccuracyWarning)
        return _rules.prepare(activation, c_max)


def grid(c_max: float) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Covariances with correlations from -1 to 1 and variances from c_max/10 to c_max."""
    c_xx, c_yy = c_max * np.array([0.1, 1.0])[:, None, None], c_max * np.array([0.3, 1.0])[:, None]
    rho = np.array([-1.0, -0.9, 0.0, 0.4, 0.99, 1.0])
    return jnp.asarray(c_xx), jnp.asarray(rho * np.sqrt(c_xx * c_yy)), jnp.asarray(c_yy)


def sine_kernel(c_xx, c_xy, c_yy):
    half = (c_xx + c_yy) / 2
    return (jnp.exp(c_xy - half) - jnp.exp(-c_xy - half)) / 2


@pytest.mark.parametrize("c_max", [0.1, 2.0, 20.0])
@pytest.mark.parametrize(
    ("activation", "exact"),
    [
        (ERF, fw.get_activation("erf").kernel),
        (SINE, sine_kernel),
        (IDENTITY, fw.get_activation("identity").kernel),
    ],
    ids=named,
)
def test_series_meet_their_tolerance(activation: fw.Activation, exact, c_max: float) -> None:
    rule = _rules.prepare(activation, c_max)  # a warning would be an error here
    c_xx, c_xy, c_yy = grid(c_max)
    scale = jnp.sqrt(exact(c_xx, c_xx, c_xx) * exact(c_yy, c_yy, c_yy))
    error = jnp.abs(
        _quadrature.kernel(activation, c_xx, c_xy, c_yy, rule) - exact(c_xx, c_xy, c_yy)
    )
    assert float((error / scale).max()) < 1e-8


def test_tanh_meets_its_tolerance_at_large_variances() -> None:
    """On the diagonal, the hardest place for the series: K = E[tanh²], by a dense trapezoid."""
    c = 30.0
    rule = _rules.prepare(TANH, c)
    z = np.linspace(-12, 12, 48001)
    density = np.exp(-(z**2) / 2) / np.sqrt(2 * np.pi) * (z[1] - z[0])
    expected = np.sum(density * np.tanh(np.sqrt(c) * z) ** 2)
    one = jnp.asarray(c)
    assert float(_quadrature.kernel(TANH, one, one, one, rule)) == pytest.approx(expected, rel=1e-8)


@pytest.mark.parametrize(
    ("activation", "exact", "worst"),
    [
        (RELU, fw.get_activation("relu").kernel, 1e-4),
        (
            SIGN,
            lambda xx, xy, yy: 2 / jnp.pi * jnp.arcsin(jnp.clip(xy / jnp.sqrt(xx * yy), -1, 1)),
            0.1,
        ),
    ],
    ids=["relu", "sign"],
)
def test_kinks_and_jumps_are_noticed(activation: fw.Activation, exact, worst: float) -> None:
    """The warning states a bound, and the bound holds; Gauss-Hermite misses both by more."""
    with pytest.warns(fw.AccuracyWarning, match=f"expected the moments .*{activation.name!r}"):
        rule = _rules.prepare(activation, 2.0)
    assert 1e-8 < rule.error < worst
    c_xx, c_xy, c_yy = grid(2.0)
    scale = jnp.sqrt(exact(c_xx, c_xx, c_xx) * exact(c_yy, c_yy, c_yy))
    error = jnp.abs(
        _quadrature.kernel(activation, c_xx, c_xy, c_yy, rule) - exact(c_xx, c_xy, c_yy)
    )
    assert float((error / scale).max()) <= rule.error * (1 + 1e-6)


def test_a_kink_at_zero_costs_the_mean_nothing() -> None:
    c = jnp.asarray([0.0, 1e-3, 1.0, 40.0])
    got = _quadrature.mean(RELU, c, rule_of(RELU, 40.0))
    np.testing.assert_allclose(got, np.sqrt(c / (2 * np.pi)), rtol=1e-14)


def test_closed_forms_need_no_series() -> None:
    for name in ("erf", "relu", "identity"):
        rule = _rules.prepare(fw.get_activation(name), 1e6)
        assert rule.error == 0


def test_an_odd_activation_has_mean_zero() -> None:
    assert (_quadrature.mean(TANH, jnp.asarray([0.0, 1.0, 5.0])) == 0).all()


def test_growth_beyond_the_nodes_is_noticed() -> None:
    """E[exp(2h)] at c = 30 has its weight at z = 2√30, outside the rule: wrong by a factor."""
    with pytest.raises(fw.InputError, match="expected X, weight_precision .* 'exp'"):
        _rules.prepare(fw.Activation("exp", jnp.exp), 30.0)


SLOW_TWICE = [pytest.param(one, marks=pytest.mark.slow) for one in (SOFTPLUS, RELU)]


def numerical(function, point: np.ndarray, step: float = 1e-5) -> np.ndarray:
    columns = [
        (function(jnp.asarray(point + e)) - function(jnp.asarray(point - e))) / (2 * step)
        for e in step * np.eye(3)
    ]
    return np.stack([np.asarray(column) for column in columns], axis=-1)


@pytest.mark.parametrize("activation", [TANH, *SLOW_TWICE, SIGN], ids=named)
def test_two_derivatives_match_differences(activation: fw.Activation) -> None:
    """Kinks included: their derivatives come from the ladder operator, not from fn's."""
    rule = rule_of(activation, 2.0)

    def kernel(c):
        return _quadrature.kernel(activation, c[0], c[1], c[2], rule)

    point = np.array([1.0, 0.3, 2.0])
    gradient = jax.jit(jax.grad(kernel))
    hessian = jax.jit(jax.hessian(kernel))(jnp.asarray(point))
    np.testing.assert_allclose(gradient(jnp.asarray(point)), numerical(kernel, point), atol=1e-8)
    np.testing.assert_allclose(hessian, numerical(gradient, point), atol=1e-8)


@pytest.mark.parametrize("activation", [TANH, *SLOW_TWICE, SIGN], ids=named)
def test_two_derivatives_are_finite_on_the_edge(activation: fw.Activation) -> None:
    rule = rule_of(activation, 2.0)

    def kernel(c):
        return _quadrature.kernel(activation, c[0], c[1], c[2], rule)

    points = jnp.asarray(EDGES)
    assert np.isfinite(jax.jit(jax.vmap(jax.grad(kernel)))(points)).all()
    assert np.isfinite(jax.jit(jax.vmap(jax.hessian(kernel)))(points)).all()


def test_derivatives_at_a_zero_input() -> None:
    """At c_xx = 0: ∂K/∂c_xy = σ'(0) E[σ'(h')], ∂K/∂c_xx = ½σ''(0) E[σ(h')], by Price's theorem."""
    rule = _rules.prepare(SOFTPLUS, 1.0)
    zero, one = jnp.asarray(0.0), jnp.asarray(1.0)
    by_xx, by_xy = jax.grad(
        lambda xx, xy: _quadrature.kernel(SOFTPLUS, xx, xy, one, rule), argnums=(0, 1)
    )(zero, zero)
    # softplus(0)' = 1/2, and E[sigmoid(h')] = 1/2 by symmetry; softplus(0)'' = 1/4
    assert by_xy == pytest.approx(0.25, rel=1e-12)
    mean = float(_quadrature.mean(SOFTPLUS, one, rule))
    assert by_xx == pytest.approx(mean / 8, rel=1e-12)


def test_the_mean_obeys_the_heat_equation() -> None:
    """d/dc E[σ] = ½E[σ'']: for h² the mean is c and the slope 1, at c = 0 too."""
    square = fw.Activation("square", lambda h: h * h)
    rule = _rules.prepare(square, 4.0)
    for c in (0.0, 0.5, 4.0):
        value, slope = jax.value_and_grad(lambda c: _quadrature.mean(square, c, rule))(
            jnp.asarray(c)
        )
        assert value == pytest.approx(c, abs=1e-14)
        assert slope == pytest.approx(1.0, rel=1e-13)


def test_it_can_be_jitted_and_vmapped_and_chosen_by_default(strict_jax: None) -> None:
    c_xx, c_xy, c_yy = (
        jnp.asarray(c) for c in ([1.0, 2.0, 3.0], [0.5, -1.0, 1.0], [1.0, 1.0, 2.0])
    )
    plain = _quadrature.kernel(TANH, c_xx, c_xy, c_yy)

    def traced(*c):
        return _quadrature.kernel(TANH, *c)

    np.testing.assert_allclose(jax.jit(traced)(c_xx, c_xy, c_yy), plain, rtol=1e-7)
    np.testing.assert_allclose(jax.vmap(traced)(c_xx, c_xy, c_yy), plain, rtol=1e-7)
    mean = jax.jit(lambda c: _quadrature.mean(SOFTPLUS, c))(c_xx)
    np.testing.assert_allclose(mean, _quadrature.mean(SOFTPLUS, c_xx), rtol=1e-12)


def test_pairs_in_chunks_equal_the_kernel_of_patterns(monkeypatch: pytest.MonkeyPatch) -> None:
    x = np.random.default_rng(0).normal(size=(7, 3))
    covariance = jnp.asarray(x @ x.T)
    c = jnp.diag(covariance)
    rule = _rules.prepare(SOFTPLUS, float(c.max()))
    expected = _quadrature.kernel(SOFTPLUS, c[:, None], covariance, c[None, :], rule)
    monkeypatch.setattr(_quadrature, "_CHUNK", 10)
    full = (jnp.broadcast_to(c[:, None], (7, 7)), covariance, jnp.broadcast_to(c, (7, 7)))
    np.testing.assert_allclose(_quadrature.kernel(SOFTPLUS, *full, rule), expected, rtol=1e-12)


@settings(max_examples=4, deadline=None)
@given(
    activation=st.sampled_from([TANH, RELU, SOFTPLUS]),
    shapes=st.sampled_from(
        [((), (), ()), ((3, 1), (3, 4), (1, 4)), ((4,), (3, 1), ()), ((), (2,), (2,))]
    ),
)
def test_shapes_broadcast(activation: fw.Activation, shapes: tuple) -> None:
    with float64():
        rule = rule_of(activation, 2.0)
        arrays = [jnp.full(shape, c) for shape, c in zip(shapes, (1.0, 0.5, 2.0), strict=True)]
        got = _quadrature.kernel(activation, *arrays, rule)
        scalar = _quadrature.kernel(activation, *map(jnp.asarray, (1.0, 0.5, 2.0)), rule)
    assert got.shape == np.broadcast_shapes(*shapes)
    np.testing.assert_allclose(got, np.full(got.shape, scalar), rtol=1e-12)


@pytest.mark.slow
@settings(max_examples=8, deadline=None)
@given(
    activation=st.sampled_from([TANH, RELU, SOFTPLUS, SIGN]),
    seed=st.integers(0, 2**32 - 1),
    scale=st.floats(0, 2),
)
def test_gram_matrices_are_positive_semidefinite_for_any_truncation(
    activation: fw.Activation, seed: int, scale: float
) -> None:
    points = scale * np.random.default_rng(seed).normal(size=(5, 2))
    points = np.concatenate([points, points[:2], -points[:1], np.zeros((1, 2))])
    with float64():
        covariance = jnp.asarray(points @ points.T)
        c = jnp.diag(covariance)
        gram = np.asarray(
            _quadrature.kernel(
                activation, c[:, None], covariance, c[None, :], rule_of(activation, 1.0)
            )
        )
    np.testing.assert_allclose(gram, gram.T, rtol=1e-12, atol=1e-15)
    assert np.linalg.eigvalsh(gram).min() >= -1e-12 * max(np.trace(gram), 1.0)
