"""`finwidth map`: a tiny grid, what a second call does, and wrong grids."""

import numpy as np
import pytest

import finwidth as fw
from finwidth._cli.map import Grid
from finwidth._sweeps import work as _work

from .test_bad_input import assert_refused

DATA = ("--data", "random:n_inputs=3,train=6,seed=3", "--test", "3")
TINY = (*DATA, "--activation", "identity", "--load", "1.5", "--temperature", "0.5")
THEORIES = ("--theory", "nested", "--theory", "mixture")
QUICK = ("--relative-mcse", "0.05", "--ess", "800", "--draws", "5000", "--out", "map")


@pytest.mark.slow
def test_map_and_its_second_call(run, run_json, folder, monkeypatch):
    record = run_json("map", *TINY, *THEORIES, *QUICK)
    (point,) = record["points"]
    assert (point["data"], point["widths"], point["n_patterns"]) == ("random", "4", 6)
    assert point["counted"] is True and point["r_hat"] <= 1.01
    mixture = point["theories"]["mixture"]
    assert mixture["state"] == "solved" and abs(mixture["z"]) < 5  # exact for the identity
    deviation = mixture["accuracy"] - point["exact_accuracy"]
    assert abs(deviation) < 5 * point["exact_accuracy_mcse"]
    assert {row["theory"] for row in record["summary"]} == {"nested", "mixture"}
    stored = fw.load("map/map.nc").to_dataset()
    assert float(stored["exact_error"][0]) == point["exact_error"]

    monkeypatch.setattr(_work, "sample", lambda *_, **__: pytest.fail("sampled again"))
    result = run("map", *TINY, *THEORIES, "--theory", "corrected", *QUICK)
    assert result.exit_code == 0, result.stderr
    assert "closest of 1" in result.stdout and "corrected" in result.stdout
    assert f"{point['exact_accuracy']:.4f} ±" in result.stdout
    assert "written: map/map.nc" in result.stderr
    assert fw.load("map/map.nc").to_dataset()["theory"].size == 3


def test_interrupted_map_says_how_to_go_on(run, folder, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(_work, "sample", stop)
    result = run("map", *TINY, *THEORIES, *QUICK)
    assert result.exit_code == 130
    assert "finwidth: interrupted: what was computed is in map; the same command" in result.stderr
    solved = []
    monkeypatch.setattr(_work, "solve_point", lambda point: solved.append(point))
    assert run("map", *TINY, *THEORIES, *QUICK).exit_code == 130 and not solved


def test_presets_and_grids_make_points():
    points = Grid(preset="docs").points()
    assert len(points) >= 40
    assert {point.data.name for point in points} == {"digits", "random", "teacher"}
    grid = Grid(widths=[(3,), (4, 5)])
    assert [point.network.widths for point in grid.points()] == [(3,), (4,), (5,)]
    widths = {point.network.widths for point in Grid(depth=[2], load=[2.0, 4.0]).points()}
    assert widths == {(50, 50), (25, 25)}
    np.testing.assert_array_equal(
        Grid(data=["random:train=7,seed=3"]).points()[0].data.X_train,
        fw.load_dataset("random", n_train=7, n_test=100, seed=3).X_train,
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "digit"], "expected data set = .*'digit'"),
        (["--data", "random:n_inputs"], "expected --data = NAME.*got 'random:n_inputs'"),
        (["--data", "random:n_input=3"], "expected options of data set 'random'"),
        (["--data", "digits:train=1000"], "expected n_train"),
        (["--data", "mnist"], "expected path = "),
        (["--activation", "ref"], "expected activation = .*'ref'"),
        (["--widths", "0"], "expected widths = .*, got 0"),
        (["--widths", "2.5"], "expected --widths = ints separated by commas, .*, got '2.5'"),
        (["--width", "2", "--width", "3"], "expected --width once, .*for several: --widths 10,20"),
        (["--load", "0"], "expected load = a float > 0, got 0.0"),
        (["--depth", "0"], "expected depth = an int of at least 1, got 0"),
        (["--temperature", "0"], "expected temperature = a finite float > 0, got 0.0"),
        (["--theory", "nestde"], "expected theory = .*'nestde'"),
        (["--relative-mcse", "0"], "expected relative_mcse = a finite float > 0, got 0.0"),
        (["--draws", "0"], "expected max_draws = an int of at least 1, got 0"),
        (["--seed", "-1"], "expected seed = an int of at least 0, got -1"),
        (["--preset", "doc"], "expected preset = .*'doc'.*'docs'"),
        (["--data", "random:n_train=3"], "expected --data = .*'n_train', which is --train"),
        (["--data", "random:train=3,train=4"], "expected --data = each name once, got 'train'"),
        (["--preset", "docs", "--widths", "3"], "expected no options of the grid .*got --widths"),
        (["--preset", "docs", "--depth", "1"], "expected no options of the grid .*got --depth"),
        (["--classes", "0,1", "--preset", "docs"], "expected no options of .*got --classes"),
    ],
)
def test_wrong_grid(run, folder, arguments, message):
    assert_refused(run("map", *arguments), message)
    assert list(folder.iterdir()) == []


def test_output_folder_that_cannot_be_made(run, folder):
    (folder / "file").write_text("in the way")
    assert_refused(run("map", *TINY, "--out", "file"), "expected --out = a folder .*, got 'file")
