"""Several classes (theory.md, section 15): exact cases, limits, differences, relabelling."""

import math

import numpy as np
import pytest
import reference
import scipy.optimize
import scipy.special

import finwidth as fw
from finwidth._likelihoods.logit import Logit
from finwidth._likelihoods.softmax import mean_softmax, softmax_laplace

RNG = np.random.default_rng(11)
P, D = 9, 3
X = RNG.normal(size=(P, 4))
Y = np.array([0.0, 1, 2, 2, 1, 0, 0, 2, 0])
X_TEST = RNG.normal(size=(4, 4))
NET = fw.Network((5,), "erf", 0.5, outputs=D)
ROOT = RNG.normal(size=(D, D))
Q_BAR = ROOT @ ROOT.T / D + 0.3 * np.eye(D)


def base(net, X):
    """K_0, without the output's bias."""
    whole = reference.kernel(net, X, np.ones(1), np.zeros(1))
    return whole - (0.0 if net.bias_precision is None else 1 / net.bias_precision[-1])


def action(kernel, y, temperature=1.0):
    return softmax_laplace(kernel, y, temperature).action


@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_gradient_in_the_kernel_is_that_of_the_action(temperature):
    kernel = np.kron(base(NET, X), Q_BAR)
    half = RNG.normal(size=(P * D, 2))
    direction = half @ half.T

    def central(h):
        ends = (action(kernel + s * h * direction, Y, temperature) for s in (1, -1))
        return (next(ends) - next(ends)) / (2 * h)

    found = np.sum(softmax_laplace(kernel, Y, temperature).gradient * direction)
    assert found == pytest.approx((4 * central(2e-4) - central(4e-4)) / 3, rel=1e-7)


def test_without_a_kernel_every_labelling_is_as_likely():
    kernel = 1e-12 * np.kron(base(NET, X), Q_BAR)
    found = action(kernel, Y) + P * math.log(2 * math.pi)
    assert found == pytest.approx(2 * P * math.log(D), rel=1e-11)


def test_two_classes_are_logistic_regression_of_the_difference():
    """f_1 − f_0 has twice the kernel; what remains of f the labels do not see."""
    labels, kernel = (Y > 0).astype(float), base(NET, X)
    one = softmax_laplace(np.kron(kernel, np.eye(2)), labels, 1.0)
    other = Logit("laplace").condition(np.asfortranarray(2 * kernel), 2 * labels - 1, 1.0)
    assert one.action == pytest.approx(other.action, rel=1e-11)
    np.testing.assert_allclose(one.weights.reshape(P, 2)[:, 1], other.weights, rtol=1e-9)


def test_one_pattern_is_the_gaussian_integral_around_the_mode():
    kernel, y = 2.0 * Q_BAR, np.array([1.0])

    def height(f):
        return 0.5 * f @ np.linalg.solve(kernel, f) - scipy.special.log_softmax(f)[1]

    mode = scipy.optimize.minimize(height, np.zeros(D), method="BFGS", options={"gtol": 1e-9}).x
    p = scipy.special.softmax(mode)
    hessian = np.linalg.inv(kernel) + np.diag(p) - np.outer(p, p)
    expected = 2 * height(mode) + np.linalg.slogdet(hessian @ kernel)[1]
    assert action(kernel, y) + math.log(2 * math.pi) == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("scale", [0.1, 1.0, 10.0])
def test_class_probabilities_are_integrals(scale):
    """Of two classes by the logistic integral; of three, with one apart, likewise."""
    mean, covariance = RNG.normal(size=(5, 2)), scale * Q_BAR[:2, :2] + np.zeros((5, 2, 2))
    variance = scale * (Q_BAR[0, 0] + Q_BAR[1, 1] - 2 * Q_BAR[0, 1])
    expected = Logit().probabilities(mean[:, 1] - mean[:, 0], np.full(5, variance))
    np.testing.assert_allclose(mean_softmax(mean, covariance), expected, rtol=1e-9)
    apart = np.zeros((5, 3, 3))
    apart[:, :2, :2] = covariance
    found = mean_softmax(np.column_stack([mean, np.full(5, -60.0)]), apart)
    np.testing.assert_allclose(found[:, :2], expected, rtol=1e-9)


def whole_action(net, q_bar):
    prior = net.widths[0] * (np.trace(q_bar) - np.linalg.slogdet(q_bar)[1] - D)
    kernel = np.kron(base(net, X), q_bar)
    if net.bias_precision is not None:
        kernel += np.kron(np.full((P, P), 1 / net.bias_precision[-1]), np.eye(D))
    return prior + action(kernel, Y)


@pytest.mark.parametrize("bias", [pytest.param(None, marks=pytest.mark.slow), 2.0])
def test_the_action_is_stationary_in_every_entry(bias):
    net = NET.replace(bias_precision=bias)
    solution = fw.solve(net, X, Y, likelihood="softmax")
    q_bar = solution.order_parameters.q_bar.values[0]
    assert solution.residual <= 1e-9 and np.max(np.abs(q_bar - np.eye(D))) > 0.05
    assert solution.action == pytest.approx(whole_action(net, q_bar), rel=1e-10)
    for i in range(D):
        for j in range(i + 1):
            step = np.zeros((D, D))
            step[i, j] = step[j, i] = 1e-3

            def central(h, step=step):
                return (
                    whole_action(net, q_bar + h * step) - whole_action(net, q_bar - h * step)
                ) / (2e-3 * h)

            assert abs((4 * central(1) - central(2)) / 3) < 1e-7 * (net.widths[0] + P)
    # a shift of all outputs is seen by no label: along it the prior stays
    np.testing.assert_allclose(q_bar.sum(axis=0), 1.0, rtol=1e-8)


def test_other_names_of_the_classes_permute_everything():
    order = np.array([2, 0, 1])
    one = fw.solve(NET, X, Y, likelihood="softmax")
    other = fw.solve(NET, X, order[Y.astype(int)].astype(float), likelihood="softmax")
    assert one.log_evidence == pytest.approx(other.log_evidence, rel=1e-11)
    first, second = (one_of.order_parameters.q_bar.values[0] for one_of in (one, other))
    np.testing.assert_allclose(second[np.ix_(order, order)], first, rtol=1e-8, atol=1e-9)
    p, q = one.predict(X_TEST), other.predict(X_TEST)
    np.testing.assert_allclose(q.probabilities[:, order], p.probabilities, rtol=1e-8)


def test_wide_networks_become_the_process():
    infinite = fw.solve(NET, X, Y, likelihood="softmax", theory="infinite")
    wide = fw.solve(NET.replace(widths=(10**6,)), X, Y, likelihood="softmax")
    kernel = base(NET, X)
    given = softmax_laplace(np.kron(kernel, np.eye(D)), Y, 1.0)
    slopes = np.einsum("mdne,mn->de", given.gradient.reshape(P, D, P, D), kernel)
    shift = 1e6 * (wide.order_parameters.q_bar.values[0] - np.eye(D))
    np.testing.assert_allclose(shift, -slopes, rtol=1e-4, atol=1e-4 * np.abs(slopes).max())
    assert infinite.action == pytest.approx(given.action, rel=1e-12)
    np.testing.assert_allclose(
        wide.predict(X_TEST).probabilities, infinite.predict(X_TEST).probabilities, atol=1e-5
    )


def test_predictions_are_of_the_conditioned_process():
    solution = fw.solve(NET, X, Y, likelihood="softmax")
    q_bar = solution.order_parameters.q_bar.values[0]
    kernel = np.kron(base(NET, np.concatenate([X, X_TEST])), q_bar)
    n = P * D
    given = softmax_laplace(kernel[:n, :n], Y, 1.0)
    half = given.whiten(kernel[:n, n:])
    found = solution.predict(X_TEST, full_covariance=True)
    np.testing.assert_allclose(found.mean.ravel(), kernel[n:, :n] @ given.weights, rtol=1e-7)
    whole = found.covariance.reshape(4 * D, 4 * D)
    np.testing.assert_allclose(whole, kernel[n:, n:] - half.T @ half, rtol=1e-7, atol=1e-9)
    blocks = np.array([found.covariance[k, :, k] for k in range(4)])
    np.testing.assert_allclose(found.output_covariance, blocks, rtol=1e-12)
    np.testing.assert_allclose(found.probabilities, mean_softmax(found.mean, blocks), rtol=1e-10)
    np.testing.assert_allclose(found.probabilities.sum(axis=1), 1.0, rtol=1e-12)


def test_many_patterns_start_with_some_of_them():
    rng = np.random.default_rng(0)
    inputs = rng.normal(size=(90, 5))
    y = np.argmax(inputs[:, :D], axis=1).astype(float)
    solution = fw.solve(NET, inputs, y, likelihood="softmax")
    assert solution.residual <= 1e-9
    q_bar = solution.order_parameters.q_bar.values[0]
    given = softmax_laplace(np.kron(base(NET, inputs), q_bar), y, 1.0)
    slopes = given.gradient.reshape(90, D, 90, D)
    g = np.einsum("mdne,mn->de", slopes, base(NET, inputs)) / NET.widths[0]
    np.testing.assert_allclose(np.linalg.inv(q_bar), np.eye(D) + g, rtol=1e-6, atol=1e-6)


BAD = {
    "not whole": ({"y": Y + 0.5}, "expected y = class indices"),
    "negative": ({"y": Y - 1}, "the first -1"),
    "one class": ({"y": np.zeros(P)}, "got 0 alone"),
    "no output for a class": ({"y": Y + 1}, "expected outputs > 3"),
    "one output": ({"net": NET.replace(outputs=1)}, "expected outputs > 2"),
    "more classes than patterns": ({"net": NET.replace(outputs=12)}, "as many patterns as classes"),
    "one-hot": ({"y": np.eye(D)[Y.astype(int)]}, "expected y = an array of shape"),
    "temperature": ({"temperature": 0.0}, "expected temperature = a finite float > 0"),
    "theory": ({"theory": "mixture"}, "expected outputs = 1 with the scale mixture"),
    "adaptive": ({"theory": "adaptive"}, "expected outputs = 1 with theory='adaptive'"),
    "approximation": ({"approximation": "ep"}, "expected approximation = None"),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_refused_in_one_line(what):
    changed, message = BAD[what]
    arguments = {"net": NET, "X": X, "y": Y, "likelihood": "softmax"} | changed
    with pytest.raises(fw.InputError, match=message) as caught:
        fw.solve(arguments.pop("net"), arguments.pop("X"), arguments.pop("y"), **arguments)
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.slow
def test_class_indices_are_sampled_scored_and_compared():
    """Log densities are those of the softmax; nobody is told a squared error of f."""
    data = fw.load_dataset("digits", classes=(0, 1, 2), outputs="index", n_train=15, n_test=12)
    net = fw.Network((4,), "erf", outputs=3)
    tree = fw.sample(
        net,
        data.X_train,
        data.y_train,
        likelihood="softmax",
        model="network",
        X_test=data.X_test,
        y_test=data.y_test,
        num_chains=2,
        num_warmup=60,
        num_samples=60,
        keep=["v", "f"],
        progress=False,
    )
    f, index = tree["posterior"].f.values, data.y_train.astype(int)
    density = np.take_along_axis(
        scipy.special.log_softmax(f, axis=-1), index[None, None, :, None], axis=-1
    )
    np.testing.assert_allclose(tree["log_likelihood"].y.values, density[..., 0], rtol=1e-9)
    assert set(np.unique(tree["posterior_predictive"].y)) <= {0, 1, 2}
    p = tree["predictions"].p
    np.testing.assert_allclose(p.sum("output"), 1.0)
    solution = fw.solve(net, data.X_train, data.y_train, likelihood="softmax")
    names = {"accuracy", "accuracy_mean", "log_loss"}
    found, theory = fw.scores(tree), solution.scores(data.X_test, data.y_test)
    assert set(theory.data_vars) == names
    assert set(found.data_vars) == names | {f"{name}_mcse" for name in names}
    right = p.values.mean(axis=(0, 1))[np.arange(12), data.y_test.astype(int)]
    # but for the noise of the mean of p, which is taken off
    assert abs(found.log_loss + np.mean(np.log(right))) < 4 * found.log_loss_mcse
    assert list(fw.compare(solution, tree).quantity.values) == list(theory.data_vars)
    with pytest.raises(fw.InputError, match="expected a likelihood of numbers"):
        solution.generalization_error(data.X_test, data.y_test)
    with pytest.raises(fw.InputError, match="expected y_test = class indices 0 … 2"):
        solution.scores(data.X_test, data.y_test + 1)
