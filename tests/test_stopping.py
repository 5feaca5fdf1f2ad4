"""When runs stop."""

import json

import numpy as np
import pytest

import finwidth as fw
from finwidth._sampling.stopping import Target, settled, stuck

RNG = np.random.default_rng(23)
X, Y = RNG.normal(size=(10, 4)), RNG.normal(size=10)
X_TEST, Y_TEST = RNG.normal(size=(3, 4)), RNG.normal(size=3)


def run(**changes):
    arguments = {
        "temperature": 0.1,
        "X_test": X_TEST,
        "y_test": Y_TEST,
        "progress": False,
    } | changes
    return fw.sample(fw.Network((3,), "erf"), X, Y, **arguments)


@pytest.mark.slow
def test_a_run_stops_when_the_error_is_known_well_enough():
    rough = run(target_mcse=0.05)
    fine = run(target_mcse=0.03)
    for tree, target in ((rough, 0.05), (fine, 0.03)):
        squares = (Y_TEST - tree["predictions"]["f_mean"]) ** 2 + tree["predictions"]["f_variance"]
        import arviz as az

        assert (
            float(az.mcse(squares.mean("test_pattern").rename("error").to_dataset()).error)
            <= target
        )
        record = json.loads(tree.attrs["provenance"])
        assert record["target"]["reached"] is True
        assert record["num_samples"] == tree["posterior"].sizes["draw"]
    assert fine["posterior"].sizes["draw"] > rough["posterior"].sizes["draw"]
    # the first draws are the same: stopping looks at the draws and changes none
    n = rough["posterior"].sizes["draw"]
    np.testing.assert_array_equal(fine["predictions"]["f"][:, :n], rough["predictions"]["f"])


def test_a_cap_that_is_too_low_is_said():
    with pytest.warns(fw.AccuracyWarning, match="expected target_mcse = 1e-06 .* after 100 draws"):
        tree = run(target_mcse=1e-6, num_samples=100)
    assert json.loads(tree.attrs["provenance"])["target"]["reached"] is False


def test_targets_need_a_test_set_and_sensible_values():
    with pytest.raises(fw.InputError, match="expected X_test and y_test together with a target"):
        run(target_ess=100.0, y_test=None)
    for bad in (0.0, -1.0, np.nan):
        with pytest.raises(fw.InputError, match="expected target_ess = a positive float"):
            run(target_ess=bad)


def test_target_looks_at_ess_and_at_agreement():
    independent = RNG.normal(size=(4, 500))
    assert Target(ess=1000.0).reached(independent)[0]
    assert not Target(ess=10_000.0).reached(independent)[0]
    assert not Target(ess=100.0).reached(independent + np.arange(4)[:, None])[0]
    assert not Target(ess=1.0).reached(np.full((2, 50), np.nan))[0]


def test_warm_up_ends_once_the_chains_agree():
    record = json.loads(run(num_samples=25).attrs["provenance"])
    assert 125 <= record["num_warmup"] < 2000
    assert record["warmup_settled"] is True


def test_settled_wants_agreement_length_and_a_stable_step():
    stationary, steps = RNG.normal(size=(4, 200)), np.full((4, 200), 0.3)
    assert settled(stationary, steps)
    assert not settled(stationary[:, :50], steps[:, :50])
    assert not settled(stationary + 3 * np.arange(4)[:, None], steps)
    assert not settled(stationary + 0.05 * np.arange(200), steps)
    assert not settled(stationary, steps * np.geomspace(1, 5, 200))
    # a chain by itself may change its step by more than all together
    later, one = np.arange(200) >= 150, np.arange(4)[:, None] == 0
    assert not settled(stationary, steps * np.exp(0.12 * later))
    assert settled(stationary, steps * np.exp(0.3 * later * one))
    assert not settled(stationary, steps * np.exp(0.6 * later * one - 0.2 * later * ~one))
    assert not settled(np.full((4, 200), 1.0), steps)


def test_warm_up_that_does_not_settle_is_said(monkeypatch):
    from finwidth._sampling import drive as _drive

    monkeypatch.setattr(_drive, "settled", lambda *_: False)
    from finwidth.samplers import SHELF

    longest = SHELF.get("split_hmc").num_warmup
    with pytest.warns(fw.AccuracyWarning, match=f"a warm-up that settles within {longest} tr"):
        tree = run(num_samples=25)
    assert json.loads(tree.attrs["provenance"])["warmup_settled"] is False


def test_what_counts_as_stuck():
    start, steps = np.ones((2, 4)), np.full((2, 25), 7)
    moved = start + np.array([[1.0], [1e-4]])
    assert (
        stuck(start, moved, steps, None) == "1 of 2 chains that moved by less than 0.1% in 25 draws"
    )
    assert stuck(start, moved, steps, None, everywhere=True) == ""
    assert stuck(start, start * np.nan, steps, None, everywhere=True).startswith("2 of 2 chains")
    assert stuck(start, start + 1, steps, 8) == ""
    assert stuck(start, start + 1, steps, 7) == "100% of the trajectories cut short at 7 steps"


def test_what_is_stuck_is_said_whatever_the_warm_up(monkeypatch):
    from finwidth._sampling import drive as _drive

    monkeypatch.setattr(_drive, "stuck", lambda *_, **__: "3 of 4 chains")
    with pytest.warns(fw.AccuracyWarning, match="expected chains that move, got 3 of 4 chains"):
        tree = run(num_warmup=0, num_samples=30)
    assert "3 of 4 chains" in json.loads(tree.attrs["provenance"])["stuck"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "how"),
    [
        (
            {"sampler_options": {"max_num_steps": 2}},
            "100% of the trajectories cut short at 2 steps",
        ),
        (
            {"sampler": "langevin", "sampler_options": {"step_size": 1e-14}},
            "4 of 4 chains that moved by less than 0.1%",
        ),
    ],
)
def test_a_sampler_that_is_stuck_says_so_whatever_the_warm_up(changes, how):
    options = changes["sampler_options"] | {"adapt_step_size": False}
    with pytest.warns(fw.AccuracyWarning, match=f"expected chains that move, got {how}"):
        tree = run(num_warmup=0, num_samples=30, **changes | {"sampler_options": options})
    assert how in json.loads(tree.attrs["provenance"])["stuck"]


@pytest.mark.parametrize(
    ("model", "dtype"),
    [
        ("marginal", "float64"),
        pytest.param("marginal", "float32", marks=pytest.mark.slow),
        pytest.param("network", "float32", marks=pytest.mark.slow),
    ],
)
def test_a_likelihood_that_says_nothing_leaves_the_step_at_a_trajectory(model, dtype):
    """The integrator is exact without one: a longer step than a trajectory means nothing."""
    # warnings are errors here: of a warm-up that does not settle, or of a step that overflows
    tree = run(temperature=1e6, num_samples=25, dtype=dtype, model=model)
    assert 1.4 < float(tree["sample_stats"]["step_size"].max()) <= 1.4 * 1.35 * (1 + 1e-6)
    assert json.loads(tree.attrs["provenance"])["num_warmup"] <= 500
    assert np.all(tree["sample_stats"]["n_steps"] == 1)
