"""Every sampler and model against an exact posterior, with Monte Carlo errors below 0.5 %.

The identity network's prior is a scale mixture of Gaussian processes at any widths and depth, so
its posterior is a quadrature. The inputs outnumber the patterns: at the test points the scale of
the weights counts, not only what the labels fix.
"""

import dataclasses
import itertools

import numpy as np
import pytest
import reference
from arviz_stats.base import array_stats

import finwidth as fw

RNG = np.random.default_rng(29)
X, X_TEST = RNG.normal(size=(10, 15)), RNG.normal(size=(40, 15))
Y, Y_TEST = RNG.choice([-1.0, 1.0], 10), RNG.choice([-1.0, 1.0], 40)
LARGEST_MCSE = 0.005  # of the test error, relative

# Steps between two draws where one step moves little
OPTIONS = {"langevin": {"num_steps": 50}}


@dataclasses.dataclass(frozen=True)
class Case:
    """A way to sample an identity network."""

    sampler: str
    model: str
    depth: int
    temperature: float

    def __str__(self) -> str:
        return f"{self.sampler}-{self.model}-L{self.depth}-T{self.temperature}"

    @property
    def net(self) -> fw.Network:
        return fw.Network((5,) * self.depth, "identity")

    def sample(self):
        """Sample until the Monte Carlo error is small; a warning, so a failure, if it is not."""
        error = exact_moments(self)[0]
        return fw.sample(
            self.net,
            X,
            Y,
            temperature=self.temperature,
            X_test=X_TEST,
            y_test=Y_TEST,
            model=self.model,
            sampler=self.sampler,
            sampler_options=OPTIONS.get(self.sampler),
            target_mcse=0.9 * LARGEST_MCSE * error,
            target_ess=1000.0,
            progress=False,
        )


CASES = [
    Case(*values)
    for values in itertools.product(
        ("split_hmc", "nuts", "hmc", "langevin"), ("marginal", "network"), (1, 2), (0.01, 0.1)
    )
]
QUICK = ("split_hmc-marginal-L2-T0.01",)


def exact_moments(case: Case) -> np.ndarray:
    """Test error, mean variance, and mean of f at three test points, by quadrature."""
    _, mean, variance = reference.identity_mixture(
        case.net, X, Y, case.temperature, X_TEST, nodes=300
    )
    error = np.mean((Y_TEST - mean) ** 2 + variance)
    return np.array([error, np.mean(variance), *mean[:3]])


def estimates(tree, mean: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same from draws, and their Monte Carlo standard errors; `mean` is the exact one."""
    draws = tree["predictions"]
    if "f_mean" in draws:
        f, variance = draws["f_mean"].values, draws["f_variance"].values
    else:
        f, variance = draws["f"].values, 0.0
    series = [
        ((Y_TEST - f) ** 2 + variance).mean(axis=-1),
        ((f - mean) ** 2 + variance).mean(axis=-1),
        *np.moveaxis(f[..., :3], -1, 0),
    ]
    mcse = [array_stats.mcse(s, chain_axis=0, draw_axis=1, method="mean") for s in series]
    return np.array([s.mean() for s in series]), np.array(mcse, dtype=np.float64)


def outcome(case: Case) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Exact values, estimates, their errors, and the number of draws of each chain."""
    _, mean, _ = reference.identity_mixture(case.net, X, Y, case.temperature, X_TEST, nodes=300)
    tree = case.sample()
    return exact_moments(case), *estimates(tree, mean), tree["predictions"].sizes["draw"]


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("temperature", [0.01, 0.1])
def test_two_quadratures_agree(depth, temperature):
    case = Case("", "", depth, temperature)
    exact = fw.mixture(case.net, X, Y, temperature=temperature)
    errors = exact.generalization_error(X_TEST, Y_TEST)
    mean = exact.predict(X_TEST).mean[:3]
    np.testing.assert_allclose(
        exact_moments(case), [float(errors.error), float(errors.variance), *mean], rtol=1e-6
    )


@pytest.mark.parametrize(
    "case",
    [
        pytest.param(case, marks=() if str(case) in QUICK else pytest.mark.slow, id=str(case))
        for case in CASES
    ],
)
def test_identity_network_is_sampled_exactly(case):
    exact, value, mcse, _ = outcome(case)
    assert mcse[0] < LARGEST_MCSE * exact[0]
    z = (value - exact) / mcse
    assert np.max(np.abs(z)) < 4, z
