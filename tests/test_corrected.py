"""The corrected kernel: the mean kernel of the hidden layer, limits, published errors."""

import numpy as np
import pytest
import reference

import finwidth as fw

RNG = np.random.default_rng(5)
X = RNG.normal(size=(9, 4))
Y = np.where(RNG.random(9) < 0.5, -1.0, 1.0)
X_TEST = RNG.normal(size=(6, 4))


def solve(net, temperature=0.1, theory="corrected", y=Y, X=X):
    return fw.solve(net, X, y, temperature=temperature, theory=theory)


def exact_hidden_kernel(net, X, y, temperature):
    """⟨(1/N) Σ_i h_i h_iᵀ⟩ of an identity network given y, by quadrature over Q̄."""
    precision, width = net.weight_precision, net.widths[0]
    c = X @ X.T / (precision[0] * X.shape[1])
    nodes, log_weights = reference.gamma_nodes(width, 200)
    log_joint, terms = [], []
    for node, log_weight in zip(nodes, log_weights, strict=True):
        inverse = np.linalg.inv(node * c / precision[1] + temperature * np.eye(len(y)))
        a = inverse @ y
        value = log_weight - 0.5 * y @ a + 0.5 * np.linalg.slogdet(inverse)[1]
        log_joint.append(value)
        terms.append(node * c @ (inverse - np.outer(a, a)) @ c)
    weights = np.exp(np.array(log_joint) - max(log_joint))
    mean = np.tensordot(weights / weights.sum(), np.array(terms), axes=1)
    return c - mean / (precision[1] * width)


def test_hidden_kernel_is_the_posterior_mean_for_the_identity_to_first_order():
    distances = []
    for width in (40, 80, 160):
        net = fw.Network((width,), "identity", (0.7, 1.3))
        exact = exact_hidden_kernel(net, X, Y, 0.1)
        distances.append(np.max(np.abs(solve(net).hidden_kernel - exact)))
    ratios = np.divide(distances[:-1], distances[1:])
    np.testing.assert_allclose(ratios, 4.0, rtol=0.1)


def test_exact_hidden_kernel_agrees_with_sampled_weights():
    net = fw.Network((4,), "identity", (0.7, 1.3))
    x, y, temperature = X[:2], np.array([1.5, -0.5]), 0.3
    rng = np.random.default_rng(0)
    w = rng.normal(size=(200_000, 4, x.shape[1])) / np.sqrt(0.7 * x.shape[1])
    h = w @ x.T
    empirical = np.einsum("sia,sib->sab", h, h) / 4
    a = empirical / 1.3 + temperature * np.eye(2)
    solved = np.linalg.solve(a, np.broadcast_to(y[:, None], (len(a), 2, 1)))[..., 0]
    weights = np.exp(-0.5 * solved @ y) / np.sqrt(np.linalg.det(a))
    weights /= weights.sum()
    mean = np.tensordot(weights, empirical, axes=1)
    exact = exact_hidden_kernel(net, x, y, temperature)
    error = np.sqrt(np.tensordot(weights**2, (empirical - mean) ** 2, axes=1))
    assert np.all(np.abs(mean - exact) < 5 * error)
    c = x @ x.T / (0.7 * x.shape[1])
    assert np.any(np.abs(c - exact) > 20 * error)  # the test can tell it from the prior


@pytest.mark.parametrize("width, published", [(20, 0.0619), (50, 0.0637), (200, 0.0663)])
def test_errors_on_digits_are_those_of_the_published_formula(width, published):
    data = fw.load_dataset("digits", classes=(0, 1), n_train=100, n_test=100)
    solution = fw.solve(
        fw.Network((width,)), data.X_train, data.y_train, temperature=0.01, theory="corrected"
    )
    error = float(solution.generalization_error(data.X_test, data.y_test).error)
    assert error == pytest.approx(published, abs=5e-5)


@pytest.mark.parametrize("bias", [None, (1.5, 0.8)])
@pytest.mark.parametrize("activation", ["erf", "identity"])
def test_predictions_are_those_of_the_gaussian_process_written_out(activation, bias):
    net = fw.Network((7,), activation, (0.7, 1.3), bias)
    solution = solve(net)
    q_bar = solution.order_parameters.q_bar.values
    everything = np.concatenate([X, X_TEST])
    shift = 0.0 if bias is None else 1 / bias[1]
    features = reference.kernel(net, everything, q_bar, 1 / q_bar - 1) - shift
    n = len(Y)
    inverse = np.linalg.inv(features[:n, :n] + shift + 0.1 * np.eye(n))
    a = inverse @ Y
    turned = features[:, :n] @ (inverse - np.outer(a, a)) @ features[:n]
    kernel = features - turned / 7 + shift
    noisy = kernel[:n, :n] + 0.1 * np.eye(n)
    _, mean, variance = reference.conditional(noisy, Y, kernel[n:, :n], np.diag(kernel)[n:])
    prediction = solution.predict(X_TEST, full_covariance=True)
    np.testing.assert_allclose(solution.renormalized_kernel, kernel[:n, :n], rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(prediction.mean, mean, rtol=1e-8)
    np.testing.assert_allclose(prediction.variance, variance, rtol=1e-8)
    covariance = kernel[n:, n:] - kernel[n:, :n] @ np.linalg.solve(noisy, kernel[:n, n:])
    np.testing.assert_allclose(prediction.covariance, covariance, rtol=1e-7, atol=1e-10)
    np.testing.assert_allclose(solution.predict(X_TEST).mean, mean, rtol=1e-8)


def test_difference_from_nested_falls_as_one_over_the_width():
    changes = []
    for width in (400, 800, 1600):
        net = fw.Network((width,))
        means = [solve(net, theory=name).predict(X_TEST).mean for name in ("corrected", "nested")]
        changes.append(np.max(np.abs(means[0] - means[1])))
    np.testing.assert_allclose(np.divide(changes[:-1], changes[1:]), 2.0, rtol=0.05)


@pytest.mark.parametrize("width", [1, 2, 10])
@pytest.mark.parametrize("temperature", [1e-3, 0.1, 10.0])
def test_kernel_is_positive_semidefinite_at_any_width(width, temperature):
    solution = solve(fw.Network((width,)), temperature, y=5.0 * Y)
    kernel = solution.renormalized_kernel
    assert np.linalg.eigvalsh(kernel).min() > -1e-12 * np.trace(kernel)
    covariance = solution.predict(X_TEST, full_covariance=True).covariance
    assert np.linalg.eigvalsh(covariance).min() > -1e-12 * np.trace(covariance)


def test_without_noise_the_mean_is_that_of_nested():
    # the change of the kernel, −F/N + y yᵀ/N with F the kernel, leaves κF⁻¹y as it is
    corrected, nested = (solve(fw.Network((30,)), 0.0, name) for name in ("corrected", "nested"))
    kernel = nested.renormalized_kernel
    expected = kernel + (np.outer(Y, Y) - kernel) / 30
    np.testing.assert_allclose(corrected.renormalized_kernel, expected, rtol=1e-8)
    means = [one.predict(X_TEST).mean for one in (corrected, nested)]
    np.testing.assert_allclose(means[0], means[1], rtol=1e-7)


def test_at_high_temperature_it_is_the_prior():
    prediction = solve(fw.Network((5,)), 1e9).predict(X_TEST)
    prior = np.diag(fw.nngp_kernel(fw.Network((5,)), X_TEST))
    np.testing.assert_allclose(prediction.mean, 0.0, atol=1e-7)
    np.testing.assert_allclose(prediction.variance, prior, rtol=1e-6)


def test_scaling_the_labels_scales_the_prediction():
    one = solve(fw.Network((12,), "erf", (1.0, 1.0)), 0.1)
    other = solve(fw.Network((12,), "erf", (1.0, 1.0 / 9.0)), 0.9, y=3.0 * Y)
    np.testing.assert_allclose(other.order_parameters.q_bar, one.order_parameters.q_bar, rtol=1e-10)
    np.testing.assert_allclose(
        other.predict(X_TEST).mean, 3.0 * one.predict(X_TEST).mean, rtol=1e-8
    )


def test_order_parameters_and_evidence_are_those_of_nested():
    corrected, nested = (solve(fw.Network((12,)), theory=name) for name in ("corrected", "nested"))
    assert corrected.theory == "corrected"
    assert corrected.converged
    assert corrected.residual <= 1e-9
    assert corrected.n_roots == nested.n_roots
    assert corrected.log_evidence == nested.log_evidence
    assert corrected.order_parameters.equals(nested.order_parameters)


@pytest.mark.parametrize("net", [fw.Network((5, 5)), fw.Network((5,), "relu")])
def test_networks_it_is_not_defined_for_are_refused(net):
    with pytest.raises(fw.InputError, match="one hidden layer and an odd activation"):
        solve(net)
