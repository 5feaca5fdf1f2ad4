"""The first order in 1/N: against exact posteriors of small networks, and against the mixture."""

import subprocess
import sys

import numpy as np
import pytest
from scipy.special import erf

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth.theories import perturbative
from finwidth.theories.perturbative import _moments as _perturbative_moments
from finwidth.theories.perturbative._moments import Neuron

RNG = np.random.default_rng(3)
X = RNG.normal(size=(5, 2))
Y = RNG.normal(size=5)
X_TEST = RNG.normal(size=(4, 2))
ACTIVATIONS = {"erf": erf, "tanh": np.tanh, "relu": lambda h: np.maximum(h, 0.0)}


def solve(net, x=X, y=Y, temperature=0.1):
    return fw.solve(net, x, y, temperature=temperature, theory="perturbative")


def exact(net, x, x_test, y, temperature):
    """log p(y), mean and variance of f(x_test) of the network itself, no approximation.

    The dual function is the width-th power of one neuron's, an integral over its weights; what
    remains is an integral over as many dual variables as there are patterns.
    """
    n_inputs, width = x.shape[1], net.widths[0]
    nodes = np.arange(-8.0, 8.1, 0.25 if n_inputs > 1 else 0.05)  # trapezoidal rules throughout
    grids = np.meshgrid(*[nodes] * n_inputs, indexing="ij")
    weights = np.stack([grid.ravel() for grid in grids], axis=1)
    density = np.exp(-np.sum(weights**2, axis=1) / 2)
    density = density / density.sum()
    scale = np.sqrt(net.weight_precision[0] * n_inputs), np.sqrt(net.weight_precision[1] * width)
    psi = ACTIVATIONS[net.activation.name](weights @ x.T / scale[0]) / scale[1]
    psi_test = ACTIVATIONS[net.activation.name](weights @ x_test / scale[0]) / scale[1]
    line = np.arange(-1.0, 1.0, 1 / 64) * np.sqrt(80 / temperature)
    sums = np.zeros(3, dtype=complex)
    for rows in np.array_split(np.arange(line.size ** len(y)), 40):
        index = np.unravel_index(rows, (line.size,) * len(y))
        s = np.stack([line[i] for i in index], axis=1)
        z = s @ psi.T
        weighted = np.exp(-(z**2) / 2) * density
        m = weighted.sum(axis=1)
        first = -(weighted * z) @ psi_test
        second = (weighted * (z**2 - 1)) @ psi_test**2
        outer = np.exp(-temperature * np.sum(s**2, axis=1) / 2 + 1j * s @ y)
        sums += [
            np.sum(outer * m**width),
            1j * np.sum(outer * width * m ** (width - 1) * first),
            -np.sum(
                outer
                * width
                * ((width - 1) * m ** (width - 2) * first**2 + m ** (width - 1) * second)
            ),
        ]
    evidence = np.log(sums[0].real * ((line[1] - line[0]) / (2 * np.pi)) ** len(y))
    mean = (sums[1] / sums[0]).real
    return np.array([evidence, mean, (sums[2] / sums[0]).real - mean**2])


def numbers(solution, x_test):
    prediction = solution.predict(x_test[None])
    return np.array([solution.log_evidence, prediction.mean[0], prediction.variance[0]])


@pytest.mark.parametrize("activation", ["erf", pytest.param("tanh", marks=pytest.mark.slow)])
def test_error_falls_as_the_square_of_the_width_where_the_mixture_s_falls_as_the_width(activation):
    x, x_test, y = np.array([[1.2]]), np.array([0.7]), np.array([1.5])
    errors, rescaled = [], []
    for width in (20, 40, 80):
        net = fw.Network((width,), activation, (0.5, 1.3))
        truth = exact(net, x, x_test, y, 0.1)
        errors.append(np.abs(numbers(solve(net, x, y), x_test) - truth))
        rescaled.append(np.abs(numbers(fw.mixture(net, x, y, temperature=0.1), x_test) - truth))
    np.testing.assert_allclose(np.divide(errors[:-1], errors[1:]), 4.0, rtol=0.45)
    np.testing.assert_allclose(np.divide(errors[1], errors[2])[:2], 4.0, rtol=0.05)
    np.testing.assert_allclose(np.divide(rescaled[1], rescaled[2]), 2.0, rtol=0.2)
    assert np.all(errors[-1] < 0.1 * rescaled[-1])


@pytest.mark.slow
def test_two_patterns_and_two_inputs():
    x, x_test, y = X[:2], X_TEST[0], np.array([1.0, -0.8])
    errors, leading = [], []
    for width in (20, 40):
        net = fw.Network((width,), "erf", (0.5, 1.3))
        truth = exact(net, x, x_test, y, 0.3)
        solution = solve(net, x, y, 0.3)
        errors.append(np.abs(numbers(solution, x_test) - truth))
        leading.append(np.abs(numbers(solution.leading, x_test) - truth))
    np.testing.assert_allclose(np.divide(*errors), 4.0, rtol=0.15)
    np.testing.assert_allclose(np.divide(*leading), 2.0, rtol=0.15)


@pytest.mark.parametrize("bias", [None, (1.5, 0.8)])
def test_identity_against_the_mixture_which_is_exact(bias, monkeypatch):
    monkeypatch.setattr(_perturbative_moments, "_FIRST", 14)
    errors, leading = [], []
    for width in (50, 100):
        net = fw.Network((width,), "identity", (0.7, 1.3), bias)
        solution, truth = solve(net), fw.mixture(net, X, Y, temperature=0.1)
        at_tests = truth.predict(X_TEST)

        def distance(one, truth=truth, at_tests=at_tests):
            prediction = one.predict(X_TEST)
            return np.array(
                [
                    abs(one.log_evidence - truth.log_evidence),
                    np.max(np.abs(prediction.mean - at_tests.mean)),
                    np.max(np.abs(prediction.variance - at_tests.variance)),
                ]
            )

        errors.append(distance(solution))
        leading.append(distance(solution.leading))
    np.testing.assert_allclose(np.divide(*errors), 4.0, rtol=0.25)
    np.testing.assert_allclose(np.divide(*leading), 2.0, rtol=0.1)


@pytest.mark.parametrize("activation, bias", [("erf", None), ("relu", (2.0, 1.0)), ("tanh", None)])
def test_neuron_s_second_moments_are_the_kernel_within_the_stated_error(activation, bias):
    net = fw.Network((10,), activation, (0.7, 1.3), bias)
    with float64():
        estimate = Neuron(net, X).average(
            lambda psi: np.ravel(psi.T @ psi), X, lambda mean, error: False
        )
    hidden = None if bias is None else (bias[0], 1e300)
    kernel = fw.nngp_kernel(fw.Network((10,), activation, (0.7, 1.3), hidden), X)
    distance = np.abs(estimate.mean - np.ravel(kernel))
    assert np.all(distance < 6 * estimate.error + 1e-9)
    assert np.all(estimate.error < 3e-4)


def test_change_is_proportional_to_one_over_the_width():
    solutions = [solve(fw.Network((width,))) for width in (40, 400)]
    changes = [one.predict(X_TEST).mean - one.leading.predict(X_TEST).mean for one in solutions]
    np.testing.assert_allclose(changes[0], 10 * changes[1], rtol=1e-9)
    ratio = solutions[0].evidence_change / solutions[1].evidence_change
    assert ratio == pytest.approx(10.0, rel=1e-9)
    assert solutions[0].action == pytest.approx(
        solutions[0].leading.action - 2 * solutions[0].evidence_change, rel=1e-12
    )


def test_scaling_of_labels_readout_precision_and_temperature():
    scale = 7.0
    base = solve(fw.Network((40,), "erf", (1.0, 1.3)))
    scaled = solve(fw.Network((40,), "erf", (1.0, 1.3 / scale**2)), y=scale * Y, temperature=4.9)
    one, other = base.predict(X_TEST), scaled.predict(X_TEST)
    np.testing.assert_allclose(other.mean, scale * one.mean, rtol=1e-9)
    np.testing.assert_allclose(other.variance, scale**2 * one.variance, rtol=1e-9)
    jacobian = len(Y) * np.log(scale)  # of the labels
    assert scaled.log_evidence == pytest.approx(base.log_evidence - jacobian, rel=1e-10)


def test_full_covariance_is_symmetric_with_the_variances_on_its_diagonal():
    solution = solve(fw.Network((40,), "relu", 1.0, 1.0))
    full = solution.predict(X_TEST, full_covariance=True)
    np.testing.assert_allclose(full.covariance, full.covariance.T, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(np.diag(full.covariance), full.variance, rtol=1e-12)
    np.testing.assert_allclose(solution.predict(X_TEST).variance, full.variance, rtol=1e-3)


def test_result_is_the_same_every_time():
    one, other = (solve(fw.Network((40,))) for _ in range(2))
    assert one.log_evidence == other.log_evidence
    np.testing.assert_array_equal(one.predict(X_TEST).mean, other.predict(X_TEST).mean)


def test_readout_precision_matters_also_where_kernels_are_shared():
    one = solve(fw.Network((40,), "erf", (1.0, 1.0)))
    varied = one.problem.vary((40,), 0.1, 4.0)
    with float64():
        other = perturbative.Perturbative().solve(varied)
    assert other.log_evidence == solve(fw.Network((40,), "erf", (1.0, 4.0))).log_evidence


def test_more_than_one_hidden_layer_is_refused():
    with pytest.raises(fw.InputError, match="one hidden layer"):
        solve(fw.Network((5, 5)))


def test_a_width_too_small_for_the_expansion_is_an_error():
    # without labels each direction that the data determine lowers the variance by 1/N
    solution = solve(fw.Network((1,)), y=0.0 * Y, temperature=1e-3)
    with pytest.raises(fw.ConvergenceError, match="negative") as caught:
        solution.predict(X_TEST)
    assert caught.value.best is solution


def test_too_few_points_are_said(monkeypatch):
    monkeypatch.setattr(_perturbative_moments, "_LAST", _perturbative_moments._FIRST)
    monkeypatch.setattr(perturbative, "_TOLERANCE", 1e-12)
    solution = solve(fw.Network((40,)))
    with pytest.warns(fw.AccuracyWarning, match="standard error"):
        solution.predict(X_TEST)
    monkeypatch.setattr(perturbative, "_EVIDENCE_TOLERANCE", 1e-12)
    with pytest.raises(fw.ConvergenceError, match="standard error") as caught:
        solve(fw.Network((40,)))
    assert not caught.value.best.converged


@pytest.mark.slow
def test_the_averages_are_made_by_solve_whatever_python_leaves_out():
    """Under python -O, too, where assertions are not run: later JAX is not in float64."""
    code = (
        "import numpy as np, finwidth as fw\n"
        "X = np.eye(4)\n"
        "net = fw.Network((200,), 'erf')\n"
        "solution = fw.solve(net, X, X[0], temperature=0.5, theory='perturbative')\n"
        "print('_training' in vars(solution))"
    )
    done = subprocess.run([sys.executable, "-O", "-c", code], capture_output=True, text=True)
    assert done.stdout == "True\n", done.stderr
