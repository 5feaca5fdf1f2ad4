"""`sample`: from a network and a training set to draws from the exact posterior."""

import dataclasses
import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np
from jax import Array, random

from . import models
from ._engine import BLOCK, Engine, Reduction
from ._errors import InputError
from ._inputs import (
    check_choice,
    check_count,
    check_inputs,
    check_labels,
    check_temperature,
    check_training,
)
from ._network import Network, check_network
from ._precision import precision
from ._progress import Progress
from ._readout import condition
from ._rotation import InputRotation, rotate_inputs
from .samplers import available

if TYPE_CHECKING:
    import xarray as xr

__all__ = ["SamplingInterrupted", "sample"]

# Without `keep`, hidden weights are stored as long as the posterior group stays below this.
_DEFAULT_STORE = 256 * 2**20


class SamplingInterrupted(KeyboardInterrupt):
    """Ctrl-C during `finwidth.sample`, after some draws.

    Attributes
    ----------
    tree
        The draws so far, as `finwidth.sample` returns them.
    """

    def __init__(self, message: str, tree: "xr.DataTree") -> None:
        super().__init__(message)
        self.tree = tree


@dataclasses.dataclass(frozen=True, eq=False)
class _Task:
    """The checked arguments of a run."""

    network: Network
    X: np.ndarray
    y: np.ndarray
    temperature: float
    X_test: np.ndarray | None
    y_test: np.ndarray | None
    model: str
    dtype: str
    rotation: InputRotation | None
    keep: tuple[str, ...]


def sample(
    net: Network,
    X: Any,
    y: Any,
    *,
    temperature: float,
    X_test: Any = None,
    y_test: Any = None,
    model: str = "marginal",
    sampler: str = "split_hmc",
    num_warmup: int | None = None,
    num_samples: int | None = None,
    num_chains: int = 4,
    seed: int = 0,
    thin: int = 1,
    keep: Sequence[str] | None = None,
    dtype: str = "float64",
    blas_threads: int | None = 1,
    sampler_options: Mapping[str, Any] | None = None,
    data_name: str | None = None,
    progress: bool = True,
) -> "xr.DataTree":
    """Sample the exact posterior of a network.

    Parameters
    ----------
    net
        The network.
    X, y
        Training set, shapes (pattern, input) and (pattern,).
    temperature
        T > 0.
    X_test, y_test
        Test points, shapes (test_pattern, input) and (test_pattern,), for predictions of f.
    model
        "marginal" (readout integrated exactly) or "network" (all weights).
    sampler
        "split_hmc", "nuts", "hmc" or "langevin".
    num_warmup, num_samples
        Transitions that adapt the sampler, and stored draws, per chain. Default: the sampler's.
    num_chains
        Number of chains. On CPUs each runs on a thread of its own, as many at a time as there
        are cores; on other devices they advance side by side.
    seed
        Seed of all randomness: the same call gives the same draws.
    thin
        Transitions per stored draw.
    keep
        Names of the sites to store. Default: all while they take less than 256 MiB, else all but
        the hidden layers' weights and biases.
    dtype
        "float64" or "float32".
    blas_threads
        Threads of each linear-algebra call while this runs; more than one slows batches of
        small factorisations down. None leaves the process as it is.
    sampler_options
        Options of the sampler's kernel, for example ``{"trajectory": 1.5}``.
    data_name
        Name of the data, for the provenance.
    progress
        Whether to show progress on stderr.

    Returns
    -------
    xarray.DataTree
        Groups posterior, sample_stats, observed_data, constant_data and, with test points,
        predictions (f; with model="marginal" also f_mean and f_variance, the exact moments of f
        given the hidden weights of a draw) and predictions_constant_data. Dimensions chain,
        draw, pattern, test_pattern, unit (unit_ℓ for several hidden layers), input. The
        attribute provenance is a JSON record.

    Raises
    ------
    InputError
        If an argument is not as described; before any sampling.
    SamplingInterrupted
        On Ctrl-C after some draws; they are in ``.tree``.

    References
    ----------
    theory.md, sections 1 and 9.
    """
    import threadpoolctl

    task = _checked_task(net, X, y, temperature, X_test, y_test, model, dtype, data_name)
    samplers = available()
    check_choice("sampler", sampler, samplers)
    chosen = samplers[sampler]
    num_warmup = (
        chosen.num_warmup if num_warmup is None else check_count("num_warmup", num_warmup, 0)
    )
    num_samples = (
        chosen.num_samples if num_samples is None else check_count("num_samples", num_samples)
    )
    check_count("num_chains", num_chains)
    check_count("seed", seed, 0)
    check_count("thin", thin)
    if blas_threads is not None:
        check_count("blas_threads", blas_threads)
    task = dataclasses.replace(task, keep=_sites_to_keep(task, keep, num_samples * num_chains))
    options = dict(sampler_options or {})
    settings = {
        "model": model,
        "sampler": sampler,
        "sampler_options": options,
        "num_warmup": num_warmup,
        "num_samples": num_samples,
        "num_chains": num_chains,
        "seed": seed,
        "thin": thin,
        "keep": list(task.keep),
        "dtype": dtype,
        "data_name": data_name,
    }
    with precision(dtype), threadpoolctl.threadpool_limits(blas_threads, user_api="blas"):
        density, arguments, keywords = _density(task)
        try:
            kernel = chosen.kernel(density, **options)
        except TypeError as error:
            raise InputError(
                f"expected sampler_options = options of sampler {sampler!r}, got {error}"
            ) from None
        engine = Engine(
            kernel,
            Reduction(_reduction(task)),
            num_chains=num_chains,
            num_warmup=num_warmup,
            seed=seed,
            model_args=arguments,
            model_kwargs=keywords,
        )
        blocks: list[dict[str, np.ndarray]] = []
        title = f"{sampler} on {model}, N={list(net.widths)}, T={task.temperature:g}"
        try:
            with Progress(
                title, _stored(task, num_samples * num_chains), num_warmup + num_samples, progress
            ) as bar:
                _run(engine, num_warmup, num_samples, thin, blocks, bar)
        except KeyboardInterrupt:
            if not blocks:
                raise
            tree = _tree(task, blocks, settings | {"interrupted": True})
            drawn = sum(block["stats:lp"].shape[1] for block in blocks)
            raise SamplingInterrupted(
                f"interrupted after {drawn} of {num_samples} draws per chain; they are in .tree",
                tree,
            ) from None
        finally:
            engine.close()
    return _tree(task, blocks, settings)


def _run(
    engine: Engine, num_warmup: int, num_samples: int, thin: int, blocks: list, bar: Progress
) -> None:
    """Warm up, then append blocks of draws to `blocks`."""
    for phase, total in (("warm-up", num_warmup), ("sampling", num_samples)):
        done = 0
        while done < total:
            count = min(BLOCK, total - done)
            block = engine.advance(count, thin if phase == "sampling" else 1)
            done += count
            if phase == "sampling":
                blocks.append(block)
            else:
                engine.pool()
            bar.update(
                count,
                f"{phase}, step {block['stats:step_size'].mean():.2g}, "
                f"acceptance {block['stats:acceptance_rate'].mean():.2f}",
            )


def _checked_task(
    net: Any,
    X: Any,
    y: Any,
    temperature: Any,
    X_test: Any,
    y_test: Any,
    model: Any,
    dtype: Any,
    data_name: Any,
) -> _Task:
    check_network(net)
    X, y = check_training(X, y)
    temperature = check_temperature(temperature, zero=False)
    check_choice("model", model, ("marginal", "network"))
    check_choice("dtype", dtype, ("float32", "float64"))
    if data_name is not None and not isinstance(data_name, str):
        raise InputError(f"expected data_name = a string or None, got {data_name!r}")
    if X_test is not None:
        X_test = check_inputs(X_test, name="X_test", n_inputs=X.shape[1])
    if y_test is not None:
        if X_test is None:
            raise InputError("expected X_test together with y_test, got X_test=None")
        y_test = check_labels(y_test, X_test.shape[0], name="y_test", of="X_test")
    nothing = np.zeros((0, X.shape[1]))
    rotation = rotate_inputs(X, nothing if X_test is None else X_test)
    return _Task(net, X, y, temperature, X_test, y_test, model, dtype, rotation, ())


def _site_shapes(task: _Task) -> dict[str, tuple[tuple[str, ...], tuple[int, ...]]]:
    """Dimensions and shapes of the sites as they are stored, in the original inputs."""
    net = task.network
    shapes = {}
    previous = ("input", task.X.shape[1])
    for layer, width in enumerate(net.widths, start=1):
        unit = models.unit_dim(net, layer)
        shapes[f"W_{layer}"] = ((unit, previous[0]), (width, previous[1]))
        if net.bias_precision is not None:
            shapes[f"b_{layer}"] = ((unit,), (width,))
        previous = (unit, width)
    shapes["v"] = ((previous[0],), (previous[1],))
    if net.bias_precision is not None:
        shapes["b_out"] = ((), ())
    return shapes


def _bytes(task: _Task, names: Sequence[str], draws: int) -> int:
    shapes = _site_shapes(task)
    return sum(math.prod(shapes[name][1]) for name in names) * draws * np.dtype(task.dtype).itemsize


def _sites_to_keep(task: _Task, keep: Any, draws: int) -> tuple[str, ...]:
    sites = tuple(_site_shapes(task))
    if keep is None:
        readout = tuple(name for name in sites if name in ("v", "b_out"))
        return sites if _bytes(task, sites, draws) < _DEFAULT_STORE else readout
    if isinstance(keep, str) or not all(name in sites for name in keep) or not keep:
        raise InputError(f"expected keep = names out of {list(sites)}, got {keep!r}")
    return tuple(name for name in sites if name in set(keep))


def _stored(task: _Task, draws: int) -> str:
    """Say what a run will store."""
    size = _bytes(task, task.keep, draws)
    if task.X_test is not None:
        size += (3 if task.model == "marginal" else 1) * task.X_test.shape[0] * draws * 8
    what = ", ".join((*task.keep, *(() if task.X_test is None else ("f(X_test)",))))
    return f"storing {what}: {size / 2**20:.1f} MiB"


def _density(task: _Task) -> tuple[Callable[..., None], tuple, dict]:
    X = task.X if task.rotation is None else task.rotation.train
    function = models.marginal if task.model == "marginal" else models.network
    real = np.dtype(task.dtype)
    return (
        function,
        (task.network, jnp.asarray(X, real), jnp.asarray(task.y, real)),
        {"temperature": task.temperature},
    )


def _reduction(task: _Task) -> Callable[[Array, dict[str, Array]], dict[str, Array]]:
    """Return the function from a draw of the latent sites to what is stored of it."""
    net, rotation = task.network, task.rotation
    real = np.dtype(task.dtype)
    X = jnp.asarray(task.X if rotation is None else rotation.train, real)
    y = jnp.asarray(task.y, real)
    X_test = None if task.X_test is None else jnp.asarray(task.X_test, real)
    marginal = task.model == "marginal"
    whole = "W_1" in task.keep or rotation is None
    extended = None if rotation is None else jnp.asarray(rotation.test, real)

    def reduce(rng_key: Array, sites: dict[str, Array]) -> dict[str, Array]:
        weight_key, readout_key = random.split(rng_key)
        sites = dict(sites)
        fitted = sites
        if rotation is not None:
            complete = rotation.restore if whole else rotation.extend
            weights = complete(weight_key, sites["W_1"], net.weight_precision[0])
            sites = sites | {"W_1": weights}
        points = X_test if whole else extended
        stored = {}
        readout = None
        if marginal:
            features = models.hidden_features(net, fitted, X)
            readout = condition(models.readout_features(net, features), y, task.temperature)
            coefficients = readout.draw(readout_key)
            width = net.widths[-1]
            sites["v"] = coefficients[:width] / math.sqrt(net.weight_precision[-1])
            if net.bias_precision is not None:
                sites["b_out"] = coefficients[width] / math.sqrt(net.bias_precision[-1])
        if points is not None and task.X_test is not None:
            features = models.hidden_features(net, sites, points)
            f = features @ sites["v"] / math.sqrt(net.widths[-1])
            stored["f"] = f + sites["b_out"] if net.bias_precision is not None else f
            if readout is not None:
                block = models.readout_features(net, features)
                stored["f_mean"], stored["f_variance"] = readout.moments(block)
        return stored | {f"site:{name}": sites[name] for name in task.keep}

    return reduce


def _tree(task: _Task, blocks: list[dict[str, np.ndarray]], settings: dict) -> "xr.DataTree":
    """Assemble the DataTree."""
    import xarray as xr

    from ._io import provenance

    draws = {name: np.concatenate([block[name] for block in blocks], axis=1) for name in blocks[0]}
    n_chains, n_draws = draws["stats:lp"].shape
    shapes = _site_shapes(task)
    lead = ("chain", "draw")

    def group(prefix: str, dims: Callable[[str], tuple[str, ...]]) -> "xr.Dataset":
        variables = {
            name.removeprefix(prefix): (lead + dims(name.removeprefix(prefix)), value)
            for name, value in draws.items()
            if name.startswith(prefix)
        }
        sizes: dict[str, int] = {}
        for names, value in variables.values():
            sizes |= dict(zip(names, value.shape, strict=True))
        return xr.Dataset(variables, coords={name: np.arange(n) for name, n in sizes.items()})

    groups = {
        "posterior": group("site:", lambda name: shapes[name][0]),
        "sample_stats": group("stats:", lambda name: ()),
        "observed_data": xr.Dataset(
            {"y": ("pattern", task.y)}, coords={"pattern": np.arange(task.y.size)}
        ),
        "constant_data": xr.Dataset(
            {"X": (("pattern", "input"), task.X)},
            coords={"pattern": np.arange(task.y.size), "input": np.arange(task.X.shape[1])},
        ),
    }
    if task.X_test is not None:
        points = np.arange(task.X_test.shape[0])
        coords = {"chain": np.arange(n_chains), "draw": np.arange(n_draws), "test_pattern": points}
        groups["predictions"] = xr.Dataset(
            {
                name: ((*lead, "test_pattern"), draws[name])
                for name in ("f", "f_mean", "f_variance")
                if name in draws
            },
            coords=coords,
        )
        constants: dict[str, Any] = {"X_test": (("test_pattern", "input"), task.X_test)}
        if task.y_test is not None:
            constants["y_test"] = ("test_pattern", task.y_test)
        groups["predictions_constant_data"] = xr.Dataset(
            constants, coords={"test_pattern": points, "input": np.arange(task.X_test.shape[1])}
        )
    record = provenance(task.network, temperature=task.temperature, **settings)
    for name in ("posterior", "sample_stats", "predictions"):
        if name in groups:
            groups[name].attrs |= {
                "inference_library": "finwidth",
                "inference_library_version": record["versions"]["finwidth"],
                "created_at": record["created"],
            }
    tree = xr.DataTree.from_dict(groups)
    tree.attrs["provenance"] = json.dumps(record)
    return tree
