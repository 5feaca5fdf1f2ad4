"""Independent implementations that tests compare with: plain NumPy, written from theory.md."""

import json

import numpy as np
import scipy.special
import scipy.stats
import xarray as xr


def layer(activation: str, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """K∘C and m for a full covariance matrix C (theory.md, section 7)."""
    d = np.diag(c)
    if activation == "identity":
        return c, np.zeros_like(d)
    if activation == "erf":
        norm = np.sqrt(np.outer(1 + 2 * d, 1 + 2 * d))
        return 2 / np.pi * np.arcsin(2 * c / norm), np.zeros_like(d)
    if activation == "relu":
        norm = np.sqrt(np.outer(d, d))
        theta = np.arccos(np.clip(c / norm, -1, 1))
        kernel = norm / (2 * np.pi) * (np.sin(theta) + (np.pi - theta) * np.cos(theta))
        return kernel, np.sqrt(d / (2 * np.pi))
    raise ValueError(activation)


def kernel(net, X, q_bar, q):
    """K_R of section 4 on the patterns X."""
    bias = net.bias_precision or (np.inf,) * (net.depth + 1)
    c = X @ X.T / (net.weight_precision[0] * X.shape[1]) + 1 / bias[0]
    for n in range(net.depth):
        k, m = layer(net.activation.name, c)
        mm = np.outer(m, m)
        c = (q_bar[n] * (k - mm) + mm / (1 + q[n])) / net.weight_precision[n + 1] + 1 / bias[n + 1]
    return c


def action(net, X, y, temperature, q_bar, q):
    """𝒮 of section 4."""
    a = kernel(net, X, q_bar, q) + temperature * np.eye(len(y))
    prior = sum(n * (-q * b + np.log1p(q)) for n, b, q in zip(net.widths, q_bar, q, strict=True))
    return prior + np.linalg.slogdet(a)[1] + y @ np.linalg.solve(a, y)


def conditional(a, y, kappa, kappa0):
    """log N(y; 0, a), mean and variance of f given A = a (section 3)."""
    solved = np.linalg.solve(a, np.column_stack([y, kappa.T]))
    log_evidence = -0.5 * (y @ solved[:, 0] + np.linalg.slogdet(2 * np.pi * a)[1])
    return (
        log_evidence,
        kappa @ solved[:, 0],
        kappa0 - np.einsum("ij,ji->i", kappa, solved[:, 1:]),
    )


def gamma_nodes(width, n, reach=16):
    """Nodes and log weights of a quadrature for Q̄ ~ Gamma(N/2, N/2), uniform in its quantiles.

    What is left out on either side has probability exp(−reach).
    """
    x, w = np.polynomial.legendre.leggauss(n)
    u = 0.5 * (x + 1)
    # more nodes in the tails: u = the CDF of a logistic variable
    t = reach * (u - 0.5) * 2
    log_weights = np.log(w * reach) - np.logaddexp(0, t) - np.logaddexp(0, -t)
    law = scipy.stats.gamma(width / 2, scale=2 / width)
    quantile = scipy.special.expit(-np.abs(t))
    return np.where(t < 0, law.ppf(quantile), law.isf(quantile)), log_weights


def identity_mixture(net, X, y, temperature, X_test, nodes=80, reach=16):
    """Exact posterior of the identity network of section 6: log evidence, mean, second moment.

    The network's prior is a scale mixture of Gaussian processes with Q̄_ℓ ~ Gamma(N_ℓ/2, N_ℓ/2)
    independent, kernel Π_ℓ Q̄_ℓ/λ_ℓ · C.
    """
    assert net.activation.name == "identity" and net.bias_precision is None
    scale = 1 / (net.weight_precision[0] * X.shape[1])
    c, kappa = scale * X @ X.T, scale * X_test @ X.T
    kappa0 = scale * np.einsum("ij,ij->i", X_test, X_test)
    q, log_weight = np.ones(1), np.zeros(1)
    for n, width in enumerate(net.widths):
        x, w = gamma_nodes(width, nodes, reach)
        q = np.outer(q, x / net.weight_precision[n + 1]).ravel()
        log_weight = np.add.outer(log_weight, w).ravel()
    # one eigendecomposition serves all scales
    values, vectors = np.linalg.eigh(c)
    values = np.maximum(values, 0)
    rotated, cross = vectors.T @ y, kappa @ vectors
    total = temperature + q[:, None] * values
    log_evidence = -0.5 * np.sum(rotated**2 / total + np.log(2 * np.pi * total), axis=1)
    log_joint = log_evidence + log_weight
    top = log_joint.max()
    weight = np.exp(log_joint - top)
    norm = weight.sum()
    weight = weight / norm
    means = (q[:, None] * rotated / total) @ cross.T
    variances = q[:, None] * kappa0 - (q[:, None] ** 2 / total) @ (cross**2).T
    mean = weight @ means
    return top + np.log(norm), mean, weight @ (variances + means**2) - mean**2


def wishart_kernel(net, X, q_bar):
    """(Π_ℓ Q̄_ℓ) K_NNGP of section 4 on the patterns X; the output's bias is not scaled."""
    bias = net.bias_precision or (np.inf,) * (net.depth + 1)
    c = X @ X.T / (net.weight_precision[0] * X.shape[1]) + 1 / bias[0]
    for n in range(net.depth):
        hidden = 1 / bias[n + 1] if n < net.depth - 1 else 0.0
        c = layer(net.activation.name, c)[0] / net.weight_precision[n + 1] + hidden
    return np.prod(q_bar) * c + 1 / bias[-1]


def wishart_action(net, X, y, temperature, q_bar):
    """𝒮 of section 4 with that kernel, 1 + Q_ℓ = 1/Q̄_ℓ."""
    a = wishart_kernel(net, X, q_bar) + temperature * np.eye(len(y))
    prior = sum(n * (b - 1 - np.log(b)) for n, b in zip(net.widths, q_bar, strict=True))
    return prior + np.linalg.slogdet(a)[1] + y @ np.linalg.solve(a, y)


def adaptive_kernel(net, X, covariance, q_bar, q, X2=None):
    """K_R on the patterns X (and X2 after them) where the weights of a hidden unit, its bias last
    if it has one, have this covariance."""
    X = X if X2 is None else np.concatenate([X, X2])
    features = X / np.sqrt(X.shape[1])
    shift = 0.0
    if net.bias_precision is not None:
        features = np.column_stack([features, np.ones(len(X))])
        shift = 1 / net.bias_precision[1]
    k, m = layer(net.activation.name, features @ covariance @ features.T)
    mm = np.outer(m, m)
    return (q_bar * (k - mm) + mm / (1 + q)) / net.weight_precision[1] + shift


def adaptive_action(net, X, y, temperature, covariance, q_bar, q):
    """Twice F of section 10, with Q of section 2 for a mean term."""
    precision = np.full(X.shape[1], net.weight_precision[0])
    if net.bias_precision is not None:
        precision = np.append(precision, net.bias_precision[0])
    ratio = covariance * precision
    divergence = np.trace(ratio) - len(precision) - np.linalg.slogdet(ratio)[1]
    a = adaptive_kernel(net, X, covariance, q_bar, q) + temperature * np.eye(len(y))
    width = net.widths[0]
    prior = width * (divergence - q * q_bar + np.log1p(q))
    return prior + np.linalg.slogdet(a)[1] + y @ np.linalg.solve(a, y)


def made_up_run(theory, X_test, y_test):
    """A run as `finwidth.sample` gives it, of independent draws from what the theory predicts."""
    problem, prediction = theory.problem, theory.predict(X_test)
    dims, shape = ("chain", "draw", "test_pattern"), (2, 100, len(y_test))
    # half of the variance is within a draw
    parts = np.sqrt(prediction.variance / 2) * np.random.default_rng(0).normal(size=(2, *shape))
    f_mean = prediction.mean + parts[0]
    f_variance = np.broadcast_to(prediction.variance / 2, shape).copy()
    groups = {
        "predictions": {
            "f": (dims, f_mean + parts[1]),
            "f_mean": (dims, f_mean),
            "f_variance": (dims, f_variance),
        },
        "predictions_constant_data": {
            "X_test": (("test_pattern", "input"), X_test),
            "y_test": ("test_pattern", y_test),
        },
        "observed_data": {"y": ("pattern", problem.y)},
        "constant_data": {"X": (("pattern", "input"), problem.X)},
    }
    tree = xr.DataTree.from_dict({name: xr.Dataset(values) for name, values in groups.items()})
    record = {"network": theory.network.record(), "temperature": problem.temperature}
    tree.attrs["provenance"] = json.dumps(record | {"model": "marginal"})
    return tree
