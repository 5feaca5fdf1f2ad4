"""Pictures: what is drawn is what was passed, and bad input is refused."""

import builtins
import json
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
import xarray as xr

import finwidth as fw
from finwidth._basics.errors import InputError
from finwidth._plots import (
    plot_comparison,
    plot_kernel,
    plot_learning_curve,
    plot_order_parameters,
    plot_predictions,
)
from finwidth._plots._common import theory_style
from finwidth._results.attached import compare_attached

QUANTITIES = ["error", "bias2", "variance"]


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    plt.close("all")


def make_report(width=50, name="nested", outcome="disagreement", n_test=30):
    """A report as `finwidth.compare` gives it, with numbers of the order of those on digits."""
    rng = np.random.default_rng(width)
    exact = np.array([0.068, 0.048, 0.02]) - np.array([0.9, 0.5, 0.4]) / width
    theory = np.array([0.067, 0.046, 0.021]) - np.array([0.1, 0.1, 0.0]) / width
    mean = rng.choice([-1.0, 1.0], n_test) + 0.2 * rng.normal(size=n_test)
    return xr.Dataset(
        {
            "theory": ("quantity", theory),
            "exact": ("quantity", exact),
            "mcse": ("quantity", np.array([6e-4, 4e-4, 2e-4])),
            "z": ("quantity", (theory - exact) / 5e-4),
            "mean_theory": ("test_pattern", mean + 0.05 * rng.normal(size=n_test)),
            "mean_exact": ("test_pattern", mean),
            "mean_mcse": ("test_pattern", np.full(n_test, 0.01)),
            "outcome": ((), outcome),
            "verdict": ((), "Theory and posterior disagree."),
        },
        coords={
            "quantity": QUANTITIES,
            "test_pattern": np.arange(n_test),
            "width": width,
            "depth": 1,
            "temperature": 0.01,
            "theory_name": name,
        },
    )


def with_accuracy(report, theory=0.93, exact=0.95):
    """The report with the accuracies that those of classes have."""
    more = report.isel(quantity=[0, 0]).assign_coords(quantity=["accuracy", "accuracy_mean"])
    for name, value in {"theory": theory, "exact": exact, "mcse": 0.001, "z": 0.0}.items():
        more[name] = ("quantity", [value, 1.0])
    pointwise = [name for name in report if "quantity" not in report[name].dims]
    more = more.drop_vars(pointwise)
    return xr.concat([report.drop_vars(pointwise), more], "quantity").merge(report[pointwise])


def make_curve(widths=(10, 30, 100, 300, 1000), temperatures=(0.01, 0.1)):
    width, temperature = np.array(widths), np.array(temperatures)
    variance = np.add.outer(0.5 / width, temperature)
    bias2 = np.full(variance.shape, 0.1)
    dims = ("width", "temperature")
    return xr.Dataset(
        {"error": (dims, bias2 + variance), "bias2": (dims, bias2), "variance": (dims, variance)},
        coords={"width": width, "temperature": temperature, "load": ("width", 100 / width)},
    )


def lines(ax):
    return {line.get_label(): line for line in ax.get_lines()}


def legend(ax):
    return [text.get_text() for text in ax.get_legend().get_texts()]


# Comparison


def test_reports_over_widths_draw_theory_posterior_and_infinite_width():
    reports = [make_report(width) for width in (200, 20, 50)]
    axes = plot_comparison(reports, infinite={"error": 0.067, "bias2": 0.046, "variance": 0.021})
    assert axes.shape == (3,)
    theory = lines(axes[0])["nested theory"]
    np.testing.assert_array_equal(theory.get_xdata(), [20, 50, 200])
    ordered = sorted(reports, key=lambda report: int(report.width))
    np.testing.assert_allclose(theory.get_ydata(), [float(r.theory[0]) for r in ordered])
    np.testing.assert_array_equal(lines(axes[0])["infinite width"].get_ydata(), [0.067, 0.067])
    assert axes[0].get_xscale() == "log"
    assert [tick.get_text() for tick in axes[0].get_xticklabels()] == ["20", "50", "200"]
    assert "posterior, ±2 MCSE" in legend(axes[0])
    assert legend(axes[1]) == ["bias$^2$", "variance"]


def test_reports_of_classes_have_a_panel_of_the_accuracy():
    reports = [with_accuracy(make_report(w), exact=1 - 1 / w) for w in (20, 50)]
    axes = plot_comparison(reports, infinite={"error": 0.067, "accuracy": 0.9})
    assert axes.shape == (4,)
    assert "accuracy" in axes[3].get_ylabel()
    np.testing.assert_allclose(lines(axes[3])["nested theory"].get_ydata(), [0.93, 0.93])
    np.testing.assert_array_equal(lines(axes[3])["infinite width"].get_ydata(), [0.9, 0.9])
    points = [container.lines[0].get_ydata()[0] for container in axes[3].containers]
    np.testing.assert_allclose(points, [0.95, 0.98])
    assert legend(axes[1]) == ["bias$^2$", "variance"]
    # where one report has none, none is drawn
    assert plot_comparison([reports[0], make_report(50)]).shape == (3,)
    text = plot_comparison(reports[0])[1].get_xlabel()
    assert "accuracy of a draw:\nnested 0.9300\nposterior 0.9500 ± 0.0010" in text


def test_means_of_several_outputs_are_points_of_one_picture():
    report = make_report(20)
    for name in ("mean_theory", "mean_exact", "mean_mcse"):
        report[name] = (("test_pattern", "output"), np.stack([report[name], report[name] + 1], 1))
    points = plot_comparison(report)[0].containers[0].lines[0]
    np.testing.assert_array_equal(points.get_xdata(), report.mean_exact.values.ravel())
    np.testing.assert_array_equal(points.get_ydata(), report.mean_theory.values.ravel())


def test_a_list_and_its_concatenation_give_the_same_picture():
    reports = [make_report(width) for width in (20, 50, 200)]
    one = plot_comparison(reports)
    other = plot_comparison(xr.concat(reports, dim="width"))
    for first, second in zip(one, other, strict=True):
        for line, same in zip(first.get_lines(), second.get_lines(), strict=True):
            np.testing.assert_array_equal(line.get_xydata(), same.get_xydata())


def test_two_theories_of_the_same_runs_share_the_posterior_points():
    reports = [make_report(w, name) for w in (20, 50) for name in ("nested", "adaptive")]
    axes = plot_comparison(reports)
    assert {"nested theory", "adaptive theory"} <= set(lines(axes[0]))
    assert len(axes[0].containers) == 2, "one errorbar for each width"


def test_infinite_width_is_a_theory_like_the_others_but_grey():
    axes = plot_comparison([make_report(w, name) for w in (20, 50) for name in ("infinite", "x")])
    colors = {label: line.get_color() for label, line in lines(axes[0]).items()}
    assert colors["infinite width"] == "#777777"
    assert colors["x theory"] != "#777777"


def test_error_bars_are_two_mcse():
    report = make_report(20)
    axes = plot_comparison([report, make_report(50)])
    segments = axes[0].containers[0].lines[2][0].get_segments()[0]
    assert segments[1, 1] - segments[0, 1] == pytest.approx(4 * float(report.mcse[0]))


def test_runs_that_were_not_judged_are_open_and_the_picture_says_so():
    axes = plot_comparison([make_report(20, outcome="not judged"), make_report(50)])
    faces = [container.lines[0].get_markerfacecolor() for container in axes[0].containers]
    assert faces[0] == "none" and faces[1] != "none"
    assert "not judged" in legend(axes[0])


def test_a_single_report_draws_the_means_at_the_test_points():
    report = make_report(20)
    axes = plot_comparison(report)
    assert axes.shape == (2,)
    points = axes[0].containers[0].lines[0]
    np.testing.assert_array_equal(points.get_xdata(), report.mean_exact)
    np.testing.assert_array_equal(points.get_ydata(), report.mean_theory)
    heights = [patch.get_height() for patch in axes[1].patches]
    np.testing.assert_allclose(heights, np.concatenate([report.theory, report.exact]))
    assert "N_1 = 20" in axes[1].get_xlabel()


def test_comparison_draws_on_the_axes_given():
    _, mine = plt.subplots(1, 3)
    assert list(plot_comparison([make_report(20), make_report(50)], ax=mine)) == list(mine)
    with pytest.raises(InputError, match="expected ax = 3 matplotlib axes"):
        plot_comparison([make_report(20), make_report(50)], ax=mine[0])


@pytest.mark.parametrize(
    ("reports", "message"),
    [
        ([], "got none"),
        (3, "got int"),
        ("report.nc", "got str"),
        ([make_report(), 3], "got int"),
        (xr.Dataset({"error": 1.0}), "got a Dataset without"),
        ([make_report(20), make_report(20)], "one report per theory and width, got nested at"),
    ],
)
def test_comparison_takes_reports_only(reports, message):
    with pytest.raises(InputError, match=message):
        plot_comparison(reports)


@pytest.mark.parametrize("infinite", [0.067, {"bias2": 1.0}])
def test_infinite_needs_an_error(infinite):
    with pytest.raises(InputError, match="expected infinite = a mapping with 'error'"):
        plot_comparison([make_report(20), make_report(50)], infinite=infinite)


def test_two_theories_of_one_run_are_drawn_beside_each_other():
    reports = [make_report(20, name) for name in ("nested", "adaptive")]
    points, bars = plot_comparison(reports)
    assert len(points.containers) == 2
    heights = [patch.get_height() for patch in bars.patches]
    np.testing.assert_allclose(
        heights, np.concatenate([reports[0].theory, reports[1].theory, reports[0].exact])
    )


# A small run


@pytest.fixture(scope="module")
def data():
    return fw.load_dataset("digits", n_train=12, n_test=6)


@pytest.fixture(scope="module")
def theory(data):
    net = fw.Network((3,), "erf")
    return fw.solve(net, data.X_train, data.y_train, temperature=0.5)


@pytest.fixture(scope="module")
def tree(data, theory):
    """A run, made up: what the pictures and reports read of one."""
    rng = np.random.default_rng(0)
    dims = ("chain", "draw", "test_pattern")
    f_mean = data.y_test + 0.3 * rng.normal(size=(4, 100, 6))
    predictions = {"f_mean": (dims, f_mean), "f_variance": (dims, np.full((4, 100, 6), 0.04))}
    predictions["f"] = (dims, f_mean + 0.2 * rng.normal(size=f_mean.shape))
    run = xr.DataTree.from_dict(
        {
            "predictions": xr.Dataset(predictions),
            "predictions_constant_data": xr.Dataset(
                {"X_test": (("test_pattern", "input"), data.X_test)}
                | {"y_test": ("test_pattern", data.y_test)}
            ),
            "observed_data": xr.Dataset({"y": ("pattern", data.y_train)}),
            "constant_data": xr.Dataset({"X": (("pattern", "input"), data.X_train)}),
        }
    )
    record = {"network": theory.network.record(), "temperature": 0.5, "model": "marginal"}
    run.attrs["provenance"] = json.dumps(record)
    return run


def test_a_theory_and_a_run_are_compared_first(theory, tree):
    """`plot_comparison(theory, tree)` is `plot_comparison(compare(theory, tree))`."""
    for keywords in ({}, {"theory": theory, "tree": tree}):
        axes = plot_comparison(**keywords) if keywords else plot_comparison(theory, tree)
        for one, other in zip(axes, plot_comparison(fw.compare(theory, tree)), strict=True):
            for line, same in zip(one.get_lines(), other.get_lines(), strict=True):
                np.testing.assert_array_equal(line.get_xydata(), same.get_xydata())
    with pytest.raises(InputError, match="expected theory = "):
        plot_comparison(tree, theory)
    other = fw.solve(theory.network, theory.problem.X, theory.problem.y, temperature=1.0)
    with pytest.raises(InputError, match="same temperature"):
        plot_comparison(other, tree)


def test_a_theory_attached_to_a_run_compares_as_it_did_before(theory, tree):
    attached = fw.attach(tree.copy(), theory)
    again, report = compare_attached(attached, "nested"), fw.compare(theory, tree)
    xr.testing.assert_allclose(again, report)
    assert again.attrs == report.attrs
    with pytest.raises(InputError, match=r"attached to the run = one of \['nested'\], got 'x'"):
        compare_attached(attached, "x")


def test_predictions_are_sorted_by_label_and_mean_with_bars_of_two_deviations(theory, tree):
    ax = plot_predictions(tree, theory)
    posterior, predicted = ax.containers
    y = tree["predictions_constant_data"]["y_test"].values
    mean = tree["predictions"]["f_mean"].mean(("chain", "draw")).values
    order = np.lexsort((mean, y))
    np.testing.assert_allclose(posterior.lines[0].get_ydata(), mean[order])
    law = theory.predict(tree["predictions_constant_data"]["X_test"].values)
    np.testing.assert_allclose(predicted.lines[0].get_ydata(), law.mean[order])
    ends = np.array([segment[:, 1] for segment in predicted.lines[2][0].get_segments()])
    np.testing.assert_allclose(np.diff(ends)[:, 0], 4 * np.sqrt(law.variance[order]))
    assert predicted.lines[0].get_color() == theory_style("nested")["color"]
    assert legend(ax) == ["label $y$", "posterior", "nested theory"]


def test_predictions_of_a_regression_are_drawn_against_y(tree):
    run, y = tree.copy(), np.random.default_rng(0).normal(size=100)
    dims, f = ("chain", "draw", "test_pattern"), np.random.default_rng(1).normal(size=(2, 10, 100))
    run["predictions"] = xr.DataTree(xr.Dataset({"f": (dims, f)}))
    run["predictions_constant_data"] = xr.DataTree(
        xr.Dataset({"X_test": (("test_pattern", "input"), np.ones((100, 64)))}).assign(
            y_test=("test_pattern", y)
        )
    )
    ax = plot_predictions(run)
    np.testing.assert_allclose(lines(ax)["posterior"].get_xdata(), np.sort(y))
    np.testing.assert_allclose(
        lines(ax)["posterior"].get_ydata(), f.mean(axis=(0, 1))[np.argsort(y)]
    )


def test_predictions_refuse_what_they_cannot_draw(theory, tree):
    with pytest.raises(InputError, match="expected output = an int .* 0"):
        plot_predictions(tree, theory, output=1)
    other = fw.solve(theory.network, theory.problem.X, theory.problem.y, temperature=1.0)
    with pytest.raises(InputError, match="same temperature"):
        plot_predictions(tree, other)
    run = tree.copy()
    del run["predictions_constant_data"]
    with pytest.raises(InputError, match="X_test"):
        plot_predictions(run)


# One style


def test_a_theory_has_one_colour_in_every_picture(theory, tree):
    wanted = theory_style("nested")["color"]
    over_widths = plot_comparison([make_report(20), make_report(50)])[0]
    assert lines(over_widths)["nested theory"].get_color() == wanted
    assert plot_comparison(theory, tree)[0].containers[0].lines[0].get_color() == wanted
    curve = make_sweep()
    assert lines(plot_learning_curve(curve))["nested theory"].get_color() == wanted
    assert plot_order_parameters(theory).containers[0].lines[0].get_color() == wanted


def test_colours_of_built_in_theories_differ_in_lightness_or_hue():
    colors = [theory_style(name)["color"] for name in fw.list_theories()]
    assert len(set(colors)) == len(colors)


# Order parameters


@pytest.mark.slow
def test_order_parameters_of_solutions_layer_by_layer(data):
    net = fw.Network((5, 4), "erf")
    solutions = [
        fw.solve(net, data.X_train, data.y_train, temperature=0.5, theory=name)
        for name in ("infinite", "wishart")
    ]
    ax = plot_order_parameters(solutions)
    assert legend(ax) == ["infinite width", "wishart theory"]
    for container, solution in zip(ax.containers, solutions, strict=True):
        np.testing.assert_array_equal(
            container.lines[0].get_xydata(),
            np.stack([[1, 2], solution.order_parameters["q_bar"]], axis=1),
        )


def test_order_parameters_over_a_grid(data):
    grid = fw.solve_many(
        fw.Network((5,), "erf"), data.X_train, data.y_train, widths=[4, 8], temperature=[0.1, 0.5]
    )
    ax = plot_order_parameters(grid, "width")
    assert legend(ax) == ["nested theory, $T$ = 0.1", "nested theory, $T$ = 0.5"]
    np.testing.assert_allclose(
        ax.containers[1].lines[0].get_ydata(), grid["q_bar"].sel(temperature=0.5)[:, 0]
    )
    with pytest.raises(
        InputError, match=r"expected x = one of \['layer', .*'width'\], got 'depth'"
    ):
        plot_order_parameters(grid, "depth")
    with pytest.raises(InputError, match="a Dataset with q_bar"):
        plot_order_parameters(grid.drop_vars("q_bar"))
    with pytest.raises(InputError, match="expected theory = a solution"):
        plot_order_parameters([])


# Learning curve


def make_sweep(seeds=3):
    """A sweep as a Dataset: theories, widths, seeds, and a posterior beside them."""
    width, rng = np.array([20, 50, 200]), np.random.default_rng(0)
    noise = 1e-3 * rng.normal(size=(2, 3, seeds))
    error = 0.1 + 1 / width[:, None] + noise
    exact = 0.1 + 0.9 / width[:, None] + noise[0]
    dims = ("theory", "width", "seed")
    return xr.Dataset(
        {
            "error": (dims, error),
            "accuracy": (dims, 1 - error / 2),
            "exact_error": (dims[1:], exact),
            "exact_error_mcse": (dims[1:], np.full(exact.shape, 5e-4)),
            "exact_accuracy": (dims[1:], 1 - exact / 2),
            "r_hat": (dims[1:], np.where(width[:, None] == 200, 1.2, 1.0) + 0 * exact),
        },
        {"theory": ["nested", "infinite"], "width": width, "seed": np.arange(seeds)},
    )


def test_learning_curve_of_theories_and_posterior_averages_over_seeds():
    sweep = make_sweep()
    axes = plot_learning_curve(sweep, y=("error", "accuracy"))
    assert axes.shape == (2,)
    for ax, score in zip(axes, ("error", "accuracy"), strict=True):
        mean = sweep[score].sel(theory="nested").mean("seed")
        np.testing.assert_allclose(lines(ax)["nested theory"].get_ydata(), mean)
        points = np.concatenate([one.lines[0].get_ydata() for one in ax.containers])
        np.testing.assert_allclose(points, sweep[f"exact_{score}"].mean("seed"))
    assert "posterior, ±2 s.e. over seeds" in legend(axes[0]) and "not mixed" in legend(axes[0])
    segments = axes[0].containers[0].lines[2][0].get_segments()[0]
    spread = float(sweep.exact_error[0].std("seed", ddof=1)) / np.sqrt(3)
    assert segments[1, 1] - segments[0, 1] == pytest.approx(4 * spread)


def test_learning_curve_of_one_seed_has_bars_of_two_mcse():
    ax = plot_learning_curve(make_sweep().isel(seed=[0]))
    segments = ax.containers[0].lines[2][0].get_segments()[0]
    assert segments[1, 1] - segments[0, 1] == pytest.approx(4 * 5e-4)
    assert "posterior, ±2 MCSE" in legend(ax)
    faces = [one.lines[0].get_markerfacecolor() for one in ax.containers]
    assert faces[-1] == "none" and faces[0] != "none"


def test_learning_curve_draws_one_line_for_each_further_value():
    curve = make_curve()
    ax = plot_learning_curve(curve)
    assert set(lines(ax)) == {"$T$ = 0.01", "$T$ = 0.1"}
    np.testing.assert_allclose(lines(ax)["$T$ = 0.1"].get_ydata(), curve.error.sel(temperature=0.1))
    assert ax.get_xscale() == "log"


def test_learning_curve_without_a_further_dimension_draws_bias_and_variance():
    ax = plot_learning_curve(make_curve().sel(temperature=0.1))
    assert len(lines(ax)) == 3
    ax = plot_learning_curve(make_curve(temperatures=(0.1,)))
    assert len(lines(ax)) == 3


def test_learning_curve_over_a_coordinate_that_is_no_dimension():
    ax = plot_learning_curve(make_curve().sel(temperature=0.1), "load")
    np.testing.assert_allclose(ax.get_lines()[0].get_xdata(), sorted(100 / make_curve().width))


def test_learning_curve_keeps_a_linear_axis_for_temperature_zero():
    ax = plot_learning_curve(make_curve(temperatures=(0.0, 0.1)).sel(width=10), "temperature")
    assert ax.get_xscale() == "linear"


def test_learning_curve_refuses_what_it_cannot_draw():
    with pytest.raises(InputError, match="expected dataset = a Dataset with error"):
        plot_learning_curve(make_curve().drop_vars("error"))
    with pytest.raises(InputError, match=r"expected x = one of \['load', 'temperature', 'width'\]"):
        plot_learning_curve(make_curve(), "depth")
    with pytest.raises(InputError, match="at most one further dimension"):
        plot_learning_curve(make_curve().expand_dims(depth=[0, 1]))
    with pytest.raises(InputError, match="expected x = a coordinate of numbers, got 'theory'"):
        plot_learning_curve(make_sweep(), "theory")
    with pytest.raises(InputError, match="a Dataset with log_loss"):
        plot_learning_curve(make_curve(), y="log_loss")


# Kernel


def test_kernel_is_sorted_by_label():
    y = np.array([1.0, -1.0, 1.0, -1.0])
    kernel = np.add.outer(np.arange(4.0), np.arange(4.0))
    ax = plot_kernel(kernel, y)
    order = [1, 3, 0, 2]
    np.testing.assert_array_equal(ax.images[0].get_array(), kernel[np.ix_(order, order)])
    assert [line.get_xdata()[0] for line in ax.get_lines() if line.get_xdata()[0] == 1.5]


def test_kernel_of_a_solution():
    solution = SimpleNamespace(
        renormalized_kernel=np.eye(3), theory="nested", problem=SimpleNamespace(y=np.arange(3.0))
    )
    ax = plot_kernel(solution)
    assert "nested" in ax.get_title()
    np.testing.assert_array_equal(ax.images[0].get_array(), np.eye(3))


def test_kernel_before_and_after_share_their_colours():
    kernel, before = np.eye(4), 2 * np.eye(4)
    axes = plot_kernel(kernel, before=before)
    assert axes.shape == (2,)
    np.testing.assert_array_equal(axes[0].images[0].get_array(), before)
    np.testing.assert_array_equal(axes[1].images[0].get_array(), kernel)
    assert axes[0].images[0].get_clim() == axes[1].images[0].get_clim()
    with pytest.raises(InputError, match=r"expected before = a matrix of shape \(4, 4\)"):
        plot_kernel(kernel, before=np.eye(3))


@pytest.mark.parametrize(
    ("kernel", "y", "message"),
    [
        (np.ones((2, 3)), None, r"square matrix or a Solution, got shape \(2, 3\)"),
        (np.ones(3), None, "square matrix"),
        (np.array([["a"]]), None, "square matrix"),
        (np.full((2, 2), np.nan), None, "finite values only"),
        (
            np.ones((2, 2)),
            np.ones(3),
            r"expected y = .* \(2,\), .* got shape \(3,\)",
        ),
    ],
)
def test_kernel_refuses_bad_input(kernel, y, message):
    with pytest.raises(InputError, match=message):
        plot_kernel(kernel, y)


# Without matplotlib


def test_missing_matplotlib_names_the_extra(monkeypatch):
    real_import = builtins.__import__

    def refuse(name, *args, **kwargs):
        if name.startswith("matplotlib"):
            raise ImportError(name)
        return real_import(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(ImportError, match=r"pip install 'finwidth\[plots\]'"):
        plot_kernel(np.eye(2))
