"""`finwidth sweep`: grids from options and files, what a second call does, and wrong ones."""

import numpy as np
import pytest
import xarray as xr

import finwidth as fw
from finwidth._cli.sweep import Points
from finwidth._sweeps import engine as _engine, work as _work

from .test_bad_input import assert_refused

OPTIONS = (
    *("--data", "random:n_inputs=3,train=6,seed=3", "--test", "3", "--widths", "4,8"),
    *("--temperature", "0.5", "--theory", "infinite", "--theory", "nested"),
)
TOML = """
[grid]
data = "random:n_inputs=3,train=6,seed=3"
test = 3
widths = [4, 8]
temperature = 0.5
theory = ["infinite", "nested"]
"""


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """On however slow a machine."""
    monkeypatch.setattr(_engine, "_WORTH", np.inf)


def test_a_file_and_options_are_the_same_sweep(run, run_json, folder, monkeypatch):
    record = run_json("sweep", *OPTIONS, "--store", "runs")
    assert record["states"] == {"solved": 4}
    labels = [(point["net"], point["theory"]) for point in record["points"]]
    assert labels == [(f"erf {n}", theory) for n in (4, 8) for theory in ("infinite", "nested")]
    dataset = fw.load("runs/sweep.nc").to_dataset()
    assert dict(dataset.sizes) == {"data": 1, "net": 2, "temperature": 1, "theory": 2}
    assert record["points"][1]["error"] == dataset["error"].values.ravel()[1]
    with xr.open_zarr("runs/sweep.zarr") as opened:
        xr.testing.assert_equal(opened.load(), dataset)

    monkeypatch.setattr(_work, "solve_point", lambda _: pytest.fail("solved again"))
    (folder / "grid.toml").write_text(TOML)
    result = run("sweep", "grid.toml", "--store", "runs", "--out", "again")
    assert result.exit_code == 0, result.stderr
    assert "4 solved" in result.stdout and "nested" in result.stdout
    again = fw.load("again/sweep.nc").to_dataset()
    assert again.attrs.pop("command") == "finwidth sweep grid.toml --store runs --out again"
    assert dataset.attrs.pop("command").startswith("finwidth sweep --data random:")
    xr.testing.assert_identical(again, dataset)


def test_points_of_options():
    points = Points(
        data=["random:train=8,n_inputs=2", "digits"],
        train=6,
        widths=[(4,), (5, 6)],
        load=[2.0],
        activation=["erf", "relu"],
        depth=[1, 2],
        weight_precision=[1.0, (1.0, 2.0)],
    )
    with pytest.raises(fw.InputError, match="expected weight_precision = .*, or 3 of them"):
        points.grid()
    grid = Points(
        data=["random:train=8,n_inputs=2", "digits"],
        train=6,
        widths=[(4,)],
        load=[2.0],
        seed=[1, 2],
    ).grid()
    found = [(p.data.name, len(p.data.y_train), p.network.widths) for p in grid]
    assert found == [("random", 8, (4,)), ("digits", 6, (4,)), ("digits", 6, (3,))]
    sampled = Points(theory=["none"], sample=True, seed=[1, 2], widths=[(4,)]).grid()
    assert [(p.theory, p.seed, p.temperature) for p in sampled] == [
        ("exact", 1, 0.01),
        ("exact", 2, 0.01),
    ]
    pair = Points(
        data=["digits:classes=3,8,train=10", "digits:train=20,classes=3,8"], width=4
    ).grid()
    assert [(len(p.data.y_train), p.network.widths) for p in pair] == [(10, (4,)), (20, (4,))]
    by_field = Points(data=["digits:train=10"], classes=(3, 8), width=4).grid()
    assert np.array_equal(next(iter(by_field)).data.X_train, next(iter(pair)).data.X_train)
    classes = Points(classes=(0, 1, 2), likelihood=["softmax", "gaussian"], widths=[(4,)]).grid()
    found = [(p.likelihood.name, p.temperature, p.network.outputs) for p in classes]
    assert found == [("softmax", 1.0, 3), ("gaussian", 0.01, 3)]


def test_failed_and_unconverged_points_exit_1(run, folder, monkeypatch):
    solve = _work.solve_problem

    def fail(problem, theory):
        if problem.network.widths == (4,) and theory.name == "nested":
            raise fw.ConvergenceError("expected a saddle point, got none")
        return solve(problem, theory)

    monkeypatch.setattr(_work, "solve_problem", fail)
    result = run("sweep", *OPTIONS)
    assert result.exit_code == 1 and "1 not converged" in result.stdout
    assert "1 of 4 points have not succeeded; the first: random erf 4 T=0.5" in result.stderr
    assert "expected a saddle point, got none" in result.stderr


def test_interrupted_sweep_says_how_to_go_on(run, folder, monkeypatch):
    def stop(_):
        raise KeyboardInterrupt

    monkeypatch.setattr(_work, "solve_point", stop)
    result = run("sweep", *OPTIONS, "--store", "runs")
    assert result.exit_code == 130
    assert "what was computed is in runs; the same command continues" in result.stderr


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[grid", "expected FILE = a TOML file .*Expected ']'"),
        ("[gird]", "expected FILE = a TOML file with the tables .*, got 'gird'"),
        ("grid = 3", "expected FILE = a TOML file with the tables .*, got 'grid'"),
        ("[grid]\nwidht = 3", "expected options of \\[grid\\] out of .*, got 'widht'"),
        ("[grid]\nwidth = 3\nwidths = 4", r"expected --widths or --width, got both: \[4\], 3"),
        ("[grid]\ntrain = [5, 6]", r"= int, got .*for several: --data digits:train=10 --data"),
        ("[grid]\nwidths = []", r"expected widths of \[grid\] = one value or several, got \[\]"),
        ("[grid]\nwidths = [2.5]", r"expected widths of \[grid\] = int, got 2.5"),
        ("[grid]\nwidths = [true]", r"expected widths of \[grid\] = int, got True"),
        ("[grid]\ndata = 3", r"expected data of \[grid\] = str, got 3"),
        ("[grid]\nsample = 1", r"expected sample of \[grid\] = bool, got 1"),
        ("[grid]\ntrain = '5'", r"expected train of \[grid\] = int, got '5'"),
        ("[grid]\nclasses = 'a'", "expected classes = "),
        ("[grid]\nweight-precision = ['x']", "expected weight_precision = "),
        ("[grid]\ndata-seed = 1\ndata_seed = 2", r"expected data_seed of \[grid\] once"),
        ("[sampling]\ness = 0", "expected target_ess = a finite float > 0, got 0.0"),
        ("[grid]\ntemperature = 0\nsample = true", "expected temperature > 0 with sample = True"),
    ],
)
def test_wrong_files(run, folder, unchecked_types, text, message):
    (folder / "grid.toml").write_text(text)
    assert_refused(run("sweep", "grid.toml"), message)
    assert [file.name for file in folder.iterdir()] == ["grid.toml"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["absent.toml"], "expected FILE = a TOML file .*'absent.toml'"),
        (["grid.toml", "--widths", "3"], "expected no options of the grid .* got --widths"),
        (
            ["--train", "5", "--train", "6"],
            "expected --train once, got it 2 times .*:train=10 --data",
        ),
        (["--width", "5", "--width", "6"], "expected --width once, .*for several: --widths 10,20"),
        (["--data", "digits:train=3,8"], "such as digits:classes=3,8,train=10, got 'digits:train="),
        (["--load", "0"], "expected load = a float > 0, got 0.0"),
        (["--depth", "0"], "expected depth = an int of at least 1, got 0"),
        (["--theory", "nestde"], "expected theory = .*'nestde'"),
        (["--theory", "none"], "expected a theory or sample = True, got neither"),
        (["--likelihood", "probitt"], "expected likelihood = .*'probitt'"),
        (["--temperature", "0", "--sample"], "expected temperature > 0 with sample = True"),
        (["--scheduler", "here"], "expected scheduler = .*, got 'here'"),
        (["--scheduler", "tcp://127.0.0.1:1"], "expected scheduler = .* where nothing answers"),
        (["--store", "grid.toml"], "expected (store|--out) = a folder"),
    ],
)
def test_wrong_arguments(run, folder, arguments, message):
    (folder / "grid.toml").write_text(TOML)
    assert_refused(run("sweep", *arguments), message)
