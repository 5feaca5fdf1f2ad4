"""`finwidth solve`: the numbers of the theory, in a table and as JSON."""

import json
import pathlib
import sys

import numpy as np
import pytest

import finwidth as fw


def test_digits_at_low_temperature(run_json):
    """Values of an independent implementation, five digits."""
    record = run_json("solve", "--width", "20", "--temperature", "0.001")
    assert record["order_parameters"]["q_bar"] == pytest.approx([0.827107], abs=1e-6)
    assert record["error"] == pytest.approx(0.054837, abs=1e-6)
    assert record["bias2"] == pytest.approx(0.038030, abs=1e-6)
    assert record["variance"] == pytest.approx(0.016807, abs=1e-6)
    assert record["converged"] is True


def test_json_and_table_and_file_are_the_library_s_results(run, run_json, folder):
    arguments = ("solve", "--train", "20", "--test", "10", "--width", "7", "--width", "5")
    arguments += ("--activation", "erf", "--weight-precision", "1,2,3", "--bias-precision", "4")
    data = fw.load_dataset("digits", n_train=20, n_test=10)
    net = fw.Network((7, 5), "erf", weight_precision=(1.0, 2.0, 3.0), bias_precision=4.0)
    solution = fw.solve(net, data.X_train, data.y_train, temperature=0.01)
    record = run_json(*arguments, "--out", "new/results")
    assert record["action"] == pytest.approx(solution.action, rel=1e-12)
    assert record["order_parameters"]["q"] == pytest.approx(
        solution.order_parameters["q"].values.tolist(), rel=1e-12
    )
    assert record["network"]["widths"] == [7, 5]
    assert record["network"]["weight_precision"] == [1.0, 2.0, 3.0]
    assert json.loads((folder / "new/results/solve.json").read_text()) == record
    table = run(*arguments).stdout
    assert f"{record['error']:.6f}" in table
    assert "Q̄ layer 2" in table
    scores = solution.scores(data.X_test, data.y_test)
    for name in ("accuracy", "accuracy_mean"):
        assert record[name] == pytest.approx(float(scores[name]), rel=1e-12)
        assert f"{record[name]:.6f}" in table
    for name in ("error_baseline", "accuracy_baseline"):
        assert record[name] == scores.attrs[name]
        assert f"{record[name]:.6f}" in table


def test_infinite_width_has_no_order_parameters_to_find(run_json):
    record = run_json("solve", "--theory", "infinite", "--train", "20", "--test", "5")
    assert record["order_parameters"]["q_bar"] == [1.0]


def test_data_options_reach_the_data_set(run_json):
    arguments = ("--data", "random", "--data-option", "n-inputs=7", "--data-seed", "3")
    record = run_json("solve", *arguments, "--train", "9", "--test", "2")
    assert record["data"]["sizes"] == {"n_train": 9, "n_test": 2, "n_inputs": 7}
    assert record["data"]["seed"] == 3


def test_not_converged_is_exit_1(run, monkeypatch):
    def fail(*_, **__):
        raise fw.ConvergenceError("expected a root, got\nnone")

    monkeypatch.setattr(fw, "solve", fail)
    result = run("solve", "--train", "5", "--test", "2", "--out", "here")
    assert result.exit_code == 1
    assert result.stderr == "finwidth: error: expected a root, got none\n"


@pytest.mark.parametrize("theory", sorted({*fw.list_theories()} - {"scalar"}))  # of dense layers
def test_every_theory_has_its_table_and_its_record(run, run_json, theory):
    """Each prints the order parameters that it has, and the errors that the library gives."""
    arguments = ("solve", "--theory", theory, "--train", "8", "--test", "3", "--width", "9")
    arguments += (
        "--temperature",
        "0.5",
    )
    data = fw.load_dataset("digits", n_train=8, n_test=3)
    solution = fw.solve(
        fw.Network((9,)), data.X_train, data.y_train, temperature=0.5, theory=theory
    )
    record = run_json(*arguments)
    order = solution.order_parameters
    assert record["order_parameters"].keys() == set(order.data_vars)
    for name, values in record["order_parameters"].items():
        assert values == pytest.approx(order[name].values.tolist(), rel=1e-9)
    errors = solution.generalization_error(data.X_test, data.y_test)
    assert record["error"] == pytest.approx(float(errors.error), rel=1e-9)
    assert "n_roots" not in record
    result = run(*arguments)
    assert result.exit_code == 0, result.stderr
    assert "layer 1" in result.stdout
    assert f"{record['error']:.6f}" in result.stdout


def test_cavity_prints_its_standard_errors(run, run_json):
    arguments = ("solve", "--theory", "cavity", "--train", "8", "--test", "3", "--width", "9")
    arguments += ("--temperature", "0.5")
    record = run_json(*arguments)
    assert record["action"] is None and record["log_evidence"] is None
    (q_bar,), (q_bar_se,) = (record["order_parameters"][name] for name in ("q_bar", "q_bar_se"))
    table = run(*arguments).stdout
    assert f"{q_bar:.6f} ± {q_bar_se:.6f}" in table
    assert f"{record['error']:.6f} ± {record['error_se']:.6f}" in table
    assert "not computed" in table and "nan" not in table


def test_roots_are_counted_when_asked_for(run, run_json):
    arguments = ("solve", "--train", "8", "--test", "3", "--width", "9", "--roots")
    assert run_json(*arguments)["n_roots"] == 1
    assert "distinct solutions" in run(*arguments).stdout


def table(separator: str) -> None:
    """A regression on two columns of which one is large, labels far from one, in data.csv."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 2)) * [1.0, 1e4]
    y = 500.0 + 40.0 * X[:, 0] + X[:, 1] / 250
    rows = ([f"{value:.6f}" for value in row] for row in np.column_stack([y, X]))
    lines = [separator.join(row) for row in (["price", "a", "b"], *rows)]
    pathlib.Path("data.csv").write_text("\n".join(lines))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_regression_from_a_table(run, folder, separator):
    table(separator)
    arguments = ("solve", "--data", "csv", "--path", "data.csv", "--target", "price", "--test", "9")
    arguments += ("--train", "21", "--theory", "infinite", "--classes", "none", "--json")
    result = run(*arguments)
    record = json.loads(result.stdout)
    assert record["error"] < record["data"]["constant_guess"]["error"]
    labels = record["data"]["labels"]
    assert result.stderr.startswith(f"labels centred by {labels['mean']:g} and scaled by ")
    assert "expected y = labels" not in result.stderr
    with pytest.warns(fw.AccuracyWarning, match="expected y = labels within"):
        raw = run(*arguments, "--data-option", "standardise_y=false")
    assert json.loads(raw.stdout)["data"]["labels"] == {"mean": 0.0, "scale": 1.0}


def test_a_continuous_label_is_told_of_classes_none(run, folder):
    table(",")
    result = run("solve", "--data", "csv", "--path", "data.csv", "--target", "price")
    assert result.exit_code == 2 and "--classes none, takes labels as numbers" in result.stderr


def test_classes_by_name(run_json, folder):
    X = np.random.default_rng(0).normal(size=(30, 2))
    np.savez("data.npz", X=X, y=np.where(X[:, 0] > 0, "right", "left"))
    arguments = ("--classes", "left,right", "--train", "20", "--test", "10")
    record = run_json("solve", "--data", "npz", "--path", "data.npz", *arguments)
    assert record["data"]["classes"] == ["left", "right"]
    assert sum(record["data"]["balance"]["train"]) == 20


def test_several_classes_have_an_output_each(monkeypatch, run):
    asked = []
    monkeypatch.setattr(fw, "solve", lambda net, X, y, **_: asked.append((net, y)) or sys.exit(0))
    run("solve", "--classes", "3,5,8")
    [(net, y)] = asked
    assert net.outputs == 3 and y.shape == (100, 3)
