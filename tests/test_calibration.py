"""Simulation-based calibration: the sampled posterior is the posterior of the model in theory.md.

A truth θ* is drawn from the prior and data from θ*; then θ* and draws from the posterior of these
data are alike, so the rank of any quantity of θ* among those of the draws is uniform (Talts et
al., arXiv:1804.06788, 2018), also of quantities that depend on the data, and only those see some
errors (Modrák et al., Bayesian Anal., 2023). Weights, data and quantities come from the few lines
below, which share nothing with finwidth's models.

The chain starts at θ* itself: θ* is put at a random place of a sequence of draws, which is
continued from there on both sides. The kernel is reversible, so the sequence is stationary and
the rank is exactly uniform, whatever the autocorrelation (Besag & Clifford, Biometrika 76, 633
(1989); Gandy & Scott, arXiv:2001.06465, 2020). Slow mixing could only hide an error, so acceptance
and the independence of successive draws are asserted too.
"""

import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats
from jax import lax, random

import finwidth as fw
from finwidth._numerics.precision import float64
from finwidth.infer import SplitHMC
from finwidth.models._readout import condition

N_DRAWS = 9
BATCH = 50
# Below this a rank histogram is not uniform; bounds all quantities of a case together.
REJECT = 1e-4
ACTIVATIONS = {
    "erf": jax.scipy.special.erf,
    "tanh": jnp.tanh,
    "relu": lambda h: jnp.maximum(h, 0),
    "identity": lambda h: h,
}


@dataclasses.dataclass(frozen=True)
class Case:
    """A posterior and how to walk through it.

    `thin` transitions of mean length `trajectory` lie between two draws.
    """

    net: fw.Network
    model: str
    step_size: float
    thin: int
    trajectory: float = 1.2
    temperature: float = 0.1
    n_patterns: int = 20
    n_inputs: int = 4
    likelihood: str = "gaussian"

    def __str__(self) -> str:
        widths = "-".join(map(str, self.net.widths))
        bias = "-bias" if self.net.bias_precision else ""
        outputs = "" if self.net.outputs == 1 else f"-D{self.net.outputs}"
        kind = "" if self.likelihood == "gaussian" else f"-{self.likelihood}"
        kind += "" if self.net.dense else f"-{type(self.net.layers[-1]).__name__.lower()}"
        return f"{self.model}-{self.net.activation.name}-{widths}{bias}{outputs}{kind}"


@dataclasses.dataclass(frozen=True)
class Calibration:
    """Ranks 0 … N_DRAWS of the truth, by quantity, each of shape (replicate,).

    `independence` is 1 − ρ for the correlation ρ of neighbouring draws of the misfit.
    """

    ranks: dict[str, np.ndarray]
    acceptance: float
    independence: float

    def p_values(self) -> dict[str, float]:
        return {name: p_value(ranks, N_DRAWS + 1) for name, ranks in self.ranks.items()}

    def report(self) -> str:
        lines = [f"acceptance {self.acceptance:.2f}, independence {self.independence:.2f}"]
        for name, p in self.p_values().items():
            histogram = np.bincount(self.ranks[name], minlength=N_DRAWS + 1)
            lines.append(f"{name}: p = {p:.2g}, ranks {histogram.tolist()}")
        return "\n".join(lines)


def p_value(ranks: np.ndarray, n_values: int) -> float:
    """Bound the probability that uniform ranks deviate as much, anywhere, as these.

    The largest deviation of the empirical distribution function, each point measured by its
    binomial law (Säilynoja, Bürkner & Vehtari, Stat. Comput. 32, 32 (2022)), times the number of
    points.
    """
    below = np.cumsum(np.bincount(ranks, minlength=n_values))[:-1]
    law = scipy.stats.binom(ranks.size, np.arange(1, n_values) / n_values)
    tail = np.minimum(law.cdf(below), law.sf(below - 1)).min()
    return float(min(1.0, 2 * (n_values - 1) * tail))


def draw_weights(net: fw.Network, n_inputs: int, key: jax.Array) -> dict[str, jax.Array]:
    """θ* from the prior of theory.md, section 1, of several outputs section 11."""
    fan_in, several = (n_inputs, *net.widths), () if net.outputs == 1 else (net.outputs,)
    shapes = {f"W_{n}": (fan_in[n], fan_in[n - 1]) for n in range(1, net.depth + 1)}
    precision = dict(zip([*shapes, "v"], net.weight_precision, strict=True))
    shapes["v"] = fan_in[-1:] + several
    if isinstance(net.layers[0], fw.Convolution):  # of square images, section 16
        (layer,) = net.layers
        patches = ((math.isqrt(n_inputs) - layer.patch) // layer.stride + 1) ** 2
        shapes |= {"W_1": (layer.width, layer.patch**2), "v": (layer.width, patches)}
    if net.bias_precision is not None:
        biases = {f"b_{n}": (fan_in[n],) for n in range(1, net.depth + 1)} | {"b_out": several}
        precision |= dict(zip(biases, net.bias_precision, strict=True))
        shapes |= biases
    keys = random.split(key, len(shapes))
    return {
        name: random.normal(key, shape) / math.sqrt(precision[name])
        for key, (name, shape) in zip(keys, shapes.items(), strict=True)
    }


def output(net: fw.Network, weights: dict[str, jax.Array], X: jax.Array) -> jax.Array:
    """f of theory.md, section 1."""
    if isinstance(net.layers[0], fw.Convolution):
        return convolved(net, weights, X)
    x = h = X
    for n, layer in enumerate(net.layers, start=1):
        W = weights[f"W_{n}"]
        update = x @ W.T / math.sqrt(W.shape[1])
        if isinstance(layer, fw.Residual):  # section 13
            update = layer.skip * h + layer.branch * update
        h = update + weights.get(f"b_{n}", 0.0)
        last = net.readout_activation if n == net.depth else net.activation
        x = ACTIVATIONS[last.name](h)
    return x @ weights["v"] / math.sqrt(x.shape[1]) + weights.get("b_out", 0.0)


def convolved(net: fw.Network, weights: dict[str, jax.Array], X: jax.Array) -> jax.Array:
    """f of theory.md, section 16, patch by patch."""
    (layer,), side = net.layers, X.shape[1]
    corners = range(0, side - layer.patch + 1, layer.stride)
    f = weights.get("b_out", 0.0)
    for a, (i, j) in enumerate((i, j) for i in corners for j in corners):
        patch = X[:, i : i + layer.patch, j : j + layer.patch].reshape(len(X), -1)
        h = patch @ weights["W_1"].T / layer.patch + weights.get("b_1", 0.0)
        sigma = ACTIVATIONS[net.activation.name](h)
        f = f + sigma @ weights["v"][:, a] / math.sqrt(weights["v"].size)
    return f


def inputs(case: Case) -> tuple[jax.Array, jax.Array]:
    """Training inputs and one test input."""
    X = np.random.default_rng(5).normal(size=(case.n_patterns + 1, case.n_inputs))
    if isinstance(case.net.layers[0], fw.Convolution):
        X = X.reshape(len(X), math.isqrt(case.n_inputs), -1)
    return jnp.asarray(X[1:]), jnp.asarray(X[:1])


def draw_labels(case: Case, f: jax.Array, key: jax.Array) -> jax.Array:
    """Y given f; of classes at T = 1."""
    if case.likelihood == "gaussian":
        return f + math.sqrt(case.temperature) * random.normal(key, f.shape)
    assert case.temperature == 1.0
    if case.likelihood == "softmax":  # the largest of f with Gumbel noise
        return jnp.argmax(f - jnp.log(random.exponential(key, f.shape)), axis=-1).astype(f.dtype)
    return jnp.where(random.uniform(key, f.shape) < 1 / (1 + jnp.exp(-f)), 1.0, -1.0)


def misfit(case: Case, f: jax.Array, y: jax.Array) -> dict[str, jax.Array]:
    """What the likelihood is a function of."""
    if case.likelihood == "gaussian":
        return {"Σ(y−f)²/T": jnp.sum((y - f) ** 2) / case.temperature}
    if case.likelihood == "softmax":
        total = jnp.log(jnp.sum(jnp.exp(f), axis=-1))
        return {"Σ −log p(y|f)": jnp.sum(total - jnp.take_along_axis(f, index(y), 1)[:, 0])}
    return {"Σ log(1+exp(−yf))": jnp.sum(jnp.log1p(jnp.exp(-y * f)))}


def index(y: jax.Array) -> jax.Array:
    """Classes as a column of whole numbers."""
    return y.astype(int)[:, None]


def quantities(case: Case, weights: dict[str, jax.Array], y: jax.Array) -> dict[str, jax.Array]:
    """What is ranked: a prediction, sizes of weights, and how well f fits the data."""
    X, X_test = inputs(case)
    f = output(case.net, weights, X)
    sizes = {f"|{name}|²": jnp.sum(value**2) for name, value in weights.items() if value.ndim}
    signed = {"b_out": weights["b_out"].ravel()[-1]} if "b_out" in weights else {}
    prediction = output(case.net, weights, X_test)[0]
    several, fit = {}, misfit(case, f, y)
    if case.net.outputs > 1:  # how two of them go together, and one by itself
        several = {"f_1·f_2": f[:, 0] @ f[:, 1]}
        if case.likelihood == "softmax":
            several["f_3 of class 3"] = jnp.sum(f[:, 2] * (y == 2))
            several["Σ_d f_d(x_test)"] = jnp.sum(prediction)  # which no label sees
            y = jax.nn.one_hot(y.astype(int), case.net.outputs)
        else:
            several["Σ(y_3−f_3)²/T"] = jnp.sum((y[:, 2] - f[:, 2]) ** 2) / case.temperature
    return {
        "f(x_test)": prediction.ravel()[0],
        **fit,
        "y·f": jnp.vdot(y, f),
        **sizes,
        **signed,
        **several,
    }


def one_replicate(case: Case, key: jax.Array, temperature: jax.Array) -> dict[str, jax.Array]:
    """Simulate at the temperature of the case, sample at `temperature`, and rank the truth."""
    net, (X, _) = case.net, inputs(case)
    truth_key, noise_key, place_key, chain_key, readout_key, tie_key = random.split(key, 6)
    truth = draw_weights(net, case.n_inputs, truth_key)
    y = draw_labels(case, output(net, truth, X), noise_key)

    latent = set(truth) - ({"v", "b_out"} if case.model == "marginal" else set())
    kernel = SplitHMC(
        getattr(fw.models, case.model),
        trajectory=case.trajectory,
        jitter=0.3,
        step_size=case.step_size,
        adapt_step_size=False,
    )
    settings = {} if case.likelihood == "gaussian" else {"likelihood": case.likelihood}
    model = {
        "model_args": (net, X, y),
        "model_kwargs": {"temperature": temperature} | settings,
    }
    start = kernel.init(
        jax.random.key_data(chain_key), 0, {name: truth[name] for name in latent}, **model
    )

    def complete(sites: dict[str, jax.Array], key: jax.Array) -> dict[str, jax.Array]:
        """Draw the readout, where it is integrated."""
        if case.model == "network":
            return sites
        features = fw.models.readout_features(net, fw.models.hidden_features(net, sites, X))
        coefficients = condition(features, y, temperature).draw(key)
        width = features.shape[1] - (net.bias_precision is not None)
        v = coefficients[:width] / math.sqrt(net.weight_precision[-1])
        sites = sites | {"v": v.reshape(truth["v"].shape)}
        if net.bias_precision is not None:
            sites["b_out"] = coefficients[width] / math.sqrt(net.bias_precision[-1])
        return sites

    place = random.randint(place_key, (), 0, N_DRAWS + 1)

    def draw(state, k):
        # the draws before `place` lead away from the truth on one side, the others on the other
        there = start._replace(rng_key=state.rng_key)
        state = jax.tree.map(lambda old, new: jnp.where(k == place, new, old), state, there)

        def transition(_, carry):
            state, accept = carry
            state = kernel.sample(state, **model)
            return state, accept + state.accept_prob / case.thin

        state, accept = lax.fori_loop(0, case.thin, transition, (state, jnp.zeros(())))
        weights = complete(state.z, random.fold_in(readout_key, k))
        return state, (quantities(case, weights, y), accept)

    _, (draws, accept) = lax.scan(draw, start, jnp.arange(N_DRAWS))
    own = quantities(case, truth, y)
    ranks = {}
    for name, values in draws.items():
        low, ties = jnp.sum(values < own[name]), jnp.sum(values == own[name])
        ranks[name] = low + random.randint(tie_key, (), 0, ties + 1)
    (fit,) = (draws[name] for name in misfit(case, output(net, truth, X), y))
    neighbours = jnp.arange(1, N_DRAWS) != place
    return {
        "ranks": ranks,
        "acceptance": jnp.mean(accept),
        "near": jnp.sum(neighbours * jnp.abs(jnp.diff(fit))) / jnp.sum(neighbours),
        "far": jnp.where(place < N_DRAWS // 2, jnp.abs(fit[0] - fit[-1]), jnp.nan),
    }


@functools.cache
def program(case: Case):
    """A batch of replicates of a case, compiled; the temperature is an argument."""
    replicates = jax.vmap(functools.partial(one_replicate, case), in_axes=(0, None))
    # replicates are cheap, compiling them is not
    return jax.jit(replicates, compiler_options={"xla_backend_optimization_level": 0})


def calibrate(case: Case, n_replicates: int, *, factor: float = 1.0) -> Calibration:
    """Rank the truth in `n_replicates` posteriors, sampled at `factor` times the temperature."""
    with float64():
        batches = random.split(random.key(0), (n_replicates // BATCH, BATCH))
        temperature = jnp.asarray(factor * case.temperature)
        outcomes = [jax.tree.map(np.asarray, program(case)(b, temperature)) for b in batches]
    found = jax.tree.map(lambda *parts: np.concatenate(parts), *outcomes)
    return Calibration(
        found["ranks"],
        float(found["acceptance"].mean()),
        float(found["near"].mean() / np.nanmean(found["far"])) ** 2,
    )


def assert_calibrated(case: Case, found: Calibration) -> None:
    """Uniform ranks, from draws that could have told."""
    assert found.acceptance > 0.5, found.report()
    assert found.independence > 0.3, found.report()
    assert len(found.ranks) * min(found.p_values().values()) > REJECT, f"{case}\n{found.report()}"


def small(model: str, activation: str, depth: int, biases: bool) -> Case:
    net = fw.Network(
        (5, 4)[:depth],
        activation,
        (0.7, 1.2, 1.4)[: depth + 1],
        (2.0, 1.5, 0.8)[: depth + 1] if biases else None,
    )
    return Case(net, model, {"network": 0.08, "marginal": 0.2}[model], thin=2, temperature=0.3)


SMALL = [
    small(model, activation, depth, (model == "network") ^ (depth == 2) ^ (number % 2 == 0))
    for number, activation in enumerate(ACTIVATIONS)
    for depth in (1, 2)
    for model in ("network", "marginal")
]
# an error of the likelihood's variance shifts Σ(y−f)²/T by 0.035 √k of its standard deviations,
# k ≤ P the number of directions in which f follows the data: many patterns, many inputs
MANY = [
    Case(
        fw.Network((10,), "erf", (0.7, 1.3)),
        model,
        step_size,
        thin=1,
        temperature=0.05,
        n_patterns=60,
        n_inputs=60,
    )
    for model, step_size in (("network", 0.1), ("marginal", 0.2))
]


SEVERAL = [
    dataclasses.replace(case, net=case.net.replace(outputs=3))
    for case in (
        small("marginal", "erf", 1, True),
        small("network", "relu", 1, True),
        small("marginal", "tanh", 2, False),
        small("network", "identity", 2, False),
    )
]


BLOCKS = [
    dataclasses.replace(
        small(model, activation, 2, biases),
        net=fw.Network(
            layers=(fw.Dense(4), fw.Residual(4, 0.8, 1.2)),
            activation=activation,
            weight_precision=(0.7, 1.2, 1.4),
            bias_precision=(2.0, 1.5, 0.8) if biases else None,
            readout_activation=readout,
        ),
    )
    for model, activation, biases, readout in (
        ("marginal", "erf", False, "identity"),
        ("network", "relu", True, "erf"),
    )
]


def some_slow(cases: list[Case], *fast: str) -> list:
    """Mark all cases slow but those named."""
    return [
        pytest.param(case, marks=() if str(case) in fast else pytest.mark.slow, id=str(case))
        for case in cases
    ]


@pytest.mark.parametrize("case", some_slow(SMALL, "marginal-relu-5-bias"))
def test_ranks_of_the_truth_are_uniform(case):
    assert_calibrated(case, calibrate(case, 500))


@pytest.mark.parametrize("case", some_slow(SEVERAL))
def test_ranks_of_the_truth_are_uniform_with_several_outputs(case):
    assert_calibrated(case, calibrate(case, 250))


@pytest.mark.parametrize("case", some_slow(BLOCKS))
def test_ranks_of_the_truth_are_uniform_with_a_residual_block(case):
    assert_calibrated(case, calibrate(case, 500))


CONVOLVED = [
    Case(
        fw.Network(
            layers=(fw.Convolution(4, patch=2, stride=stride),),
            activation=activation,
            weight_precision=(0.7, 1.2),
            bias_precision=biases,
        ),
        model,
        step,
        thin=2,
        temperature=0.3,
        n_inputs=n_inputs,
    )
    for model, step, activation, stride, n_inputs, biases in (
        ("marginal", 0.2, "erf", 2, 16, (2.0, 1.5)),
        ("network", 0.08, "relu", 1, 9, None),
    )
]


@pytest.mark.parametrize("case", some_slow(CONVOLVED))
def test_ranks_of_the_truth_are_uniform_with_a_convolution(case):
    assert_calibrated(case, calibrate(case, 500))


@pytest.mark.slow
@pytest.mark.parametrize("case", SEVERAL[:2], ids=str)
def test_ranks_of_the_truth_stay_uniform_with_several_outputs(case):
    assert_calibrated(case, calibrate(case, 2000))


# large outputs, so that labels tell; a step that the prior alone bounds
CLASSES = [
    Case(
        fw.Network(widths, "erf", (0.5, 0.2, 0.1)[: len(widths) + 1]),
        "network",
        step_size=0.25,
        thin=2,
        temperature=1.0,
        likelihood="logit",
    )
    for widths in ((4,), (5, 4))
]
CLASSES.append(
    dataclasses.replace(CLASSES[0], net=CLASSES[0].net.replace(outputs=3), likelihood="softmax")
)


@pytest.mark.parametrize("case", some_slow(CLASSES))
def test_ranks_of_the_truth_are_uniform_with_classes(case):
    assert_calibrated(case, calibrate(case, 1000))
    # classes at half the slope are seen
    wrong = calibrate(case, 1000, factor=2.0)
    assert min(wrong.p_values().values()) < 1e-6, wrong.report()


@pytest.mark.parametrize(
    "case", [pytest.param(CLASSES[0], marks=pytest.mark.slow), CLASSES[-1]], ids=str
)
def test_ranks_with_classes_quickly(case):
    assert_calibrated(case, calibrate(case, 200))


@pytest.mark.parametrize("case", some_slow(MANY))
def test_five_percent_in_the_likelihood_variance_are_seen(case):
    assert_calibrated(case, calibrate(case, 400))
    wrong = calibrate(case, 1000, factor=1.05)
    assert wrong.p_values()["Σ(y−f)²/T"] < 1e-6, wrong.report()


def test_p_value_is_one_of_uniform_ranks_and_sees_shifts_and_spreads():
    rng = np.random.default_rng(0)
    n_values = N_DRAWS + 1
    p = np.array([p_value(rng.integers(0, n_values, 300), n_values) for _ in range(400)])
    # a bound: P(p ≤ a) ≤ a; 400 draws leave 0.05 ± 0.011
    assert np.mean(p <= 0.05) < 0.05 + 3 * 0.011
    middle = rng.binomial(N_DRAWS, 0.5, 300)
    assert p_value(middle, n_values) < 1e-6
    assert p_value((rng.random(300) ** 1.5 * n_values).astype(int), n_values) < 1e-6
