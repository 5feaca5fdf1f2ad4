"""Nearly singular kernels: an error, a stated accuracy, or the right number; never a wrong one."""

import re
import warnings

import mpmath
import numpy as np
import pytest

import finwidth as fw

DEPTH = 10
RNG = np.random.default_rng(3)
BASE = RNG.normal(size=(5, 4))
Y = np.array([1.0, -1.0, 1.0, 1.0, -1.0, -1.0])
X_TEST = RNG.normal(size=(3, 4))
SMALL_PRIOR = "expected y = labels"  # ten ReLU layers leave 0.04 of the labels' scale


def relu_kernel(points):
    """The infinite-width kernel of DEPTH ReLU layers in many digits, all precisions 1."""
    n, n_inputs = points.shape
    x = [[mpmath.mpf(float(v)) for v in row] for row in points]
    c = mpmath.matrix(n, n)
    for i in range(n):
        for j in range(n):
            c[i, j] = mpmath.fsum(a * b for a, b in zip(x[i], x[j], strict=True)) / n_inputs
    for _ in range(DEPTH):
        new = mpmath.matrix(n, n)
        for i in range(n):
            for j in range(n):
                scale = mpmath.sqrt(c[i, i] * c[j, j])
                cosine = min(mpmath.mpf(1), c[i, j] / scale)
                angle = mpmath.acos(cosine)
                new[i, j] = (
                    scale / (2 * mpmath.pi) * (mpmath.sin(angle) + (mpmath.pi - angle) * cosine)
                )
        c = new
    return c


def exact(X, temperature):
    """Mean and variance at X_TEST with 80 digits, and |κ||A⁻¹y|, the scale of the mean."""
    with mpmath.workdps(80):
        n = len(Y)
        kernel = relu_kernel(np.concatenate([X, X_TEST]))
        a = kernel[:n, :n] + mpmath.mpf(temperature) * mpmath.eye(n)
        kappa = kernel[n:, :n]
        weights = mpmath.lu_solve(a, mpmath.matrix(Y.tolist()))
        mean = kappa * weights
        solved = mpmath.inverse(a) * kappa.T
        variance = [
            kernel[n + k, n + k] - mpmath.fsum(kappa[k, i] * solved[i, k] for i in range(n))
            for k in range(len(X_TEST))
        ]
        size = mpmath.norm(weights) * mpmath.norm(kappa)
        return (
            np.array([float(value) for value in mean]),
            np.array([float(value) for value in variance]),
            float(size),
        )


@pytest.mark.parametrize("temperature", [0.0, 1e-12, 1e-6])
@pytest.mark.parametrize("distance", [1e-2, 1e-5, 1e-9])
def test_two_close_patterns_under_ten_relu_layers(distance, temperature):
    X = np.concatenate([BASE, BASE[:1] + distance * RNG.normal(size=(1, 4))])
    net = fw.Network((30,) * DEPTH, "relu")
    stated = 1e-8  # without a warning
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warnings.filterwarnings("ignore", SMALL_PRIOR)
        try:
            solution = fw.solve(net, X, Y, temperature=temperature, theory="infinite")
        except fw.InputError as error:
            assert "expected a larger temperature" in str(error)
            assert temperature + distance < 1e-5  # only where float64 cannot do it
            return
    for warning in caught:
        assert warning.category is fw.AccuracyWarning
        found = re.search(r"got about ([\d.e+-]+)", str(warning.message))
        assert found is not None
        stated = float(found[1])
    prediction = solution.predict(X_TEST)
    mean, variance, size = exact(X, temperature)
    assert np.max(np.abs(prediction.mean - mean)) <= stated * size
    assert np.max(np.abs(prediction.variance - variance)) <= stated * np.max(np.abs(X_TEST)) ** 2


@pytest.mark.filterwarnings(f"ignore:{SMALL_PRIOR}")
@pytest.mark.parametrize("theory", [pytest.param("nested", marks=pytest.mark.slow), "wishart"])
def test_saddle_points_of_ten_relu_layers_keep_their_residual(theory):
    temperature = 1e-12
    net = fw.Network((30,) * DEPTH, "relu")
    solution = fw.solve(net, BASE, Y[:5], temperature=temperature, theory=theory)
    assert solution.residual <= 1e-9
    # noise this small changes nothing that the noiseless solution can tell
    noiseless = fw.solve(net, BASE, Y[:5], temperature=0.0, theory=theory)
    np.testing.assert_allclose(
        solution.order_parameters.q_bar, noiseless.order_parameters.q_bar, rtol=1e3 * temperature
    )
