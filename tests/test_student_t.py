"""The scale mixture, sampled: its posterior is that of the quadrature."""

import functools
import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import reference
import scipy.stats
import xarray as xr
from arviz_stats.base import array_stats
from numpyro.infer.util import log_density

import finwidth as fw
from finwidth._numerics.precision import float64, precision
from finwidth.models._mixture import Mixture

RNG = np.random.default_rng(7)
X = RNG.normal(size=(12, 5))
Y = RNG.normal(size=12)
X_TEST = RNG.normal(size=(4, 5))
Y_TEST = RNG.normal(size=4)


def sample(net, **changes):
    arguments = {
        "temperature": 0.3,
        "X_test": X_TEST,
        "y_test": Y_TEST,
        "model": "student_t",
        "num_warmup": 300,
        "num_samples": 1000,
        "progress": False,
    } | changes
    return fw.sample(net, X, Y, **arguments)


def deviation(values, expected):
    """(Mean − expected)/MCSE of a series, each entry by itself; values (chain, draw, …)."""
    values = np.asarray(values).reshape(*values.shape[:2], -1)
    mcse = array_stats.mcse(values, chain_axis=0, draw_axis=1, method="mean")
    return (values.mean(axis=(0, 1)) - np.ravel(expected)) / mcse


def assert_sampled(tree, exact):
    """The draws of everything that is stored agree with the quadrature within 4 MCSE."""
    order, posterior = exact.order_parameters, tree["posterior"]
    prediction = exact.predict(X_TEST, full_covariance=True)
    draws = tree["predictions"]
    f, f_mean = draws["f"].values, draws["f_mean"].values
    f_variance = draws["f_variance"].values
    pairs = (f - prediction.mean)[..., :, None] * (f - prediction.mean)[..., None, :]
    z = {
        "q_bar": deviation(posterior["q_bar"].values, order.q_bar.values),
        "f": deviation(f, prediction.mean),
        "covariance of f": deviation(pairs, prediction.covariance),
        "f_mean": deviation(f_mean, prediction.mean),
        "variance": deviation((f_mean - prediction.mean) ** 2 + f_variance, prediction.variance),
        "error": deviation(
            ((Y_TEST - f_mean) ** 2 + f_variance).mean(axis=-1),
            float(exact.generalization_error(X_TEST, Y_TEST).error),
        ),
    }
    if "a" in posterior:
        z["a"] = deviation(posterior["a"].values, order.a.values)
    for name, values in z.items():
        assert np.max(np.abs(values)) < 4, (name, values)


CASES = [
    (fw.Network((4,), "identity"), "nested"),
    (fw.Network((6, 4), "erf", (0.8, 1.3, 0.9), 1.5), "nested"),
    (fw.Network((4,), "relu", (0.8, 1.3), 1.5), "nested"),
    (fw.Network((4, 7), "relu", (0.8, 1.3, 0.9), 2.0), "wishart"),
]


@pytest.mark.parametrize(
    ("net", "theory"),
    [
        pytest.param(*CASES[0], marks=pytest.mark.slow),
        pytest.param(*CASES[1], marks=pytest.mark.slow),
        pytest.param(*CASES[2], marks=pytest.mark.slow),
        pytest.param(*CASES[3], marks=pytest.mark.slow),
    ],
    ids=lambda value: value if isinstance(value, str) else f"{value.activation.name}{value.widths}",
)
def test_sampled_mixture_is_that_of_the_quadrature(net, theory):
    tree = sample(net, theory=theory)
    assert_sampled(tree, fw.mixture(net, X, Y, temperature=0.3, theory=theory))
    assert tree["posterior"]["q_bar"].dims == ("chain", "draw", "layer")
    assert tree["posterior"]["layer"].values.tolist() == list(range(1, net.depth + 1))
    record = json.loads(tree.attrs["provenance"])
    assert (record["model"], record["sampler"], record["theory"]) == ("student_t", "nuts", theory)


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["hmc", "langevin"])
def test_other_samplers_agree(sampler):
    net = fw.Network((5,), "erf")
    exact = fw.mixture(net, X, Y, temperature=0.3)
    options = {"num_steps": 3} if sampler == "langevin" else {"trajectory_length": 1.5}
    assert_sampled(sample(net, sampler=sampler, sampler_options=options, num_samples=2000), exact)


@pytest.mark.slow
def test_one_unit_with_a_mean_term_has_no_radius():
    net = fw.Network((1,), "relu", (1.0, 1.3))
    tree = sample(net, num_samples=20, num_warmup=20, thin=2, X_test=None, y_test=None)
    assert set(tree["posterior"]) == {"a", "q_bar"}
    assert "predictions" not in tree.children
    np.testing.assert_allclose(
        tree["posterior"]["q_bar"][..., 0], 1.3 * tree["posterior"]["a"] ** 2
    )


@pytest.mark.parametrize("dtype", ["float64", "float32"])
def test_quadrature_kernels_can_be_traced_in_both_precisions(dtype):
    """Tanh has no closed form: its rule of quadrature is chosen by numbers."""
    net, sites = fw.Network((5,), "tanh"), {"q_bar": np.log([0.7])}
    with precision(dtype):
        mixture = Mixture(net, X, Y, 0.3, X_TEST, None, "wishart")
        reduce = functools.partial(mixture.program(("q_bar",)).reduce, mixture.inputs())
        sites = {name: jnp.asarray(value, dtype) for name, value in sites.items()}
        stored = jax.jit(reduce)(jax.random.key(0), sites)
    assert {value.dtype.name for value in stored.values()} == {dtype}
    assert float(stored["site:q_bar"][0]) == pytest.approx(0.7)
    kernel = 0.7 * fw.nngp_kernel(net, np.concatenate([X, X_TEST]))
    n = len(Y)
    _, mean, variance = reference.conditional(
        kernel[:n, :n] + 0.3 * np.eye(n), Y, kernel[n:, :n], np.diag(kernel)[n:]
    )
    tolerance = {"float64": 1e-9, "float32": 1e-4}[dtype]
    np.testing.assert_allclose(stored["f_mean"], mean, atol=tolerance)
    np.testing.assert_allclose(stored["f_variance"], variance, atol=tolerance)


@pytest.mark.slow
def test_checkpoint_and_target(tmp_path):
    net = fw.Network((5,), "erf")
    sample(net, checkpoint=tmp_path / "c", num_samples=50, num_warmup=50)
    whole = sample(net, checkpoint=tmp_path / "c", num_samples=80, num_warmup=50)
    again = sample(net, num_samples=80, num_warmup=50)
    for group in ("posterior", "predictions"):
        xr.testing.assert_equal(whole[group].to_dataset(), again[group].to_dataset())
    with pytest.raises(fw.InputError, match="same run, got theory ="):
        sample(net, checkpoint=tmp_path / "c", num_warmup=50, theory="wishart")
    stopped = sample(net, target_ess=200.0, num_samples=None)
    assert stopped["posterior"].sizes["draw"] < 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sampler": "split_hmc"}, r"expected sampler = one of .*'nuts'.*got 'split_hmc'"),
        ({"theory": "infinite"}, "expected theory = one of"),
        ({"model": "marginal", "theory": "nested"}, "expected theory = None with model='marginal'"),
        ({"keep": ["W_1"]}, r"expected keep = names out of \['q_bar', 'f'\]"),
    ],
)
def test_bad_input_is_one_clear_line(change, message):
    with pytest.raises(fw.InputError, match=message):
        sample(fw.Network((3,), "erf"), **change)


def test_mean_terms_at_depth_are_refused():
    with pytest.raises(fw.InputError, match="expected one hidden layer"):
        sample(fw.Network((3, 3), "relu"))
    with pytest.raises(fw.InputError, match="expected one hidden layer"):
        fw.models.student_t(fw.Network((3, 3), "relu"), X, Y, temperature=0.1)


def test_log_density_is_that_of_section_5():
    """Gamma priors, and labels Gaussian with mean a m and covariance K_R + T·1."""
    n, layers = len(Y), np.array([0.7, 1.4])
    with float64():
        net = fw.Network((4, 7), "erf", (0.8, 1.3, 0.9), 1.5)
        found = log_density(
            fw.models.student_t, (net, X, Y), {"temperature": 0.3}, {"q_bar": jnp.asarray(layers)}
        )[0]
        kernel = reference.kernel(net, X, layers, np.zeros(2)) + 0.3 * np.eye(n)
        gammas = [scipy.stats.gamma(w / 2, scale=2 / w) for w in net.widths]
        prior = sum(law.logpdf(q) for law, q in zip(gammas, layers, strict=True))
        expected = prior + scipy.stats.multivariate_normal(np.zeros(n), kernel).logpdf(Y)
        assert float(found) == pytest.approx(expected, rel=1e-11)

        net = fw.Network((4,), "relu", (0.8, 1.3), 1.5)
        values = {"a": jnp.asarray(-0.6), "r_squared": jnp.asarray(1.9)}
        found = log_density(fw.models.student_t, (net, X, Y), {"temperature": 0.3}, values)[0]
        second, m = reference.layer("relu", X @ X.T / (0.8 * X.shape[1]) + 1 / 1.5)
        scale = (0.6**2 + 1.9) / 4
        kernel = scale * (second - np.outer(m, m)) + 1 / 1.5 + 0.3 * np.eye(n)
        expected = (
            scipy.stats.norm(0, 1.3**-0.5).logpdf(-0.6)
            + scipy.stats.chi2(3, scale=1 / 1.3).logpdf(1.9)
            + scipy.stats.multivariate_normal(-0.6 * m, kernel).logpdf(Y)
        )
        assert float(found) == pytest.approx(expected, rel=1e-11)
