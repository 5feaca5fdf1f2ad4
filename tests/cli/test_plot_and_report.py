"""`finwidth plot` and `finwidth report`: from files on disk to pictures and one HTML page."""

import html.parser
import json
import os
import re
import shutil

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import finwidth as fw
from finwidth._plots._ranks import rank_figure, slowest
from finwidth._report import render
from finwidth._results.kinds import read_result

NAME = "<script>alert(1)</script> & 'quotes'"  # of data: a page must not run it


def make_run(width=3, seed=0, command=None):
    """A run, made up, with a theory attached: what `finwidth sample` writes, without sampling."""
    data = fw.load_dataset("digits", n_train=12, n_test=6)
    theory = fw.solve(fw.Network((width,), "erf"), data.X_train, data.y_train, temperature=0.5)
    rng, dims = np.random.default_rng(seed), ("chain", "draw", "test_pattern")
    f_mean = data.y_test + 0.3 * rng.normal(size=(4, 200, 6))
    groups = {
        "predictions": {"f_mean": (dims, f_mean), "f_variance": (dims, 0 * f_mean + 0.04)},
        "predictions_constant_data": {
            "X_test": (("test_pattern", "input"), data.X_test),
            "y_test": ("test_pattern", data.y_test),
        },
        "observed_data": {"y": ("pattern", data.y_train)},
        "constant_data": {"X": (("pattern", "input"), data.X_train)},
    }
    tree = xr.DataTree.from_dict({name: xr.Dataset(held) for name, held in groups.items()})
    record = {
        "network": theory.network.record(),
        "temperature": 0.5,
        "model": "marginal",
        "seed": seed,
        "data_name": NAME,
        "created": "2026-01-01T00:00:00+00:00",
        "versions": {"finwidth": "0.1.0"},
        "device": {"platform": "cpu", "kind": "cpu"},
        "plugins": [],
    }
    tree.attrs["provenance"] = json.dumps(record)
    if command is not None:
        tree.attrs["command"] = command
    return fw.attach(tree, theory), theory


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    """A folder with a file of each kind."""
    folder = tmp_path_factory.mktemp("results")
    tree, theory = make_run()
    fw.save(tree, folder / "run.nc")
    fw.save(xr.DataTree(fw.compare(theory, tree)), folder / "compare.nc")
    (folder / "widths").mkdir()
    for width in (3, 12):
        fw.save(
            make_run(width, width, "finwidth demo --widths 3,12")[0],
            folder / f"widths/w-{width}.nc",
        )
    error = 0.1 + np.zeros((2, 3)) + 1 / np.array([10, 20, 50])
    curve = xr.Dataset(
        {"error": (("theory", "width"), error), "exact_error": ("width", error[0] - 0.01)},
        {"theory": ["nested", "infinite"], "width": [10, 20, 50]},
    )
    fw.save(xr.DataTree(curve), folder / "curve.nc")
    curve.to_zarr(folder / "curve.zarr", consolidated=False, zarr_format=3)
    by_point = {name: ("point", [0.1, 0.1]) for name in ("exact_error", "exact_mcse", "r_hat")}
    by_theory = {n: (("point", "theory"), [[0.1], [0.2]]) for n in ("relative_error", "z", "error")}
    coords = {"data": ["d"] * 2, "activation": ["erf"] * 2, "depth": [1, 1], "width": [4, 8]}
    coords |= {"load": [1.5, 0.75], "temperature": [0.5, 0.5], "widths": ["4", "8"]}
    made = xr.Dataset(
        by_point | by_theory | {"counted": ("point", np.array([1, 1], dtype=bool))},
        {name: ("point", value) for name, value in coords.items()} | {"theory": ["nested"]},
    )
    fw.save(xr.DataTree(made), folder / "map.nc")
    return folder


@pytest.fixture(autouse=True)
def quick_ranks(monkeypatch):
    """Have ArviZ, which takes seconds, draw the ranks in the one test that is of them."""

    def draw(tree):
        figure = plt.figure(figsize=(1, 1))
        figure.add_subplot()
        return figure

    monkeypatch.setattr("finwidth._plots._pictures.rank_figure", draw)
    yield
    plt.close("all")


def test_ranks_are_those_of_the_error_and_of_the_slowest_test_points(results):
    tree = fw.load(results / "run.nc")
    r_hat = fw.load(results / "compare.nc")["r_hat"].values
    assert [index for (index,) in slowest(tree)] == np.argsort(-r_hat)[:3].tolist()
    titles = [axis.get_title() for axis in rank_figure(tree).axes]
    assert titles[0] == "error" and f"f(x_test[{np.argmax(r_hat)}])" in titles[1]


KINDS = {
    "run.nc": ("run", {"comparison", "predictions", "ranks"}),
    "compare.nc": ("comparison", {"comparison"}),
    "curve.nc": ("curve", {"curve"}),
    "curve.zarr": ("curve", {"curve"}),
    "map.nc": ("map", {"map"}),
}


@pytest.mark.parametrize("name", KINDS)
def test_plot_writes_the_pictures_of_a_result(results, run_json, name):
    kind, pictures = KINDS[name]
    record = run_json("plot", str(results / name), "--out", "made")
    assert record["kind"] == kind
    assert {os.path.basename(file) for file in record["files"]} == {f"{p}.png" for p in pictures}
    for file in record["files"]:
        with open(file, "rb") as opened:
            assert opened.read(4) == b"\x89PNG"


@pytest.mark.slow
def test_plot_of_several_runs_compares_over_widths(results, run, folder):
    result = run("plot", str(results / "widths"), "--out", "made", "--format", "svg")
    assert result.exit_code == 0, result.stderr
    names = {path.name for path in (folder / "made").iterdir()}
    assert {"comparison.svg", "w-3-ranks.svg", "w-12-predictions.svg"} <= names
    assert result.stdout.splitlines()[0].endswith("made/comparison.svg")


@pytest.mark.slow
def test_what_compare_writes_is_taken(results, run, run_json, folder):
    assert run("compare", str(results / "run.nc"), "--out", "c").exit_code == 0
    assert run_json("plot", "c", "--out", "made")["kind"] == "comparison"
    assert "finwidth compare" in render(read_result(folder / "c"))


class Page(html.parser.HTMLParser):
    """What a browser would fetch, run or read aloud."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.sources, self.alts, self.heads, self.headings = [], [], [], [], []
        self.open, self.lang, self.viewport = [], None, None
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        held = dict(attrs)
        self.tags.append(tag)
        self.sources += [held[name] for name in ("src", "href", "data", "srcset") if name in held]
        if tag == "img":
            self.alts.append(held.get("alt", ""))
        if tag == "th":
            self.heads.append(held.get("scope"))
        if tag == "html":
            self.lang = held.get("lang")
        if tag == "meta" and held.get("name") == "viewport":
            self.viewport = held["content"]
        if re.fullmatch(r"h\d", tag):
            self.headings.append(int(tag[1]))
        if tag not in ("img", "meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.mark.parametrize("name", [*KINDS, pytest.param("widths", marks=pytest.mark.slow)])
def test_report_is_one_page_that_needs_nothing_else(results, run_json, folder, name):
    record = run_json("report", str(results / name), "--out", "page.html")
    text = (folder / "page.html").read_text("utf-8")
    assert record["bytes"] == len(text.encode()) < 2_000_000
    page = Page(text)
    assert page.open == [] and page.lang == "en" and "width=device-width" in page.viewport
    assert not {"script", "link", "iframe", "object", "base"} & set(page.tags)
    assert page.sources and all(one.startswith("data:image/png;base64,") for one in page.sources)
    assert "url(" not in text and "@import" not in text
    assert all(len(alt) > 30 for alt in page.alts)
    assert page.heads and set(page.heads) <= {"col", "row"}
    assert page.headings[0] == 1 and page.headings.count(1) == 1
    assert all(b - a <= 1 for a, b in zip(page.headings, page.headings[1:], strict=False))


def test_report_says_what_the_run_says(results):
    text = render(read_result(results / "run.nc"))
    tree = fw.load(results / "run.nc")
    scores = fw.scores(tree)
    shown = [float(one) for one in re.findall(r"(0\.\d+) ±", text)]
    assert np.isclose(shown, float(scores["error"]), rtol=1e-3).any()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; &#39;quotes&#39;" in text
    assert "<script>" not in text
    assert "prefers-color-scheme: dark" in text
    for said in ("training patterns", "finwidth 0.1.0", "R-hat, largest", "constant guess"):
        assert said in text


def test_the_script_that_repeats_a_run_of_python_runs(results, folder, monkeypatch):
    """It asks `fw.sample` for the network, data and settings of the file."""
    from finwidth._report.repeat import repeat

    asked = {}
    result = read_result(results / "run.nc")
    _, lines = repeat(result)
    monkeypatch.setattr(fw, "sample", lambda net, X, y, **more: asked.update(more, net=net, X=X))
    monkeypatch.chdir(results)
    exec(lines)
    assert asked["net"].widths == (3,) and asked["temperature"] == 0.5 and asked["seed"] == 0
    np.testing.assert_array_equal(asked["X"], result.runs["run.nc"]["constant_data"]["X"])
    _, lines = repeat(read_result(results / "widths"))
    assert lines == "finwidth demo --widths 3,12"


def test_report_goes_beside_its_file_and_replaces_an_older_one_whole(
    results, run, folder, monkeypatch
):
    fw.save(xr.DataTree(fw.load(results / "curve.nc").to_dataset()), "curve.nc")
    (folder / "curve.html").write_text("older")
    monkeypatch.setattr("finwidth._report.page.render", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run("report", "curve.nc")
    assert (folder / "curve.html").read_text() == "older"
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert run("report", "curve.nc").exit_code == 0
    assert (folder / "curve.html").read_text("utf-8").startswith("<!DOCTYPE html>")
    assert sorted(path.name for path in folder.iterdir()) == ["curve.html", "curve.nc"]


def foreign(folder, kind, run):
    if kind == "text":
        (folder / "x.nc").write_text("not netCDF")
    elif kind == "cut short":
        content = run.read_bytes()
        (folder / "x.nc").write_bytes(content[: len(content) // 2])
    elif kind == "another netCDF":
        fw.save(xr.DataTree(xr.Dataset({"a": 1.0})), folder / "x.nc")
    elif kind == "empty folder":
        (folder / "x.nc").mkdir()
    elif kind == "damaged zarr":
        (folder / "x.nc").mkdir()
        (folder / "x.nc" / "zarr.json").write_text("{}")
    elif kind == "run without labels":
        tree = fw.load(run)
        del tree["predictions_constant_data"]
        fw.save(tree, folder / "x.nc")
    elif kind == "two kinds":
        (folder / "x.nc").mkdir()
        shutil.copy(run, folder / "x.nc/a.nc")
        curve = xr.Dataset({"error": ("width", [0.1, 0.2])}, {"width": [1, 2]})
        fw.save(xr.DataTree(curve), folder / "x.nc/b.nc")


FOREIGN = {
    "absent": "'x.nc'.*does not exist",
    "text": "x.nc",
    "cut short": "x.nc",
    "another netCDF": r"with \['a'\]",
    "empty folder": "without a .nc file",
    "damaged zarr": "x.nc",
    "run without labels": "y_test",
    "two kinds": r"a.nc \(a run\)., .b.nc \(a curve\).*name one",
}


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        *(("plot", kind) for kind in FOREIGN),
        ("report", "absent"),
        *(pytest.param("report", kind, marks=pytest.mark.slow) for kind in [*FOREIGN][1:]),
    ],
)
def test_what_is_none_of_ours_is_one_line(results, run, folder, command, kind):
    foreign(folder, kind, results / "run.nc")
    before = sorted(folder.rglob("*"))
    result = run(command, "x.nc")
    assert result.exit_code == 2 and result.stdout == ""
    assert re.fullmatch(r"finwidth: error: expected [^\n]*\n", result.stderr), result.stderr
    assert re.search(FOREIGN[kind], result.stderr), result.stderr
    assert sorted(folder.rglob("*")) == before


WRONG = [
    (["plot", "curve.nc", "--x", "nonsense"], "expected x = one of"),
    (["plot", "curve.nc", "--score", "nonsense"], "expected --score = one of .*, got .nonsense."),
    (["plot", "run.nc", "--score", "error"], "--x and --score for a learning curve .*got a run"),
    (["plot", "curve.nc", "--format", "gif"], "expected --format = one of .*got 'gif'"),
    (["report", "curve.nc", "--out", "absent/page.html"], "expected path = .*no folder"),
]


@pytest.mark.parametrize(("arguments", "message"), WRONG, ids=lambda part: str(part))
def test_wrong_options(results, run, folder, arguments, message):
    command, name, *options = arguments
    result = run(command, str(results / name), *options)
    assert result.exit_code == 2, result.stdout
    assert re.fullmatch(r"(drawing[^\n]*\n)*finwidth: error: expected [^\n]*\n", result.stderr)
    assert re.search(message, result.stderr), result.stderr
    assert list(folder.iterdir()) == []
