"""The Langevin step is the noisy gradient descent it says it is, and biased only if it says so."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from numpyro.infer import MCMC

from finwidth._basics.errors import InputError
from finwidth._numerics.precision import float64, precision
from finwidth.infer import Langevin

STATS = ("energy", "num_steps", "accept_prob", "potential_energy", "adapt_state.step_size")


def run(kernel, args=(), *, chains=2, warmup=500, samples=1000, seed=0, **options):
    options = {"chain_method": "vectorized"} | options
    init_params = options.pop("init_params", None)
    mcmc = MCMC(
        kernel,
        num_warmup=warmup,
        num_samples=samples,
        num_chains=chains,
        progress_bar=False,
        **options,
    )
    mcmc.run(jax.random.key(seed), *args, extra_fields=STATS, init_params=init_params)
    return mcmc


def stats(mcmc):
    return {name: np.asarray(v) for name, v in mcmc.get_extra_fields(group_by_chain=True).items()}


def gaussian(size=50, scale=1.0):
    def model():
        numpyro.sample("x", dist.Normal(0.0, scale).expand([size]).to_event(1))

    return model


# --- the step


def test_a_step_descends_the_gradient_and_adds_the_noise(deviation):
    step_size, chains = 0.2, 4000
    start = jnp.array([0.4, -1.3])

    def model():
        x = numpyro.sample("x", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
        numpyro.factor("well", -0.5 * x[0] ** 4 - jnp.cosh(x[0] + x[1]))

    def potential(x):
        return 0.5 * x @ x + 0.5 * x[0] ** 4 + jnp.cosh(x[0] + x[1])

    with float64():
        mcmc = run(
            Langevin(model, step_size=step_size, adjusted=False),
            chains=chains,
            warmup=0,
            samples=1,
            init_params={"x": jnp.tile(start, (chains, 1))},
        )
        ends = np.asarray(mcmc.get_samples()["x"])
        mean = np.asarray(start - step_size * jax.grad(potential)(start))
    noise = (ends - mean) / np.sqrt(2 * step_size)
    assert np.max(np.abs(noise.mean(axis=0)) * np.sqrt(chains)) < 4
    assert np.max(np.abs(noise.var(axis=0) - 1) * np.sqrt(chains / 2)) < 4
    assert abs(np.mean(noise[:, 0] * noise[:, 1])) * np.sqrt(chains) < 4


# --- what it samples


SLOW = pytest.mark.slow


@pytest.fixture(
    scope="module",
    params=[pytest.param((1.0, 1.0, 1), marks=SLOW), (0.5, 0.7, 3)],
    ids=lambda case: "-".join(map(str, case)),
)
def unadjusted(request):
    """Step size, scale of the Gaussian, and the run."""
    step_size, scale, num_steps = request.param
    kernel = Langevin(gaussian(50, scale), step_size=step_size, adjusted=False, num_steps=num_steps)
    with float64():
        return step_size, scale, run(kernel, warmup=100)


def test_unadjusted_variance_of_a_gaussian_is_the_predicted_one(deviation, unadjusted):
    # stationary variance of x' = (1 − h/σ²) x + √(2h) ξ
    step_size, scale, mcmc = unadjusted
    predicted = scale**2 / (1 - step_size / (2 * scale**2))
    square = np.mean(np.asarray(mcmc.get_samples(True)["x"]) ** 2, axis=-1)
    assert deviation(square, predicted) < 4
    assert deviation(square, scale**2) > 20


def of_steps(num_steps):
    with float64():
        return run(Langevin(gaussian(10), step_size=0.05, num_steps=num_steps))


@pytest.fixture(scope="module", params=[pytest.param(1, marks=SLOW), 3])
def adjusted(request):
    """Number of steps of a draw, and the run."""
    return request.param, of_steps(request.param)


def test_adjusted_variance_of_a_gaussian_is_exact(deviation, adjusted):
    x = np.asarray(adjusted[1].get_samples(True)["x"])
    assert deviation(np.mean(x, axis=-1), 0) < 4
    assert deviation(np.mean(x**2, axis=-1), 1) < 4


@pytest.mark.parametrize("chain_method", ["vectorized", "sequential"])
@pytest.mark.slow
def test_adjusted_linear_gaussian_posterior_is_exact(linear, deviation, chain_method):
    kernel = Langevin(linear.model, num_steps=20)
    with float64():
        samples = run(kernel, linear.args, chain_method=chain_method).get_samples(True)
    draws = linear.stack(samples)
    assert samples["f"].shape == (2, 1000, 15)
    assert np.max(deviation(draws, linear.mean)) < 4
    assert np.max(deviation((draws - linear.mean) ** 2, np.diag(linear.covariance))) < 4


@pytest.mark.slow
def test_prior_of_constrained_and_hierarchical_sites_is_invariant():
    # chains start in the prior, which is the target here: independent draws, exact at any time
    chains = 20_000

    def model():
        rate = numpyro.sample("rate", dist.Gamma(3.0, 2.0))
        numpyro.sample("x", dist.Normal(rate, 2.0))

    with float64():
        kernel = Langevin(model, step_size=0.5, num_steps=10, adapt_step_size=False)
        mcmc = run(kernel, chains=chains, warmup=0, samples=1)
        rate, x = (np.asarray(mcmc.get_samples()[name]) for name in ("rate", "x"))
    assert np.all(rate > 0)
    assert 0.2 < stats(mcmc)["accept_prob"].mean() < 0.8
    for draws, mean in ((rate, 1.5), ((rate - 1.5) ** 2, 0.75), (x, 1.5), ((x - 1.5) ** 2, 4.75)):
        assert abs(draws.mean() - mean) < 4 * draws.std() / np.sqrt(chains)


def test_float32_stays_float32():
    with precision("float32"):
        mcmc = run(Langevin(gaussian(10)), warmup=50, samples=50)
        assert mcmc.get_samples()["x"].dtype == jnp.float32


# --- adaptation and labels


@pytest.mark.slow
def test_warmup_reaches_the_optimal_acceptance():
    with float64():
        accept = stats(run(Langevin(gaussian(50)), chains=4))["accept_prob"]
    assert abs(accept.mean() - 0.574) < 0.05


def test_adjusted_steps_adapt_and_unadjusted_stay(adjusted, unadjusted):
    sizes = stats(adjusted[1])["adapt_state.step_size"]
    assert np.ptp(sizes) == 0
    assert np.all(sizes != 0.05)
    assert np.all(stats(unadjusted[2])["adapt_state.step_size"] == unadjusted[0])


@pytest.mark.slow
def test_acceptance_of_an_unadjusted_chain_measures_its_bias():
    with float64():
        small, large = (
            stats(run(Langevin(gaussian(20), step_size=h, adjusted=False), samples=200))
            for h in (0.001, 0.5)
        )
    assert small["accept_prob"].mean() > 0.99
    assert large["accept_prob"].mean() < 0.9


def test_a_draw_costs_the_steps_it_takes(adjusted):
    num_steps, mcmc = adjusted
    assert np.all(stats(mcmc)["num_steps"] == num_steps)


def test_unadjusted_is_labelled_biased():
    adjusted = Langevin(gaussian(10))
    unadjusted = Langevin(gaussian(10), step_size=0.1, adjusted=False)
    assert not adjusted.biased
    assert unadjusted.biased
    with float64():
        state = unadjusted.init(jax.random.key(0), 0)
        assert "unadjusted (biased)" in unadjusted.get_diagnostics_str(state)
        assert "biased" not in adjusted.get_diagnostics_str(state)


def test_same_key_same_draws(adjusted):
    num_steps, mcmc = adjusted
    np.testing.assert_array_equal(of_steps(num_steps).get_samples()["x"], mcmc.get_samples()["x"])


def test_runaway_of_an_unstable_step_is_flagged():
    # |1 − h/σ²| > 1: the unadjusted recursion grows without bound
    with float64():
        free = run(Langevin(gaussian(10), step_size=30.0, adjusted=False), warmup=0, samples=300)
        kernel = Langevin(gaussian(10), step_size=1000.0, adapt_step_size=False)
        tested = run(kernel, warmup=0, samples=50)
    assert np.all(free.get_extra_fields(True)["diverging"][:, 5:])
    assert not np.all(np.isfinite(np.asarray(free.get_samples()["x"])))
    assert np.all(tested.get_extra_fields()["diverging"])
    assert np.ptp(np.asarray(tested.get_samples(True)["x"]), axis=1).max() == 0


# --- what it refuses


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"adjusted": False}, "expected step_size = a finite float > 0 for adjusted=False"),
        (
            {"adjusted": False, "step_size": 0.1, "adapt_step_size": True},
            "expected adapt_step_size = False for adjusted=False",
        ),
        ({"step_size": 0.0}, "expected step_size = a finite float > 0"),
        ({"num_steps": 0}, "expected num_steps = an int of at least 1"),
        ({"target_accept_prob": 0.0}, "expected target_accept_prob = "),
    ],
)
def test_wrong_arguments_are_named(options, words):
    with pytest.raises(InputError, match=words):
        Langevin(gaussian(10), **options)


def test_discrete_sites_are_named():
    def model():
        numpyro.sample("coin", dist.Bernoulli(0.5))

    with pytest.raises(InputError, match="'coin' ~ Bernoulli"):
        Langevin(model).init(jax.random.key(0), 10)
