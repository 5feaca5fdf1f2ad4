"""`finwidth sample`, `compare` and `demo`: small runs, their files, what an interruption keeps."""

import json
import re

import numpy as np
import pytest

import finwidth as fw
from finwidth._sampling.sample import SamplingInterrupted

from .conftest import QUICK, SMALL

RUN = (*SMALL, *QUICK, "--temperature", "0.1")


@pytest.fixture(scope="module")
def sampled(tmp_path_factory):
    """A folder with a small run, and what the command printed."""
    from typer.testing import CliRunner

    from finwidth._cli import app

    folder = tmp_path_factory.mktemp("sampled")
    result = CliRunner().invoke(
        app, ["sample", *RUN, "--width", "3", "--out", str(folder), "--json"]
    )
    assert result.exit_code == 0, result.stderr
    return folder, json.loads(result.stdout)


@pytest.fixture(autouse=True, scope="module")
def sample_each_network_once():
    """Give the draws again where a test asks for a run that another one has made."""
    drawn, sample = {}, fw.sample

    def cached(network, *arguments, **options):
        key = (network, options["num_samples"], options["keep"])
        if key not in drawn:
            drawn[key] = sample(network, *arguments, **options)
        return drawn[key]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fw, "sample", cached)
        yield


def test_sample_writes_a_run_that_loads(sampled):
    folder, record = sampled
    tree = fw.load(folder / "sample.nc")
    assert [file.name for file in folder.iterdir()] == ["sample.nc"]
    assert tree["predictions"]["f"].sizes == {"chain": 2, "draw": 50, "test_pattern": 4}
    assert "nested" in tree["theory"].children
    assert record["diagnostics"]["n_draws"] == 50
    assert record["data"]["name"] == "digits"
    scores = fw.scores(tree)
    for name in ("error", "accuracy", "accuracy_mean"):
        assert record["quantities"][name]["exact"] == pytest.approx(float(scores[name]))
        assert record["quantities"][name]["baseline"] == scores.attrs[f"{name}_baseline"]


def test_compare_of_the_file_repeats_the_comparison(sampled, run_json):
    folder, record = sampled
    again = run_json("compare", str(folder / "sample.nc"))
    for name, values in record["quantities"].items():
        assert again["quantities"][name] == pytest.approx(values, rel=1e-9)
    assert again["verdict"] == record["verdict"]


def test_compare_takes_another_theory_and_prints_its_verdict(sampled, run):
    folder, _ = sampled
    result = run("compare", str(folder / "sample.nc"), "--theory", "infinite")
    assert result.exit_code == 0
    assert "infinite theory against exact posterior" in result.stdout
    assert "±" in result.stdout
    for name in ("error", "accuracy", "accuracy_mean", "baseline"):
        assert name in result.stdout


def test_sample_prints_the_scores_beside_the_theory_s(run, folder):
    result = run("sample", *RUN, "--width", "3", "--out", "made")
    assert result.exit_code == 0, result.stderr
    scores = fw.scores(fw.load(folder / "made/sample.nc"))
    for name in ("error", "accuracy", "accuracy_mean"):
        assert f"{float(scores[name]):.6f} ±" in result.stdout
    assert "nested theory" in result.stdout


def test_strict_fails_when_chains_have_not_mixed(sampled, run, monkeypatch):
    folder, _ = sampled
    monkeypatch.setattr("finwidth._cli.compare.mixed", lambda report: False)
    result = run("compare", str(folder / "sample.nc"), "--strict")
    assert result.exit_code == 1
    assert result.stderr.count("\n") == 1


def test_demo_prints_one_row_per_width_and_writes_its_files(run, folder):
    result = run("demo", *RUN, "--widths", "2", "--widths", "3", "--out", "made")
    assert result.exit_code == 0, result.stderr
    assert sorted(file.name for file in (folder / "made").iterdir()) == [
        "comparison.png",
        "width-2.nc",
        "width-3.nc",
    ]
    assert (folder / "made/comparison.png").read_bytes().startswith(b"\x89PNG")
    for width in (2, 3):
        assert f"width {width}: " in result.stdout
        assert re.search(rf"│ {width} +│ +error │.*±", result.stdout)
    assert len(re.findall(r"│ +accuracy │.*±", result.stdout)) == 2
    assert "made/comparison.png" in result.stderr


def test_demo_json_is_all_that_is_on_stdout(run_json):
    record = run_json("demo", *RUN, "--widths", "2")
    [one] = record["runs"]
    assert one["width"] == 2
    error = one["quantities"]["error"]
    assert error["z"] == pytest.approx((error["theory"] - error["exact"]) / error["mcse"])
    assert np.isfinite(one["infinite"]["error"]["theory"])


def test_interrupted_demo_keeps_the_finished_widths(run, folder, monkeypatch):
    sample = fw.sample

    def interrupted(network, *arguments, **options):
        if network.widths == (3,):
            raise KeyboardInterrupt
        return sample(network, *arguments, **options)

    monkeypatch.setattr(fw, "sample", interrupted)
    result = run("demo", *RUN, "--widths", "2,3,4", "--out", "made")
    assert result.exit_code == 130
    assert (
        "finwidth: interrupted: kept the finished widths (2) of [2, 3, 4] in made" in result.stderr
    )
    assert sorted(file.name for file in (folder / "made").iterdir()) == [
        "comparison.png",
        "width-2.nc",
    ]
    fw.load(folder / "made/width-2.nc")


def test_demo_interrupted_at_once_leaves_nothing(run, folder, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(fw, "sample", interrupted)
    result = run("demo", *RUN, "--widths", "2")
    assert result.exit_code == 130
    assert list(folder.iterdir()) == []


def test_interrupted_sample_keeps_its_draws(sampled, run, folder, monkeypatch):
    tree = fw.load(sampled[0] / "sample.nc")

    def interrupted(*_, **__):
        raise SamplingInterrupted("stopped", tree)

    monkeypatch.setattr(fw, "sample", interrupted)
    result = run("sample", *RUN, "--out", "made")
    assert result.exit_code == 130
    assert result.stderr.startswith("finwidth: interrupted: kept the draws so far in ")
    assert fw.load(folder / "made/sample.nc")["predictions"]["f"].sizes["draw"] == 50


@pytest.mark.slow
def test_sample_continues_from_its_checkpoint(tmp_path, run_json, monkeypatch):
    from finwidth._sampling import engine as _engine, sample as _sample

    monkeypatch.setattr(fw, "sample", _sample.sample)  # the real one, not the cached one
    command = ["sample", *RUN, "--width", "4", "--checkpoint", str(tmp_path / "c"), "--out"]
    first = run_json(*command, str(tmp_path / "first"))
    monkeypatch.setattr(_engine.Engine, "advance", None)  # would raise if it were called
    second = run_json(*command, str(tmp_path / "second"))
    assert second["quantities"] == first["quantities"]
