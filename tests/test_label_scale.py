"""Labels far from the prior's scale are told, once, with both numbers; others are not."""

import math
import re
import warnings

import numpy as np
import pytest

import finwidth as fw
from finwidth._problem.label_scale import check_label_scale, output_variance

RNG = np.random.default_rng(0)
X = RNG.normal(size=(12, 5))
SIGNS = RNG.choice([-1.0, 1.0], 12)
NETS = {
    "erf": fw.Network((5,), "erf", weight_precision=(0.5, 2.0)),
    "relu, biases": fw.Network((5, 4), "relu", bias_precision=3.0),
    "tanh": fw.Network((5,), "tanh"),
}


def prior(net, T):
    """The standard deviation of a label under the prior, from the whole kernel."""
    return math.sqrt(np.mean(np.diag(fw.nngp_kernel(net, X))) + T)


def solve(net, y, T):
    fw.solve(net, X, y, temperature=T, theory="infinite")


def sample(net, y, T):
    fw.sample(net, X, y, temperature=T)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("call", [solve, sample])
@pytest.mark.parametrize("ratio", [10.5, 9.5, 0.105, 0.095])
def test_a_factor_of_ten_is_the_limit(monkeypatch, name, call, ratio):
    """Above it is that of labels, below it that of f: a large T alone is no question of scale."""
    monkeypatch.setattr("finwidth._sampling.sample.run", lambda plan: None)
    net, T = NETS[name], 0.3
    size = ratio * (prior(net, T) if ratio > 1 else prior(net, 0.0))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        call(net, size * SIGNS, T)
    assert len(told) == (not 0.1 <= ratio <= 10.0)
    for warning in told:
        numbers = re.search(r"√\(mean K \+ T\) = (\S+), got .* of (\S+):", str(warning.message))
        assert numbers is not None and warning.category is fw.AccuracyWarning
        assert float(numbers[1]) == pytest.approx(prior(net, T), rel=0.01)
        assert float(numbers[2]) == pytest.approx(size, rel=0.01)


@pytest.mark.parametrize("name", ["erf", "relu, biases"])
def test_the_variance_of_many_patterns_is_that_of_the_kernel(name):
    many = np.exp(RNG.normal(size=(200, 1))) * RNG.normal(size=(200, 5))
    expected = np.mean(np.diag(fw.nngp_kernel(NETS[name], many)))
    assert output_variance(NETS[name], many) == pytest.approx(expected, rel=0.02)


def test_one_call_with_several_networks_tells_it_once():
    net = NETS["erf"]
    with pytest.warns(fw.AccuracyWarning, match="expected y = ") as told:
        fw.solve_many(
            net, X, 100 * SIGNS, widths=[5], temperature=[0.1, 0.2], weight_precision=[1.0, 2.0]
        )
    assert len(told) == 1


def test_labels_without_a_scale_are_not_judged_nor_is_a_temperature():
    solve(NETS["erf"], np.zeros(12), 0.1)
    solve(NETS["erf"], SIGNS, 1e9)


def test_several_outputs_have_one_scale():
    net = NETS["erf"].replace(outputs=2)
    y = np.stack([np.sqrt(2.0) * SIGNS, np.zeros(12)], axis=1)
    check_label_scale(net, X, 9.5 * prior(net, 0.1) * y, 0.1)
    with pytest.warns(fw.AccuracyWarning, match="expected y = "):
        check_label_scale(net, X, 10.5 * prior(net, 0.1) * y, 0.1)
