"""Options of the samplers: what they take, checked before any work, and what they change."""

import functools
import inspect
import re

import jax.numpy as jnp
import numpy as np
import pytest
from numpyro.infer import HMC, NUTS, init_to_median

import finwidth as fw

RNG = np.random.default_rng(3)
X, Y = RNG.normal(size=(6, 2)), np.sign(RNG.normal(size=6))
NET = fw.Network((3,), "identity")
SIZE = 6  # of W_1, which is all that model "marginal" samples


def run(sampler, options, **changes):
    arguments = {"temperature": 0.5, "num_warmup": 4, "num_samples": 5, "num_chains": 1} | changes
    return fw.sample(
        NET, X, Y, sampler=sampler, sampler_options=options, progress=False, **arguments
    )


# what each option takes, and further values that it does not, beside NONSENSE
NUMBER = ([0.1, 1, np.float32(0.5), np.array(0.5)], [0, -1, True, 10**400])
PART = ([0.5], [0, 1, -0.5, 2, True])
COUNT = ([1, 7, np.int64(3)], [0, -1, 2.5, True, 2**31, 2**70])
FLAG = ([True, False], [0, 1, np.ones(6), np.ones((2, 7))])
NUMPYRO = {
    "step_size": NUMBER,
    "target_accept_prob": PART,
    "adapt_step_size": FLAG,
    "adapt_mass_matrix": FLAG,
    "regularize_mass_matrix": FLAG,
    "forward_mode_differentiation": FLAG,
    "find_heuristic_step_size": ([False], [True, 1]),
    "dense_mass": (
        [True, False, [], [("W_1",)]],
        [1, "W_1", ["W_1"], [()], [("W_1", "W_1")], [("W_1",), ("W_1",)], [(3,)]],
    ),
    "inverse_mass_matrix": (
        [None, np.ones(SIZE), jnp.ones(SIZE), {("W_1",): np.ones(SIZE)}, {}],
        [
            2.0,
            np.zeros(SIZE),
            -np.ones(SIZE),
            np.full(SIZE, np.inf),
            np.ones((2, 3)),
            np.ones((1, 2, 2)),
            np.eye(SIZE),  # dense_mass is False
            [],
            {"W_1": np.ones(SIZE)},
            {("W_1",): 3},
            np.ma.masked_array(np.ones(SIZE), np.arange(SIZE) == 0),
        ],
    ),
    "init_strategy": ([init_to_median, functools.partial(init_to_median, num_samples=3)], [int, 3]),
}
OPTIONS = {
    "nuts": NUMPYRO
    | {"max_tree_depth": ([1, 10, (3, 4)], [0, 31, 2**70, (3,), (3, 4, 5), (0, 3), (3, 2.5)])},
    "hmc": NUMPYRO
    | {
        "num_steps": ([None, *COUNT[0]], COUNT[1]),
        "max_num_steps": COUNT,
        "trajectory_length": NUMBER,
    },
    "split_hmc": {
        "trajectory": NUMBER,
        "jitter": ([0, 0.5], [1, -0.1, True]),
        "target_accept_prob": PART,
        "step_size": NUMBER,
        "adapt_step_size": FLAG,
        "max_num_steps": COUNT,
    },
    "langevin": {
        "step_size": ([None, *NUMBER[0]], NUMBER[1]),
        "num_steps": COUNT,
        "adjusted": ([True], [0, 1, None, np.ones(6)]),
        "target_accept_prob": PART,
        "adapt_step_size": ([None, *FLAG[0]], FLAG[1]),
    },
}
NONSENSE = [float("nan"), float("inf"), 1j, "text", "", b"text", [3.5, None], object(), {3}, {3: 3}]
#: Options of NumPyro's that only a model or a length of their own could use.
NOT_OURS = {"self", "model", "potential_fn", "kinetic_fn"}


class Work(Exception):
    pass


@pytest.fixture
def no_work(monkeypatch, unchecked_types):
    def work(*_, **__):
        raise Work

    monkeypatch.setattr("finwidth._sampling.sample._engine", work)


CASES = [(sampler, name) for sampler, options in OPTIONS.items() for name in options]


@pytest.mark.parametrize(("sampler", "name"), CASES)
def test_options_are_checked_before_any_work(no_work, sampler, name):
    right, wrong = OPTIONS[sampler][name]
    for value in right:
        with pytest.raises(Work):
            run(sampler, {name: value})
    for value in (*wrong, *NONSENSE):
        with pytest.raises(fw.InputError, match=f"^expected {name}[^\n]*, got [^\n]*$"):
            run(sampler, {name: value})


@pytest.mark.parametrize("sampler", OPTIONS)
@pytest.mark.parametrize("name", ["nonsense", "", "model", "potential_fn", "kinetic_fn", "init"])
def test_unknown_options_are_refused_by_name(no_work, sampler, name):
    with pytest.raises(fw.InputError, match="^expected sampler_options [^\n]*$") as raised:
        run(sampler, {name: None})
    assert name in str(raised.value)


@pytest.mark.parametrize(("sampler", "kernel"), [("nuts", NUTS), ("hmc", HMC)])
def test_every_option_of_numpyro_is_known(sampler, kernel):
    theirs = set(inspect.signature(kernel.__init__).parameters) - NOT_OURS
    ours = set(OPTIONS[sampler])
    assert theirs - ours == ({"trajectory_length"} if sampler == "nuts" else set())
    assert ours - theirs == ({"max_num_steps"} if sampler == "hmc" else set())


TOGETHER = {
    "both lengths": ("hmc", {"num_steps": 3, "trajectory_length": 1.0}),
    "no length": ("hmc", {"trajectory_length": None}),
    "a matrix for blocks": (
        "nuts",
        {"dense_mass": [("W_1",)], "inverse_mass_matrix": np.eye(SIZE)},
    ),
    "blocks for a matrix": (
        "nuts",
        {"dense_mass": True, "inverse_mass_matrix": {("W_1",): np.eye(SIZE)}},
    ),
    "no bias": ("langevin", {"adjusted": False}),
    "adaptation of the bias": (
        "langevin",
        {"adjusted": False, "step_size": 0.1, "adapt_step_size": True},
    ),
    "not symmetric": (
        "nuts",
        {"dense_mass": True, "inverse_mass_matrix": np.eye(SIZE) + np.tri(SIZE, k=-1)},
    ),
    "not positive": ("nuts", {"dense_mass": True, "inverse_mass_matrix": -np.eye(SIZE)}),
}


@pytest.mark.parametrize("case", TOGETHER)
def test_options_that_do_not_go_together(no_work, case):
    sampler, options = TOGETHER[case]
    with pytest.raises(fw.InputError, match="^expected [^\n]*, got [^\n]*$"):
        run(sampler, options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"inverse_mass_matrix": np.ones(SIZE - 1)}, "expected inverse_mass_matrix of .*= 6 coord"),
        ({"inverse_mass_matrix": {("v",): np.ones(3)}}, "expected inverse_mass_matrix = sites out"),
        ({"dense_mass": [("W_2",)]}, r"expected dense_mass = sites out of \['W_1'\], got 'W_2'"),
        ({"init_strategy": lambda *_: None}, "expected init_strategy = one of numpyro.infer's"),
    ],
)
@pytest.mark.parametrize("chains", ["threads", "vectorized"])
def test_options_that_do_not_fit_the_model(options, message, chains, tmp_path):
    """Told when the model is traced; nothing is left that could bind the next call."""
    with pytest.raises(fw.InputError) as raised:
        run("nuts", options, chain_method=chains, num_chains=2, checkpoint=tmp_path / "c")
    assert re.fullmatch(f"{message}.*", str(raised.value))  # JAX adds notes of several lines
    assert [path.name for path in (tmp_path / "c").iterdir()] == ["lock"]


def test_a_refused_option_does_not_bind_the_checkpoint(tmp_path):
    with pytest.raises(fw.InputError, match="expected trajectory = "):
        run("split_hmc", {"trajectory": -1.0}, checkpoint=tmp_path / "c")
    assert not (tmp_path / "c").exists()


@pytest.mark.slow
def test_a_matrix_for_the_metric_is_left_as_it_was():
    """NumPyro writes into a dict that it is given, and stumbles over arrays in float32."""
    matrix = {("W_1",): np.full(SIZE, 2.0)}
    first = run("nuts", {"inverse_mass_matrix": matrix}, num_warmup=0)
    assert list(matrix) == [("W_1",)] and np.all(matrix["W_1",] == 2.0)
    second = run("nuts", {"inverse_mass_matrix": jnp.full(SIZE, 2.0, jnp.float32)}, num_warmup=0)
    np.testing.assert_array_equal(first["posterior"]["v"], second["posterior"]["v"])


@pytest.mark.slow
def test_steps_take_the_place_of_a_length():
    tree = run("hmc", {"num_steps": 3})
    assert np.all(tree["sample_stats"]["n_steps"] == 3)
    assert tree["sample_stats"]["step_size"].values.max() != pytest.approx(2 * np.pi / 3)


@pytest.mark.parametrize(
    ("change", "name"),
    [
        ({"options": {"step_size": 1e300}}, r"sampler_options\['step_size'\]"),
        ({"options": {"step_size": 1e-300}}, r"sampler_options\['step_size'\]"),
        ({"temperature": 1e-300}, "temperature"),
        ({"X_test": X * 1e50}, "X_test"),
    ],
)
def test_numbers_beyond_float32(no_work, change, name):
    options = change.pop("options", {})
    with pytest.raises(Work):
        run("split_hmc", options, **change)
    with pytest.raises(fw.InputError, match=f"^expected {name} = numbers of a size that float32"):
        run("split_hmc", options, dtype="float32", **change)


@pytest.mark.parametrize("name", ["thin", "num_warmup"])
def test_counts_that_compiled_code_cannot_hold(no_work, name):
    with pytest.raises(fw.InputError, match=f"^expected {name} = an int of at most 2147483647"):
        run("split_hmc", {}, **{name: 2**31})
