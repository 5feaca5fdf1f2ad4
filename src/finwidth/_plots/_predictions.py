"""The posterior of f at the test points, beside what theories say and the labels."""

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .._basics.checks import check_count, check_solution, check_tree
from .._basics.errors import InputError
from .._results.attach import predictive_law
from .._results.attached import attached_theories
from .._results.provenance import require_same_run
from .._results.scores import read_test_run
from . import _common

if TYPE_CHECKING:
    import xarray as xr
    from matplotlib.axes import Axes

__all__ = ["plot_predictions", "shown_theories"]

_FEW = 60  # test points up to which each has its bar
_CLASSES = 10  # different labels up to which patterns are sorted by them


class _Law(NamedTuple):
    """Mean and standard deviation of f at the test points."""

    mean: np.ndarray
    sd: np.ndarray


def plot_predictions(
    tree: "xr.DataTree", theory: Any = None, *, output: int = 0, ax: Any = None
) -> "Axes":
    """Plot the posterior of f at the test points against the labels y, beside theories.

    Parameters
    ----------
    tree
        What `finwidth.sample` returned with X_test and y_test.
    theory
        What `finwidth.solve` or `finwidth.mixture` returned for the same network. None: the
        theories that `finwidth.attach` put into the tree, without infinite width if there are
        others.
    output
        Which output is drawn where there are several.
    ax
        Axes to draw on. None: a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Where labels take up to ten values, f against the test patterns, sorted by label and by the
        mean of f, labels as lines; otherwise f against y. Black is the posterior, mean ±2
        standard deviations of f; colours are those of the theories, likewise.

    Raises
    ------
    InputError
        If the tree lacks predictions or y_test, or the theory belongs to another run.
    ImportError
        If matplotlib is not installed.
    """
    check_tree(tree)
    run = read_test_run(tree)
    outputs = run.y_test.shape[1] if run.y_test.ndim == 2 else 1
    check_count("output", output, minimum=0, maximum=outputs - 1)
    pick = (slice(None), output) if run.y_test.ndim == 2 else (slice(None),)
    if theory is None:
        laws = {name: _attached(tree, name, pick) for name in shown_theories(tree)}
    else:
        check_solution(theory, "theory")
        require_same_run(theory, tree)
        law = predictive_law(theory, run.x_test)
        mean, variance = (np.asarray(v)[pick] for v in (law.mean, law.variance))
        laws = {str(theory.theory): _Law(mean, np.sqrt(variance))}
    draws = run.draws
    mean = draws.mean.mean(axis=(0, 1))[pick]
    spread = draws.mean.var(axis=(0, 1)) + draws.variance.mean(axis=(0, 1))
    laws = {"": _Law(mean, np.sqrt(spread[pick]))} | laws
    (axis,) = _common.axes(ax, 1, (7.0, 3.8))
    _draw(axis, run.y_test[pick], laws)
    axis.set_ylabel(rf"$f_{output}(x)$, ±2 s.d." if outputs > 1 else r"$f(x)$, ±2 s.d.")
    return axis


def shown_theories(tree: "xr.DataTree") -> list[str]:
    """Return the theories of a run that are drawn: infinite width where there is no other."""
    names = attached_theories(tree)
    return [name for name in names if name != "infinite"] or names


def _attached(tree: "xr.DataTree", name: str, pick: Any) -> _Law:
    group = tree["theory"][name]
    if not {"f_mean", "f_variance"} <= set(group.data_vars):
        raise InputError(
            f"expected f_mean and f_variance in group 'theory/{name}', got "
            f"{sorted(map(str, group.data_vars))}"
        )
    mean, variance = (np.asarray(group[one].values)[pick] for one in ("f_mean", "f_variance"))
    return _Law(mean, np.sqrt(variance))


def _draw(axis: "Axes", y: np.ndarray, laws: dict[str, _Law]) -> None:
    labels = np.unique(y)
    sort = len(labels) <= _CLASSES
    order = np.lexsort((laws[""].mean, y)) if sort else np.argsort(y, kind="stable")
    place = np.arange(y.size, dtype=np.float64) if sort else y[order]
    if sort:
        from matplotlib.ticker import MaxNLocator

        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        for value in labels:
            inside = place[y[order] == value]
            ends = (inside[0] - 0.5, inside[-1] + 0.5)
            text = "label $y$" if value == labels[0] else None
            axis.plot(ends, (value, value), color="#E69F00", linewidth=2.5, label=text, zorder=1)
        axis.set_xlabel("test pattern, sorted by label and posterior mean")
    else:
        ends = (y.min(), y.max())
        axis.plot(ends, ends, color="#E69F00", linewidth=2.0, label="$f = y$", zorder=1)
        axis.set_xlabel("label $y$ of the test pattern")
    # beside each other, not on top of each other
    step = 0.7 / len(laws) if sort else 0.008 * (np.ptp(y) or 1.0)
    for i, (name, law) in enumerate(laws.items()):
        style: dict[str, Any] = {"color": _common.POSTERIOR, "marker": "o", "markersize": 4}
        style = _common.theory_style(name) if name else style
        text = _common.theory_label(name) if name else "posterior"
        mean, bars = law.mean[order], 2.0 * law.sd[order]
        if y.size <= _FEW:
            shift = step * (i - (len(laws) - 1) / 2)
            marker = style.pop("marker")
            axis.errorbar(place + shift, mean, bars, fmt=marker, linewidth=1.0, label=text, **style)
            continue
        style["markersize"] = 2 if sort else 4 + 2 * i
        face = "none" if name and not sort else style["color"]  # rings around the posterior's dots
        axis.plot(place, mean, linestyle="", label=text, markerfacecolor=face, **style)
        if sort:
            color = style["color"]
            axis.fill_between(place, mean - bars, mean + bars, color=color, alpha=0.13, linewidth=0)
        else:
            axis.vlines(place, mean - bars, mean + bars, color=style["color"], alpha=0.3, lw=0.6)
    axis.margins(x=0.02)
    _common.legend_above(axis, *axis.get_legend_handles_labels(), ncols=5)
