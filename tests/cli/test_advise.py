"""`finwidth advise`: what it prints is what `finwidth.advise` says; wrong options."""

import pytest

import finwidth as fw

from .test_bad_input import assert_refused


def test_advice_in_json_and_on_disk(run_json, folder):
    record = run_json("advise", "--width", "50", "--out", "here")
    data = fw.load_dataset("digits", n_train=100, n_test=100)
    said = fw.advise(fw.Network((50,)), data.X_train, data.y_train, temperature=0.01)
    assert record["recommended"] == said.attrs["recommended"]
    assert list(record["theories"]) == said["theory"].values.tolist()
    first = record["theories"]["nested"]["nearest"][0]
    assert (first["distance"], first["widths"], first["difference"]) == (0.0, "50", {})
    assert record["test_accuracy"] > 0.9 and record["temperature"] == 0.01
    assert [file.name for file in (folder / "here").iterdir()] == ["advice.json"]


def assert_said(result):
    assert result.exit_code == 0
    for word in ("theory", "nested", "steps", "T = 0.01", "Quick estimate"):
        assert word in result.stdout


def test_advice_in_words(run):
    result = run("advise", "--width", "50")
    assert_said(result)
    rows = [line.split("│") for line in result.stdout.splitlines() if line.startswith("│")]
    assert rows and all(row[1].strip() in fw.list_theories() for row in rows)  # nothing is broken


def test_help_lists_no_option_that_is_refused(run):
    words = run("advise", "--help").stdout.split()
    assert "--data-seed" in words and "--theory" not in words and "--seed" not in words


@pytest.mark.slow
def test_advice_on_a_deep_network(run):
    result = run("advise", "--train", "20", "--activation", "relu", *["--width", "10"] * 3)
    assert_said(result)
    assert "cavity" not in result.stdout and "adaptive" not in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--theory", "nested"], "expected no --theory with advise"),
        (["--seed", "0"], "expected no --seed with advise"),
        (["--tolerance", "-1"], "expected tolerance = a finite float > 0, got -1.0"),
        (["--tolerance", "low"], "expected --tolerance = a float, got 'low'"),
        (["--neighbours", "0"], "expected neighbours = an int of at least 1, got 0"),
        (["--temperature", "evidence"], "expected --temperature = a float with advise, got"),
    ],
)
def test_wrong_options(run, folder, arguments, message):
    assert_refused(run("advise", *arguments), message)
    assert list(folder.iterdir()) == []
