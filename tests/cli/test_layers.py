"""`--layer KIND:WIDTH[,NAME=VALUE,…]`: layers by name, instead of widths."""

import json

import pytest

import finwidth as fw
from finwidth._cli._hidden import parse_layer

from .conftest import QUICK, SMALL

BLOCK = ("--layer", "dense:5", "--layer", "residual:5,skip=1,branch=0.5")


@pytest.mark.parametrize(
    ("text", "layer"),
    [
        ("dense:30", fw.Dense(30)),
        ("residual:30", fw.Residual(30)),
        ("residual:30,skip=1,branch=0.5", fw.Residual(30, 1.0, 0.5)),
        ("res:7,overlap=false,skip=-2e-1", fw.Residual(7, -0.2, 1.0, False)),
    ],
)
def test_a_layer_is_its_name_its_width_and_its_numbers(text, layer):
    assert parse_layer(text) == layer


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dense", r"expected --layer = KIND:WIDTH.*got 'dense'"),
        (":3", r"expected --layer = KIND:WIDTH.*got ':3'"),
        ("dense:", r"expected --layer = KIND:WIDTH.*got 'dense:'"),
        ("dense:3.5", r"its width an int, got 'dense:3.5'"),
        ("dense:0", r"expected width = an int of at least 1"),
        ("dense:3,skip", r"expected --layer = KIND:WIDTH.*got 'dense:3,skip'"),
        ("desne:3", r"expected layer.*did you mean 'dense'"),
        ("dense:3,skip=1", r"expected options of --layer dense out of \[\], got 'skip'"),
        ("residual:3,skap=1", r"out of \['skip', 'branch', 'overlap'\], got 'skap'"),
        ("residual:3,skip=1,skip=2", r"each option of --layer once, got 'skip' twice"),
        ("residual:3,skip=much", r"expected skip = a finite float"),
    ],
)
def test_what_is_no_layer_is_refused(text, message, unchecked_types):
    with pytest.raises(fw.InputError, match=message):
        parse_layer(text)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("solve", "--layer", "residual:5"), "expected a layer before a residual block"),
        (("solve", *BLOCK, "--width", "5"), "expected --width or --layer, got both"),
        (("sample", "--layer", "dense:4", "--layer", "residual:5"), "expected width = 4 of a res"),
        (("sweep", *BLOCK, "--depth", "2"), "expected --depth or --layer, got both"),
        (("solve", "--readout-activation", "liner"), "did you mean 'linear'|expected activation"),
    ],
)
def test_layers_that_do_not_fit_are_refused_before_any_work(run, arguments, message):
    import re

    result = run(*arguments)
    assert result.exit_code == 2 and result.stderr.count("\n") == 1
    assert re.search(message, result.stderr), result.stderr


@pytest.mark.slow
def test_commands_take_layers(run, run_json, folder):
    options = (*BLOCK, "--readout-activation", "identity", *SMALL, "--temperature", "0.1")
    record = run_json("solve", *options)
    assert set(record["order_parameters"]) == {"q_bar", "q", "s", "r"}
    assert record["network"]["layers"][1]["branch"] == 0.5
    assert "r block 2" in run("solve", *options).stdout
    result = run("sample", *options, *QUICK, "--out", "out")
    assert result.exit_code == 0, result.stderr
    tree = fw.load("out/sample.nc")
    network = json.loads(tree.attrs["provenance"])["network"]
    assert network["readout_activation"] == "identity"
    # a run is compared again from its file
    again = run_json("compare", "out/sample.nc")
    assert again["quantities"]["error"]["theory"] == pytest.approx(record["error"], rel=1e-8)
    assert run("report", "out/sample.nc", "--out", "report.html").exit_code == 0
    assert "residual" in (folder / "report.html").read_text("utf-8")


@pytest.mark.slow
def test_demo_and_sweep_take_layers(run_json):
    options = (*BLOCK, "--readout-activation", "identity", *SMALL)
    record = run_json("demo", *options, *QUICK, "--widths", "4,6", "--out", "out")
    assert record["network"]["widths"] == [[4, 4], [6, 6]]
    points = run_json("sweep", *options, "--temperature", "0.1", "--store", "runs")["points"]
    assert [point["widths"] for point in points] == ["5,5"]
    points = run_json("sweep", *options, "--widths", "4,6", "--store", "runs")["points"]
    assert [point["widths"] for point in points] == ["4,4", "6,6"]
