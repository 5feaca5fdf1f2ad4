"""Random data: the same order parameter whatever the law of the inputs, and its fall with depth."""

import dataclasses
import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.optimize
from jaxtyping import Float

from .._plots._common import shades
from .._problem.network import Network
from .._solve import solve
from .._sweeps.many import solve_many
from ._figure import Figure, Table
from ._picture import grid, legend, log_axis, write_legend
from ._study import Study

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["deep_linear_scale", "figure", "random_criterion", "scale"]


def _gaussian(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.standard_normal(shape)


def _signs(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.choice([-1.0, 1.0], shape)


def _uniform(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    return rng.uniform(-math.sqrt(3.0), math.sqrt(3.0), shape)


# Laws of the inputs, of mean 0 and variance 1, and of the labels
_INPUTS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "Gaussian inputs": _gaussian,
    "inputs ±1": _signs,
    "uniform inputs": _uniform,
}
_LABELS: dict[str, Callable[[np.random.Generator, tuple[int, int]], np.ndarray]] = {
    "labels ±1": _signs,
    "Gaussian labels": _gaussian,
}


@dataclasses.dataclass(frozen=True)
class _Size:
    n_train: int
    ratio: float  # N_0/P
    loads: tuple[float, ...]  # P/N_1
    n_seeds: int
    depths: tuple[int, ...]
    load: float  # of the networks of several layers


_LOADS = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_SIZES = {
    "quick": _Size(100, 2.0, _LOADS, 3, (1, 2, 3, 4), 1.0),
    "default": _Size(200, 2.0, _LOADS, 5, (1, 2, 3, 4, 5, 6, 8), 1.0),
    "paper": _Size(500, 784 / 500, _LOADS, 10, (1, 2, 3, 4, 5, 6, 8, 10), 1.0),
}


def random_criterion(ratio: float, linear: float, constant: float) -> float:
    """Return yᵀK⁻¹y/P for inputs and labels of independent entries, where P and N_0 are large.

    The kernel is then that of a line plus noise, linear · XXᵀ/N_0 + constant · 1, and the
    eigenvalues of XXᵀ/N_0 follow Marchenko & Pastur's law, whatever the law of the entries.

    Parameters
    ----------
    ratio
        P/N_0.
    linear, constant
        Of the kernel: (E σ')², and what the diagonal has beyond it.

    Returns
    -------
    float
        E 1/(linear · e + constant) over the eigenvalues e.

    References
    ----------
    Marchenko & Pastur, Math. USSR Sb. 1, 457 (1967).
    """
    z = constant / linear  # Stieltjes transform at −z: ratio z s² + (z + 1 − ratio) s − 1 = 0
    b = z + 1.0 - ratio
    return (math.sqrt(b * b + 4.0 * ratio * z) - b) / (2.0 * ratio * z) / linear


def scale(load: Float[np.ndarray, " load"], criterion: float) -> Float[np.ndarray, " load"]:
    """Return Q̄ at T = 0 of one odd hidden layer from P/N_1 and λ_1 yᵀK⁻¹y/P (theory.md, 2)."""
    return 0.5 * (1.0 - load + np.sqrt((1.0 - load) ** 2 + 4.0 * load * criterion))


def deep_linear_scale(depth: int, load: float, criterion: float) -> float:
    """Return Q̄ = u/σ² of each layer of a deep linear network of equal widths at T = 0.

    Parameters
    ----------
    depth
        L.
    load
        α = P/N.
    criterion
        yᵀK⁻¹y/P of the network's infinite-width kernel: r_0/σ^{2L}.

    Returns
    -------
    float
        The root of 1 − Q̄ = α (1 − criterion/Q̄^L).

    References
    ----------
    Li & Sompolinsky, Phys. Rev. X 11, 031059 (2021); theory.md, section 6.
    """

    def missed(log_q: float) -> float:
        return 1.0 - math.exp(log_q) - load * (1.0 - criterion * math.exp(-depth * log_q))

    root: Any = scipy.optimize.brentq(missed, -50.0, 50.0, xtol=1e-14)
    return math.exp(root)


def _data(
    size: _Size, inputs: str, labels: str, seed: int
) -> tuple[Float[np.ndarray, "pattern input"], Float[np.ndarray, " pattern"]]:
    for_inputs, for_labels = np.random.default_rng(seed).spawn(2)
    P, n_inputs = size.n_train, round(size.ratio * size.n_train)
    return _INPUTS[inputs](for_inputs, (P, n_inputs)), _LABELS[labels](for_labels, (1, P))[0]


def _compute(study: Study) -> "xr.Dataset":
    import xarray as xr

    size = study.of(_SIZES)
    P, seeds = size.n_train, range(size.n_seeds)
    laws = [(one, "labels ±1") for one in _INPUTS] + [("Gaussian inputs", "Gaussian labels")]
    widths = [max(1, round(P / load)) for load in size.loads]
    study.say(f"{len(laws)} laws of random data × {size.n_seeds} seeds, P = {P}")
    net = Network((1,), "erf")
    q_bar, criterion = [], []
    for inputs, labels in laws:
        for seed in seeds:
            X, y = _data(size, inputs, labels, seed)
            many = solve_many(net, X, y, widths=widths, temperature=0.0)
            q_bar.append(many["q_bar"].isel(temperature=0, layer=0).values)
            infinite = solve(net, X, y, temperature=0.0, theory="infinite")
            criterion.append(float(np.asarray(infinite.criterion)))
    shape = len(laws), size.n_seeds
    study.say(f"order parameters of {max(size.depths)} layers")
    # E over C = 1, the variance of h: (E σ')² and E σ²
    linear, second = 4.0 / (3.0 * math.pi), 2.0 / math.pi * math.asin(2.0 / 3.0)
    n_inputs = round(size.ratio * P)
    predicted = random_criterion(P / n_inputs, linear, second - linear)
    result = xr.Dataset(
        {
            "q_bar": (("law", "seed", "load"), np.reshape(q_bar, (*shape, -1))),
            "criterion": (("law", "seed"), np.reshape(criterion, shape)),
            "predicted_criterion": predicted,
            "predicted_q_bar": ("load", scale(P / np.asarray(widths), predicted)),
        },
        coords={
            "law": [f"{inputs}, {labels}" for inputs, labels in laws],
            "seed": list(seeds),
            "load": P / np.asarray(widths),
        },
        attrs={"n_train": P, "n_inputs": n_inputs, "temperature": 0.0},
    )
    return result.assign(_at_depth(size, *_data(size, *laws[0], 0)))


def _at_depth(size: _Size, X: np.ndarray, y: np.ndarray) -> dict[str, Any]:
    """Return the order parameters of deep networks of random data, and the law of linear ones."""
    width = max(1, round(len(y) / size.load))
    # λ = 1 makes linear networks gain from finite width or lose by it as the labels' scale is
    networks = {"identity": 1.0, "erf": 1.0, "relu": 0.5}
    found = np.full((len(networks), len(size.depths), max(size.depths)), np.nan)
    criteria = np.full((len(networks), len(size.depths)), np.nan)
    for k, (activation, precision) in enumerate(networks.items()):
        for j, depth in enumerate(size.depths):
            net = Network((width,) * depth, activation, (1.0, *(precision,) * depth))
            theory = "wishart" if activation == "relu" else "nested"
            solution = solve(net, X, y, temperature=0.0, theory=theory)
            found[k, j, :depth] = solution.order_parameters["q_bar"].values
            criteria[k, j] = float(np.asarray(solution.criterion))
    law = [
        deep_linear_scale(depth, len(y) / width, float(criteria[0, j]))
        for j, depth in enumerate(size.depths)
    ]
    return {
        "layer_q_bar": (("activation", "depth", "layer"), found),
        "depth_criterion": (("activation", "depth"), criteria),
        "linear_law": ("depth", law),
        "activation": list(networks),
        "depth": list(size.depths),
        "layer": np.arange(1, max(size.depths) + 1),
        "width": width,
    }


def _tabulate(dataset: "xr.Dataset") -> list[Table]:
    predicted = float(dataset["predicted_criterion"])
    rows = [
        (
            "Marchenko–Pastur",
            f"{predicted:.4f}",
            *(f"{float(one):.4f}" for one in dataset["predicted_q_bar"]),
        )
    ]
    for law in dataset["law"].values:
        one = dataset.sel(law=law)
        rows.append(
            (
                str(law),
                _spread(one["criterion"].values),
                *(_spread(one["q_bar"].sel(load=load).values) for load in dataset["load"].values),
            )
        )
    P, n_inputs = dataset.attrs["n_train"], dataset.attrs["n_inputs"]
    first = Table(
        f"Random data, erf, P = {P}, N_0 = {n_inputs}, T = 0: yᵀK⁻¹y/P and Q̄, mean ± standard "
        f"deviation over {dataset.sizes['seed']} seeds",
        ("", "criterion", *(f"P/N_1 = {load:.3g}" for load in dataset["load"].values)),
        rows,
    )
    rows = []
    for name in dataset["activation"].values:
        for depth in dataset["depth"].values:
            one = dataset.sel(activation=name, depth=depth)
            order = [f"{q:.4f}" for q in one["layer_q_bar"].values if not math.isnan(q)]
            law = f"{float(one['linear_law']):.4f}" if name == "identity" else ""
            rows.append(
                (
                    str(name),
                    f"{depth}",
                    f"{float(one['depth_criterion']):.4f}",
                    law,
                    " ".join(order),
                )
            )
    second = Table(
        f"Order parameters against depth, Gaussian inputs, labels ±1, P = {P}, "
        f"N = {int(dataset['width'])}, T = 0",
        ("network", "L", "criterion", "deep linear law", "Q̄_1 … Q̄_L"),
        rows,
    )
    return [first, second]


def _spread(values: np.ndarray) -> str:
    return f"{values.mean():.3f} ± {values.std(ddof=1) if values.size > 1 else 0.0:.3f}"


def _draw(dataset: "xr.Dataset") -> dict[str, Any]:
    picture, axes = grid(1, 3, (3.0, 2.6))
    left, middle, right = axes[0]
    left.plot(
        dataset["load"], dataset["predicted_q_bar"], color="black", lw=1.0, label="Marchenko–Pastur"
    )
    for color, marker, law in zip(
        shades(dataset.sizes["law"]), "osD^vP", dataset["law"].values, strict=False
    ):
        one = dataset["q_bar"].sel(law=law)
        left.errorbar(
            one["load"],
            one.mean("seed"),
            one.std("seed"),
            fmt=marker,
            color=color,
            ms=4,
            mfc="none",
            label=str(law),
        )
    log_axis(left)
    left.set_xlabel(r"load $P/N_1$")
    left.set_ylabel(r"$\bar Q$")
    left.set_title("erf, one layer, random data", fontsize="small")
    legend(left)
    linear = dataset.sel(activation="identity")
    middle.plot(
        linear["depth"], linear["linear_law"], color="black", lw=1.0, label="deep linear law"
    )
    middle.plot(
        linear["depth"],
        linear["layer_q_bar"].mean("layer"),
        "o",
        ms=5,
        mfc="none",
        color=shades(3)[1],
        label=r"solved, all layers",
    )
    middle.set_title("identity", fontsize="small")
    middle.set_xlabel(r"hidden layers $L$")
    middle.set_ylabel(r"$\bar Q_\ell$")
    legend(middle)
    for line, name in (("-", "erf"), ("--", "relu")):
        for color, layer in zip(
            shades(dataset.sizes["layer"]), dataset["layer"].values, strict=True
        ):
            one = dataset["layer_q_bar"].sel(activation=name, layer=layer)
            right.plot(
                one["depth"],
                one,
                line,
                marker=".",
                color=color,
                label=rf"$\ell = {layer}$" if name == "erf" else None,
            )
    right.set_title("erf (lines), ReLU (dashed)", fontsize="small")
    right.set_xlabel(r"hidden layers $L$")
    write_legend(picture, [right], 8)
    return {"": picture}


figure = Figure(
    "universality",
    "random data: universal order parameters, and order parameters against depth",
    _compute,
    _tabulate,
    _draw,
)
