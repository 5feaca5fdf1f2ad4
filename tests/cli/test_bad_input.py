"""Every wrong input that the command line can be given: exit 2, one line, nothing left behind."""

import os
import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import typer

from finwidth._cli import app

WRONG = [
    (["solv"], "got: No such command 'solv'"),
    (["solve", "--widht", "3"], "got: No such option: --widht"),
    (["solve", "extra"], "got: Got unexpected extra argument"),
    (["solve", "--width", "0"], "expected widths = .*, got 0"),
    (["solve", "--width", "-3"], "expected widths = .*, got -3"),
    (["solve", "--width", "2.5"], r"expected --width = an int, .*, got '2.5'"),
    (["solve", "--width", ""], r"expected --width = an int, .*, got ''"),
    (
        ["solve", "--width", "10,20"],
        r"expected --width = .* \(two layers: --width 10 --width 20\), got '10,20'",
    ),
    (
        ["demo", "--width", "10", "--widths", "9"],
        r"expected --widths or --width, got both: \[9\], 10",
    ),
    (
        ["solve", "--train", "9", "--train", "8"],
        r"expected --train once, got it 2 times \(Number of",
    ),
    (["solve", "--layer", "conv:5"], "such as convolution:5,patch=3, got 'conv:5'"),
    (["solve", "--weight-precision", "0"], "expected weight_precision = .*, got 0.0"),
    (["solve", "--weight-precision", "1,1,1"], r"expected weight_precision = .*got 3 value"),
    (["solve", "--weight-precision", "1,a"], "expected --weight-precision = .*, got '1,a'"),
    (["solve", "--bias-precision", "-1"], "expected bias_precision = .*, got -1.0"),
    (["solve", "--temperature", "-0.1"], "expected temperature = a finite float ≥ 0, got -0.1"),
    (["solve", "--temperature", "nan"], "expected temperature = a finite float ≥ 0, got nan"),
    (["solve", "--temperature", "hot"], "expected --temperature = a float, or evidence, got 'hot'"),
    (["sample", "--temperature", "0"], "expected temperature = a finite float > 0, got 0.0"),
    (["solve", "--temperature", "0", "--activation", "identity"], "expected .*positive definite"),
    (["solve", "--activation", "ref"], r"expected activation = .*, got 'ref' \(did you mean 'erf"),
    (["solve", "--theory", "nestde"], "expected theory = .*, got 'nestde' .*'nested'"),
    (["sample", "--sampler", "nut"], "expected sampler = .*, got 'nut' .*'nuts'"),
    (["sample", "--model", "netwrok"], "expected model = .*, got 'netwrok' .*'network'"),
    (["sample", "--draws", "0"], "expected num_samples = .*, got 0"),
    (["sample", "--chains", "two"], "expected --chains = an int, got 'two'"),
    (["sample", "--seed", "-1"], "expected seed = .*, got -1"),
    (["solve", "--data", "digit"], "expected data set = .*, got 'digit' .*'digits'"),
    (["solve", "--classes", "0,12"], r"expected classes = labels .*\(0, 1, 2.*\), got 12"),
    (["solve", "--classes", "1,1"], "expected classes = two different labels"),
    (["solve", "--classes", "0,1,1"], "expected classes = two different labels"),
    (["solve", "--train", "1000"], r"expected n_train \+ n_test = at most 360, .*, got 1100"),
    (["solve", "--test", "0"], "expected n_test = an int of at least 1, got 0"),
    (["solve", "--data-option", "n_inputs"], "expected --data-option = NAME=VALUE, got 'n_inputs'"),
    (["solve", "--data-option", "n_inputs=3"], "expected options of data set 'digits' = none"),
    (
        ["solve", "--data-option", "seed=3"],
        "expected --data-option = .*'seed', which is --data-seed",
    ),
    (
        ["solve", "--data", "npz", "--path", "a.npz", "--data-option", "path=b.npz"],
        "expected --data-option = each name once, got 'path' twice",
    ),
    (["solve", "--data", "csv", "--data-path", "/dev/null"], "expected path = a .csv file"),
    (["solve", "--data", "mnist"], "expected path = a folder with the four MNIST idx files"),
    (["solve", "--data", "npz", "--data-path", "absent.npz"], "'absent.npz', which does not exist"),
    (
        ["solve", "--target", "y", "--data-option", "target=x"],
        "expected --data-option = each name once, got 'target' twice",
    ),
    (["solve", "--target", "y"], "expected options of data set 'digits' = none, got 'target'"),
    (["compare", "absent.nc"], "expected path = a netCDF file .*'absent.nc'"),
    (
        ["demo", "--widths", "5,6", "--widths", "5"],
        r"expected --widths = different widths, got \[5, 6, 5\]",
    ),
    (["demo", "--widths", "0"], "expected widths = .*, got 0"),
    (["demo", "--widths", "5,"], "expected --widths = ints separated by commas, .*, got '5,'"),
    (["plugins", "check", "ref"], "expected NAME = .*, got 'ref'"),
]


def assert_refused(result, message):
    assert result.exit_code == 2
    assert result.stdout == ""
    assert re.fullmatch(r"finwidth: error: expected .*\n", result.stderr), result.stderr
    assert re.search(message, result.stderr), result.stderr


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=[" ".join(a) for a, _ in WRONG])
def test_wrong_arguments(run, folder, arguments, message):
    assert_refused(run(*arguments), message)
    assert list(folder.iterdir()) == []


ROWS = np.arange(24.0).reshape(12, 2)
WRONG_ARRAYS = {
    "NaN in X": (np.where(ROWS == 5, np.nan, ROWS), np.arange(12) % 2, "expected X = finite"),
    "infinity in y": (ROWS, np.full(12, np.inf), "expected y = finite"),
    "lengths": (ROWS, np.arange(11) % 2, r"expected y = an array of shape \(12,\)"),
    "1-D X": (ROWS[:, 0], np.arange(12) % 2, "expected X = .*shape .pattern, input."),
    "2-D y": (ROWS, np.zeros((12, 1)), r"expected y = .*got shape \(12, 1\)"),
}


@pytest.mark.parametrize("case", WRONG_ARRAYS)
@pytest.mark.parametrize("command", ["solve", "sample", "compare", "demo"])
def test_wrong_arrays(run, folder, command, case):
    X, y, message = WRONG_ARRAYS[case]
    np.savez("data.npz", X=X, y=y)
    result = run(command, "--data", "npz", "--data-path", "data.npz", "--train", "8", "--test", "4")
    assert_refused(result, message)
    assert [file.name for file in folder.iterdir()] == ["data.npz"]


@pytest.mark.parametrize("command", ["solve", "sample", "compare", "demo"])
@pytest.mark.parametrize("out", ["file", "file/below/it"])
def test_output_folder_that_cannot_be_made(run, folder, monkeypatch, command, out):
    def no_work(*_, **__):
        raise AssertionError("work began before the folder was checked")

    monkeypatch.setattr("finwidth._cli._options.Setting.dataset", no_work)
    (folder / "file").write_text("in the way")
    assert_refused(run(command, "--out", out), "expected --out = a folder .*, got 'file")
    assert [file.name for file in folder.iterdir()] == ["file"]


def test_output_folder_without_permission(run, folder, monkeypatch):
    (folder / "locked").mkdir()
    monkeypatch.setattr("finwidth._cli._output.os.access", lambda path, mode: False)
    assert_refused(run("solve", "--out", "locked/new"), "'locked' is not a writable folder")
    assert list((folder / "locked").iterdir()) == []


FILES = {
    "advise": ("advice.json",),
    "solve": ("solve.json",),
    "sample": ("sample.nc",),
    "compare": ("sample.nc", "compare.json"),
    "demo": ("width-50.nc", "comparison.png"),
    "map": ("map.nc",),
}


@pytest.mark.parametrize(("command", "file"), [(c, f) for c in FILES for f in FILES[c]])
@pytest.mark.parametrize("kind", ["pipe", "folder", "link to a device"])
def test_output_file_that_is_none(run, folder, monkeypatch, command, file, kind):
    """Refused before any work, and never replaced."""
    place = folder / "out" / file
    place.parent.mkdir()
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        place.symlink_to("/dev/null")

    def node() -> tuple[int, ...]:
        found = place.lstat()
        return found.st_mode, found.st_ino, found.st_mtime_ns, found.st_ctime_ns

    before = node()
    monkeypatch.setattr("finwidth.load_dataset", None)
    assert_refused(run(command, "--out", "out"), "expected path = a file .*, got the (pipe|fo|dev)")
    assert node() == before


GIVEN_TWICE = [
    ("--width", "3"),
    ("--width", "50"),  # the default is no less an answer than any other value
    ("--temperature", "0.01"),
    ("--activation", "erf"),
    ("--classes", "0,1"),
    ("--target", "y"),
    ("--data-option", "n_inputs=3"),
    ("--seed", "0"),
    ("--chains", "4"),
    ("--warmup", "10"),
]


@pytest.mark.parametrize("arguments", GIVEN_TWICE, ids=" ".join)
def test_what_the_file_answers_is_not_asked_again(run, arguments):
    assert_refused(run("compare", "run.nc", *arguments), f"with FILE.*, got {arguments[0]}\n")


def options() -> Iterator[tuple[tuple[str, ...], str]]:
    """Every command with every argument and option that takes a text."""

    def walk(command: Any, path: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], str]]:
        for name, inner in getattr(command, "commands", {}).items():
            yield from walk(inner, (*path, name))
        for parameter in command.params:
            if not getattr(parameter, "is_flag", False) and not hasattr(command, "commands"):
                positional = parameter.param_type_name == "argument"
                yield path, "" if positional else parameter.opts[0]

    return walk(typer.main.get_command(app), ())


TEXTS = ("", "\0", "two\nlines", "nonsense=", "-1e999", "9" * 5000)


def nonsense() -> Iterator[Any]:
    """Every option with every text; a third of them are quick, each option with two texts."""
    for number, (command, option) in enumerate(options()):
        for other, text in enumerate(TEXTS):
            marks = pytest.mark.slow if (number + other) % 3 else ()
            name = f"{'-'.join(command)} {option or 'argument'} {TEXTS.index(text)}"
            yield pytest.param(command, option, text, id=name, marks=marks)


@pytest.mark.parametrize(("command", "option", "text"), list(nonsense()))
def test_nonsense_for_every_option(run, folder, monkeypatch, command, option, text):
    """Exit 2 and one line before any work; where the text is an answer, the work begins."""

    class Work(Exception):
        pass

    def work(*_: Any, **__: Any) -> None:
        raise Work

    for place in (
        "_advice.advise.leave_one_out",
        "_solve.solve_problem",
        "_sampling.sample.run",
        "_sweeps.map.run",
        "_sweeps.sweep.run",
    ):  # after all checks
        monkeypatch.setattr(f"finwidth.{place}", work)
    try:
        result = run(*command, *([option] if option else ["--"]), text)
    except Work:
        return
    assert_refused(result, "expected")
