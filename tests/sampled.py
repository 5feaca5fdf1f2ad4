"""Draws of a network against the law that is exact for it."""

import math

import arviz as az
import numpy as np

import finwidth as fw


def assert_sampled_is_the_mixture(network, X, Y, X_TEST, Y_TEST, temperature, model):
    """4000 draws agree with `fw.mixture` in the means of f and in the error, at 4.5 errors."""
    mixture = fw.mixture(network, X, Y, temperature=temperature)
    tree = fw.sample(
        network,
        X,
        Y,
        temperature=temperature,
        X_test=X_TEST,
        y_test=Y_TEST,
        model=model,
        num_samples=4000,
        progress=False,
    )
    f = tree["predictions"].dataset[["f"]]
    error = az.mcse(f).f.values
    prediction = mixture.predict(X_TEST)
    assert np.all(np.abs(f.f.mean(("chain", "draw")).values - prediction.mean) < 4.5 * error)
    scores, expected = fw.scores(tree), mixture.scores(X_TEST, Y_TEST)
    error = math.hypot(float(scores.error_mcse), float(expected.error_se))
    assert abs(float(scores.error) - float(expected.error)) < 4.5 * error
