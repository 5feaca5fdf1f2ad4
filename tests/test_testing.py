"""The checks for plugin authors find what they promise to find."""

import dataclasses
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import pytest
from numpyro.infer import NUTS

import finwidth as fw
from finwidth import testing
from finwidth.activations._contract import validate_kernel
from finwidth.samplers import Sampler
from finwidth.testing import check_activation, fixtures
from finwidth.theories import Gaussian
from finwidth.theories.infinite import Infinite

pytest_plugins = ["finwidth.testing"]

ERF = fw.get_activation("erf")
RELU = fw.get_activation("relu")
assert ERF.kernel is not None and RELU.kernel is not None and RELU.mean is not None


def variant(**changes) -> fw.Activation:
    fields = {"fn": ERF.fn, "parity": "odd", "kernel": ERF.kernel, "mean": ERF.mean}
    return fw.Activation("variant", **(fields | changes))


def relu_variant(**changes) -> fw.Activation:
    fields = {"fn": RELU.fn, "parity": "none", "kernel": RELU.kernel, "mean": RELU.mean}
    return fw.Activation("variant", **(fields | changes))


def cosine_of_angle(c_xx, c_xy, c_yy):
    """A ReLU kernel with the usual mistake: arccos has an infinite slope at ±1."""
    product = jnp.sqrt(c_xx * c_yy)
    theta = jnp.arccos(jnp.clip(c_xy / jnp.where(product > 0, product, 1), -1, 1))
    return product / (2 * jnp.pi) * (jnp.sin(theta) + (jnp.pi - theta) * jnp.cos(theta))


@jax.custom_jvp
def wrong_slope(c_xx, c_xy, c_yy):
    return ERF.kernel(c_xx, c_xy, c_yy)


@wrong_slope.defjvp
def _(primals, tangents):
    value, slope = jax.jvp(ERF.kernel, primals, tangents)
    return value, 1.1 * slope


# what solve() refuses, and check_activation too
UNUSABLE = {
    "shape": (variant(kernel=lambda xx, xy, yy: jnp.ravel(ERF.kernel(xx, xy, yy))), "shape"),
    "one side": (variant(kernel=lambda xx, xy, yy: ERF.kernel(xx, xx, xx)), "shape"),
    "nan": (variant(kernel=lambda xx, xy, yy: ERF.kernel(xx, xy, yy) / (xx * yy)), "finite, got"),
    "asymmetric": (
        variant(kernel=lambda xx, xy, yy: ERF.kernel(xx, xy, yy) + 1e-3 * xx * (1 + 0 * xy * yy)),
        "symmetric Gram",
    ),
    "no gradient": (relu_variant(kernel=cosine_of_angle), "gradient of kernel to be finite"),
    "parity": (variant(fn=jax.nn.softplus), "fn.-h. = -fn.h."),
    "float32": (
        variant(kernel=lambda xx, xy, yy: ERF.kernel(xx, xy, yy).astype(jnp.float32)),
        "float64, got float32",
    ),
    "numpy": (variant(kernel=lambda xx, xy, yy: np.arcsin(xy)), "kernel to be a JAX function"),
    "a ufunc": (variant(fn=np.tanh), "fn to be a JAX function, got <ufunc"),
    "raises": (variant(kernel=lambda xx, xy, yy: 1 / 0), "ZeroDivisionError"),
    "mean shape": (relu_variant(mean=lambda c: jnp.sum(c)), "mean to return shape"),
    "fn shape": (relu_variant(fn=lambda h: jnp.sum(h)), "elementwise fn to return shape"),
}

# whose outputs depend on more than the element
NOT_ELEMENTWISE = {
    "softmax": jax.nn.softmax,
    "sort": jnp.sort,
    "flip": jnp.flip,
    "cumsum": jnp.cumsum,
    "centred": lambda h: h - jnp.mean(h),
    "normalised": lambda h: h / (1 + jnp.sum(h * h)),
    "by the largest": lambda h: jnp.where(jnp.max(jnp.abs(h)) > 100, 0 * h, h),
    "by the size": lambda h: h if h.size < 1000 else 2 * h,
    "by the rank": lambda h: h if h.ndim < 3 else 2 * h,
    "scan": lambda h: jax.lax.associative_scan(jnp.add, h),
}

# that are not what they are in the usual range
ODD_NEARBY = {
    "beyond 9": lambda h: jnp.where(jnp.abs(h) <= 9, h, jnp.abs(h)),
    "beyond 10000": lambda h: jnp.where(jnp.abs(h) <= 1e4, h, jnp.abs(h)),
    "a step at 5": lambda h: jnp.where(h > 5, 0.0, jnp.tanh(h)),
    "a band": lambda h: jnp.where((h > 20) & (h < 21), 0.0, h),
}
FINITE_NEARBY = {
    "nan": lambda h: jnp.where(jnp.abs(h) > 30, jnp.nan, h),
    "inf": lambda h: jnp.where(h > 30, jnp.inf, jnp.tanh(h)),
    "tanh as a quotient": lambda h: (jnp.exp(h) - jnp.exp(-h)) / (jnp.exp(h) + jnp.exp(-h)),
    "softplus as a logarithm": lambda h: jnp.log(1 + jnp.exp(h)),
}

# what only the thorough check finds
WRONG = {
    "off by 1e-4": (
        variant(kernel=lambda xx, xy, yy: (1 + 1e-4) * ERF.kernel(xx, xy, yy)),
        r"expected kernel\(.*quadrature",
    ),
    "off at small variance": (
        variant(kernel=lambda xx, xy, yy: ERF.kernel(xx, xy, yy) + 1e-6 * jnp.exp(-xx - yy)),
        r"expected kernel\(",
    ),
    "another's kernel": (relu_variant(kernel=ERF.kernel), r"expected kernel\("),
    "mean": (relu_variant(mean=lambda c: 1.0001 * RELU.mean(c)), r"expected mean\("),
    "gradient": (variant(kernel=wrong_slope), "match finite differences"),
}
QUICK = ("off by 1e-4", "mean", "gradient")  # one of each check


@pytest.mark.parametrize(("activation", "message"), UNUSABLE.values(), ids=UNUSABLE)
@pytest.mark.parametrize("check", [validate_kernel, check_activation])
def test_a_broken_contract_is_refused(check, activation: fw.Activation, message: str) -> None:
    with pytest.raises(fw.PluginError, match=f"'variant': expected .*{message}"):
        check(activation)


@pytest.mark.parametrize(
    ("activation", "message"),
    [
        pytest.param(*case, id=name, marks=() if name in QUICK else pytest.mark.slow)
        for name, case in WRONG.items()
    ],
)
def test_a_wrong_moment_is_found(activation: fw.Activation, message: str) -> None:
    validate_kernel(activation)
    with pytest.raises(fw.PluginError, match=f"'variant': .*{message}"):
        check_activation(activation)


def test_an_indefinite_gram_is_found() -> None:
    """Symmetric, smooth and bounded, but no covariance: it says nothing about fn."""

    def indefinite(c_xx, c_xy, c_yy):
        return jnp.tanh(c_xx + c_yy - 2 * c_xy)

    with pytest.raises(fw.PluginError, match="positive semidefinite Gram"):
        check_activation(variant(kernel=indefinite))


@pytest.mark.slow
def test_a_derivative_that_fn_lacks_is_found() -> None:
    root = fw.Activation("root", lambda h: jnp.sqrt(jnp.abs(h)))
    with pytest.raises(fw.PluginError, match="'root': expected the .* to be finite"):
        check_activation(root)


@pytest.mark.parametrize("check", [validate_kernel, check_activation])
def test_something_else_is_refused(check) -> None:
    with pytest.raises(
        fw.InputError, match="expected activation = a finwidth.Activation, got 'erf'"
    ):
        check("erf")


def test_the_report_names_every_check() -> None:
    report = check_activation(ERF)
    assert list(report) == [
        "elementwise",
        "parity",
        "symmetry",
        "positive semidefinite",
        "gradient",
        "mean",
        "kernel",
    ]
    assert all(0 <= deviation < 1e-5 for deviation in report.values())


def test_solve_refuses_a_broken_kernel() -> None:
    activation, message = UNUSABLE["asymmetric"]
    x = np.random.default_rng(0).normal(size=(6, 3))
    with pytest.raises(fw.PluginError, match=message):
        fw.solve(fw.Network((5,), activation), x, np.sign(x[:, 0]), temperature=0.1)


def refused_everywhere(activation: fw.Activation, message: str) -> None:
    x = np.random.default_rng(0).normal(size=(4, 3))
    y, net = np.sign(x[:, 0]), fw.Network((5,), activation)
    for use in (
        lambda: check_activation(activation),
        lambda: fw.solve(net, x, y, temperature=0.1),
        lambda: fw.mixture(net, x, y, temperature=0.1),
        lambda: fw.sample(net, x, y, temperature=0.1, progress=False),
        lambda: fw.nngp_kernel(net, x),
    ):
        with pytest.raises(fw.PluginError, match=message) as raised:
            use()
        assert "\n" not in str(raised.value) and "jit" not in str(raised.value)


@pytest.mark.parametrize("name", NOT_ELEMENTWISE)
def test_units_that_see_one_another_are_refused(name: str) -> None:
    activation = fw.Activation(name, NOT_ELEMENTWISE[name])
    refused_everywhere(activation, f"'{name}': expected an elementwise fn")


@pytest.mark.parametrize("name", ODD_NEARBY)
def test_a_parity_of_the_usual_range_alone_is_refused(name: str) -> None:
    refused_everywhere(
        fw.Activation(name, ODD_NEARBY[name], "odd"), f"'{name}': expected fn.-h. = -fn.h."
    )


@pytest.mark.parametrize("name", FINITE_NEARBY)
def test_values_that_are_lost_far_out_are_refused(name: str) -> None:
    refused_everywhere(
        fw.Activation(name, FINITE_NEARBY[name]), f"'{name}': expected an elementwise fn to be fin"
    )


@pytest.mark.parametrize("fn", [jnp.exp, jnp.sinh, lambda h: jnp.exp(h * h), lambda h: h**5])
def test_growth_that_overflows_in_the_end_is_accepted(fn) -> None:
    validate_kernel(fw.Activation("growing", fn))


# --- the other kinds ----------------------------------------------------------------------------


def test_each_check_is_a_fixture_of_its_name(check_pickling) -> None:
    assert fixtures.__all__ == testing.__all__
    assert check_pickling is testing.check_pickling
    for name in testing.__all__:
        assert getattr(fixtures, name).name == name


def test_pytest_is_imported_by_nobody_else() -> None:
    code = "import sys, finwidth as fw; fw.testing.check_theory; assert 'pytest' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


class Unstable:
    def __reduce__(self):
        return int, ()


@pytest.mark.parametrize("item", [(x for x in ()), Unstable()], ids=["generator", "int"])
def test_what_does_not_come_out_of_a_pickle_is_found(item) -> None:
    assert testing.check_pickling(ERF) == testing.check_pickling(fw.Dense) == {"pickling": 0.0}
    with pytest.raises(fw.PluginError, match="to be what it was after pickling, got"):
        testing.check_pickling(item)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: {"y": np.random.default_rng().integers(0, 2, 30)}, "the same y_"),
        (lambda: {"name": "other"}, "its name in Dataset.name, got 'other'"),
        (lambda: {"rows": 25}, "n_train . n_test = at most 25"),
    ],
)
def test_a_data_set_that_breaks_its_promise_is_found(wrong, message) -> None:
    def load(request: fw.datasets.Request) -> fw.Dataset:
        changes = {"name": "rows", "rows": 30} | wrong()
        rng = np.random.default_rng(request.seed)
        X, y = rng.normal(size=(changes["rows"], 2)), rng.integers(0, 2, changes["rows"])
        y = changes.get("y", y)
        return fw.datasets.split_rows(request, changes["name"], X, y, shuffle=False)

    with pytest.raises((fw.PluginError, fw.InputError), match=message):
        testing.check_dataset(fw.datasets.Source("rows", load))


def test_unstandardised_inputs_are_found() -> None:
    def load(request: fw.datasets.Request) -> fw.Dataset:
        return fw.Dataset(np.ones((20, 1)), np.ones(20), np.ones((10, 1)), np.ones(10), "ones")

    with pytest.raises(fw.PluginError, match="training inputs of mean 0 and standard deviation 1"):
        testing.check_dataset(fw.datasets.Source("ones", load))


class OfTheFirst(Infinite):
    """The prediction leans on the first pattern."""

    name = "of the first"

    def solve(self, problem):
        solution = super().solve(problem)
        first = float(problem.y[0]) * float(problem.X[0, 0])
        law = solution.predict

        def predict(X, **options):
            given = law(X, **options)
            return dataclasses.replace(given, mean=given.mean + 0.1 * first)

        object.__setattr__(solution, "predict", predict)
        return solution


class Signless(Infinite):
    name = "signless"

    def solve(self, problem):
        return super().solve(dataclasses.replace(problem, y=np.abs(problem.y)))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("theory", "message"),
    [(OfTheFirst(), "patterns in another order"), (Signless(), "opposite mean")],
)
def test_a_theory_of_no_posterior_is_found(theory, message) -> None:
    with pytest.raises(fw.PluginError, match=message):
        testing.check_theory(theory)


@pytest.mark.slow
@pytest.mark.parametrize("theory", fw.list_theories())
def test_the_theories_keep_what_is_asked_of_plugins(theory: str) -> None:
    report = testing.check_theory(theory)
    assert report["infinite width"] < 1e-5


@pytest.mark.slow
def test_a_theory_is_compared_with_a_run() -> None:
    """The mixture is nearly exact here; a run has the accuracy that it says."""
    report = testing.check_against_run("mixture")
    assert report["against a run"] < 0.02 + 5 * report["of which Monte Carlo"] < 0.1


def halved(model, **options):
    """NUTS of a posterior whose likelihood is half as strong."""
    return NUTS(numpyro.handlers.scale(model, scale=0.5), **options)


@pytest.mark.slow
def test_a_sampler_of_another_posterior_is_found() -> None:
    wrong = Sampler("halved", halved, 300, 1000)
    with pytest.raises(fw.PluginError, match="'halved': expected a posterior (mean|variance) of"):
        testing.check_sampler(wrong)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["nuts", "hmc", "split_hmc", "langevin"])
def test_the_samplers_keep_what_is_asked_of_plugins(name: str) -> None:
    assert testing.check_sampler(name)["R-hat"] < 1.05


@dataclasses.dataclass(frozen=True)
class Louder(fw.Dense):
    """A gain that the theory does not know of."""

    def forward(self, weights, x, before):
        return super().forward(weights | {"W": 1.2 * weights["W"]}, x, before)


@pytest.mark.slow
def test_a_layer_whose_halves_differ_is_found() -> None:
    with pytest.raises(fw.PluginError, match="one|the same prior in theory and sampling"):
        testing.check_layer(Louder(6))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["dense", "residual", "convolution"])
def test_the_layers_keep_what_is_asked_of_plugins(name: str) -> None:
    assert testing.check_layer(name)["prior"] < 6


@pytest.mark.slow
@pytest.mark.parametrize("name", ["erf", "tanh", "relu"])
def test_moments_are_those_of_draws_at_any_scale(name: str) -> None:
    activation = fw.get_activation(name)
    assert testing.check_monte_carlo(activation)["Monte Carlo"] < 0.02
    assert testing.check_scales(activation)["extreme scales"] < 0.02


@pytest.mark.slow
def test_a_kernel_that_is_wrong_for_large_variances_is_found() -> None:
    large = variant(kernel=lambda xx, xy, yy: ERF.kernel(xx, xy, yy) / (1 + 1e-9 * (xx + yy)))
    testing.check_monte_carlo(large)
    with pytest.raises(fw.PluginError, match="at variances of 1e.(04|12)"):
        testing.check_scales(large)


@pytest.mark.slow
def test_scales_at_which_quadrature_fails_accuse_nobody():
    """E[sin²h] is closed at any scale; panels miss it where the sine oscillates within them."""

    def kernel(c_xx, c_xy, c_yy):
        def half(c):  # exp(−(c_xx + c_yy)/2) sinh c
            return -jnp.exp(c - (c_xx + c_yy) / 2) * jnp.expm1(-2 * c) / 2

        return half(jnp.maximum(c_xy, 0)) - half(jnp.maximum(-c_xy, 0))

    sine = fw.Activation("sine", jnp.sin, parity="odd", kernel=kernel)
    assert testing.check_scales(sine)["extreme scales"] < 1e-12
    wrong = fw.Activation("sine", jnp.sin, parity="odd", kernel=lambda *c: 1.001 * kernel(*c))
    with pytest.raises(fw.PluginError, match="expected at variances of 1e-12"):
        testing.check_scales(wrong)


class Off(fw.Observable):
    """The mean of f, of draws with a factor."""

    name, quantities, factor = "off", ("off",), 1.0

    def __init__(self, factor: float) -> None:
        self.factor = factor

    def defined(self, y_test):
        return y_test.ndim == 1

    def of_prediction(self, prediction, y_test):
        return {"off": prediction.mean.mean()}

    def of_draws(self, draws, y_test):
        return {"off": self.factor * draws.mean.mean(axis=-1)}


def test_an_observable_is_one_number_of_theory_and_draws() -> None:
    assert testing.check_observable(Off(1.0))["off"] < 6
    with pytest.raises(fw.PluginError, match="'off': expected off = .* difference of"):
        testing.check_observable(Off(1.5))
    with pytest.raises(fw.PluginError, match="'off': expected off of draws = finite"):
        testing.check_observable(Off(np.nan))
    with pytest.raises(fw.InputError, match="^expected observable = a finwidth.Observable"):
        testing.check_observable(fw)


class Rescaled(Gaussian):
    """Noise of variance T times a factor, which theory and sampler need not agree on."""

    name, homogeneous = "rescaled", False

    def __init__(self, theory: float, sampler: float) -> None:
        self.factors = theory, sampler

    def condition(self, kernel, y, temperature):
        return super().condition(kernel, y, temperature * self.factors[0])

    def observe(self, f, y, temperature):
        super().observe(f, y, temperature * self.factors[1])


@pytest.mark.slow
def test_a_likelihood_is_one_law_for_theory_and_sampler() -> None:
    assert max(testing.check_likelihood(Rescaled(0.5, 0.5)).values()) < 1e-8
    with pytest.raises(fw.PluginError, match="'rescaled': expected the evidence that integrals"):
        testing.check_likelihood(Rescaled(0.5, 0.51))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["gaussian", "logit", "probit"])
def test_the_likelihoods_keep_what_is_asked_of_plugins(name: str) -> None:
    """Expectation propagation is not exact for two labels; how far off it is, is known."""
    assert max(testing.check_likelihood(name).values()) < 1e-3


def test_a_likelihood_of_several_outputs_is_refused() -> None:
    with pytest.raises(fw.InputError, match="^expected likelihood = one of one output"):
        testing.check_likelihood("softmax")


@pytest.mark.parametrize("name", ["squared_error", "accuracy", "log_loss"])
def test_the_observables_keep_what_is_asked_of_plugins(name: str) -> None:
    assert max(testing.check_observable(name).values()) < 6
