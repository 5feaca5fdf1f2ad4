"""Sweeps: what a grid holds, what its numbers are, what is stored and found again."""

import dataclasses
import itertools
import sqlite3

import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr

import finwidth as fw
from finwidth._basics.files import lock
from finwidth._sweeps import engine as _engine, work as _work
from finwidth._sweeps.keys import Keys
from finwidth._sweeps.point import Effort
from finwidth._sweeps.store import Store

THEORIES = ("nested", "infinite")
WIDTHS = (3, 8)
TIMES = ["seconds", "cpu_seconds"]


@pytest.fixture(scope="module")
def data():
    return fw.load_dataset("random", n_train=6, n_test=4, n_inputs=3, seed=3)


@pytest.fixture(scope="module")
def nets():
    return [fw.Network((width,), "erf") for width in WIDTHS]


@pytest.fixture
def grid(data, nets):
    return fw.grid(data=data, net=nets, temperature=[0.1, 0.5], theory=THEORIES)


def sweep(grid, store=None, **options):
    return fw.sweep(grid, store=store, progress=False, **options)


@pytest.fixture(autouse=True)
def in_this_process(monkeypatch):
    """On however slow a machine."""
    monkeypatch.setattr(_engine, "_WORTH", np.inf)


@pytest.fixture
def solved(monkeypatch):
    """The points that were solved, not read."""
    points, solve = [], _work.solve_point
    monkeypatch.setattr(_work, "solve_point", lambda p: points.append(p) or solve(p))
    return points


# --- grids


def test_grid_has_every_combination_once(data, nets):
    grid = fw.grid(data=data, net=nets, temperature=[0.1, 0.5], theory=THEORIES)
    found = [(p.network.widths, p.temperature, p.theory) for p in grid]
    expected = itertools.product([(3,), (8,)], [0.1, 0.5], THEORIES)
    assert len(grid) == 8 and sorted(found) == sorted(expected)
    sampled = fw.grid(data=data, net=nets, temperature=0.1, theory=None, sample=True, seed=range(3))
    assert [(p.network.widths, p.seed) for p in sampled] == [
        ((width,), seed) for width in WIDTHS for seed in range(3)
    ]
    with pytest.raises(dataclasses.FrozenInstanceError):
        grid.points = ()


def test_theories_do_not_depend_on_seeds(data, nets):
    grid = fw.grid(data=data, net=nets, temperature=0.1, sample=True, seed=range(3))
    assert len(grid) == 2 * (1 + 3)
    assert len(fw.grid(data=data, net=nets, temperature=0.1, seed=range(3))) == 2


def test_sum_of_grids_has_the_points_of_both(data, nets):
    one = fw.grid(data=data, net=nets, temperature=0.1)
    two = fw.grid(data=data, net=nets[0], temperature=[0.5], theory="infinite")
    both = sweep(one + two)
    assert both.sizes == {"net": 2, "temperature": 2, "theory": 2}
    state = both["state"].transpose("net", "temperature", "theory").values
    expected = [
        [["solved", "not asked"], ["not asked", "solved"]],
        [["solved", "not asked"], ["not asked", "not asked"]],
    ]
    assert state.tolist() == expected
    assert (np.isnan(both["error"]) == (both["state"] == "not asked")).all()


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"net": []}, "expected net = one value or several, got none"),
        ({"data": ()}, "expected data = one value or several, got none"),
        ({"temperature": []}, "expected temperature = one value or several, got none"),
        ({"theory": []}, "expected a theory or sample = True, got neither"),
        ({"theory": "nestde"}, "expected theory = .*'nestde'"),
        ({"theory": ["nested", "nested"]}, "expected theory = different names"),
        ({"theory": ["exact"]}, "expected theory = "),
        ({"temperature": [0.1, 0.1]}, "expected temperature = different values, got 0.1 2 times"),
        ({"temperature": -1.0}, "expected temperature = a finite float ≥ 0, got -1.0"),
        ({"temperature": None}, "expected temperature = a float with likelihood='gaussian'"),
        ({"temperature": 0.0, "sample": True}, "expected temperature > 0 with sample = True"),
        ({"seed": "one"}, "expected seed = an int"),
        ({"sample": "yes"}, "expected sample = True or False"),
        ({"data": 3}, "expected data = finwidth.Dataset objects or names, got int"),
        ({"net": "erf"}, "expected net = a finwidth.Network, got str"),
        ({"likelihood": "lojit"}, "expected likelihood = .*'lojit'"),
        ({"likelihood": "logit", "temperature": 0.0}, "expected temperature = a finite float > 0"),
        ({"net": fw.Network((3,), outputs=2)}, "expected data, net and likelihood that fit"),
    ],
)
def test_wrong_grids_are_refused(data, nets, unchecked_types, wrong, message):
    with pytest.raises(fw.InputError, match=message) as caught:
        fw.grid(**{"data": data, "net": nets, "temperature": 0.1} | wrong)
    assert "\n" not in str(caught.value)


# --- numbers


@pytest.mark.parametrize(
    ("activation", "depth", "theories"),
    [
        ("erf", 1, THEORIES),
        pytest.param("relu", 1, ("nested", "mixture"), marks=pytest.mark.slow),
        pytest.param("erf", 2, ("nested", "wishart"), marks=pytest.mark.slow),
    ],
)
def test_numbers_are_those_of_solve_bit_for_bit(data, activation, depth, theories):
    """Also where a kernel is shared: by widths, temperatures and precisions of the readout."""
    nets = [
        fw.Network((width,) * depth, activation, (*(1.0,) * depth, readout))
        for width, readout in ((5, 1.0), (50, 1.0), (5, 3.0))
    ]
    temperatures = [0.3, 0.1]
    result = sweep(fw.grid(data=data, net=nets, temperature=temperatures, theory=theories))
    assert (result["state"] == "solved").all() and result["converged"].all()
    for (i, net), t, theory in itertools.product(enumerate(nets), temperatures, theories):
        solution = fw.solve(net, data.X_train, data.y_train, temperature=t, theory=theory)
        point = result.isel(net=i).sel(temperature=t, theory=theory)
        for name, value in solution.scores(data.X_test, data.y_test).items():
            assert point[name].item() == value.item()
        assert point["log_evidence"].item() == solution.log_evidence


@pytest.mark.slow
def test_fluctuations_are_asked_like_a_theory(data, nets):
    result = sweep(fw.grid(data=data, net=nets[0], temperature=0.1, theory="fluctuations"))
    solution = fw.solve(nets[0], data.X_train, data.y_train, temperature=0.1)
    expected = fw.fluctuations(solution, data.X_test, data.y_test)
    assert result["error"].item() == expected["error"].item()
    assert "accuracy" not in result


def test_classes_have_their_scores():
    data = fw.load_dataset("digits", classes=(0, 1, 2), n_train=9, n_test=6, outputs="index")
    net = fw.Network((8,), "erf", outputs=3)
    result = sweep(fw.grid(data=data, net=net, likelihood="softmax", theory="infinite"))
    assert result["temperature"] == 1.0 and result["likelihood"] == "softmax"
    solution = fw.solve(net, data.X_train, data.y_train, theory="infinite", likelihood="softmax")
    for name, value in solution.scores(data.X_test, data.y_test).items():
        assert result[name].item() == value.item()
    assert "log_loss" in result


def test_what_is_given_as_a_list_is_a_dimension(data, nets):
    single = sweep(fw.grid(data=data, net=nets[0], temperature=0.1, theory="nested"))
    assert not single.sizes
    result = sweep(fw.grid(data=[data], net=nets, temperature=0.1, theory=["nested"]))
    assert dict(result.sizes) == {"data": 1, "net": 2, "theory": 1}
    assert result["width"].values.tolist() == [3, 8]
    assert result["load"].values.tolist() == [[2.0, 0.75]]
    assert result["n_patterns"].values.tolist() == [6]
    curve = result.swap_dims(net="width")["error"].sel(width=8, theory="nested")
    assert curve.item() == result["error"].isel(net=1).item()


def test_labels_tell_networks_and_data_apart(data):
    nets = [
        fw.Network((4,), "erf"),
        fw.Network((4,), "erf", (1.0, 2.0)),
        fw.Network((4,), "erf", bias_precision=1.0),
    ]
    more = fw.load_dataset("random", n_train=7, n_test=4, n_inputs=3, seed=3)
    result = sweep(fw.grid(data=[data, more], net=nets, temperature=0.1, theory="infinite"))
    assert result["data"].values.tolist() == ["random P=6", "random P=7"]
    assert len(set(result["net"].values)) == 3
    assert result["readout_precision"].values.tolist() == [1.0, 2.0, 1.0]


def test_result_is_kept_by_netcdf_and_zarr(grid, tmp_path):
    result = sweep(grid)
    fw.save(xr.DataTree(result), tmp_path / "sweep.nc")
    xr.testing.assert_identical(fw.load(tmp_path / "sweep.nc").to_dataset(), result)
    result.to_zarr(tmp_path / "sweep.zarr", zarr_format=2)
    again = xr.open_zarr(tmp_path / "sweep.zarr").load()
    xr.testing.assert_equal(again, result)


def test_a_theory_that_does_not_cover_a_problem_says_so(data):
    net = fw.Network((4,), "relu")
    grid = fw.grid(data=data, net=net, temperature=0.1, theory=["corrected", "infinite"])
    result = sweep(grid)
    assert result["state"].values.tolist() == ["not defined", "solved"]
    assert "odd activation" in result["reason"].values[0]
    assert np.isnan(result["error"].values).tolist() == [True, False]


@pytest.mark.slow
def test_sampled_posterior_stands_beside_the_theories(data):
    net = fw.Network((4,), "identity")  # whose mixture is exact
    grid = fw.grid(
        data=data, net=net, temperature=0.5, theory="mixture", sample=True, seed=range(2)
    )
    result = sweep(grid, relative_mcse=0.05)
    assert dict(result.sizes) == {"theory": 2, "seed": 2}
    exact, mixture = result.sel(theory="exact"), result.sel(theory="mixture")
    assert (exact["state"] == "sampled").all() and exact["converged"].all()
    assert (exact["r_hat"] <= 1.01).all() and (exact["ess"] > 400).all()
    assert exact["error"].values[0] != exact["error"].values[1]
    assert mixture["error"].values[0] == mixture["error"].values[1]
    for name in ("error", "bias2", "variance", "accuracy"):
        z = (exact[name] - mixture[name]) / exact[f"{name}_mcse"]
        assert (abs(z) < 5).all()
    assert (exact["error_mcse"] <= 0.05 * exact["error"]).all()
    assert np.isnan(mixture["error_mcse"]).all()


# --- the store


def test_what_is_stored_is_read(grid, tmp_path, solved):
    first = sweep(grid, tmp_path)
    assert len(solved) == len(grid)
    xr.testing.assert_identical(sweep(grid, tmp_path), first)
    assert len(solved) == len(grid)


def test_a_changed_setting_does_what_it_touches(data, nets, tmp_path, solved):
    base = {"data": data, "net": nets, "temperature": [0.1, 0.5], "theory": ["nested"]}
    sweep(fw.grid(**base), tmp_path)
    for change, count in (
        ({"theory": THEORIES}, 4),
        ({"temperature": [0.1, 0.5, 0.2]}, 2),
        ({"net": [*nets, fw.Network((5,), "erf")]}, 2),
        ({"data": fw.Dataset(data.X_train, -data.y_train, data.X_test, data.y_test)}, 4),
    ):
        solved.clear()
        sweep(fw.grid(**base | change), tmp_path)
        assert len(solved) == count


def test_keys_depend_on_all_that_numbers_depend_on_and_on_nothing_else(data):
    net = fw.Network((4,), "erf")
    base = {"data": data, "net": net, "temperature": 0.1, "theory": "nested"}

    def key(effort=None, **change):
        (point,) = fw.grid(**base | change)
        keys = Keys(Effort() if effort is None else effort)
        about = keys.about(point)
        return None if about is None else keys.key(about)

    def changed(**arrays):
        names = ("X_train", "y_train", "X_test", "y_test")
        values = {name: getattr(data, name) for name in names} | arrays
        return fw.Dataset(**values, name="another name")

    mine = fw.Activation("erf", jnp.tanh, parity="odd")  # of the same name
    sampled = {"theory": None, "sample": True}
    different = [
        key(),
        key(net=net.replace(widths=(5,))),
        key(net=net.replace(weight_precision=2.0)),
        key(net=net.replace(bias_precision=1.0)),
        key(net=net.replace(activation=mine)),
        key(temperature=0.2),
        key(theory="infinite"),
        key(likelihood="logit"),
        *(key(data=changed(**{name: 2.0 * getattr(data, name)})) for name in ("X_train", "X_test")),
        key(data=changed(y_test=-data.y_test)),
        key(**sampled),
        key(**sampled, seed=1),
        key(**sampled, effort=Effort(relative_mcse=0.02)),
        key(**sampled, effort=Effort(max_draws=7)),
    ]
    assert None not in different and len(set(different)) == len(different)
    assert key() == key(data=changed()) == key(effort=Effort(max_draws=7)) == key(seed=5)


def test_points_that_come_twice_are_done_once(data, nets, solved):
    grid = fw.grid(data=data, net=nets, temperature=0.1)
    result = sweep(grid + grid)
    assert len(solved) == 2 and (result["state"] == "solved").all()


def test_interrupted_sweep_keeps_what_is_done(grid, tmp_path, monkeypatch, solved):
    monkeypatch.setattr(_engine, "_HERE", 0.0)
    expected, solve = sweep(grid), _work.solve_point

    def stop(point):
        if len(solved) == 3:
            raise KeyboardInterrupt
        return solve(point)

    solved.clear()
    with monkeypatch.context() as patch:
        patch.setattr(_work, "solve_point", stop)
        with pytest.raises(KeyboardInterrupt):
            sweep(grid, tmp_path)
    again = sweep(grid, tmp_path)
    assert len(solved) == len(grid)
    xr.testing.assert_identical(again.drop_vars(TIMES), expected.drop_vars(TIMES))


def test_failed_points_are_recorded_and_tried_again(grid, tmp_path, monkeypatch, solved):
    solve = _work.solve_problem

    def fail(problem, theory):
        if problem.network.widths == (3,) and theory.name == "nested":
            raise MemoryError("no\nroom")
        return solve(problem, theory)

    with monkeypatch.context() as patch:
        patch.setattr(_work, "solve_problem", fail)
        with pytest.warns(fw.AccuracyWarning, match="all 8 points to be done, got 2 that failed"):
            result = sweep(grid, tmp_path)
    failed = result["state"] == "failed"
    assert int(failed.sum()) == 2 and failed.isel(net=0).sel(theory="nested").all()
    assert set(result["reason"].values[failed.values]) == {"MemoryError: no room"}
    assert np.isfinite(result["error"].values[~failed.values]).all()
    assert not result["converged"].values[failed.values].any()
    solved.clear()
    assert (sweep(grid, tmp_path)["state"] == "solved").all() and len(solved) == 2


def _refused(grid, store):
    with pytest.raises(fw.InputError, match="expected store = ") as caught:
        sweep(grid, store)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_store_of_another_version_is_refused_and_left_alone(grid, tmp_path, solved):
    Store(tmp_path).close()
    file = tmp_path / "results.sqlite"
    with sqlite3.connect(file) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    before = file.read_bytes()
    assert "got one of version 99" in _refused(grid, tmp_path)
    assert file.read_bytes() == before and not solved


def test_file_that_is_no_store_is_refused_and_left_alone(grid, tmp_path, solved):
    file = tmp_path / "results.sqlite"
    file.write_text("something else " * 100)
    assert "got a damaged" in _refused(grid, tmp_path)
    assert file.read_text() == "something else " * 100
    file.unlink()
    with sqlite3.connect(file) as db:
        db.execute("CREATE TABLE mine (x)")
    db.close()
    assert "got another one" in _refused(grid, tmp_path)
    assert not solved


def test_damaged_result_is_named(grid, tmp_path):
    sweep(grid, tmp_path)
    with sqlite3.connect(tmp_path / "results.sqlite") as db:
        db.execute("UPDATE results SET result = substr(result, 1, 20)")
    db.close()
    assert "damaged" in _refused(grid, tmp_path)


def test_store_that_cannot_be_written_is_refused_before_any_work(
    grid, tmp_path, monkeypatch, solved
):
    sweep(grid, tmp_path)
    solved.clear()
    more = grid + fw.grid(data=grid[0].data, net=grid[0].network, temperature=7.0)
    with monkeypatch.context() as patch:
        patch.setattr("finwidth._sweeps.store.os.access", lambda *_: False)
        assert "not writable" in _refused(more, tmp_path)
    connect = sqlite3.connect

    def read_only(path, **options):
        return connect(f"file:{path}?mode=ro", uri=True, **options)

    with monkeypatch.context() as patch:
        patch.setattr(sqlite3, "connect", read_only)
        assert "readonly" in _refused(more, tmp_path)
    (tmp_path / "file").touch()
    _refused(more, tmp_path / "file")
    _refused(more, tmp_path / "file" / "store")
    assert not solved
    assert (sweep(grid, tmp_path)["state"] == "solved").all() and not solved


def test_two_sweeps_do_not_write_to_one_store(grid, tmp_path):
    Store(tmp_path).close()
    held = lock(tmp_path / "lock")
    assert held is not None
    try:
        assert "no other sweep is writing to" in _refused(grid, tmp_path)
    finally:
        held.release()
    assert (sweep(grid, tmp_path)["state"] == "solved").all()


def test_store_holds_batches_whole_or_not_at_all(tmp_path):
    with Store(tmp_path) as store:
        with pytest.raises(TypeError):
            store.write([("a", {}, {"error": 1.0}), ("b", {}, {"error": object()})])
        assert store.read(["a", "b"]) == {}
        store.write([(str(n), {"n": n}, {"error": float(n)}) for n in range(1200)])
        found = store.read(str(n) for n in range(1300))
        assert len(found) == 1200 and found["1199"] == {"error": 1199.0}


@pytest.mark.slow
def test_sampling_goes_on_with_what_it_was_after(data, tmp_path, monkeypatch):
    """Killed after it has seen that more draws are needed, it ends with those it would have had."""
    grid = fw.grid(
        data=data, net=fw.Network((4,), "identity"), temperature=0.5, theory=None, sample=True
    )
    effort = {"relative_mcse": 0.01, "target_ess": 100.0}
    calls, sample = [], _work.sample

    def counted(*arguments, **options):
        calls.append(options)
        return sample(*arguments, **options)

    def stopped(*arguments, **options):
        if options["target_mcse"] is None:
            return sample(*arguments, **options)
        sample(
            *arguments, **options | {"num_samples": 300, "target_mcse": None, "target_ess": None}
        )
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(_work, "sample", counted)
        expected = sweep(grid, tmp_path / "whole", **effort)
    assert len(calls) > 1 and expected["n_draws"] > 300
    with monkeypatch.context() as patch:
        patch.setattr(_work, "sample", stopped)
        with pytest.raises(KeyboardInterrupt):
            sweep(grid, tmp_path / "killed", **effort)
    again = sweep(grid, tmp_path / "killed", **effort)
    xr.testing.assert_identical(again.drop_vars(TIMES), expected.drop_vars(TIMES))


# --- sampled classes


@pytest.mark.slow
def test_sampled_classes_have_the_scores_of_sample():
    data = fw.load_dataset("random", n_train=6, n_test=4, n_inputs=3, seed=3)
    net = fw.Network((3,), "erf")
    grid = fw.grid(data=data, net=net, likelihood="logit", theory=None, sample=True)
    point = sweep(grid, relative_mcse=0.1, target_ess=50.0, max_draws=400)
    assert point["state"] == "sampled"
    test = {"X_test": data.X_test, "y_test": data.y_test}
    tree = fw.sample(
        net,
        data.X_train,
        data.y_train,
        **test,
        likelihood="logit",
        model="network",
        num_samples=1000,
        seed=1,
        progress=False,
    )
    scores = fw.scores(tree)
    for name in ("accuracy", "log_loss"):
        noise = np.hypot(float(point[f"{name}_mcse"]), float(scores[f"{name}_mcse"]))
        assert abs(float(point[name]) - float(scores[name])) < 5 * noise < 0.1
