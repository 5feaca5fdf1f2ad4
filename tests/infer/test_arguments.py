"""What a user's own loop gives to the kernels: taken, or refused in one line that says why not."""

import functools

import jax
import jax.numpy as jnp
import numpyro
import numpyro.distributions as dist
import pytest

import finwidth as fw
from finwidth.infer import Langevin, SplitHMC

pytestmark = pytest.mark.usefixtures("unchecked_types")

KINDS = pytest.mark.parametrize("kind", [SplitHMC, Langevin])


def line(x, y, *, noise=1.0):
    slope = numpyro.sample("slope", dist.Normal(0.0, 1.0).expand([2]).to_event(1))
    numpyro.sample("y", dist.Normal(slope[0] + slope[1] * x, noise), obs=y)


def plane(x, y):
    """As `line`, with another site."""
    offset = numpyro.sample("offset", dist.Normal(0.0, 1.0))
    line(x - offset, y)


DATA = (jnp.arange(3.0), jnp.ones(3))


def started(kind, rng_key=None):
    kernel = kind(line)
    rng_key = jax.random.key(0) if rng_key is None else rng_key
    return kernel, kernel.init(rng_key, 2, None, DATA)


@KINDS
@pytest.mark.parametrize(
    ("arguments", "keywords", "message"),
    [
        ((), {}, "arguments that the model takes, got missing a required argument: 'x'"),
        (DATA, {"nois": 1.0}, "got an unexpected keyword argument 'nois'"),
        (list(DATA), {}, "expected model_args = a tuple"),
        (DATA, {3: 1.0}, "expected model_kwargs = a mapping from names"),
    ],
)
def test_arguments_that_the_model_does_not_take(kind, arguments, keywords, message):
    kernel, state = started(kind)
    for call in (
        functools.partial(kernel.init, jax.random.key(0), 2, None),
        functools.partial(kernel.sample, state),
        functools.partial(kernel.refresh, state),
        kernel.postprocess_fn,
    ):
        with pytest.raises(fw.InputError, match=message):
            call(arguments, keywords)


@KINDS
@pytest.mark.parametrize(
    "rng_key", [0, None, "key", jnp.ones(2), jax.random.split(jax.random.key(0), 2)[:0]]
)
def test_what_is_no_key(kind, rng_key):
    with pytest.raises(fw.InputError, match="expected rng_key = a key"):
        kind(line).init(rng_key, 2, None, DATA)


@KINDS
@pytest.mark.parametrize("num_warmup", [-1, 2.5, "2", 2**40, jnp.asarray(-1), jnp.ones(2, int)])
def test_what_is_no_number_of_transitions(kind, num_warmup):
    with pytest.raises(fw.InputError, match="expected num_warmup = an int"):
        kind(line).init(jax.random.key(0), num_warmup, None, DATA)


@KINDS
def test_a_state_of_another_model(kind):
    """A position without the model's sites, or with others, is none of its positions."""
    kernel, state = started(kind)
    with pytest.raises(fw.InputError, match=r"sites have shapes .*offset.*, got \{'slope'"):
        kind(plane).sample(state, DATA)
    position = {"slope": jnp.zeros(3)}
    with pytest.raises(fw.InputError, match=r"'slope': \(2,\).*, got \{'slope': \(3,\)"):
        kernel.sample(state._replace(z=position), DATA)
    _, several = started(kind, jax.random.split(jax.random.key(0), 3))
    with pytest.raises(fw.InputError, match=r"'slope': \(3, 2\).*, got \{'slope': \(2,\)"):
        kernel.sample(several._replace(z=state.z), DATA)


@KINDS
@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("z", None),
        ("z_grad", {}),
        ("potential_energy", "text"),
        ("i", jnp.zeros(3)),
        ("adapt_state", ()),
        ("rng_key", jnp.zeros(())),
    ],
)
def test_a_state_that_was_changed(kind, field, value):
    kernel, state = started(kind)
    with pytest.raises(fw.InputError, match="expected state"):
        kernel.sample(state._replace(**{field: value}), DATA)


@KINDS
def test_decorated_models_take_what_their_decorator_takes(kind):
    @functools.wraps(line)
    def unit_noise(y):
        line(DATA[0], y)

    assert kind(unit_noise).init(jax.random.key(0), 2, None, (DATA[1],)).z["slope"].shape == (2,)
    handled = kind(numpyro.handlers.seed(line, 0))
    assert handled.init(jax.random.key(0), 2, None, DATA).z["slope"].shape == (2,)


@KINDS
def test_wrappers_that_are_none(kind):
    kernel, _ = started(kind)
    for wrapper in (None, int, lambda _: None):
        with pytest.raises(fw.InputError, match="expected (wrapper|model) = "):
            kernel.wrap_model(wrapper)
