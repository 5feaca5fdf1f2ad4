"""Error maps: what their numbers are, what a stopped or changed map keeps, what they say."""

import dataclasses
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import finwidth as fw
from finwidth._cli._hidden import parse_layers
from finwidth._sweeps import map as _map, point as _map_point, work as _work
from finwidth._sweeps.keys import Keys
from finwidth._sweeps.map_grid import docs_points, grid_points
from finwidth._sweeps.point import ask
from finwidth._sweeps.run import run
from finwidth.theories.nested import Nested

SHIPPED = Path(fw.__file__).parent / "_advice" / "map.nc"
QUICK = {"relative_mcse": 0.05, "target_ess": 1000.0, "max_draws": 5000, "progress": False}
THEORIES = ("nested", "mixture")
NUMBERS = ("error", "bias2", "variance", "error_mcse", "bias2_mcse", "variance_mcse")
EXACT = dict.fromkeys((*NUMBERS, "r_hat", "ess", "n_draws", "divergences", "seconds"), 1.0)


def about(point, theory):
    """What the numbers of a theory at a point depend on."""
    return Keys(_map_point.Effort()).about(ask(point, theory))


@pytest.fixture(scope="module")
def data():
    return fw.load_dataset("random", n_train=6, n_test=3, n_inputs=3, seed=3)


@pytest.fixture(scope="module")
def points(data):
    """One point: a linear network, whose mixture is exact."""
    return [fw.MapPoint(data, fw.Network((4,), "identity"), 0.5)]


@pytest.fixture(scope="module")
def finished(points, tmp_path_factory):
    """A small map and its folder."""
    folder = tmp_path_factory.mktemp("map")
    return fw.error_map(points, theories=THEORIES, folder=folder, **QUICK), folder


@pytest.fixture
def no_sampling(monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("sampled although the result was there")

    monkeypatch.setattr(_work, "sample", refuse)


@pytest.mark.slow
def test_sampling_agrees_with_the_exact_posterior_of_linear_networks(finished):
    mixture = finished[0].sel(theory="mixture").squeeze("point")
    assert mixture["counted"] and mixture["r_hat"] <= 1.01
    assert mixture["exact_mcse"] <= 0.05 * mixture["exact_error"]
    assert abs(mixture["z"]) < 5
    for name in ("bias2", "variance", "accuracy"):
        deviation = mixture[name] - mixture[f"exact_{name}"]
        assert abs(deviation) < 5 * mixture[f"exact_{name}_mcse"]


def test_theories_are_those_of_solve(finished, points, data):
    solution = fw.solve(points[0].network, data.X_train, data.y_train, temperature=0.5)
    expected = solution.scores(data.X_test, data.y_test)
    for name in ("error", "bias2", "variance", "accuracy", "accuracy_mean"):
        assert finished[0][name].sel(theory="nested").item() == float(expected[name])


def test_labels_that_are_no_classes_have_no_accuracy(data):
    halved = fw.Dataset(data.X_train, data.y_train, data.X_test, 0.5 * data.y_test, name="half")
    point = fw.MapPoint(halved, fw.Network((4,), "identity"), 0.5)
    rows = [{"exact": EXACT, "nested": _work.solve_point(ask(point, "nested"))}]
    dataset = _map._dataset((point,), ("nested",), _map_point.Effort(), 0, rows)
    assert np.isfinite(dataset["error"]).all()
    for name in ("accuracy", "accuracy_mean", "exact_accuracy", "exact_accuracy_mcse"):
        assert np.isnan(dataset[name]).all()


def test_theory_that_is_not_defined_has_no_numbers(data):
    relu = fw.MapPoint(data, fw.Network((4,), "relu"), 0.5)
    result = _work.solve_point(ask(relu, "corrected"))
    assert result["state"] == "not defined" and "error" not in result
    assert "odd activation" in result["reason"]
    rows = [{"exact": EXACT, "corrected": result, "nested": _work.solve_point(ask(relu, "nested"))}]
    dataset = _map._dataset((relu,), ("corrected", "nested"), _map_point.Effort(), 0, rows)
    for name in ("error", "relative_error", "z"):
        assert np.isnan(dataset[name].values).tolist() == [[True, False]]


def test_z_and_relative_error_refer_to_the_exact_error(finished):
    dataset = finished[0]
    difference = dataset["error"] - dataset["exact_error"]
    xr.testing.assert_allclose(dataset["z"] * dataset["exact_mcse"], difference)
    xr.testing.assert_allclose(dataset["relative_error"] * dataset["exact_error"], difference)


def test_coordinates_say_what_each_point_is(finished):
    dataset = finished[0]
    assert dataset["load"].values.tolist() == [1.5]
    assert dataset["widths"].values.tolist() == ["4"]
    assert dataset["activation"].values.tolist() == ["identity"]
    assert dataset["theory"].values.tolist() == list(THEORIES)


def test_finished_map_is_read_not_computed(finished, points, no_sampling, monkeypatch):
    dataset, folder = finished
    monkeypatch.setattr(_work, "solve_point", lambda *_: pytest.fail("solved again"))
    again = fw.error_map(points, theories=THEORIES, folder=folder, **QUICK)
    xr.testing.assert_identical(again, dataset)


def test_further_theory_keeps_the_exact_results(finished, points, no_sampling):
    dataset, folder = finished
    more = fw.error_map(points, theories=("infinite", "nested"), folder=folder, **QUICK)
    assert more["theory"].values.tolist() == ["infinite", "nested"]
    xr.testing.assert_equal(more["exact_error"], dataset["exact_error"])


@pytest.mark.parametrize("change", ["seed", "temperature", "labels", "precision"])
def test_changed_setting_is_sampled_anew(finished, points, no_sampling, change):
    point, settings = points[0], dict(QUICK)
    if change == "seed":
        settings["seed"] = 1
    elif change == "temperature":
        point = dataclasses.replace(point, temperature=0.6)
    elif change == "precision":
        point = dataclasses.replace(point, network=point.network.replace(weight_precision=2.0))
    else:
        old = point.data
        new = fw.Dataset(old.X_train, -old.y_train, old.X_test, old.y_test, name=old.name)
        point = dataclasses.replace(point, data=new)
    with pytest.warns(fw.AccuracyWarning, match="1 that failed, .*sampled although"):
        fw.error_map([point], theories=("nested",), folder=finished[1], **settings)


def test_settings_of_a_theory_are_part_of_its_result(points):
    few, many = (fw.theories.available()["cavity"].__class__(points=n) for n in (64, 128))
    keys = [about(points[0], theory) for theory in (few, many, few)]
    assert keys[0] == keys[2] != keys[1]


def _point(data, fn):
    return fw.MapPoint(data, fw.Network((4,), fw.Activation("mine", fn, parity="odd")), 0.5)


def test_another_function_of_the_same_name_is_computed_anew(data, tmp_path, monkeypatch):
    """What was found for one activation is never given for another one of its name."""
    done, solved = {"state": "solved"}, []
    monkeypatch.setattr(_work, "solve_point", lambda point: solved.append(point) or done)
    monkeypatch.setattr(_work, "sample_point", lambda point, *_: solved.append(point) or done)
    sine, other, again = (_point(data, fn) for fn in (jnp.sin, jnp.tanh, lambda h: jnp.sin(h)))
    for point, count in ((sine, 2), (other, 4), (again, 4), (sine, 4)):
        asked = [ask(point, "nested"), ask(point, "exact", 0)]
        run(asked, _map_point.Effort(), tmp_path, progress=False)
        assert len(solved) == count


class Scaled(Nested):
    """A theory of a user's own, with a setting."""

    name = "scaled"

    def __init__(self, factor):
        self.factor = factor


class Recorded(Scaled):
    """The same, which tells what it depends on."""

    def record(self):
        return {"version": 1, "factor": self.factor}


def test_theories_of_one_name_and_other_settings_share_nothing(points, tmp_path, monkeypatch):
    solved = []
    monkeypatch.setattr(
        _work, "solve_point", lambda point: solved.append(point) or {"state": "solved"}
    )

    def times(*theories):
        solved.clear()
        for theory in theories:
            run([ask(points[0], theory)], _map_point.Effort(), tmp_path, progress=False)
        return len(solved)

    # nothing tells what their code is: never stored, never found
    assert times(Scaled(1.0), Scaled(1.0), Scaled(2.0)) == 3
    assert times(Recorded(1.0), Recorded(1.0), Recorded(2.0), Recorded(2.0)) == 2

    # a name that the map gives to something else
    Named = type("Named", (Recorded,), {"name": "mixture", "record": lambda self: {}})
    assert times("mixture", Named(1.0)) == 2

    class Wider(Nested):  # finwidth's own name
        def solve(self, problem, start=None):
            return super().solve(problem.vary((100,), problem.temperature))

    assert times("nested", Nested(), "nested") == 1
    assert times(Wider(), Wider()) == 2


@pytest.mark.parametrize("value", ["1", [1], 3, {"f": len}])
def test_record_that_is_no_record_is_refused_before_any_work(points, monkeypatch, value):
    theory = type("Odd", (Scaled,), {"record": lambda self: value})(1.0)
    monkeypatch.setattr(_work, "solve_point", None)
    with pytest.raises(fw.FinwidthError, match=r"expected record\(\) of theory 'scaled'") as caught:
        fw.error_map(points, theories=["nested", theory], **QUICK)
    assert "\n" not in str(caught.value)


def test_record_may_hold_arrays(points):
    theory = type("Odd", (Scaled,), {"record": lambda self: {"f": np.arange(self.factor)}})
    keys = [about(points[0], theory(factor)) for factor in (2, 2, 3)]
    assert keys[0] is not None and keys[0] == keys[1] != keys[2]


@pytest.mark.slow
def test_stopped_map_goes_on_draw_by_draw(finished, points, tmp_path, monkeypatch):
    sample = _work.sample

    def stopped(*arguments, **options):
        sample(*arguments, **options | {"num_samples": 50, "target_ess": None})
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_work, "sample", stopped)
        with pytest.raises(KeyboardInterrupt):
            fw.error_map(points, theories=THEORIES, folder=tmp_path, **QUICK)
    (begun,) = tmp_path.glob("runs/*")
    again = fw.error_map(points, theories=THEORIES, folder=tmp_path, **QUICK)
    expected = finished[0]
    for name in ("exact_error", "exact_mcse", "r_hat", "n_draws", "error"):
        xr.testing.assert_equal(again[name], expected[name])
    assert not begun.exists()


@pytest.mark.slow
def test_point_that_has_not_mixed_is_kept_and_marked(points):
    with pytest.warns(fw.AccuracyWarning, match=r"expected R-hat ≤ 1.01 .* after 50 draws"):
        dataset = fw.error_map(
            points, theories=("nested",), max_draws=50, relative_mcse=1e-3, progress=False
        )
    assert np.isfinite(dataset["exact_error"]).all() and dataset["n_draws"] == 50
    assert dataset["counted"].item() == (dataset["r_hat"].item() <= 1.01)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"points": []}, "expected points = MapPoint objects"),
        ({"points": ["digits"]}, "expected points = MapPoint objects"),
        ({"theories": "nested"}, "expected theories = a sequence"),
        ({"theories": []}, "expected theories = different names"),
        ({"theories": ["nested", "nested"]}, "expected theories = different names"),
        ({"theories": ["nestde"]}, "expected theory = .*'nestde'"),
        ({"relative_mcse": 0.0}, "expected relative_mcse = a finite float > 0, got 0.0"),
        ({"max_draws": 0}, "expected max_draws = an int of at least 1, got 0"),
    ],
)
def test_wrong_arguments_are_refused_before_any_work(
    points, no_sampling, unchecked_types, wrong, message
):
    with pytest.raises(fw.InputError, match=message):
        fw.error_map(**{"points": points, "theories": ["nested"], "progress": False} | wrong)


def test_wrong_points(data):
    with pytest.raises(fw.InputError, match="expected temperature = a finite float > 0, got 0.0"):
        fw.MapPoint(data, fw.Network((3,)), 0.0)


def table(relative_error, exact_mcse, counted=True, **coordinates):
    """A map with an exact error of 1 at each point."""
    size = np.asarray(relative_error, dtype=float)
    n_points, n_theories = size.shape
    mcse = np.full(n_points, exact_mcse)
    default = {"data": "digits", "activation": "erf", "depth": 1, "temperature": 0.1}
    return xr.Dataset(
        {
            "relative_error": (("point", "theory"), size),
            "z": (("point", "theory"), size / mcse[:, None]),
            "exact_error": ("point", np.ones(n_points)),
            "exact_mcse": ("point", mcse),
            "counted": ("point", np.broadcast_to(counted, n_points).copy()),
        },
        coords={"theory": [f"theory {i}" for i in range(n_theories)]}
        | {
            name: ("point", np.broadcast_to(value, n_points).copy())
            for name, value in (default | {"width": 50, "load": 2.0} | coordinates).items()
        },
    )


def test_summary_counts_the_closest_and_those_within_the_noise():
    dataset = table([[0.30, 0.10, -0.105], [0.01, np.nan, 0.2], [0.0, 0.5, 0.5]], 0.01)
    summary = fw.summarize_error_map(dataset, by=()).squeeze("regime")
    assert summary["n_points"] == 3
    assert summary["n_solved"].values.tolist() == [3, 2, 3]
    assert summary["n_closest"].values.tolist() == [2, 1, 1]  # 0.10 and 0.105 differ by noise
    assert summary["n_within"].values.tolist() == [2, 0, 0]
    np.testing.assert_allclose(summary["median"], [0.01, 0.3, 0.2])
    np.testing.assert_allclose(summary["largest"], [0.3, 0.5, 0.5])


def test_summary_leaves_out_what_has_not_mixed_and_splits_regimes():
    dataset = table(
        [[0.1], [0.2], [0.3]],
        0.01,
        counted=[True, False, True],
        temperature=[0.1, 0.1, 0.01],
    )
    summary = fw.summarize_error_map(dataset, by=("temperature",))
    assert summary["temperature"].values.tolist() == [0.01, 0.1]
    assert summary["n_points"].values.tolist() == [1, 1]
    np.testing.assert_allclose(summary["median"].values[:, 0], [0.3, 0.1])
    with pytest.raises(fw.InputError, match="expected by = names"):
        fw.summarize_error_map(dataset, by=("theory",))
    with pytest.raises(fw.InputError, match="a point of R-hat"):
        fw.summarize_error_map(table([[0.1]], 0.01, counted=False))
    with pytest.raises(fw.InputError, match="expected dataset"):
        fw.summarize_error_map(xr.Dataset())


def test_picture_has_a_panel_for_each_data_set_activation_and_temperature():
    plt = pytest.importorskip("matplotlib.pyplot")
    dataset = table(
        np.linspace(-0.2, 3, 12).reshape(6, 2),
        0.01,
        counted=[True, True, False, True, True, True],
        depth=[1, 1, 1, 1, 2, 1],
        data=["digits"] * 5 + ["random"],
        temperature=[0.1, 0.1, 0.1, 0.01, 0.01, 0.1],
        load=[5.0, 2.0, 0.5, 2.0, 2.0, 2.0],
    )
    axes = fw.plot_error_map(dataset)
    assert [axis.get_title() for axis in axes] == [
        "digits, erf, T = 0.1",
        "digits, erf, T = 0.01",
        "random, erf, T = 0.1",
    ]
    curves = {line.get_label(): line.get_xydata() for line in axes[0].get_lines()}
    expected = dataset["relative_error"].values[[0, 1], 0]
    np.testing.assert_allclose(curves["theory 0"], np.column_stack([[0.2, 0.5], expected]))
    plt.close("all")
    with pytest.raises(fw.InputError, match="expected ax = 3 matplotlib axes"):
        fw.plot_error_map(dataset, ax="here")
    with pytest.raises(fw.InputError, match="expected dataset"):
        fw.plot_error_map(xr.Dataset())


def test_grid_is_a_product_with_widths_from_loads(data):
    points = grid_points(
        [data],
        activations=("erf", "relu"),
        depths=(1, 2),
        widths=(5,),
        loads=(2.0, 1.2),
        temperatures=(0.1,),
    )
    networks = [(p.network.activation.name, p.network.widths) for p in points]
    assert sorted(networks) == sorted(
        (name, (width,) * depth)
        for name in ("erf", "relu")
        for depth in (1, 2)
        for width in (5, 3)  # 6/2.0, and 6/1.2 is 5 again
    )


def test_grid_has_as_many_outputs_as_the_data_and_theories_that_cover_them():
    classes = fw.load_dataset("digits", classes=(0, 1, 2), n_train=9, n_test=6)
    settings = {"activations": ("erf",), "depths": (1,), "loads": (), "temperatures": (0.1,)}
    (point,) = grid_points([classes], widths=(5,), **settings)
    assert point.network.outputs == 3
    solved = _work.solve_point(ask(point, "infinite"))
    assert solved["state"] == "solved" and 1 / 3 < solved["accuracy"] < 1
    refused = _work.solve_point(ask(point, "corrected"))
    assert refused["state"] == "not defined" and "outputs = 1" in refused["reason"]


def test_shipped_map_is_the_preset_and_has_sixty_points_that_mixed():
    dataset = fw.load(SHIPPED).to_dataset()
    points = docs_points()
    assert SHIPPED.stat().st_size < 150_000
    assert int(dataset["counted"].sum()) >= 60
    kinds = dataset["network"].to_series().str.partition(" ")[0]
    assert kinds.value_counts().to_dict() == {"dense": 58, "convolution": 4, "residual": 4}
    assert int((dataset["depth"] == 3).sum()) == 8
    for name in ("cpu_seconds", "exact_cpu_seconds"):
        assert (dataset[name].dropna("point", how="all") > 0).any()
    assert bool((dataset["counted"] == (dataset["r_hat"] <= 1.01)).all())
    for name, values in _map._coordinates(tuple(points)).items():
        assert dataset[name].values.tolist() == values[1].tolist(), name


def block(width, skip, **options):
    return fw.Network(layers=(fw.Dense(width), fw.Residual(width, skip, 0.8)), **options)


def test_labels_say_what_a_layered_network_is(data):
    images = fw.load_dataset("digits", n_train=4, n_test=2, image=True)
    convolution = fw.Network(layers=(fw.Convolution(5, 3, pooling="average"), fw.Dense(7)))
    points = (
        fw.MapPoint(data, fw.Network((4, 3), "relu"), 0.5),
        fw.MapPoint(data, block(4, 0.6, readout_activation="identity"), 0.5),
        fw.MapPoint(images, convolution, 0.5),
    )
    labels = {name: list(values) for name, (_, values) in _map._coordinates(points).items()}
    assert labels["layers"] == [
        "dense:4 dense:3",
        "dense:4 residual:4,skip=0.6,branch=0.8",
        "convolution:5,patch=3,pooling=average dense:7",
    ]
    for text, point in zip(labels["layers"], points, strict=True):
        assert parse_layers(text.split()) == point.network.layers
    assert labels["network"] == [
        "dense",
        "residual skip=0.6 branch=0.8 readout=identity",
        "convolution patch=3 pooling=average",
    ]
    assert labels["widths"] == ["4,3", "4,4", "5,7"] and labels["depth"] == [2, 2, 2]
    assert labels["width"] == [4, 4, 5] and labels["n_inputs"] == [3, 3, 64]
    assert labels["activation"] == ["relu", "erf", "erf"]
    assert str(points[1]) == "random erf dense:4 residual:4,skip=0.6,branch=0.8 T=0.5"
    assert str(points[0]) == "random relu N=4-3 T=0.5"


def test_layered_points_are_kept_and_written(data, tmp_path, monkeypatch):
    """Their numbers come back from the folder, and all of the map from netCDF."""
    done = []

    def work(point, *_):
        done.append(point)
        skip = point.network.layers[1].skip
        state = {"state": "sampled" if point.sampled else "solved", "reason": ""}
        return EXACT | {"error": skip, "cpu_seconds": 2.0} | state

    monkeypatch.setattr(_work, "sample_point", work)
    monkeypatch.setattr(_work, "solve_point", work)
    points = [fw.MapPoint(data, block(4, skip), 0.5) for skip in (0.6, 0.8)]
    settings = {"theories": ("infinite",), "folder": tmp_path, **QUICK}
    first = fw.error_map(points, **settings)
    assert len(done) == 4
    assert first["error"].values.tolist() == [[0.6], [0.8]]
    assert first["exact_error"].values.tolist() == [0.6, 0.8]
    xr.testing.assert_identical(fw.error_map(points, **settings), first)
    assert len(done) == 4
    fw.save(xr.DataTree(first), tmp_path / "map.nc")
    xr.testing.assert_identical(fw.load(tmp_path / "map.nc").to_dataset(), first)
    summary = fw.summarize_error_map(first)
    assert summary["network"].values.tolist() == [
        f"residual skip={skip} branch=0.8" for skip in (0.6, 0.8)
    ]
    assert (summary["exact_cpu_seconds"] == 2.0).all() and summary.sizes["regime"] == 2


def test_costs_are_those_of_what_was_solved_and_of_all_cores(points, monkeypatch):
    ticks = iter([10.0, 17.0])
    monkeypatch.setattr(_work.time, "process_time", lambda: next(ticks))
    assert _work.solve_point(ask(points[0], "infinite"))["cpu_seconds"] == 7.0
    dataset = table([[0.1, np.nan], [0.2, 0.1], [0.3, 0.1]], 0.01)
    dataset["cpu_seconds"] = ("point", "theory"), [[1.0, 9.0], [4.0, 2.0], [np.nan, np.nan]]
    dataset["exact_cpu_seconds"] = "point", [5.0, 7.0, np.nan]
    summary = fw.summarize_error_map(dataset, by=()).squeeze("regime")
    assert summary["cpu_seconds"].values.tolist() == [2.5, 2.0]
    assert summary["exact_cpu_seconds"] == 6.0


def test_map_without_times_and_kinds_of_networks_is_one_of_dense_networks():
    summary = fw.summarize_error_map(table([[0.1], [0.2]], 0.01))
    assert summary["network"].values.tolist() == ["dense"] and summary["n_points"] == 2
    assert np.isnan(summary["cpu_seconds"]).all() and np.isnan(summary["exact_cpu_seconds"])
