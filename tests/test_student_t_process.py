"""Student-t process regression, and where the Student-t of the theory really is: in dual space."""

import math

import jax
import numpy as np
import pytest
import reference
import scipy.integrate
import scipy.stats

import finwidth as fw

RNG = np.random.default_rng(7)
X = RNG.normal(size=(8, 5))
Y = RNG.normal(size=8)
X_TEST = RNG.normal(size=(6, 5))
Y_TEST = RNG.normal(size=6)
NETS = [
    fw.Network((7,), "relu", (0.8, 1.3), 1.5),
    fw.Network((7, 4), "erf", (0.8, 1.3, 2.0)),
]


def blocks(net):
    """K on the training set, between test and training set, and on the test set."""
    kernel = fw.nngp_kernel(net, np.concatenate([X, X_TEST]))
    n = len(Y)
    return kernel[:n, :n], kernel[n:, :n], kernel[n:, n:]


@pytest.mark.parametrize("net", NETS, ids=["relu", "erf-2"])
@pytest.mark.parametrize(("nu", "temperature"), [(2.5, 0.3), (9.0, 0.02)])
def test_it_is_the_inverse_gamma_mixture(net, nu, temperature):
    """Quadrature over s: y | s ~ N(0, s(K + T)), f | y, s a Gaussian process."""
    k, kappa, k0 = blocks(net)
    # s' = s | y has density in log s that decays like exp(−(ν + P)/2 · log s), doubly on the left
    logs = np.linspace(-12, 40, 801)
    law = scipy.stats.invgamma(nu / 2, scale=(nu - 2) / 2)
    rows = []
    for s in np.exp(logs):
        log_y, mean, variance = reference.conditional(
            s * (k + temperature * np.eye(len(Y))), Y, s * kappa, s * np.diag(k0)
        )
        rows.append((log_y + law.logpdf(s) + np.log(s), mean, variance))
    log_joint = np.array([row[0] for row in rows])
    weights = np.exp(log_joint - log_joint.max())
    log_evidence = log_joint.max() + np.log(weights.sum() * (logs[1] - logs[0]))
    weights /= weights.sum()
    means = np.array([row[1] for row in rows])
    mean = weights @ means
    variance = weights @ (np.array([row[2] for row in rows]) + (means - mean) ** 2)

    result = fw.student_t_process(net, X, Y, temperature=temperature, degrees_of_freedom=nu)
    prediction = result.predict(X_TEST, full_covariance=True)
    assert result.log_evidence == pytest.approx(log_evidence, abs=1e-8)
    assert float(result.order_parameters.scale) == pytest.approx(weights @ np.exp(logs), rel=1e-7)
    np.testing.assert_allclose(prediction.mean, mean, atol=1e-9)
    np.testing.assert_allclose(prediction.variance, variance, rtol=1e-7)
    np.testing.assert_allclose(np.diag(prediction.covariance), variance, rtol=1e-7)


@pytest.mark.parametrize("nu", [2.01, 5.0, 300.0])
def test_evidence_is_the_multivariate_t_density(nu):
    k, _, _ = blocks(NETS[0])
    shape = (k + 0.1 * np.eye(len(Y))) * (nu - 2) / nu
    result = fw.student_t_process(NETS[0], X, Y, temperature=0.1, degrees_of_freedom=nu)
    law = scipy.stats.multivariate_t(np.zeros(len(Y)), shape, df=nu)
    assert result.log_evidence == pytest.approx(law.logpdf(Y), abs=1e-9)


@pytest.mark.filterwarnings("ignore:expected y = labels")
def test_conditional_is_the_ratio_of_two_multivariate_t_densities():
    """p(y*, y)/p(y) is a t with ν + P degrees of freedom; its second moment is the prediction's."""
    nu, net, everything = 6.0, NETS[1], np.concatenate([X, X_TEST[:1]])

    def joint(f):
        result = fw.student_t_process(
            net, everything, np.append(Y, f), temperature=0.2, degrees_of_freedom=nu
        )
        return result.log_evidence

    result = fw.student_t_process(net, X, Y, temperature=0.2, degrees_of_freedom=nu)
    prediction = result.predict(X_TEST[:1])
    t = np.linspace(-9, 9, 181)
    values = prediction.mean[0] + np.sinh(t)
    density = np.exp([joint(f) - result.log_evidence for f in values])
    weights = density * np.cosh(t) * (t[1] - t[0])
    assert weights.sum() == pytest.approx(1, abs=1e-6)
    mean = weights @ values
    assert mean == pytest.approx(prediction.mean[0], abs=1e-6)
    # of y*, whose noise has the same scale
    expected = prediction.variance[0] + 0.2 * result.scale
    assert weights @ (values - mean) ** 2 == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("temperature", [0.0, 0.1])
def test_many_degrees_of_freedom_are_the_gaussian_process(temperature):
    net = NETS[1]
    gaussian = fw.solve(net, X, Y, temperature=temperature, theory="infinite")
    expected = gaussian.predict(X_TEST)
    gaps, ratios = [], []
    for nu in (1e5, 2e5, 1e12):
        result = fw.student_t_process(net, X, Y, temperature=temperature, degrees_of_freedom=nu)
        gaps.append(result.log_evidence - gaussian.log_evidence)
        prediction = result.predict(X_TEST)
        np.testing.assert_allclose(prediction.mean, expected.mean, rtol=1e-12)
        ratios.append(prediction.variance / expected.variance)
    assert np.all((ratios[0] - 1) / (ratios[1] - 1) == pytest.approx(2, rel=0.01))
    np.testing.assert_allclose(ratios[2], 1, atol=1e-9)
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.02)
    assert gaps[2] == pytest.approx(1e-7 * gaps[0], abs=1e-9)
    assert result.action - gaussian.action == pytest.approx(-2 * gaps[2], abs=1e-11)


def test_large_labels_widen_the_prediction_and_small_ones_narrow_it():
    """Unlike a Gaussian process: yᵀA⁻¹y above or below P."""
    a = blocks(NETS[0])[0] + 0.1 * np.eye(len(Y))
    unit = Y / math.sqrt(Y @ np.linalg.solve(a, Y) / len(Y))
    arguments = {"temperature": 0.1, "degrees_of_freedom": 5.0}
    for size in (0.5, 1.0, 2.0):
        result = fw.student_t_process(NETS[0], X, size * unit, **arguments)
        assert result.scale == pytest.approx((3 + size**2 * len(Y)) / (3 + len(Y)), rel=1e-12)


def test_it_stands_in_for_a_solution():
    result = fw.student_t_process(NETS[0], X, Y, temperature=0.1, degrees_of_freedom=4.0)
    assert isinstance(result, fw.Solution)
    assert (result.theory, result.converged, result.n_roots) == ("student-t-process", True, 1)
    assert "student-t-process" in repr(result)
    prediction = result.predict(X_TEST)
    errors = result.generalization_error(X_TEST, Y_TEST)
    assert float(errors.error) == pytest.approx(
        np.mean((Y_TEST - prediction.mean) ** 2 + prediction.variance), rel=1e-12
    )


@pytest.mark.parametrize("value", [2.0, -1.0, math.inf, math.nan, "five", True, None])
def test_degrees_of_freedom_without_a_variance_are_refused(value, unchecked_types):
    with pytest.raises(fw.InputError, match="expected degrees_of_freedom = a finite float > 2"):
        fw.student_t_process(NETS[0], X, Y, temperature=0.1, degrees_of_freedom=value)


# --- the dual function ------------------------------------------------------------------------


def dual(width, square):
    """(1 + s̄ᵀKs̄/(λ_1 N_1))^{−N_1/2} for square = s̄ᵀKs̄/λ_1."""
    return (1 + square / width) ** (-width / 2)


@pytest.mark.parametrize("width", [1, 6, 25, 400])
@pytest.mark.parametrize("square", [0.01, 1.0, 30.0])
def test_gamma_mixture_has_the_dual_function_of_the_theory(width, square):
    """E exp(i s̄·f) with f | Q̄ ~ N(0, Q̄K/λ_1), Q̄ ~ Gamma(N_1/2, rate N_1/2), by quadrature."""
    law = scipy.stats.gamma(width / 2, scale=2 / width)
    value, _ = scipy.integrate.quad(  # over log Q̄, where the integrand has no singularity
        lambda x: math.exp(x - math.exp(x) * square / 2) * law.pdf(math.exp(x)),
        -80,
        8,
        points=[-6, -2, 0, 1],
        epsabs=1e-14,
        epsrel=1e-11,
        limit=500,
    )
    assert value == pytest.approx(dual(width, square), rel=1e-8)


@pytest.mark.parametrize("net", [fw.Network((13,), "erf", (0.8, 1.3)), fw.Network((13,), "tanh")])
def test_dual_function_is_a_student_t_density_of_the_dual_variables(net):
    """N_1 − P degrees of freedom and shape matrix λ_1 N_1/(N_1 − P)·K⁻¹, but for the constant."""
    width, n = net.widths[0], len(Y)
    k = fw.nngp_kernel(net, X)  # 1/λ_1 included
    nu = width - n
    law = scipy.stats.multivariate_t(np.zeros(n), width / nu * np.linalg.inv(k), df=nu)
    points = np.random.default_rng(3).normal(size=(20, n)) * np.linspace(0.1, 4, 20)[:, None]
    log_dual = [math.log(dual(width, s @ k @ s)) for s in points]
    constant = law.logpdf(np.zeros(n))
    np.testing.assert_allclose(law.logpdf(points) - constant, log_dual, rtol=1e-9)


def test_dual_function_of_the_identity_network_is_exact():
    """Real networks drawn from their prior, at a width where nothing is nearly Gaussian."""
    net, n_draws = fw.Network((3,), "identity", (0.8, 1.3)), 400_000
    keys = jax.random.split(jax.random.key(0))
    W = np.asarray(jax.random.normal(keys[0], (n_draws, 3, 5))) / math.sqrt(0.8)
    v = np.asarray(jax.random.normal(keys[1], (n_draws, 3))) / math.sqrt(1.3)
    f = np.einsum("du,dui,pi->dp", v, W, X, optimize=True) / math.sqrt(3 * 5)
    k = fw.nngp_kernel(net, X)
    for scale in (0.3, 1.0, 3.0):
        s = np.random.default_rng(4).normal(size=8)
        s *= scale / math.sqrt(s @ k @ s)
        values = np.cos(f @ s)
        error = values.std() / math.sqrt(n_draws)
        assert error < 2e-3
        assert abs(values.mean() - dual(3, scale**2)) < 4 * error
    # a Gaussian of the same covariance is told apart
    assert abs(math.exp(-(3.0**2) / 2) - dual(3, 3.0**2)) > 40 * error
