"""Two classes (theory.md, section 15): exact cases, limits, differences and direct integration."""

import math

import numpy as np
import pytest
import reference
import scipy.optimize
import scipy.special

import finwidth as fw
from finwidth._likelihoods._factorised import APPROXIMATIONS, Factorised
from finwidth._likelihoods.gaussian import Gaussian
from finwidth._likelihoods.logit import Logit
from finwidth._likelihoods.probit import Probit
from finwidth._numerics.tilted import Strip, Terms
from finwidth._observables._observable import Draws
from finwidth._observables.log_loss import LogLoss

RNG = np.random.default_rng(3)
P = 8
X = RNG.normal(size=(P, 3))
Y = np.where(X[:, 0] + RNG.normal(size=P) > 0, 1.0, -1.0)
X_TEST = RNG.normal(size=(4, 3))
KERNEL = X @ X.T / 3 + np.exp(-0.5 * np.sum((X[:, None] - X) ** 2, axis=-1))
WHOLE = slice(0, P)

SIGMOIDS = {Logit: scipy.special.expit, Probit: scipy.special.ndtr}
LIKELIHOODS = [kind(approximation) for kind in SIGMOIDS for approximation in APPROXIMATIONS]


def conditioned(likelihood, kernel, y, temperature=1.0):
    return likelihood.condition(np.array(kernel, dtype=float, order="F"), y, temperature)


def minus_two_log_z(likelihood, kernel, y, temperature=1.0):
    action = conditioned(likelihood, kernel, y, temperature).action
    return action + len(y) * math.log(2 * math.pi)


def gradient(likelihood, kernel, y, temperature=1.0):
    """∂action/∂K as a symmetric matrix."""
    lower = np.tril(conditioned(likelihood, kernel, y, temperature).gradient()(WHOLE, WHOLE))
    return lower + np.tril(lower, -1).T


def slope(function, size):
    """The derivative at 0 by central differences, extrapolated."""

    def central(h):
        return (function(h) - function(-h)) / (2 * h)

    return (4 * central(size / 2) - central(size)) / 3


# --- f given the labels, at one kernel -----------------------------------------------------------


@pytest.mark.parametrize("temperature", [1.0, 0.3])
@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_gradient_in_the_kernel_is_that_of_the_action(likelihood, temperature):
    """Without the moving mode Laplace's would be off in the second digit."""
    half = RNG.normal(size=(P, 2))
    direction = half @ half.T
    found = np.sum(gradient(likelihood, KERNEL, Y, temperature) * direction)

    def action(h):
        return conditioned(likelihood, KERNEL + h * direction, Y, temperature).action

    assert found == pytest.approx(slope(action, 2e-3), rel=1e-7)


class Normal(Factorised):
    """The Gaussian likelihood, exp(−(y − f)²/(2T)), as one of those that are approximated."""

    name = "normal"

    def terms(self, f, y):
        ones = np.ones_like(y - f)
        return Terms(-0.5 * (y - f) ** 2, y - f, -ones, 0 * ones)

    def strip(self, temperature):
        return Strip(50.0, lambda d: 0.5 * d**2 / temperature)

    def check(self, y):
        return y

    def observe(self, f, y, temperature):
        raise NotImplementedError


@pytest.mark.parametrize("temperature", [1.0, 0.2])
@pytest.mark.parametrize("approximation", APPROXIMATIONS)
def test_the_gaussian_likelihood_becomes_regression(approximation, temperature):
    likelihood, y = Normal(approximation), RNG.normal(size=P)
    one = conditioned(likelihood, KERNEL, y, temperature)
    other = conditioned(Gaussian(), KERNEL, y, temperature)
    constant = P * math.log(2 * math.pi * temperature)  # of N(y; f, T)
    assert one.action == pytest.approx(other.action - constant, rel=1e-12, abs=1e-11)
    np.testing.assert_allclose(one.weights, other.weights, rtol=1e-10, atol=1e-11)
    b = RNG.normal(size=(P, 3))
    explained = [given.whiten(b).T @ given.whiten(b) for given in (one, other)]
    np.testing.assert_allclose(*explained, rtol=1e-10, atol=1e-11)
    np.testing.assert_allclose(
        gradient(likelihood, KERNEL, y, temperature),
        gradient(Gaussian(), KERNEL, y, temperature),
        rtol=1e-9,
        atol=1e-10,
    )


@pytest.mark.parametrize("approximation", APPROXIMATIONS)
def test_the_saddle_of_the_gaussian_likelihood_is_that_of_regression(approximation):
    net, y = fw.Network((6,), "erf"), 2.0 * RNG.normal(size=P)
    one = fw.solve(net, X, y, temperature=0.4, likelihood=Normal(approximation))
    other = fw.solve(net, X, y, temperature=0.4)
    assert float(one.order_parameters.q_bar[0]) == pytest.approx(
        float(other.order_parameters.q_bar[0]), rel=1e-9
    )
    first, second = one.predict(X_TEST), other.predict(X_TEST)
    np.testing.assert_allclose(first.mean, second.mean, rtol=1e-8)
    np.testing.assert_allclose(first.variance, second.variance, rtol=1e-8)
    assert first.probabilities is None and second.probabilities is None


def expectation(function, panels=100):
    """E function(z), z ~ N(0, 1), by Gauss-Legendre on that many panels."""
    x, w = np.polynomial.legendre.leggauss(20)
    edges = np.linspace(-12, 12, panels + 1)
    half = 0.5 * (edges[1] - edges[0])
    z = edges[:-1, None] + half * (1 + x)
    return np.sum(half * w * np.exp(-0.5 * z**2) * function(z)) / math.sqrt(2 * math.pi)


def integrals(kind, variance, temperature, y=1.0):
    """∫ N(f; 0, k) p(y|f)^(1/T) f^n df for n = 0, 1, 2, relative to the first but for n = 0."""
    sd = math.sqrt(variance)
    norm, first, second = (
        expectation(lambda z: SIGMOIDS[kind](y * sd * z) ** (1 / temperature) * (sd * z) ** n)  # noqa: B023
        for n in range(3)
    )
    return norm, first / norm, second / norm


@pytest.mark.parametrize("temperature", [1.0, 0.2, 3.0])
@pytest.mark.parametrize("variance", [0.01, 1.0, 50.0])
@pytest.mark.parametrize("kind", SIGMOIDS)
def test_expectation_propagation_of_one_pattern_is_exact(kind, variance, temperature):
    kernel, y = np.array([[variance]]), np.ones(1)
    norm, mean, square = integrals(kind, variance, temperature)
    given = conditioned(kind("ep"), kernel, y, temperature)
    assert minus_two_log_z(kind("ep"), kernel, y, temperature) == pytest.approx(
        -2 * math.log(norm), rel=1e-11
    )
    assert (kernel @ given.weights)[0] == pytest.approx(mean, rel=1e-9)
    spread = variance - np.sum(given.whiten(kernel) ** 2)
    assert spread == pytest.approx(square - mean**2, rel=1e-9)


@pytest.mark.parametrize("kind", SIGMOIDS)
def test_laplace_of_one_pattern_is_the_gaussian_integral_around_the_mode(kind):
    variance, temperature = 2.0, 0.5

    def height(f):
        return math.log(SIGMOIDS[kind](f)) / temperature - f * f / (2 * variance)

    mode = scipy.optimize.minimize_scalar(
        lambda f: -height(f), bounds=(0, 6), method="bounded", options={"xatol": 1e-9}
    ).x
    h = 1e-3
    curvature = -(height(mode + h) - 2 * height(mode) + height(mode - h)) / h**2
    expected = -2 * height(mode) + math.log(variance * curvature)
    found = minus_two_log_z(kind("laplace"), np.array([[variance]]), np.ones(1), temperature)
    assert found == pytest.approx(expected, rel=1e-6)


def test_two_patterns_against_direct_integration():
    kernel, y = np.array([[2.0, 0.9], [0.9, 1.5]]), np.array([1.0, -1.0])
    z, weight = np.polynomial.hermite_e.hermegauss(100)
    weight = weight / weight.sum()
    root = np.linalg.cholesky(kernel)
    first, second = root[0, 0] * z[:, None], root[1, 0] * z[:, None] + root[1, 1] * z
    expit = scipy.special.expit
    direct = -2 * math.log(np.sum(weight[:, None] * weight * expit(first) * expit(-second)))
    assert direct == pytest.approx(3.04424, abs=1e-5)
    # what theory.md, section 15, prints
    assert minus_two_log_z(Logit("ep"), kernel, y) == pytest.approx(3.04424, abs=1e-5)
    assert minus_two_log_z(Logit("laplace"), kernel, y) == pytest.approx(3.10577, abs=1e-5)


@pytest.mark.parametrize("likelihood", LIKELIHOODS, ids=repr)
def test_without_a_kernel_every_labelling_is_as_likely(likelihood):
    found = minus_two_log_z(likelihood, 1e-12 * KERNEL, Y)
    assert found == pytest.approx(2 * P * math.log(2), rel=1e-11)
    zero = minus_two_log_z(likelihood, np.zeros((P, P)), Y)
    assert zero == pytest.approx(2 * P * math.log(2), rel=1e-14)


@pytest.mark.parametrize("approximation", APPROXIMATIONS)
def test_what_was_found_before_changes_nothing_but_rounding(approximation):
    likelihood = Logit(approximation)
    warm = likelihood.gradients(Y, 1.0)
    for scale in (1.0, 1.3, 40.0, 0.01):
        kernel = np.asfortranarray(scale * KERNEL)
        tile = warm(kernel)
        assert tile is not None
        cold = gradient(likelihood, kernel, Y)
        np.testing.assert_allclose(np.tril(tile(WHOLE, WHOLE)), np.tril(cold), atol=1e-9)


@pytest.mark.parametrize("variance", [0.0, 1e-8, 1.0, 30.0, 4e4])
def test_class_probabilities_are_integrals(variance):
    mean = np.array([-7.0, -0.4, 0.0, 2.0, 90.0])
    found = Logit().probabilities(mean, np.full(5, variance))
    sd = math.sqrt(variance)

    def expected(m, sign):
        return expectation(lambda z: scipy.special.expit(sign * (m + sd * z)), panels=4000)

    direct = [[expected(m, -1), expected(m, 1)] for m in mean]
    np.testing.assert_allclose(found, direct, rtol=1e-8, atol=1e-30)
    np.testing.assert_allclose(found.sum(axis=1), 1.0, rtol=1e-12)


# --- the outer saddle ----------------------------------------------------------------------------

NETWORKS = {
    "erf": fw.Network((5,), "erf", (0.8, 0.5)),
    "bias": fw.Network((6,), "erf", 0.5, 2.0),
    "deep": fw.Network((5, 4), "erf", 0.6),
    "relu": fw.Network((7,), "relu", 0.7),
}


def whole_action(net, likelihood, q_bar, q):
    prior = sum(n * (-b * a + np.log1p(a)) for n, b, a in zip(net.widths, q_bar, q, strict=True))
    kernel = reference.kernel(net, X, q_bar, q)
    return prior + conditioned(likelihood, kernel, Y).action


@pytest.mark.parametrize(
    ("network", "likelihood"),
    [
        ("erf", Logit("ep")),
        ("deep", Logit("laplace")),
        ("relu", Logit("ep")),
        pytest.param("bias", Probit("laplace"), marks=pytest.mark.slow),
        pytest.param("deep", Probit("ep"), marks=pytest.mark.slow),
        pytest.param("relu", Logit("laplace"), marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_the_action_is_stationary_in_every_order_parameter(network, likelihood):
    net = NETWORKS[network]
    solution = fw.solve(net, X, Y, likelihood=likelihood)
    q_bar, q = (solution.order_parameters[name].values for name in ("q_bar", "q"))
    assert np.max(np.abs(q_bar - 1)) > 0.05
    assert solution.action == pytest.approx(whole_action(net, likelihood, q_bar, q), rel=1e-10)
    for layer in range(net.depth):
        for which in range(2 if network == "relu" else 1):

            def along(h, layer=layer, which=which):
                moved = [q_bar.copy(), 1 + q]
                moved[which][layer] *= np.exp(h)
                if network != "relu":
                    moved[1] = 1 / moved[0]
                return whole_action(net, likelihood, moved[0], moved[1] - 1)

            assert abs(slope(along, 1e-2)) < 1e-7 * (net.widths[layer] + P)


@pytest.mark.parametrize("approximation", APPROXIMATIONS)
def test_wide_networks_become_the_process(approximation):
    """N(Q̄ − 1) → −G with G the derivative of −2 log Z in log Q̄ at Q̄ = 1."""
    likelihood, net = Logit(approximation), fw.Network((10**6,), "erf")
    kernel = reference.kernel(net, X, np.ones(1), np.zeros(1))
    infinite = fw.solve(net, X, Y, theory="infinite", likelihood=likelihood)
    wide = fw.solve(net, X, Y, likelihood=likelihood)
    force = np.sum(gradient(likelihood, kernel, Y) * kernel)
    shift = 10**6 * (float(wide.order_parameters.q_bar[0]) - 1)
    assert shift == pytest.approx(-force, rel=1e-4)
    np.testing.assert_allclose(
        wide.predict(X_TEST).probabilities, infinite.predict(X_TEST).probabilities, atol=1e-5
    )
    assert infinite.action == pytest.approx(conditioned(likelihood, kernel, Y).action, rel=1e-12)


@pytest.mark.parametrize(
    "theory",
    ["nested", *(pytest.param(name, marks=pytest.mark.slow) for name in ("wishart", "mixture"))],
)
def test_the_other_names_of_the_classes(theory):
    net = NETWORKS["erf"]
    one = fw.solve(net, X, Y, likelihood="logit", theory=theory)
    other = fw.solve(net, X, -Y, likelihood="logit", theory=theory)
    assert one.log_evidence == pytest.approx(other.log_evidence, rel=1e-12)
    first, second = one.predict(X_TEST), other.predict(X_TEST)
    np.testing.assert_allclose(first.mean, -second.mean, rtol=1e-9)
    np.testing.assert_allclose(first.probabilities, second.probabilities[:, ::-1], rtol=1e-9)


def test_deep_wishart_scales_one_kernel_and_its_layers_share():
    net = NETWORKS["deep"]
    solution = fw.solve(net, X, Y, likelihood="probit", theory="wishart")
    q_bar = solution.order_parameters.q_bar.values
    moved = [n * (b - 1) for n, b in zip(net.widths, q_bar, strict=True)]
    assert moved[0] == pytest.approx(moved[1], rel=1e-8) and abs(moved[0]) > 0.1
    kernel = reference.wishart_kernel(net, X, q_bar)
    prior = sum(n * (b - 1 - np.log(b)) for n, b in zip(net.widths, q_bar, strict=True))
    assert solution.action == pytest.approx(
        prior + conditioned(Probit(), kernel, Y).action, rel=1e-10
    )


def test_predictions_are_of_the_conditioned_process():
    solution = fw.solve(NETWORKS["relu"], X, Y, likelihood="logit")
    q_bar, q = (solution.order_parameters[name].values for name in ("q_bar", "q"))
    kernel = reference.kernel(NETWORKS["relu"], np.concatenate([X, X_TEST]), q_bar, q)
    given = conditioned(Logit(), kernel[:P, :P], Y)
    prediction = solution.predict(X_TEST, full_covariance=True)
    np.testing.assert_allclose(prediction.mean, kernel[P:, :P] @ given.weights, rtol=1e-8)
    half = given.whiten(kernel[:P, P:])
    np.testing.assert_allclose(prediction.covariance, kernel[P:, P:] - half.T @ half, rtol=1e-7)
    expected = Logit().probabilities(prediction.mean, np.diag(prediction.covariance))
    np.testing.assert_allclose(prediction.probabilities, expected, rtol=1e-12)
    np.testing.assert_array_equal(solution.predict(X_TEST).probabilities, prediction.probabilities)


@pytest.mark.slow
@pytest.mark.parametrize("widths", [(50,), (30, 30)])
@pytest.mark.parametrize("approximation", APPROXIMATIONS)
def test_few_factorisations_of_all_patterns(approximation, widths, monkeypatch):
    from finwidth._likelihoods import _sites

    sizes, made = [], _sites.SiteFactor.__init__

    def counted(self, kernel, precision):
        sizes.append(precision.size)
        made(self, kernel, precision)

    monkeypatch.setattr(_sites.SiteFactor, "__init__", counted)
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(500, 30))
    y = np.where(inputs[:, 0] + 0.3 * rng.normal(size=500) > 0, 1.0, -1.0)
    solution = fw.solve(
        fw.Network(widths, "erf"), inputs, y, likelihood="logit", approximation=approximation
    )
    assert solution.residual <= 1e-9
    assert 0 < sizes.count(500) <= 60


# --- the scale mixture, exact for the identity ---------------------------------------------------

# EP is exact where the patterns are independent given Q̄: orthogonal inputs
ORTHOGONAL = np.array([[1.0, 0.0], [0.0, -1.4]])
SIGNS = np.array([1.0, -1.0])
LINEAR = fw.Network((4,), "identity", (0.5, 0.4))
NEW = np.array([[0.8, -0.6], [2.0, 0.3]])


def exact_identity():
    """log p(y), mean and variance of f(NEW), mean of Q̄, by quadrature over Q̄ and the patterns."""
    q, log_prior = reference.gamma_nodes(LINEAR.widths[0], 200, reach=30)
    scale = 1 / (0.5 * 0.4 * 2)
    evidence, first, second = [], [], []
    for value in q:
        variances = value * scale * np.sum(ORTHOGONAL**2, axis=1)
        moments = [integrals(Logit, v, 1.0, y) for v, y in zip(variances, SIGNS, strict=True)]
        norm, mean, square = np.array(moments).T
        # f(x) = Σ_μ (x·x_μ)/|x_μ|² f_μ, as the patterns span the inputs
        weights = NEW @ (ORTHOGONAL / np.sum(ORTHOGONAL**2, axis=1)[:, None]).T
        evidence.append(np.sum(np.log(norm)))
        first.append(weights @ mean)
        second.append(weights**2 @ (square - mean**2) + (weights @ mean) ** 2)
    log_joint = np.array(evidence) + log_prior
    log_total = scipy.special.logsumexp(log_joint)
    share = np.exp(log_joint - log_total)
    mean = share @ np.array(first)
    return log_total, mean, share @ np.array(second) - mean**2, share @ q


def test_the_mixture_of_the_identity_by_direct_integration():
    log_evidence, mean, variance, q_bar = exact_identity()
    solution = fw.mixture(LINEAR, ORTHOGONAL, SIGNS, likelihood="logit")
    prediction = solution.predict(NEW)
    assert solution.log_evidence == pytest.approx(log_evidence, abs=1e-8)
    assert float(solution.order_parameters.q_bar[0]) == pytest.approx(q_bar, rel=1e-7)
    np.testing.assert_allclose(prediction.mean, mean, rtol=1e-7)
    np.testing.assert_allclose(prediction.variance, variance, rtol=1e-7)
    whole = solution.predict(NEW, full_covariance=True)
    np.testing.assert_allclose(np.diag(whole.covariance), variance, rtol=1e-7)
    np.testing.assert_allclose(whole.probabilities, prediction.probabilities, rtol=1e-12)


@pytest.mark.slow
def test_the_sampled_network_of_the_identity_is_that_mixture():
    import arviz as az

    _, mean, variance, _ = exact_identity()
    tree = fw.sample(
        LINEAR,
        ORTHOGONAL,
        SIGNS,
        X_test=NEW,
        y_test=SIGNS,
        model="network",
        likelihood="logit",
        num_warmup=200,
        num_samples=1000,
        num_chains=2,
        progress=False,
    )
    predictions = tree["predictions"].dataset
    p, f = predictions.p.values, predictions.f.values
    np.testing.assert_allclose(p, scipy.special.expit(f), rtol=1e-13)
    moments = predictions.assign(square=predictions.f**2)[["f", "square"]]
    error = az.mcse(moments)
    for name, expected in (("f", mean), ("square", variance + mean**2)):
        distance = np.abs(moments[name].mean(("chain", "draw")).values - expected)
        assert np.all(distance < 4.5 * error[name].values)
    report = fw.compare(fw.mixture(LINEAR, ORTHOGONAL, SIGNS, likelihood="logit"), tree)
    assert "log_loss" in report["quantity"].values
    with pytest.raises(fw.InputError, match="expected theory and tree of the same likelihood"):
        fw.compare(fw.solve(LINEAR, ORTHOGONAL, SIGNS, temperature=1.0), tree)


@pytest.mark.parametrize("likelihood", ["logit", "probit"])
def test_scores_are_those_of_classes(likelihood):
    """f estimates no label, so a squared error is none of them."""
    solution = fw.solve(LINEAR, ORTHOGONAL, SIGNS, likelihood=likelihood)
    scores = solution.scores(NEW, SIGNS)
    assert list(scores) == ["accuracy", "accuracy_mean", "log_loss"]
    assert set(scores.attrs) == {f"{name}_baseline" for name in scores}
    with pytest.raises(fw.InputError, match=f"a squared error .*, got likelihood='{likelihood}'"):
        solution.generalization_error(NEW, SIGNS)


def test_log_loss_of_draws_is_that_of_their_mean():
    rng = np.random.default_rng(1)
    p = rng.uniform(0.05, 0.95, size=(2, 300, 3))
    draws = Draws(p, 0 * p, probabilities=np.stack([1 - p, p], axis=-1))
    y = np.array([1.0, -1.0, 1.0])
    estimate = LogLoss().of_draws(draws, y)["log_loss"]
    of_labels = np.where(y > 0, p, 1 - p)
    assert estimate.offset == pytest.approx(-np.log(of_labels.mean((0, 1))).mean(), abs=1e-2)
    # the noise of the estimate: that of many repetitions
    repeated = rng.uniform(0.05, 0.95, size=(400, 600, 3)).mean(axis=1)
    values = -np.log(np.where(y > 0, repeated, 1 - repeated)).mean(axis=-1)
    assert np.std(estimate.series) / math.sqrt(600) == pytest.approx(values.std(), rel=0.15)
    assert not LogLoss().covers(Draws(p, 0 * p), y) and not LogLoss().defined(p[0, 0])


# --- bad input, before any work ------------------------------------------------------------------

BAD = {
    "labels 0 and 1": (
        {"y": (Y + 1) / 2},
        r"expected y = labels −1 and \+1 with likelihood='logit'",
    ),
    "one class": ({"y": np.ones(P)}, r"expected y = labels −1 and \+1 .* got \+1 alone"),
    "half a label": ({"y": np.where(Y > 0, 0.5, -1.0)}, "the first 0.5"),
    "temperature 0": ({"temperature": 0.0}, "expected temperature = a finite float > 0"),
    "a name": ({"likelihood": "logits"}, "expected likelihood = .*logit"),
    "approximation": ({"approximation": "vb"}, "expected approximation = "),
    "theory": ({"theory": "adaptive"}, "expected likelihood = 'gaussian' with theory='adaptive'"),
    "prior": ({"net": fw.Network((5,), "erf", (1.0, 1e-9))}, "prior variance of at most"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_in_one_line(what):
    changed, message = BAD[what]
    arguments = {"net": NETWORKS["erf"], "X": X, "y": Y, "likelihood": "logit"} | changed
    with pytest.raises(fw.InputError, match=message) as caught:
        fw.solve(arguments.pop("net"), arguments.pop("X"), arguments.pop("y"), **arguments)
    assert len(str(caught.value).splitlines()) == 1


def test_what_regression_needs_and_has_not():
    net = NETWORKS["erf"]
    expected = "expected temperature = a float with likelihood='gaussian', got None"
    for function in (fw.solve, fw.mixture, fw.sample):
        with pytest.raises(fw.InputError, match=expected):
            function(net, X, Y)
    with pytest.raises(fw.InputError, match="expected approximation = None"):
        fw.solve(net, X, Y, temperature=1.0, approximation="ep")


def test_what_is_not_sampled_or_integrated():
    net = NETWORKS["deep"]
    with pytest.raises(fw.InputError, match="expected model='network' with this likelihood"):
        fw.sample(net, X, Y, likelihood="logit", progress=False)
    with pytest.raises(fw.InputError, match="expected temperature = a finite float > 0"):
        fw.sample(net, X, Y, likelihood="logit", model="network", temperature=0.0)
    with pytest.raises(fw.InputError, match=r"labels −1 and \+1"):
        fw.sample(net, X, Y + 1, likelihood="probit", model="network")
    with pytest.raises(fw.InputError, match="expected one hidden layer with an odd activation"):
        fw.mixture(net, X, Y, likelihood="logit")
    with pytest.raises(fw.InputError, match="expected one hidden layer with an odd activation"):
        fw.mixture(NETWORKS["relu"], X, Y, likelihood="logit")
