"""`finwidth reproduce` and the shelf of figures: their physics, files, resumption, bad input."""

import dataclasses
import math

import matplotlib
import numpy as np
import pytest
import scipy.integrate
from typer.testing import CliRunner

import finwidth as fw
from finwidth._cli import app
from finwidth._sweeps import work as _work
from finwidth.articles import (
    SHELF,
    Study,
    _sampled,
    bias,
    criterion,
    depth,
    langevin,
    learning,
    skip,
    universality,
)

matplotlib.use("Agg")

EFFORT = {"relative_mcse": 0.5, "target_ess": 10.0, "max_draws": 50}
TINY = {
    "learning": (learning, learning._Size(((6, 1.0), (8, 1.0)), (5, 50), ())),
    "bias": (bias, bias._Size((5, 50), (0.5, 2.0))),
    "depth": (depth, depth._Size(6, 4, (1, 2), (20,))),
    "universality": (
        universality,
        universality._Size(10, 2.0, (0.5, 2.0), 2, (1, 2), 1.0),
    ),
    "criterion": (criterion, criterion._Size((6,), 4, 2, 5)),
    "langevin": (langevin, langevin._Size(6, 4, 3, (0.01,), 0.1, 50)),
    "skip": (skip, skip._Size(8, 4, 4, (0.0, 0.6), (1, 2), 0.6, (0.0, 0.6), (1, 2, 4), EFFORT)),
}


@pytest.fixture
def tiny(monkeypatch):
    """Make "quick" tiny."""
    for module, size in TINY.values():
        monkeypatch.setitem(module._SIZES, "quick", size)
    small = _sampled.Sampled(8, 4, (5,), (1.0, 4.0), EFFORT)
    monkeypatch.setitem(_sampled._SIZES, "quick", small)


@pytest.fixture
def run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def call(*arguments):
        result = CliRunner().invoke(app, ["reproduce", *arguments], prog_name="finwidth")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


def digits(n_train=20, **options):
    return fw.load_dataset("digits", n_train=n_train, n_test=10, **options)


def test_bias_is_constant_and_variance_follows_its_law_at_zero_temperature():
    size = bias._Size((3, 20, 400), (0.1, 1.0, 7.0))
    found = bias._of_task(size, digits(classes=(3, 8)))
    assert float(np.ptp(found["bias2"].values)) < 1e-9 * float(found["bias2"].mean())
    np.testing.assert_allclose(found["variance"], found["law"], rtol=1e-9)
    # the law is that of infinite width where λ_1 yᵀK⁻¹y = P, whatever N_1
    flat = 1.0 / float(found["criterion"])
    law = bias.variance_law(np.array([3.0, 400.0]), np.array([flat]), 1.0 / flat, 1.0, 20)
    np.testing.assert_allclose(law, 1.0 / flat, rtol=1e-12)


@pytest.mark.parametrize("seed", [0, 1])
def test_the_criterion_tells_whether_finite_width_lowers_the_error(seed):
    found = criterion._at(digits(classes=(3, 8), seed=seed), "erf")
    gain = found["error"] - found["infinite_error"]
    np.testing.assert_array_equal(np.sign(gain), np.sign(found["criterion"] - 1.0))
    np.testing.assert_array_equal(np.sign(gain), np.sign(found["q_bar"] - 1.0))
    assert {-1.0, 1.0} == set(np.sign(gain))  # λ_1 = 1 and 0.2 lie on both sides


def test_the_critical_depth_is_the_zero_of_the_criterion():
    depths = [1, 2, 4, 7]
    values = 0.3 * np.exp(0.5 * np.array(depths))
    assert depth.critical_depth(depths, values) == pytest.approx(-math.log(0.3) / 0.5)
    assert depth.critical_depth([2, 3], [1.0, 2.0]) == 2.0
    for never in ([0.1, 0.2], [2.0, 3.0], [3.0, 0.5]):
        assert math.isnan(depth.critical_depth([1, 2], never))


@pytest.mark.slow
def test_relu_loses_by_finite_width_beyond_its_critical_depth():
    data, depths = digits(classes=(3, 8)), [1, 2, 3]
    layers = [depth._at(data, "relu", 0.6, "wishart", L, (10, 1000)) for L in depths]
    values = [float(one["criterion"]) for one in layers]
    critical = depth.critical_depth(depths, values)
    assert 1.0 < critical < 3.0
    for L, one in zip(depths, layers, strict=True):
        gain = one["error"] - one["infinite_error"]
        assert (np.sign(gain) == np.sign(L - critical)).all()
        np.testing.assert_allclose(one["bias2"], one["infinite_bias2"], rtol=1e-9)
    profile = fw.diagnostics.depth_profile(
        fw.Network((10,), "relu", (1.0, 0.6)),
        data.X_train,
        data.y_train,
        temperature=0.0,
        depths=depths,
    )
    np.testing.assert_allclose(profile["criterion"], values, rtol=1e-9)
    assert profile.attrs["critical_depth"] == math.ceil(critical)


@pytest.mark.parametrize("ratio", [0.2, 0.9])
def test_the_criterion_of_random_data_is_an_average_over_marchenko_and_pastur(ratio):
    linear, constant = 0.4, 0.05
    low, high = ((1.0 - math.sqrt(ratio)) ** 2, (1.0 + math.sqrt(ratio)) ** 2)

    def density(e, function):
        root = math.sqrt(max((high - e) * (e - low), 0.0))
        return function(e) * root / (2.0 * math.pi * ratio * e)

    total, _ = scipy.integrate.quad(density, low, high, args=(lambda e: 1.0,))
    mean, _ = scipy.integrate.quad(density, low, high, (lambda e: 1.0 / (linear * e + constant),))
    assert total == pytest.approx(1.0, abs=1e-6)
    found = universality.random_criterion(ratio, linear, constant)
    assert found == pytest.approx(mean, rel=1e-6)
    # more noise than signal: the kernel is the constant
    assert universality.random_criterion(ratio, 1e-6, 2.0) == pytest.approx(0.5, rel=1e-5)


def test_the_deep_linear_law_has_the_closed_form_of_one_layer_and_is_what_is_solved():
    loads = np.array([0.3, 2.0])
    for load, value in zip(loads, universality.scale(loads, 1.7), strict=True):
        assert universality.deep_linear_scale(1, load, 1.7) == pytest.approx(value, rel=1e-12)
    assert universality.deep_linear_scale(5, 0.7, 1.0) == pytest.approx(1.0, rel=1e-12)
    X, y = universality._data(TINY["universality"][1], "Gaussian inputs", "labels ±1", 3)
    net = fw.Network((7, 7), "identity")
    solution = fw.solve(net, X, y, temperature=0.0)
    law = universality.deep_linear_scale(2, len(y) / 7, float(solution.criterion))
    np.testing.assert_allclose(solution.order_parameters["q_bar"], law, rtol=1e-8)


#: All but one take more than a moment.
NAMES = [
    pytest.param(name, marks=[] if name == "criterion" else pytest.mark.slow)
    for name in SHELF.names()
]


@pytest.mark.filterwarnings("ignore::finwidth.AccuracyWarning")  # 50 draws are too few
@pytest.mark.parametrize("name", NAMES)
def test_every_figure_prints_a_table_draws_and_writes(tiny, run, tmp_path, name):
    result = run(name, "--quick", "--out", "here")
    assert result.exit_code == 0, result.stderr
    assert SHELF.get(name).title in result.stderr and "written: " in result.stderr
    assert "digits" in result.stdout or "Random data" in result.stdout
    stored = fw.load(tmp_path / "here" / f"{name}.nc").to_dataset()
    assert stored.attrs["figure"] == name and stored.attrs["size"] == "quick"
    assert {"finwidth", "seconds"} <= set(stored.attrs)
    pictures = list((tmp_path / "here").glob(f"{name}*.png"))
    assert pictures and all(one.read_bytes()[1:4] == b"PNG" for one in pictures)
    assert not list((tmp_path / "here").glob(".*"))  # nothing half written
    # tables and pictures need nothing but the file
    for table in SHELF.get(name).tabulate(stored):
        assert table.title in " ".join(result.stdout.split())
        assert all(len(row) == len(table.columns) for row in table.rows)
    assert SHELF.get(name).draw(stored)


def test_a_figure_that_was_stopped_goes_on(tiny, run, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(_work, "sample", stop)
    monkeypatch.setattr("finwidth._sweeps.engine.cores", lambda: 1)  # in this process
    result = run("learning", "--quick", "--store", "kept")
    assert result.exit_code == 130, result.stderr
    assert "finished: none; the rest goes on from kept with the same command" in result.stderr
    solved = []
    monkeypatch.setattr(_work, "solve_point", lambda point: solved.append(point))
    assert run("learning", "--quick", "--store", "kept").exit_code == 130 and not solved


@pytest.mark.slow
def test_langevin_takes_finished_runs_from_the_store(tiny, tmp_path, monkeypatch):
    study = Study(size="quick", store=tmp_path / "kept")
    first = SHELF.get("langevin").compute(study)
    monkeypatch.setattr(langevin, "sample", lambda *_, **__: pytest.fail("sampled again"))
    again = SHELF.get("langevin").compute(study)
    assert first.identical(again)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("lerning",), "(did you mean 'learning'?)"),
        (("bias", "--quick", "--paper"), "expected --quick or --paper, got both"),
        (("bias", "--mnist", "absent.npz"), "got 'absent.npz', which does not exist"),
        (("bias", "--paper"), "expected --mnist or --cifar = a file for --paper"),
        (("bias", "--out", f"{__file__}/here"), "expected --out = a folder that is writable"),
    ],
)
def test_what_is_not_right_is_said_in_one_line(run, tmp_path, arguments, said):
    result = run(*arguments)
    assert result.exit_code == 2 and result.stdout == ""
    assert said in result.stderr and result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())  # before any work


def test_files_stand_where_digits_stood(tmp_path):
    rng = np.random.default_rng(0)
    images, test = rng.integers(0, 256, (2, 20, 28, 28), np.uint8)
    labels = np.arange(20) % 2
    file = tmp_path / "mnist.npz"
    np.savez(file, x_train=images, y_train=labels, x_test=test, y_test=labels)
    study = Study(size="quick", mnist=file)
    tasks = study.tasks(6, 4)
    assert list(tasks) == ["MNIST 0/1", "digits 3/8"]
    assert tasks["MNIST 0/1"].X_train.shape == (6, 784)
    assert list(dataclasses.replace(study, size="paper").tasks(6, 4)) == ["MNIST 0/1"]
