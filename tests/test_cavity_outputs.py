"""The cavity theory of several outputs: its fixed point by independent quadrature, symmetries."""

import functools

import numpy as np
import pytest
from scipy.special import erf

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth.theories.cavity import Cavity
from finwidth.theories.cavity._outputs_fit import fit_outputs
from finwidth.theories.cavity._outputs_law import all_outputs
from finwidth.theories.cavity._values import activate

FEW = Cavity(points=64, progress=False)

X = np.array([[1.0, 2.0], [-0.3, -0.6], [0.6, 1.2]])  # on a line: one coordinate of the weights
Y = np.array([[1.8, 0.3], [-0.9, 0.8], [0.2, -1.4]])
X_TEST = np.array([[2.0, -1.0], [0.5, 1.0], [1.0, 0.0]])
NETWORK = fw.Network((3,), "erf", weight_precision=(0.4, 0.5), outputs=2)
T = 0.05


def solve(labels=Y, network=NETWORK):
    return fw.solve(network, X, labels, temperature=T, theory=FEW)


@pytest.fixture(scope="module")
def solved():
    return solve()


def quadrature() -> tuple[np.ndarray, np.ndarray]:
    """Solve the equations as the documentation has them, on a grid: means and covariances."""
    n, p, (l0, l1) = NETWORK.widths[0], len(X), NETWORK.weight_precision
    patterns = np.concatenate([X, X_TEST]) / np.sqrt(2 * l0)
    nodes = np.linspace(-6.5, 6.5, 101)
    z = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    prior = np.exp(-0.5 * np.sum(z**2, axis=1))
    phi = erf(z @ patterns.T) / np.sqrt(l1)
    train, noise = phi[:, :p], T * np.eye(2 * p)

    def moments(a: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        u = train @ a.reshape(2, p).T / np.sqrt(n)
        q = np.einsum("ip,dpeq,iq->ide", train, c.reshape(2, p, 2, p), train) / n
        shrink = np.linalg.inv(np.eye(2) + q)
        t = np.einsum("ide,ie->id", shrink, u)
        rho = prior * np.exp(0.5 * np.sum(u * t, axis=1)) * np.sqrt(np.linalg.det(shrink))
        rho /= np.sum(rho)
        m = np.sqrt(n) * np.einsum("i,id,ip->dp", rho, t, phi)
        second = shrink + np.einsum("id,ie->ide", t, t)
        k2 = np.einsum("i,ide,ip,iq->dpeq", rho, second, phi, phi, optimize=True)
        return m, k2 - np.einsum("dp,eq->dpeq", m, m) / n

    wide = noise + np.kron(np.eye(2), train.T @ (train * prior[:, None]) / np.sum(prior))
    a, c, y = np.linalg.solve(wide, Y.T.ravel()), np.linalg.inv(wide), Y.T.ravel()
    change = np.inf
    for _ in range(60):
        m, s = moments(a, c)
        square = s[:, :p, :, :p].reshape(2 * p, 2 * p)
        # Newton's step at this C: the Hessian is −(T + S)
        step = np.linalg.solve(noise + square, y - T * a - m[:, :p].ravel())
        new_c = np.linalg.inv(noise + square)
        change = np.max(np.abs(step)) + np.max(np.abs(new_c - c))
        a, c = a + 0.7 * step, 0.5 * (c + new_c)
    assert change < 1e-8
    cross = s[:, p:, :, :p].reshape(2 * 3, 2 * p)
    covariance = s[:, p:, :, p:] - (cross @ c @ cross.T).reshape(2, 3, 2, 3)
    return m[:, p:].T, covariance.transpose(1, 0, 3, 2)


def test_fixed_point_agrees_with_quadrature_within_its_error_bars(solved) -> None:
    mean, covariance = quadrature()
    found = solved.predict(X_TEST, full_covariance=True)
    for value, exact, error in (
        (found.mean, mean, found.standard_error),
        (found.variance, np.einsum("xdxd->xd", covariance), found.variance_error),
    ):
        assert np.all(np.abs(value - exact) < 6 * error + 1e-3)
        assert np.max(error) < 0.03
    np.testing.assert_allclose(found.covariance, covariance, atol=0.02 * np.max(covariance))
    blocks = np.einsum("xdxe->xde", found.covariance)
    np.testing.assert_allclose(found.output_covariance, blocks, rtol=1e-9)
    # the outputs' labels couple them, which infinite width does not see
    assert np.max(np.abs(covariance[0, 0, 0, 1])) > 20 * np.max(found.variance_error)


def test_labels_turned_turn_the_predictions(solved) -> None:
    """Of the fixed point and of its points: to the accuracy that it is solved to."""
    one = solved.predict(X_TEST)
    turn = np.array([[0.6, 0.8], [0.8, -0.6]])
    other = solve(Y @ turn).predict(X_TEST)
    np.testing.assert_allclose(other.mean, one.mean @ turn, atol=1e-9)
    turned = np.einsum("de,xdf,fg->xeg", turn, one.output_covariance, turn)
    np.testing.assert_allclose(other.output_covariance, turned, atol=1e-9)


def test_infinite_width_is_exact() -> None:
    net = NETWORK.replace(widths=(10**9,), bias_precision=2.0)
    found, exact = (
        fw.solve(net, X, Y, temperature=T, theory=theory).predict(X_TEST)
        for theory in (FEW, "infinite")
    )
    np.testing.assert_allclose(found.mean, exact.mean, atol=1e-6)
    np.testing.assert_allclose(found.variance, exact.variance, atol=1e-6)


def test_one_output_of_the_equations_of_several_is_that_of_one() -> None:
    one = fw.solve(
        NETWORK.replace(outputs=1),
        X,
        Y[:, 0],
        temperature=T,
        theory=Cavity(points=1024, progress=False),
    )
    given = one.given
    with float64():
        several = fit_outputs(
            all_outputs(given, given.y[:, None]),
            functools.partial(activate, NETWORK.activation),
            3.0,
            1,
            points=1024,
            most=1024,
            scramblings=lambda points: 8,
            tolerance=0.01,
            seed=0,
            tick=lambda share, state: None,
        )
    # of the same law
    for name in ("dual", "moments"):
        parts = [
            np.array([getattr(replicate.law, name) for replicate in fit.replicates])
            for fit in (one.fit, several)
        ]
        bar = np.sqrt(sum(np.var(part, axis=0, ddof=1) / len(part) for part in parts))
        assert np.all(np.abs(np.mean(parts[0], 0) - np.mean(parts[1], 0)) < 6 * bar + 1e-4)


@pytest.mark.slow
def test_identity_is_exact_at_leading_order() -> None:
    """Where width and patterns grow together the distance to the exact mixture falls."""
    distances = []
    for factor in (1, 4):
        apart = []
        for seed in (1, 2, 3):
            rng = np.random.default_rng(seed)
            inputs = rng.normal(size=(5 * factor, 3 * factor))
            more = rng.normal(size=(10, 3 * factor))
            labels = 2 * inputs[:, :2] + 0.3 * rng.normal(size=(5 * factor, 2))
            net = fw.Network((4 * factor,), "identity", outputs=2)
            found = fw.solve(net, inputs, labels, temperature=0.1, theory=FEW).predict(more)
            exact = fw.mixture(net, inputs, labels, temperature=0.1).predict(more)
            apart.append(np.mean(np.abs(found.variance / exact.variance - 1)))
        distances.append(np.mean(apart))
    assert distances[1] < 0.5 * distances[0]


def test_a_test_error_has_an_error_bar(solved) -> None:
    found = solved.predict(X_TEST)
    error = solved.generalization_error(X_TEST, found.mean + 1.0)
    assert float(error.error) == pytest.approx(1 + np.mean(found.variance), rel=1e-3)
    assert 0 < float(error.error_se) < 0.1 * float(error.error)


def test_likelihoods_of_classes_are_refused_before_any_work() -> None:
    with pytest.raises(fw.InputError, match="expected likelihood = 'gaussian', .*, got 'softmax'"):
        fw.solve(
            NETWORK.replace(outputs=3),
            X,
            np.arange(3),
            temperature=1.0,
            theory="cavity",
            likelihood="softmax",
        )
