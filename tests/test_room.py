"""Room for what is to come: toys of each kind, defined here alone, go through the whole house.

A layer, an order parameter and a likelihood of one's own are solved and sampled without a line of
the package; each toy is equivalent to something that the package has, or known in closed form.
"""

import dataclasses
import json

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import finwidth as fw
from finwidth._layers.dense import Dense, layer_map
from finwidth._layers.order import OrderParameter, Scales
from finwidth._likelihoods.gaussian import Gaussian, GaussianConditioned
from finwidth._numerics.factor import Factor
from finwidth.theories import Link

RNG = np.random.default_rng(7)
X, Y = RNG.normal(size=(9, 4)), RNG.normal(size=9)
X_TEST, Y_TEST = RNG.normal(size=(5, 4)), RNG.normal(size=5)
T = 0.3


# --- a layer: weights with a gain --------------------------------------------------------------


def gained(activation, covariance, value, precision, bias, rule, gain):
    """The map of h = gain·W σ(h')/√N (+ b)."""
    return layer_map(activation, covariance, value, precision / gain**2, bias, rule)


@dataclasses.dataclass(frozen=True)
class Gained(Dense):
    """A dense layer whose weights are multiplied by a number."""

    gain: float = 1.0

    def link(self, before, mean):
        return super().link(before, mean)._replace(map=gained, numbers=(self.gain,))

    def forward(self, weights, x, before):
        return super().forward(weights | {"W": self.gain * weights["W"]}, x, before)


def gains(activation, gain=1.7, precision=1.1):
    """Return a network with a gain, and the dense one with the same law."""
    toy = fw.Network(
        layers=(fw.Dense(12), Gained(10, gain=gain)),
        activation=activation,
        weight_precision=(1.0, precision, 0.9),
        bias_precision=2.0,
    )
    dense = fw.Network((12, 10), activation, (1.0, precision / gain**2, 0.9), 2.0)
    return toy, dense


@pytest.mark.parametrize(
    ("activation", "theory"),
    [
        ("erf", "nested"),
        pytest.param("relu", "nested", marks=pytest.mark.slow),
        ("erf", "infinite"),
        pytest.param("tanh", "nested", marks=pytest.mark.slow),
    ],
)
def test_a_layer_of_ones_own_is_solved(activation, theory):
    toy, dense = gains(activation)
    solutions = [fw.solve(net, X, Y, temperature=T, theory=theory) for net in (toy, dense)]
    one, other = (solution.predict(X_TEST) for solution in solutions)
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-7)
    np.testing.assert_allclose(one.variance, other.variance, rtol=1e-7)
    assert solutions[0].action == pytest.approx(solutions[1].action, rel=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("model", ["marginal", "network"])
def test_a_layer_of_ones_own_is_sampled_and_compared(model):
    """Also against the dense network of the same law: the same moments of f."""
    toy, dense = gains("erf")
    trees = [
        fw.sample(
            net,
            X,
            Y,
            temperature=T,
            X_test=X_TEST,
            y_test=Y_TEST,
            model=model,
            num_chains=2,
            num_warmup=200,
            num_samples=400,
            seed=seed,
            progress=False,
        )
        for seed, net in enumerate((toy, dense))
    ]
    assert trees[0]["posterior"].W_2.shape == (2, 400, 10, 12)
    moments = []
    for tree in trees:
        f = tree["predictions"].f.stack(all=("chain", "draw"))
        error = az.mcse(tree["predictions"].dataset[["f"]]).f.values
        moments.append((f.mean("all").values, error))
    (one, error), (other, other_error) = moments
    assert np.all(np.abs(one - other) < 4.5 * np.hypot(error, other_error))
    report = fw.compare(fw.solve(toy, X, Y, temperature=T), trees[0])
    assert isinstance(report.attrs["verdict"], str)


def test_theories_of_dense_layers_refuse_others():
    toy, _ = gains("erf")
    with pytest.raises(fw.InputError, match=r"expected dense layers with theory='wishart'"):
        fw.solve(toy, X, Y, temperature=T, theory="wishart")
    softly = fw.Network(layers=(Softly(8),), activation="erf")
    with pytest.raises(fw.InputError, match="expected layers whose order parameters have a known"):
        fw.mixture(softly, X, Y, temperature=T)


def test_numbers_of_a_layer_compile_nothing_anew():
    traced = []

    def counted(*arguments):
        traced.append(arguments)
        return gained(*arguments)

    @dataclasses.dataclass(frozen=True)
    class Counted(Gained):
        def link(self, before, mean):
            return super().link(before, mean)._replace(map=counted)

    for gain in (1.3, 1.4):
        layers = (fw.Dense(12), Counted(10, gain=gain))
        fw.solve(fw.Network(layers=layers, activation="erf"), X, Y, temperature=T)
        traced.append("solved")
    first = traced.index("solved")
    assert first > 0 and traced[first + 1 :] == ["solved"]


# --- an order parameter: another chart of the same Q̄ -------------------------------------------


class Softplus(OrderParameter):
    """Q̄ = log(1 + e^θ (e − 1)), which is 1 at θ = 0."""

    size = 1

    def value(self, theta):
        q_bar = jnp.log1p(jnp.exp(jnp.asarray(theta)[0]) * jnp.expm1(1.0))
        return Scales(q_bar, q_bar)

    def entropy(self, theta):
        q_bar = self.value(theta).q_bar
        return self.width * (q_bar - 1.0 - jnp.log(q_bar))


@dataclasses.dataclass(frozen=True)
class Softly(Dense):
    """A dense layer with that chart."""

    def link(self, before, mean):
        return Link(layer_map, Softplus(before.width))

    def readout(self, mean):
        return Link(layer_map, Softplus(self.width))


@pytest.mark.parametrize("depth", [1, 2])
def test_a_chart_of_ones_own_finds_the_same_saddle(depth):
    layers = (Softly(8), Softly(11))[:depth]
    toy = fw.Network(layers=layers, activation="erf")
    dense = fw.Network(toy.widths, "erf")
    one, other = (fw.solve(net, X, Y, temperature=T) for net in (toy, dense))
    q_bar = other.order_parameters.q_bar.values
    np.testing.assert_allclose(one.order_parameters.q_bar.values, q_bar, rtol=1e-8)
    assert one.action == pytest.approx(other.action, rel=1e-10)
    assert one.residual <= 1e-9


def test_a_chart_of_ones_own_with_several_outputs():
    labels = np.random.default_rng(4).normal(size=(len(X), 2))
    toy = fw.Network(layers=(Softly(8),), activation="erf", outputs=2)
    one, other = (
        fw.solve(net, X, labels, temperature=T)
        for net in (toy, fw.Network(toy.widths, "erf", outputs=2))
    )
    q_bar = other.order_parameters.q_bar.values
    np.testing.assert_allclose(one.order_parameters.q_bar.values, q_bar, rtol=1e-8, atol=1e-9)
    assert one.action == pytest.approx(other.action, rel=1e-10)


# --- a likelihood: noise of another size for each pattern --------------------------------------


class Uneven(Gaussian):
    """y_μ = f_μ + √(T n_μ) ε."""

    name = "uneven"
    conjugate = False
    homogeneous = False

    def __init__(self, noise):
        self.noise = noise

    def condition(self, kernel, y, temperature):
        kernel[np.diag_indices(y.size)] += temperature * self.noise
        return GaussianConditioned(Factor(kernel, 0.0, overwrite=True), y)

    def gradient(self, kernel, y, temperature):
        return self.condition(kernel, y, temperature).gradient()

    def subset(self, rows):
        return Uneven(self.noise[rows])

    def observe(self, f, y, temperature):
        scale = jnp.sqrt(temperature * self.noise)
        with numpyro.plate("pattern", f.shape[0]):
            numpyro.sample("y", dist.Normal(f, scale), obs=y)


NOISE = RNG.uniform(0.3, 3.0, size=9)


def test_a_likelihood_of_ones_own_conditions_the_process():
    net = fw.Network((20,), "erf")
    solution = fw.solve(net, X, Y, temperature=T, theory="infinite", likelihood=Uneven(NOISE))
    prediction = solution.predict(X_TEST)
    kernel = fw.nngp_kernel(net, np.concatenate([X, X_TEST]))
    a = kernel[:9, :9] + T * np.diag(NOISE)
    np.testing.assert_allclose(prediction.mean, kernel[9:, :9] @ np.linalg.solve(a, Y), rtol=1e-10)
    explained = np.einsum("ij,ji->i", kernel[9:, :9], np.linalg.solve(a, kernel[:9, 9:]))
    np.testing.assert_allclose(prediction.variance, np.diag(kernel)[9:] - explained, rtol=1e-9)
    assert solution.action == pytest.approx(np.linalg.slogdet(a)[1] + Y @ np.linalg.solve(a, Y))


@pytest.mark.parametrize("activation", ["erf", "relu"])
def test_even_noise_is_the_gaussian_likelihood(activation):
    net = fw.Network((20,), activation)
    toy = fw.solve(net, X, Y, temperature=T / 2, likelihood=Uneven(np.full(9, 2.0)))
    gaussian = fw.solve(net, X, Y, temperature=T)
    q_bar = gaussian.order_parameters.q_bar.values
    np.testing.assert_allclose(toy.order_parameters.q_bar.values, q_bar, rtol=1e-8)
    one, other = toy.predict(X_TEST), gaussian.predict(X_TEST)
    np.testing.assert_allclose(one.mean, other.mean, rtol=1e-7)
    np.testing.assert_allclose(one.variance, other.variance, rtol=1e-7)


@pytest.mark.slow
def test_a_likelihood_of_ones_own_is_sampled_and_compared():
    """A linear network of many units against the process that it then is, in closed form."""
    net, likelihood = fw.Network((4000,), "identity"), Uneven(NOISE)
    tree = fw.sample(
        net,
        X,
        Y,
        temperature=T,
        X_test=X_TEST,
        y_test=Y_TEST,
        model="network",
        likelihood=likelihood,
        num_chains=2,
        num_warmup=150,
        num_samples=300,
        keep=["v"],
        progress=False,
    )
    solution = fw.solve(net, X, Y, temperature=T, theory="infinite", likelihood=likelihood)
    report = fw.compare(solution, tree)
    f = tree["predictions"].f.stack(all=("chain", "draw"))
    error = az.mcse(tree["predictions"].dataset[["f"]]).f.values
    distance = np.abs(f.mean("all").values - solution.predict(X_TEST).mean)
    assert np.all(distance < 4.5 * error + 10 * len(Y) / 4000)  # a distance of order P/N
    assert isinstance(report.attrs["verdict"], str)
    provenance = json.loads(tree.attrs["provenance"])
    assert provenance["likelihood"] == "uneven"


@pytest.mark.parametrize("method", ["condition", "observe"])
def test_only_the_gaussian_likelihood_is_homogeneous(method):
    """Its closed forms would be used in place of what such a class says."""
    other = type("Other", (Gaussian,), {"name": "other", method: getattr(Uneven, method)})
    net = fw.Network((5,), "erf")
    with pytest.raises(fw.InputError, match="expected homogeneous = False of a likelihood that"):
        fw.solve(net, X, Y, temperature=T, likelihood=other())


def test_the_readout_of_another_likelihood_is_not_integrated(tmp_path):
    arguments = {"temperature": T, "likelihood": Uneven(NOISE), "progress": False}
    net = fw.Network((5,), "erf")
    with pytest.raises(fw.InputError, match="expected model='network' with this likelihood"):
        fw.sample(net, X, Y, model="marginal", **arguments)
    with pytest.raises(fw.InputError, match="expected likelihood = None with model='student_t'"):
        fw.sample(net, X, Y, model="student_t", **arguments)
    with pytest.raises(fw.InputError, match="expected a likelihood with a record"):
        fw.sample(net, X, Y, model="network", checkpoint=tmp_path / "c", **arguments)


def test_a_likelihood_of_ones_own_with_many_patterns():
    """Whose saddle is looked for with a subset of them first."""
    rng = np.random.default_rng(0)
    X, y, noise = rng.normal(size=(240, 6)), rng.normal(size=240), rng.uniform(0.5, 2.0, size=240)
    net = fw.Network((100,), "erf")
    solution = fw.solve(net, X, y, temperature=T, likelihood=Uneven(noise))
    q_bar = float(solution.order_parameters.q_bar[0])
    kernel = fw.nngp_kernel(net, X)

    def action(q):
        a = q * kernel + T * np.diag(noise)
        return 100 * (q - 1 - np.log(q)) + np.linalg.slogdet(a)[1] + y @ np.linalg.solve(a, y)

    slope = (action(q_bar + 1e-5) - action(q_bar - 1e-5)) / 2e-5
    assert abs(slope) < 1e-4 and abs(q_bar - 1) > 1e-3
    assert solution.action == pytest.approx(action(q_bar), rel=1e-10)


def test_theories_of_the_gaussian_likelihood_refuse_others():
    with pytest.raises(
        fw.InputError, match="expected likelihood = 'gaussian'.* with theory='cavity'"
    ):
        fw.solve(
            fw.Network((20,), "erf"),
            X,
            Y,
            temperature=T,
            theory="cavity",
            likelihood=Uneven(NOISE),
        )


# --- what breaks its protocol is refused by name -----------------------------------------------


class Bare(Softplus):
    def value(self, theta):
        raise ValueError("no such value")


class Tilted(Softplus):
    def entropy(self, theta):
        return super().entropy(theta) + self.width * jnp.asarray(theta)[0]


class Two(Softplus):
    def entropy(self, theta):
        return jnp.stack([super().entropy(theta)] * 2)


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (Bare, "JAX functions of θ"),
        (Tilted, "stationary at θ = 0"),
        (Two, "scalar entropy|JAX functions"),
        (lambda width: 3, "an OrderParameter, got int"),
    ],
)
def test_an_order_parameter_that_breaks_its_protocol_is_refused(order, message):
    @dataclasses.dataclass(frozen=True)
    class Layer(Dense):
        def readout(self, mean):
            return Link(layer_map, order(self.width))

    net = fw.Network(layers=(Layer(8),), activation="erf")
    with pytest.raises(fw.InputError, match=message):
        fw.solve(net, X, Y, temperature=T)


def nothing(activation, covariance, value, precision, bias, rule):
    return covariance.cross


def infinite(activation, covariance, value, precision, bias, rule):
    return jax.tree.map(lambda part: part * jnp.nan, covariance)


@pytest.mark.parametrize("broken", [nothing, infinite, lambda *_: 3.0, [1]])
def test_a_map_that_breaks_its_protocol_is_refused(broken):
    @dataclasses.dataclass(frozen=True)
    class Layer(Dense):
        def readout(self, mean):
            return super().readout(mean)._replace(map=broken)

    net = fw.Network(layers=(Layer(8),), activation="erf")
    with pytest.raises(fw.InputError, match="expected the map after layer 1"):
        fw.solve(net, X, Y, temperature=T)


@pytest.mark.parametrize("layers", [(), (3,), 5, None, ("dense",), (fw.Dense,)])
def test_what_is_no_layer_is_refused(layers, unchecked_types):
    with pytest.raises(fw.InputError, match="expected"):
        fw.Network(layers=layers, activation="erf")


class Short(Uneven):
    def condition(self, kernel, y, temperature):
        return GaussianConditioned(Factor(kernel[:4, :4], 1.0), y[:4])


class Missing(Uneven):
    def condition(self, kernel, y, temperature):
        return None


class Infinite(Uneven):
    def condition(self, kernel, y, temperature):
        conditioned = super().condition(kernel, y, temperature)
        conditioned.weights = np.full(y.size, np.nan)
        return conditioned


@pytest.mark.parametrize("likelihood", [Short, Missing, Infinite])
def test_a_likelihood_that_breaks_its_protocol_is_refused(likelihood, unchecked_types):
    with pytest.raises(fw.InputError, match="expected the likelihood 'uneven' to condition"):
        fw.solve(fw.Network((8,), "erf"), X, Y, temperature=T, likelihood=likelihood(NOISE))


@pytest.mark.parametrize("likelihood", ["gausian", 3, None, Gaussian])
def test_what_is_no_likelihood_is_refused(likelihood, unchecked_types):
    with pytest.raises(fw.InputError, match="expected likelihood"):
        fw.solve(fw.Network((8,), "erf"), X, Y, temperature=T, likelihood=likelihood)
