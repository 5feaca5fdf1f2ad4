"""The split integrator is exact where it should be, and the kernel samples the posterior."""

import os
import pickle
import subprocess
import sys
import textwrap
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest
from hypothesis import given, settings, strategies as st
from hypothesis.extra.numpy import array_shapes
from numpyro.infer import MCMC
from numpyro.infer.util import potential_energy

from finwidth._basics.checks import check_number
from finwidth._basics.errors import InputError
from finwidth._numerics.precision import float64, precision
from finwidth.infer import SplitHMC
from finwidth.infer._gaussian import GaussianPrior
from finwidth.infer._split_hmc import PhasePoint, split_step

STATS = ("energy", "num_steps", "accept_prob", "potential_energy", "adapt_state.step_size")


def run(kernel, args=(), *, chains=2, warmup=300, samples=1000, seed=0, **options):
    options = {"chain_method": "vectorized", "jit_model_args": False} | options
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


def nonlinear(size=20):
    """A one-layer model: Gaussian latent sites, a likelihood that is far from Gaussian."""
    rng = np.random.default_rng(1)
    X, y = rng.normal(size=(10, size)), rng.choice([-1.0, 1.0], size=10)

    def model():
        w = numpyro.sample("w", dist.Normal(0.0, 1.0).expand([size]).to_event(1))
        numpyro.sample("y", dist.Normal(jnp.tanh(X @ w), 0.3), obs=y)

    return model


# --- the integrator


def rough(z):
    """A potential without symmetries, Gaussian nowhere."""
    return jnp.sum(jnp.cosh(z)) / 4 + jnp.tanh(z[0] * z[1] - z[2]) + 0.1 * jnp.sum(z**4)


likelihood = jax.value_and_grad(rough)


def flow(z, p, step_size, steps):
    def body(_, point):
        return split_step(likelihood, step_size, point)

    return jax.lax.fori_loop(0, steps, body, PhasePoint(z, p, *likelihood(z)))


def hamiltonian(point):
    return 0.5 * point.z @ point.z + 0.5 * point.p @ point.p + point.u


def test_energy_error_is_of_second_order_in_the_step_size():
    with float64():
        starts = jax.random.normal(jax.random.key(0), (2, 20, 3))
        steps = np.array([16, 32, 64, 128])
        errors = []
        for n in steps:
            end = jax.vmap(lambda z, p, n=n: hamiltonian(flow(z, p, float(1 / n), n)))(*starts)
            start = jax.vmap(lambda z, p: hamiltonian(flow(z, p, 1.0, 0)))(*starts)
            errors.append(float(jnp.sqrt(jnp.mean((end - start) ** 2))))
        slope = np.polyfit(np.log(1.0 / steps), np.log(errors), 1)[0]
        assert abs(slope - 2) < 0.15


def test_negated_momentum_leads_back():
    with float64():
        z, p = jax.random.normal(jax.random.key(1), (2, 3))
        there = flow(z, p, 0.2, 25)
        back = flow(there.z, -there.p, 0.2, 25)
        assert float(jnp.max(jnp.abs(there.z - z))) > 0.1
        np.testing.assert_allclose(back.z, z, atol=1e-10)
        np.testing.assert_allclose(-back.p, p, atol=1e-10)


@pytest.mark.parametrize("step_size", [0.05, 0.7, 2.0])
def test_a_step_preserves_volume(step_size):
    def step(zp):
        point = split_step(likelihood, step_size, PhasePoint(zp[:3], zp[3:], *likelihood(zp[:3])))
        return jnp.concatenate([point.z, point.p])

    with float64():
        jacobian = jax.jacfwd(step)(jax.random.normal(jax.random.key(2), (6,)))
        assert abs(abs(np.linalg.det(jacobian)) - 1) < 1e-10


@pytest.mark.slow
@pytest.mark.parametrize("step_size", [0.1, 1.0, 3.0])
def test_without_likelihood_every_step_size_is_exact(step_size):
    def model():
        numpyro.sample("x", dist.Normal(3.0, 0.01).expand([4]).to_event(1))
        numpyro.sample("m", dist.MultivariateNormal(jnp.ones(2), jnp.eye(2) + 0.5))

    with float64():
        kernel = SplitHMC(model, trajectory=4.0, step_size=step_size, adapt_step_size=False)
        mcmc = run(kernel, samples=200, warmup=0)
        assert stats(mcmc)["accept_prob"].min() > 1 - 1e-12
        assert np.abs(np.asarray(mcmc.get_samples()["x"]) - 3).max() < 0.06


# --- the posterior


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"chain_method": "vectorized"}, marks=pytest.mark.slow),
        {"chain_method": "vectorized", "jit_model_args": True},
        pytest.param({"chain_method": "sequential"}, marks=pytest.mark.slow),
        pytest.param(
            {"chain_method": "sequential", "jit_model_args": True}, marks=pytest.mark.slow
        ),
    ],
    ids=lambda options: "-".join(map(str, options.values())),
)
def test_linear_gaussian_posterior_is_exact(linear, deviation, options):
    with float64():
        draws = linear.stack(run(SplitHMC(linear.model), linear.args, **options).get_samples(True))
    assert draws.shape == (2, 1000, 7)
    centred = draws - linear.mean
    products = centred[..., :, None] * centred[..., None, :]
    assert np.max(deviation(draws, linear.mean)) < 4
    upper = np.triu_indices(7)
    assert np.max(deviation(products[..., *upper], linear.covariance[upper])) < 4


@pytest.mark.slow
def test_float32_samples_the_same_posterior(linear, deviation):
    with precision("float32"):
        args = tuple(np.asarray(a, np.float32) for a in linear.args)
        mcmc = run(SplitHMC(linear.model), args)
        assert all(v.dtype == jnp.float32 for v in mcmc.get_samples().values())
        draws = linear.stack(mcmc.get_samples(True))
    assert np.max(deviation(draws, linear.mean)) < 4
    assert np.max(deviation((draws - linear.mean) ** 2, np.diag(linear.covariance))) < 4


@pytest.fixture(scope="module")
def short(linear):
    with float64():
        return run(SplitHMC(linear.model), linear.args, warmup=10, samples=5)


def test_state_holds_numpyros_potential_energy_and_gradient(linear, short):
    with float64():
        state = short.last_state
        potential = partial(potential_energy, linear.model, linear.args, {})
        value, gradient = jax.jit(jax.vmap(jax.value_and_grad(potential)))(state.z)
        np.testing.assert_allclose(state.potential_energy, value, rtol=1e-10)
        for name in gradient:
            np.testing.assert_allclose(state.z_grad[name], gradient[name], rtol=1e-8, atol=1e-10)
        kinetic = stats(short)["energy"] - stats(short)["potential_energy"]
        assert np.all(kinetic > 0)


def test_deterministic_sites_are_reported(linear, short):
    with float64():
        samples = short.get_samples(True)
        f = linear.stack(samples) @ linear.args[0].T
        np.testing.assert_allclose(samples["f"], f, rtol=1e-10)


def test_arviz_reads_the_run(short):
    import arviz as az

    with float64():
        tree = az.from_numpyro(short, log_likelihood=False)
    assert set(tree["posterior"].data_vars) == {"w", "b", "c", "f"}
    assert {"energy", "n_steps", "acceptance_rate", "lp", "diverging"} <= set(tree["sample_stats"])
    assert tree["sample_stats"].sizes == {"chain": 2, "draw": 5}


# --- the prior


@settings(deadline=None, max_examples=3)
@given(shape=array_shapes(max_dims=3, max_side=4), seed=st.integers(0, 99))
def test_whitening_is_the_priors_own_and_invertible(shape, seed):
    rng = np.random.default_rng(seed)
    loc, scale = rng.normal(size=shape), rng.uniform(0.1, 3.0, size=shape)
    root = np.tril(rng.normal(size=(*shape, shape[-1])), -1) + (1 + scale[..., None]) * np.eye(
        shape[-1]
    )
    with float64():
        prior = GaussianPrior(
            {"a": jnp.asarray(loc), "b": jnp.asarray(loc)},
            {"a": jnp.asarray(scale), "b": jnp.asarray(root)},
        )
        z = jnp.asarray(rng.normal(size=2 * loc.size))
        x = prior.unwhiten(z)
        np.testing.assert_allclose(prior.whiten(x), z, atol=1e-10)
        np.testing.assert_allclose(prior.whiten_gradient(prior.unwhiten_gradient(z)), z, atol=1e-10)
        density = dist.Normal(loc, scale).log_prob(x["a"]).sum()
        density += dist.MultivariateNormal(loc, scale_tril=root).log_prob(x["b"]).sum()
        np.testing.assert_allclose(-0.5 * z @ z - prior.log_normalizer(), density, rtol=1e-10)


# --- adaptation, chains


@pytest.mark.slow
@pytest.mark.parametrize("target", [0.6, 0.9])
def test_warmup_reaches_the_target_acceptance(target):
    with float64():
        mcmc = run(SplitHMC(nonlinear(), target_accept_prob=target), chains=4, samples=500)
    assert abs(stats(mcmc)["accept_prob"].mean() - target) < 0.1


@pytest.mark.slow
def test_chains_side_by_side_share_step_size_and_steps():
    with float64():
        shared = stats(run(SplitHMC(nonlinear()), chains=3, warmup=30, samples=30))
        alone = run(
            SplitHMC(nonlinear()), chains=3, warmup=30, samples=5, chain_method="sequential"
        )
    assert np.ptp(shared["adapt_state.step_size"]) == 0
    assert np.all(np.ptp(shared["num_steps"], axis=0) == 0)
    assert np.ptp(shared["num_steps"]) > 0
    assert np.ptp(shared["potential_energy"], axis=0).min() > 0
    assert len(np.unique(stats(alone)["adapt_state.step_size"])) == 3


def test_trajectories_have_the_lengths_asked_for_and_steps_their_size_without_warmup():
    with float64():
        kernel = SplitHMC(nonlinear(), trajectory=1.0, jitter=0.5, step_size=0.1)
        found = stats(run(kernel, warmup=0, samples=300, chains=1))
        steps = found["num_steps"]
        assert (steps.min(), steps.max()) == (6, 15)
        assert np.all(found["adapt_state.step_size"] == 0.1)
        kernel = SplitHMC(nonlinear(), trajectory=1.0, jitter=0.0, step_size=0.1, max_num_steps=4)
        assert np.all(stats(run(kernel, warmup=0, samples=5, chains=1))["num_steps"] == 4)


@pytest.fixture(scope="module", params=[1, pytest.param(2, marks=pytest.mark.slow)])
def whole(request):
    """Draws of a run, of the same run in two parts, and of a run with another key."""
    settings = {"warmup": 20, "chains": request.param}
    with float64():
        mcmc = run(SplitHMC(nonlinear()), samples=40, **settings)
        one = mcmc.get_samples(True)["w"]
        mcmc.run(jax.random.key(1))
        other = mcmc.get_samples(True)["w"]
        mcmc = run(SplitHMC(nonlinear()), samples=20, **settings)
        first = mcmc.get_samples(True)["w"]
        mcmc.post_warmup_state = mcmc.last_state
        mcmc.run(mcmc.post_warmup_state.rng_key)
        return one, (first, mcmc.get_samples(True)["w"]), other


def test_same_key_same_draws_and_other_key_other_draws(whole):
    one, (first, _), other = whole
    np.testing.assert_array_equal(first, one[:, :20])
    assert not np.allclose(one, other)


def test_a_run_in_two_parts_equals_one_run(whole):
    one, parts, _ = whole
    np.testing.assert_allclose(np.concatenate(parts, axis=1), one, rtol=1e-12)


def test_sample_needs_nothing_but_the_state():
    model = nonlinear()
    with float64():
        state = SplitHMC(model).init(jax.random.key(0), 10)
        one, other = SplitHMC(model).sample(state), SplitHMC(model).sample(state)
        np.testing.assert_array_equal(one.z["w"], other.z["w"])


def test_kernel_pickles():
    kernel = pickle.loads(pickle.dumps(SplitHMC(print, trajectory=0.9)))
    assert vars(kernel) == vars(SplitHMC(print, trajectory=0.9))


def test_pool_gives_separate_chains_the_mean_adaptation():
    with float64():
        kernel = SplitHMC(nonlinear())
        step = jax.jit(kernel.sample)
        states = [kernel.init(jax.random.key(seed), 12) for seed in range(3)]
        for _ in range(6):
            states = [step(state) for state in states]
        pooled = kernel.pool(states)
        sizes = [float(state.adapt_state.step_size) for state in states]
        assert len(set(sizes)) == 3
        for before, after in zip(states, pooled, strict=True):
            size = float(after.adapt_state.step_size)
            assert size == pytest.approx(float(np.exp(np.mean(np.log(sizes)))), rel=1e-12)
            np.testing.assert_array_equal(before.z["w"], after.z["w"])
        for _ in range(8):
            pooled = [step(state) for state in pooled]
        fixed = kernel.pool(pooled)
        assert {float(s.adapt_state.step_size) for s in kernel.pool([step(s) for s in fixed])} == {
            float(fixed[0].adapt_state.step_size)
        }


def test_pool_rejects_what_it_cannot_pool():
    with float64():
        kernel = SplitHMC(nonlinear())
        state = kernel.init(jax.random.key(0), 10)
        with pytest.raises(InputError, match="expected states = at least one"):
            kernel.pool([])
        with pytest.raises(InputError, match=r"got \[\(0, 10\), \(1, 10\)\]"):
            kernel.pool([state, kernel.sample(state)])
        with pytest.raises(InputError, match="got one of 2 chains"):
            kernel.pool([kernel.init(jax.random.split(jax.random.key(0)), 10)])


@pytest.mark.slow
def test_chains_on_several_devices_draw_what_they_draw_alone():
    script = """
        import jax, numpy as np, numpyro, numpyro.distributions as dist
        from numpyro.infer import MCMC
        from finwidth.infer import SplitHMC

        def model(y):
            w = numpyro.sample("w", dist.Normal(0.0, 2.0).expand([3]).to_event(1))
            numpyro.sample("y", dist.Normal(w**2, 0.5), obs=y)

        assert jax.local_device_count() == 2
        draws = []
        for method in ("parallel", "sequential"):
            mcmc = MCMC(SplitHMC(model), num_warmup=20, num_samples=20, num_chains=2,
                        chain_method=method, progress_bar=False)
            mcmc.run(jax.random.key(0), np.ones(3))
            draws.append(np.asarray(mcmc.get_samples(group_by_chain=True)["w"]))
        np.testing.assert_allclose(*draws, rtol=1e-8)
    """
    flags = "--xla_force_host_platform_device_count=2"
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        env=os.environ | {"XLA_FLAGS": flags, "JAX_ENABLE_X64": "1", "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr


# --- divergences


def test_undefined_likelihood_is_rejected_and_flagged():
    def model():
        x = numpyro.sample("x", dist.Normal(0.0, 1.0))
        numpyro.factor("edge", jnp.where(x > 0.5, jnp.nan, 0.0))

    with float64():
        mcmc = run(SplitHMC(model), warmup=0, samples=200, init_params={"x": jnp.zeros(2)})
        x, diverging = mcmc.get_samples(True)["x"], mcmc.get_extra_fields(True)["diverging"]
        assert np.all(x <= 0.5)
        assert 0 < np.mean(diverging) < 1
        assert np.all(stats(mcmc)["accept_prob"][np.asarray(diverging)] == 0)


def test_large_energy_errors_are_rejected_and_flagged():
    def model():
        x = numpyro.sample("x", dist.Normal(0.0, 1.0))
        numpyro.sample("y", dist.Normal(x, 1e-4), obs=0.0)

    with float64():
        kernel = SplitHMC(model, step_size=0.5, adapt_step_size=False)
        mcmc = run(kernel, warmup=0, samples=20, init_params={"x": jnp.full(2, 1e-3)})
        assert np.all(mcmc.get_extra_fields()["diverging"])
        assert np.all(mcmc.get_samples()["x"] == 1e-3)


# --- what it refuses


def half_normal():
    numpyro.sample("scale", dist.HalfNormal(1.0))


def truncated():
    numpyro.sample("positive", dist.TruncatedNormal(0.0, 1.0, low=0.0))


def hierarchical_loc():
    m = numpyro.sample("m", dist.Normal(0.0, 1.0))
    with numpyro.plate("units", 3):
        numpyro.sample("x", dist.Normal(m, 1.0))


def hierarchical_scale():
    s = numpyro.sample("s", dist.Normal(0.0, 1.0))
    numpyro.sample("x", dist.Normal(0.0, jnp.exp(s)).expand([2]).to_event(1))


def hierarchical_covariance():
    s = numpyro.sample("s", dist.Normal(0.0, 1.0))
    numpyro.sample("x", dist.MultivariateNormal(jnp.zeros(2), jnp.exp(s) * jnp.eye(2)))


def discrete():
    numpyro.sample("coin", dist.Bernoulli(0.5))


def subsampled():
    x = numpyro.sample("x", dist.Normal(0.0, 1.0))
    with numpyro.plate("data", 10, subsample_size=5):
        numpyro.sample("y", dist.Normal(x, 1.0), obs=jnp.zeros(5))


def rescaled():
    with numpyro.handlers.scale(scale=2.0):
        numpyro.sample("x", dist.Normal(0.0, 1.0))


def empty():
    numpyro.sample("y", dist.Normal(0.0, 1.0), obs=0.0)


@pytest.mark.parametrize("chains", [pytest.param(1, marks=pytest.mark.slow), 2])
@pytest.mark.parametrize(
    ("model", "words"),
    [
        (half_normal, "'scale' ~ HalfNormal"),
        (truncated, "'positive' ~ "),
        (hierarchical_loc, "'x' with parameters that depend on other latent sites"),
        (hierarchical_scale, "'x' with parameters that depend on other latent sites"),
        (hierarchical_covariance, "'x' with parameters that depend on other latent sites"),
        (discrete, "'coin' ~ Bernoulli"),
        (subsampled, "plate 'data' with subsample_size = 5 of 10"),
        (rescaled, "'x' ~ Normal under a scale handler"),
        (empty, "with latent sites, got one with none"),
    ],
)
def test_models_it_cannot_sample_are_named(model, words, chains):
    key = jax.random.key(0)
    with pytest.raises(InputError, match="^expected .*got .*") as error:
        SplitHMC(model).init(key if chains == 1 else jax.random.split(key, chains), 10)
    assert words in str(error.value)


@pytest.mark.parametrize("jit_model_args", [pytest.param(False, marks=pytest.mark.slow), True])
def test_prior_parameters_may_depend_on_model_arguments(jit_model_args):
    def model(loc, scale):
        numpyro.sample("x", dist.Normal(loc, scale))

    with float64():
        mcmc = run(
            SplitHMC(model),
            (jnp.array([5.0, -5.0]), jnp.array(0.1)),
            warmup=0,
            samples=10,
            jit_model_args=jit_model_args,
        )
        assert np.abs(mcmc.get_samples()["x"] - np.array([5.0, -5.0])).max() < 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("trajectory", 0.0),
        ("trajectory", float("inf")),
        ("jitter", 1.0),
        ("jitter", -0.1),
        ("target_accept_prob", 1.0),
        ("step_size", -1.0),
        ("max_num_steps", 0),
    ],
)
def test_wrong_arguments_are_named(name, value):
    with pytest.raises(InputError, match=f"^expected {name} = .*, got "):
        SplitHMC(nonlinear(), **{name: value})


@pytest.mark.parametrize("value", [True, "high", None, float("nan"), [1.0, 2.0]])
def test_what_is_no_number_is_named(value):
    with pytest.raises(InputError, match="^expected step_size = a finite float > 0, got "):
        check_number("step_size", value, 0.0)


@pytest.mark.parametrize(
    ("init_params", "words"),
    [
        ({"w": jnp.zeros(19)}, r"of shape \(20,\), got shape \(19,\)"),
        ({"v": jnp.zeros(20)}, r"the sites \['w'\], got \['v'\]"),
        ({"w": jnp.full(20, jnp.nan)}, "expected a finite log density"),
    ],
)
def test_wrong_starting_points_are_named(init_params, words):
    with float64(), pytest.raises(InputError, match=words):
        SplitHMC(nonlinear()).init(jax.random.key(0), 10, init_params)
