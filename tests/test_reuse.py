"""Runs share compiled code, in one thread or in several, and share nothing else."""

import concurrent.futures

import jax
import numpy as np
import pytest
import threadpoolctl

import finwidth as fw
from finwidth._basics.blas import blas_threads
from finwidth._sampling import engine as _engine

RNG = np.random.default_rng(31)
NET = fw.Network((3,), "erf", (1.0, 0.8), 2.0)
COMPILED = "/jax/core/compile/backend_compile_duration"


def run(net, seed, **changes):
    """A run on data of its own, always of the same shapes."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(12, 5))
    X[:, seed % 3] = 0.0  # of another rank, too
    arguments = {
        "temperature": 0.1 + 0.01 * seed,
        "X_test": rng.normal(size=(3, 5)),
        "y_test": rng.normal(size=3),
        "num_warmup": 25,
        "num_samples": 25,
        "num_chains": 2,
        "seed": seed,
        "progress": False,
    } | changes
    return fw.sample(net, X, rng.normal(size=12), **arguments)


def draws(tree):
    return tree["predictions"]["f"].values


@pytest.fixture
def compilations():
    names = []

    def count(name, *_, **__):
        if name == COMPILED:
            names.append(name)

    jax.monitoring.register_event_duration_secs_listener(count)
    yield names
    jax.monitoring.unregister_event_duration_listener(count)


@pytest.mark.parametrize(
    ("model", "sampler"),
    [
        ("marginal", "split_hmc"),
        pytest.param("student_t", "nuts", marks=pytest.mark.slow),
        pytest.param("network", "langevin", marks=pytest.mark.slow),
        pytest.param("network", "hmc", marks=pytest.mark.slow),
    ],
)
def test_a_second_run_of_the_same_shapes_compiles_nothing(model, sampler, compilations):
    other = NET.replace(weight_precision=(0.7, 1.2), bias_precision=1.5)
    same = {"model": model, "sampler": sampler, "num_warmup": 100}
    run(NET, 0, **same)
    compilations.clear()
    second = run(other, 1, **same)
    run(other, 2, **same, num_samples=40)  # nor does another number of draws
    assert compilations == []
    _engine._CACHE.clear()
    np.testing.assert_array_equal(draws(second), draws(run(other, 1, **same)))
    assert compilations  # the counter counts


@pytest.mark.slow
def test_what_fixes_the_program_is_told_apart(unchecked_types):
    """Same name, other function; an option that is 1 or True: no run may take another's code."""
    shifted = fw.Activation("erf", lambda h: jax.scipy.special.erf(h) + 0.5, "none")
    plain, changed = (
        draws(run(fw.Network((3,), activation), 0)) for activation in ("erf", shifted)
    )
    assert not np.allclose(plain, changed)
    run(fw.Network((3,), "erf"), 0, sampler_options={"jitter": 0.0})
    with pytest.raises(fw.InputError, match="expected jitter"):
        run(fw.Network((3,), "erf"), 0, sampler_options={"jitter": False})


@pytest.mark.parametrize("cold", [pytest.param(True, marks=pytest.mark.slow), False])
def test_runs_in_several_threads_draw_what_they_draw_alone(cold):
    other = fw.Network((4,), "tanh") if cold else NET.replace(bias_precision=1.5)
    jobs = [(NET, 0), (other, 1), (NET, 2), (fw.Network((2, 2), "identity"), 3)]

    def job(net, seed):
        return draws(run(net, seed))

    alone = [job(*arguments) for arguments in jobs]
    if cold:
        _engine._CACHE.clear()
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        together = list(pool.map(job, *zip(*jobs, strict=True)))
    for one, other in zip(alone, together, strict=True):
        np.testing.assert_array_equal(one, other)


def test_theory_and_comparison_in_several_threads():
    rng = np.random.default_rng(0)
    X, y = rng.normal(size=(12, 5)), rng.normal(size=12)

    def job(index):
        theory = ("nested", "wishart", "infinite")[index % 3]
        return fw.solve(NET, X, y, temperature=0.1 * (1 + index), theory=theory).action

    alone = [job(index) for index in range(6)]
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(job, range(6))) == alone
    tree = run(NET, 0)
    training = tree["constant_data"]["X"].values, tree["observed_data"]["y"].values
    theory = fw.solve(NET, *training, temperature=0.1)
    alone = fw.compare(theory, tree)
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for report in pool.map(lambda _: fw.compare(theory, tree), range(4)):
            assert report.identical(alone)


def test_threads_of_linear_algebra_are_put_back():
    def setting():
        return [
            part["num_threads"]
            for part in threadpoolctl.threadpool_info()
            if part["user_api"] == "blas"
        ]

    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        before = setting()
        first, second = blas_threads(1), blas_threads(1)
        first.__enter__()
        second.__enter__()
        first.__exit__(None, None, None)  # as of runs in two threads, not nested
        assert setting() == [1 for _ in before]
        second.__exit__(None, None, None)
        assert setting() == before
