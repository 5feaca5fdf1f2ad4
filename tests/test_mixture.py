"""The scale mixture: exact for the identity, closed forms, limits, and what users do with it."""

import mpmath
import numpy as np
import pytest
import reference
import scipy.integrate
import scipy.stats

import finwidth as fw

RNG = np.random.default_rng(7)
X = RNG.normal(size=(12, 5))
Y = RNG.normal(size=12)
X_TEST = RNG.normal(size=(9, 5))
Y_TEST = RNG.normal(size=9)


def q_bar_of(result):
    return result.order_parameters.q_bar.values


@pytest.mark.parametrize(
    ("widths", "nodes"),
    [
        ((1,), 600),
        ((5,), 400),
        ((200,), 400),
        ((10**5,), 400),
        pytest.param((1, 1), 600, marks=pytest.mark.slow),
        ((5, 300), 400),
    ],
)
@pytest.mark.parametrize("temperature", [0.003, 0.5])
@pytest.mark.parametrize("theory", ["nested", "wishart"])
def test_identity_is_exact(widths, nodes, temperature, theory):
    net = fw.Network(widths, "identity", (0.8, *(1.3,) * len(widths)))
    result = fw.mixture(net, X, Y, temperature=temperature, theory=theory)
    log_evidence, mean, variance = reference.identity_mixture(
        net, X, Y, temperature, X_TEST, nodes=nodes, reach=36
    )
    assert result.converged
    assert result.residual <= 1e-9
    assert result.log_evidence == pytest.approx(log_evidence, abs=1e-8)
    prediction = result.predict(X_TEST, full_covariance=True)
    np.testing.assert_allclose(prediction.mean, mean, atol=1e-8)
    np.testing.assert_allclose(prediction.variance, variance, rtol=1e-8)
    np.testing.assert_allclose(np.diag(prediction.covariance), variance, rtol=1e-8)
    assert np.linalg.eigvalsh(prediction.covariance).min() > -1e-10


def test_the_mixture_is_a_theory_by_name():
    net = fw.Network((5,), "erf")
    solution = fw.solve(net, X, Y, temperature=0.5, theory="mixture")
    assert isinstance(solution, fw.MixtureSolution)
    assert solution.log_evidence == fw.mixture(net, X, Y, temperature=0.5).log_evidence
    with pytest.raises(fw.InputError, match="expected one hidden layer, an odd activation"):
        fw.solve(fw.Network((5, 5), "relu"), X, Y, temperature=0.5, theory="mixture")


def noiseless_labels(seed=3):
    """A noiseless problem whose kernel C has full rank, and yᵀC⁻¹y and logdet C."""
    rng = np.random.default_rng(seed)
    inputs, labels = rng.normal(size=(6, 8)), rng.normal(size=6)
    c = inputs @ inputs.T / 8
    return inputs, labels, labels @ np.linalg.solve(c, labels), np.linalg.slogdet(c)[1]


def noiseless_log_evidence(widths, n_patterns, square, logdet):
    """Log ∫ Π_ℓ Gamma(Q̄_ℓ) (2π s)^{-P/2} |C|^{-1/2} exp(−y²/2s), s = Π Q̄_ℓ, as a Meijer G.

    E[s^{-P/2} exp(−y²/2s)] follows from exp(−u) = G^{1,0}_{0,1}(u | 0), one index a layer.
    """
    with mpmath.workdps(40):
        u = mpmath.mpf(square) / 2 * mpmath.fprod(mpmath.mpf(n) / 2 for n in widths)
        half = mpmath.mpf(n_patterns) / 2
        indices = [0, *(mpmath.mpf(n) / 2 - half for n in widths)]
        value = mpmath.meijerg([[], []], [indices, []], u)
        constant = mpmath.fsum(
            half * mpmath.log(mpmath.mpf(n) / 2) - mpmath.loggamma(mpmath.mpf(n) / 2)
            for n in widths
        )
        value = mpmath.log(value) + constant
        return float(value - half * mpmath.log(2 * mpmath.pi) - mpmath.mpf(logdet) / 2)


@pytest.mark.parametrize("widths", [(1,), (7,), (40,), (3, 8), (20, 5), (4, 9, 6), (3, 4, 5, 6)])
def test_noiseless_evidence_of_the_identity_is_a_meijer_g_function(widths):
    """Hanin and Zlokapa (2023)."""
    inputs, labels, square, logdet = noiseless_labels()
    result = fw.mixture(fw.Network(widths, "identity"), inputs, labels, temperature=0.0)
    expected = noiseless_log_evidence(widths, 6, square, logdet)
    assert result.log_evidence == pytest.approx(expected, abs=1e-8)


def bessel_log_evidence(width, n_patterns, square, logdet):
    """The same for one layer: ∫ dQ̄ Q̄^{n-p-1} exp(−nQ̄ − y²/2Q̄), n = N/2, p = P/2."""
    with mpmath.workdps(40):
        n, p, y2 = (mpmath.mpf(value) / 2 for value in (width, n_patterns, square))
        integral = 2 * (y2 / n) ** ((n - p) / 2) * mpmath.besselk(n - p, 2 * mpmath.sqrt(n * y2))
        value = mpmath.log(integral) + n * mpmath.log(n) - mpmath.loggamma(n)
        return float(value - p * mpmath.log(2 * mpmath.pi) - mpmath.mpf(logdet) / 2)


@pytest.mark.parametrize("width", [1, 7, 40])
def test_noiseless_evidence_of_one_layer_is_a_bessel_function(width):
    inputs, labels, square, logdet = noiseless_labels()
    result = fw.mixture(fw.Network((width,), "identity"), inputs, labels, temperature=0.0)
    expected = bessel_log_evidence(width, 6, square, logdet)
    assert result.log_evidence == pytest.approx(expected, abs=1e-8)


@pytest.mark.parametrize("widths", [(6,), (4, 5)])
def test_evidence_with_noise_matches_high_precision_quadrature(widths):
    net = fw.Network(widths, "identity")
    result = fw.mixture(net, X, Y, temperature=0.1)
    values, vectors = np.linalg.eigh(X @ X.T / X.shape[1])
    y2 = (vectors.T @ Y) ** 2
    values = np.maximum(values, 0)
    a, b = (mpmath.mpf(n) / 2 for n in (*widths, 2)[:2])

    def integrand(x):
        s = mpmath.exp(x)
        total = [s * w + mpmath.mpf("0.1") for w in values]
        log_l = -sum(v / t + mpmath.log(2 * mpmath.pi * t) for v, t in zip(y2, total, strict=True))
        if len(widths) == 1:
            prior = a**a * s**a * mpmath.exp(-a * s) / mpmath.gamma(a)
        else:  # the product of two Gammas
            bessel = mpmath.besselk(a - b, 2 * mpmath.sqrt(a * b * s))
            power = (a * b) ** ((a + b) / 2) * s ** ((a + b) / 2)
            prior = 2 * power * bessel / mpmath.gamma(a) / mpmath.gamma(b)
        return prior * mpmath.exp(log_l / 2)

    with mpmath.workdps(20):
        expected = mpmath.log(mpmath.quad(integrand, [-30, -20, -14, -10, *range(-8, 7)]))
    assert result.log_evidence == pytest.approx(float(expected), abs=1e-8)


@pytest.mark.parametrize(
    ("activation", "bias"),
    [
        pytest.param("erf", None, marks=pytest.mark.slow),
        ("erf", 1.5),
        pytest.param("relu", None, marks=pytest.mark.slow),
        pytest.param("relu", 1.5, marks=pytest.mark.slow),
    ],
)
def test_one_layer_matches_integrals_over_scale_and_projection(activation, bias):
    """Independent of the package's rules: a sum over (r², a) in their quantiles."""
    width, temperature = 4, 0.3
    net = fw.Network((width,), activation, (0.8, 1.3), bias)
    result = fw.mixture(net, X, Y, temperature=temperature)
    everything = np.concatenate([X, X_TEST])
    c = everything @ everything.T / (0.8 * 5) + (1 / bias if bias else 0)
    second, m = reference.layer(activation, c)
    constant = 1 / bias if bias else 0.0
    n = len(Y)
    if activation == "erf":
        points = [(q, 0.0, w) for q, w in zip(*reference.gamma_nodes(width, 120, 30), strict=True)]
    else:  # r² λ ~ χ²(N−1), a ~ N(0, 1/λ)
        chi, log_weight = reference.gamma_nodes(width - 1, 160, 30)
        z, w = np.polynomial.legendre.leggauss(240)
        z, w = 8.5 * z, 8.5 * w
        points = [
            (((width - 1) * r + a**2) / width, a, lr + np.log(w_a) + scipy.stats.norm.logpdf(a))
            for r, lr in zip(chi, log_weight, strict=True)
            for a, w_a in zip(z, w, strict=True)
        ]
    rows = []
    for q_bar, a, log_w in points:
        kernel = q_bar * (second - np.outer(m, m)) / 1.3 + constant
        mean = a * m / np.sqrt(1.3)
        log_z, f, variance = reference.conditional(
            kernel[:n, :n] + temperature * np.eye(n),
            Y - mean[:n],
            kernel[n:, :n],
            np.diag(kernel)[n:],
        )
        rows.append((log_z + log_w, q_bar, f + mean[n:], variance))
    logs = np.array([row[0] for row in rows])
    weights = np.exp(logs - logs.max())
    log_evidence = logs.max() + np.log(weights.sum())
    weights /= weights.sum()
    q_bar = weights @ np.array([row[1] for row in rows])
    f = np.array([row[2] for row in rows])
    mean = weights @ f
    variance = weights @ (np.array([row[3] for row in rows]) + (f - mean) ** 2)
    assert result.log_evidence == pytest.approx(log_evidence, abs=1e-7)
    assert q_bar_of(result)[0] == pytest.approx(q_bar, rel=1e-7)
    prediction = result.predict(X_TEST, full_covariance=True)
    np.testing.assert_allclose(prediction.mean, mean, atol=1e-7)
    np.testing.assert_allclose(prediction.variance, variance, rtol=1e-6)
    np.testing.assert_allclose(np.diag(prediction.covariance), variance, rtol=1e-6)


def test_one_unit_with_a_mean_term_is_two_gaussian_processes_for_each_scale():
    """N = 1: a = ±√(Q̄/λ), no r."""
    net = fw.Network((1,), "relu")
    result = fw.mixture(net, X, Y, temperature=0.2)
    second, m = reference.layer("relu", X @ X.T / 5)

    def density(a):
        kernel = a**2 * (second - np.outer(m, m)) + 0.2 * np.eye(len(Y))
        return scipy.stats.norm.pdf(a) * scipy.stats.multivariate_normal(a * m, kernel).pdf(Y)

    value, _ = scipy.integrate.quad(density, -9, 9, points=[0], epsabs=0, epsrel=1e-11, limit=400)
    assert result.log_evidence == pytest.approx(np.log(value), abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("bias", [None, 2.0])
def test_two_odd_layers_match_a_sum_over_both_order_parameters(bias):
    net = fw.Network((4, 7), "erf", bias_precision=bias)
    result = fw.mixture(net, X, Y, temperature=0.2)
    everything = np.concatenate([X, X_TEST])
    n = len(Y)
    first, second = (reference.gamma_nodes(width, 100, 25) for width in net.widths)
    logs, q_bar, f, variances = [], [], [], []
    for one, log_one in zip(*first, strict=True):
        for two, log_two in zip(*second, strict=True):
            kernel = reference.kernel(net, everything, [one, two], [0.0, 0.0])
            log_z, mean, variance = reference.conditional(
                kernel[:n, :n] + 0.2 * np.eye(n), Y, kernel[n:, :n], np.diag(kernel)[n:]
            )
            logs.append(log_z + log_one + log_two)
            q_bar.append((one, two))
            f.append(mean)
            variances.append(variance)
    weights = np.exp(np.array(logs) - max(logs))
    log_evidence = max(logs) + np.log(weights.sum())
    weights /= weights.sum()
    mean = weights @ np.array(f)
    assert result.log_evidence == pytest.approx(log_evidence, abs=1e-6)
    np.testing.assert_allclose(q_bar_of(result), weights @ np.array(q_bar), rtol=1e-6)
    prediction = result.predict(X_TEST)
    np.testing.assert_allclose(prediction.mean, mean, atol=1e-6)
    variance = weights @ (np.array(variances) + (np.array(f) - mean) ** 2)
    np.testing.assert_allclose(prediction.variance, variance, rtol=1e-5)


@pytest.mark.parametrize(("activation", "theory"), [("erf", "nested"), ("relu", "nested")])
def test_infinite_width_limit_and_the_saddle_point_as_one_over_width(activation, theory):
    differences = []
    for width in (200, 400, 800):
        net = fw.Network((width,), activation)
        exact = fw.mixture(net, X, Y, temperature=0.1, theory=theory)
        saddle = fw.solve(net, X, Y, temperature=0.1, theory=theory)
        differences.append(saddle.log_evidence - exact.log_evidence)
    assert differences[0] / differences[1] == pytest.approx(2, rel=0.1)
    assert differences[1] / differences[2] == pytest.approx(2, rel=0.1)
    net = fw.Network((10**7,), activation)
    wide = fw.mixture(net, X, Y, temperature=0.1, theory=theory)
    infinite = fw.solve(net, X, Y, temperature=0.1, theory="infinite")
    assert wide.log_evidence == pytest.approx(infinite.log_evidence, abs=1e-4)
    for name in ("mean", "variance"):
        one, other = (getattr(s.predict(X_TEST), name) for s in (wide, infinite))
        np.testing.assert_allclose(one, other, atol=1e-5)


def test_wishart_takes_any_activation_and_depth_to_infinite_width():
    net = fw.Network((10**6,) * 4, "relu")
    wide = fw.mixture(net, X, Y, temperature=0.1, theory="wishart")
    infinite = fw.solve(net, X, Y, temperature=0.1, theory="infinite")
    assert wide.log_evidence == pytest.approx(infinite.log_evidence, abs=1e-3)
    np.testing.assert_allclose(wide.predict(X_TEST).mean, infinite.predict(X_TEST).mean, atol=1e-4)


@pytest.mark.parametrize(
    ("activation", "widths"), [pytest.param("erf", (3, 6), marks=pytest.mark.slow), ("relu", (4,))]
)
def test_infinite_temperature_limit_is_the_prior(activation, widths):
    net = fw.Network(widths, activation)
    result = fw.mixture(net, X, Y, temperature=1e9)
    prediction = result.predict(X_TEST)
    np.testing.assert_allclose(prediction.mean, 0, atol=1e-6)
    np.testing.assert_allclose(q_bar_of(result), 1, atol=1e-6)
    np.testing.assert_allclose(
        result.order_parameters.q_bar_sd, np.sqrt(2 / np.array(widths)), rtol=1e-6
    )
    if len(widths) == 1:  # E Q̄ = 1, E a² = 1/λ: the kernel of infinite width
        np.testing.assert_allclose(
            prediction.variance, np.diag(fw.nngp_kernel(net, X_TEST)), rtol=1e-6
        )


@pytest.mark.filterwarnings("ignore:expected y = labels")
def test_labels_far_from_the_prior_move_the_nodes():
    """yᵀy is 1e8 times what the prior expects: Q̄ sits where no prior quantile reaches."""
    net = fw.Network((30,), "identity")
    result = fw.mixture(net, X[:4], 1e4 * Y[:4], temperature=0.0)
    values = np.linalg.eigvalsh(X[:4] @ X[:4].T / 5)
    square = 1e8 * Y[:4] @ np.linalg.solve(X[:4] @ X[:4].T / 5, Y[:4])
    expected = bessel_log_evidence(30, 4, square, np.sum(np.log(values)))
    assert result.log_evidence == pytest.approx(expected, rel=1e-9)
    assert q_bar_of(result)[0] > 100


def test_it_stands_in_for_a_solution():
    net = fw.Network((6,), "erf")
    result = fw.mixture(net, X, Y, temperature=0.1)
    assert isinstance(result, fw.MixtureSolution)
    assert (result.theory, result.network, result.temperature) == ("mixture-nested", net, 0.1)
    assert set(result.order_parameters) == {"q_bar", "q_bar_sd"}
    assert "a" in fw.mixture(net.replace(activation="relu"), X, Y, temperature=0.1).order_parameters
    assert "q_bar=" in repr(result)
    errors = result.generalization_error(X_TEST, Y_TEST)
    prediction = result.predict(X_TEST)
    expected = np.mean((Y_TEST - prediction.mean) ** 2 + prediction.variance)
    assert float(errors.error) == pytest.approx(expected, rel=1e-12)


def test_attach_and_compare_take_a_run_made_up():
    result = fw.mixture(fw.Network((4,), "identity"), X, Y, temperature=0.3)
    tree = reference.made_up_run(result, X_TEST, Y_TEST)
    assert "/theory/mixture-nested" in fw.attach(tree, result).groups
    assert str(fw.compare(result, tree).theory_name.values) == "mixture-nested"


@pytest.mark.slow
def test_attach_and_compare_take_it():
    net = fw.Network((4,), "identity")
    result = fw.mixture(net, X, Y, temperature=0.3)
    tree = fw.sample(
        net,
        X,
        Y,
        temperature=0.3,
        X_test=X_TEST,
        y_test=Y_TEST,
        num_warmup=300,
        num_samples=800,
        num_chains=2,
        seed=1,
        progress=False,
    )
    assert "/theory/mixture-nested" in fw.attach(tree, result).groups
    report = fw.compare(result, tree, r_hat_limit=1.05, ess_per_chain=50.0)
    assert str(report.theory_name.values) == "mixture-nested"
    # exact theory, exact sampler
    assert np.all(np.abs(report.z.values) < 4.5)


@pytest.mark.parametrize(
    ("net", "change", "message"),
    [
        (fw.Network((5, 5), "relu"), {}, "expected one hidden layer, an odd activation or"),
        (fw.Network((5,) * 4, "erf"), {}, "expected at most 3 hidden layers"),
        (fw.Network((5,), "erf"), {"theory": "infinite"}, "expected theory = one of"),
        (fw.Network((5,), "identity"), {"temperature": 0.0}, "expected a larger temperature"),
        (fw.Network((5,), "erf"), {"temperature": -1.0}, "expected temperature"),
        ("erf", {}, "expected net = a finwidth.Network"),
    ],
)
def test_bad_input_is_one_clear_line(net, change, message, unchecked_types):
    with pytest.raises(fw.InputError, match=message):
        fw.mixture(net, X, Y, **({"temperature": 0.1} | change))
