"""Every wrong input that the command line can be given: exit 2, one line, nothing left behind."""

import re
import warnings

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from finwidth._cli import app

WRONG = [
    (["solv"], "got: No such command 'solv'"),
    (["solve", "--widht", "3"], "got: No such option: --widht"),
    (["solve", "extra"], "got: Got unexpected extra argument"),
    (["solve", "--width", "0"], "expected widths = .*, got 0"),
    (["solve", "--width", "-3"], "expected widths = .*, got -3"),
    (["solve", "--width", "2.5"], "expected --width = an int, got '2.5'"),
    (["solve", "--width", ""], "expected --width = an int, got ''"),
    (["solve", "--weight-precision", "0"], "expected weight_precision = .*, got 0.0"),
    (["solve", "--weight-precision", "1,1,1"], r"expected weight_precision = .*got 3 value"),
    (["solve", "--weight-precision", "1,a"], "expected --weight-precision = .*, got '1,a'"),
    (["solve", "--bias-precision", "-1"], "expected bias_precision = .*, got -1.0"),
    (["solve", "--temperature", "-0.1"], "expected temperature = a finite float ≥ 0, got -0.1"),
    (["solve", "--temperature", "nan"], "expected temperature = a finite float ≥ 0, got nan"),
    (["solve", "--temperature", "hot"], "expected --temperature = a float, got 'hot'"),
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
    (["solve", "--classes", "0,1,2"], "expected classes = two different labels"),
    (["solve", "--train", "1000"], r"expected n_train \+ n_test = at most 360, .*, got 1100"),
    (["solve", "--test", "0"], "expected n_test = an int of at least 1, got 0"),
    (["solve", "--data-option", "n_inputs"], "expected --data-option = NAME=VALUE, got 'n_inputs'"),
    (["solve", "--data-option", "n_inputs=3"], "expected options of data set 'digits' = none"),
    (["solve", "--data", "mnist"], "expected path = a folder with the four MNIST idx files"),
    (["solve", "--data", "npz", "--data-path", "absent.npz"], "'absent.npz', which does not exist"),
    (["compare", "absent.nc"], "expected path = a netCDF file .*'absent.nc'"),
    (
        ["demo", "--width", "5", "--width", "5"],
        r"expected --width = different widths, got \[5, 5\]",
    ),
    (["demo", "--width", "0"], "expected widths = .*, got 0"),
    (["plugins", "check", "ref"], "expected activation = .*, got 'ref'"),
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

    monkeypatch.setattr("finwidth._cli._options.Problem.dataset", no_work)
    (folder / "file").write_text("in the way")
    assert_refused(run(command, "--out", out), "expected --out = a folder .*, got 'file")
    assert [file.name for file in folder.iterdir()] == ["file"]


def test_output_folder_without_permission(run, folder, monkeypatch):
    (folder / "locked").mkdir()
    monkeypatch.setattr("finwidth._cli._output.os.access", lambda path, mode: False)
    assert_refused(run("solve", "--out", "locked/new"), "'locked' is not a writable folder")
    assert list((folder / "locked").iterdir()) == []


def test_file_and_network_options_do_not_mix(run):
    assert_refused(run("compare", "run.nc", "--width", "3"), "got --width")


#: Text that is wrong for nearly every option. Where it is not the command runs, on a small problem.
WRONG_TEXT = ["", "nope", "1e999", "5_0", "-1", "nan", ",", "a\0b", "one\ntwo"]
WRONG_PATHS = ["a\0b", "file", "file/below"]
DATA = ("--train", "6", "--test", "3", "--width", "3", "--temperature", "0.5")
QUICK = ("--warmup", "2", "--draws", "4", "--chains", "2")
SHORT = {
    ("solve",): DATA,
    ("sample",): (*DATA, *QUICK),
    ("compare",): (*DATA, *QUICK),
    ("demo",): (*DATA, *QUICK),
    ("map",): (*DATA, "--draws", "4", "--theory", "infinite"),
}


def _commands():
    """Return every command with its parameters, groups left out."""
    found = {}

    def walk(command, words):
        for name, inner in getattr(command, "commands", {}).items():
            walk(inner, (*words, name))
        if not getattr(command, "commands", {}):
            found[words] = command.params

    walk(typer.main.get_command(app), ())
    return found


def _walk():
    for words, parameters in _commands().items():
        for parameter in parameters:
            if not getattr(parameter, "is_flag", False) and parameter.name != "help":
                yield words, parameter


@pytest.mark.parametrize(
    ("words", "parameter"),
    list(_walk()),
    ids=lambda part: getattr(part, "name", None) or " ".join(part),
)
def test_wrong_text_for_every_option(folder, words, parameter):
    """Refused with exit 2 in one line, or taken; never a traceback."""
    (folder / "file").write_text("in the way")
    is_path = parameter.metavar == "DIR"
    for text in WRONG_PATHS if is_path else WRONG_TEXT:
        if parameter.param_type_name == "argument":
            given = [*words, "--", text]
        else:
            given = [*words, *SHORT.get(words, ()), f"{parameter.opts[0]}={text}"]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that a result is worse than wanted
            result = CliRunner().invoke(app, given, prog_name="finwidth")
        raised = result.exception
        assert raised is None or isinstance(raised, SystemExit), (text, raised)
        assert result.exit_code in (0, 1, 2), (text, result.stderr)
        lines = result.stderr.splitlines()
        if result.exit_code == 2:
            assert len(lines) == 1 and lines[0].startswith("finwidth: error: expected"), lines
