"""Check of a sampler: on a posterior that is known, and in `finwidth.sample`."""

import warnings
from typing import Any

import numpy as np

from .._basics.arrays import shown
from .._basics.errors import AccuracyWarning, InputError, PluginError
from ._pickling import check_pickling

__all__ = ["check_sampler"]

_NOISE = 0.5
_MOST = 4000  # draws, and transitions that adapt
_STANDARD_ERRORS = 6.0


def check_sampler(sampler: Any) -> dict[str, float]:
    """Check that a sampler draws from a Gaussian posterior of four numbers, which is known.

    Two chains of the sampler's own length (4000 draws at most) run in NumPyro's MCMC; then the
    sampler runs a few transitions of a small network in `finwidth.sample`.

    Parameters
    ----------
    sampler
        A `finwidth.samplers.Sampler`, or its name.

    Returns
    -------
    dict
        Check -> worst value found: "mean" and "variance" against the exact ones, in standard errors
        of the run; "R-hat"; "pickling".

    Raises
    ------
    PluginError
        If a mean or a variance is more than six standard errors off, chains do not mix, or
        `finwidth.sample` does not work with the sampler.
    InputError
        If `sampler` is neither a sampler nor the name of one.
    """
    from ..samplers import SHELF, Sampler

    if isinstance(sampler, str):
        sampler = SHELF.get(sampler)
    if not isinstance(sampler, Sampler):
        raise InputError(
            f"expected sampler = a finwidth.samplers.Sampler, or a name, got {shown(sampler)}"
        )
    SHELF.accept([sampler])
    what = f"sampler {sampler.name!r}: expected"
    draws = _draws(what, sampler)
    mean, variance = _exact()
    report = {}
    for name, values, exact in (
        ("mean", draws, mean),
        ("variance", (draws - mean) ** 2, variance),
    ):
        report[name] = _deviation(what, name, values, exact)
    report["R-hat"] = _mixed(what, draws)
    _check_run(what, sampler)
    return report | check_pickling(sampler)


def _problem() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    A = rng.normal(size=(6, 4))
    return A, A @ rng.normal(size=4) + np.sqrt(_NOISE) * rng.normal(size=6)


def _exact() -> tuple[np.ndarray, np.ndarray]:
    """Return mean and variances of z ~ N(0, 1) given y = A z + noise."""
    A, y = _problem()
    precision = np.eye(4) + A.T @ A / _NOISE
    mean = np.linalg.solve(precision, A.T @ y / _NOISE)
    return mean, np.diag(np.linalg.solve(precision, np.eye(4)))


def _draws(what: str, sampler: Any) -> np.ndarray:
    """Return draws, shape (chain, draw, coordinate)."""
    import jax
    import jax.numpy as jnp
    import numpyro
    import numpyro.distributions as dist

    A, y = _problem()

    def model() -> None:
        with numpyro.plate("coordinate", 4):
            z = numpyro.sample("z", dist.Normal(0.0, 1.0))
        with numpyro.plate("pattern", 6):
            noise = jnp.sqrt(jnp.asarray(_NOISE))
            numpyro.sample("y", dist.Normal(jnp.asarray(A) @ z, noise), obs=jnp.asarray(y))

    from .._numerics.precision import float64

    with float64():
        chains = numpyro.infer.MCMC(
            sampler.make(model, {}),
            num_warmup=min(sampler.num_warmup, _MOST),
            num_samples=min(sampler.num_samples, _MOST),
            num_chains=2,
            chain_method="sequential",
            progress_bar=False,
        )
        try:
            chains.run(jax.random.PRNGKey(0))
        except Exception as error:  # whatever the kernel raises
            message = str(error).splitlines()[0] if str(error) else ""
            raise PluginError(
                f"{what} a kernel that runs in numpyro.infer.MCMC, got "
                f"{type(error).__name__}: {message}"
            ) from error
        draws = np.asarray(chains.get_samples(group_by_chain=True)["z"])
    if not np.isfinite(draws).all():
        raise PluginError(f"{what} finite draws, got NaN or infinite ones")
    return draws


def _deviation(what: str, name: str, values: np.ndarray, exact: np.ndarray) -> float:
    from .._numerics.chains import summarize

    series = summarize(values)
    gaps = np.abs(series.mean - exact) / series.mcse
    worst = int(np.argmax(np.where(np.isnan(gaps), np.inf, gaps)))
    if not gaps[worst] <= _STANDARD_ERRORS:
        raise PluginError(
            f"{what} a posterior {name} of {exact[worst]:.5g} (exact), got "
            f"{series.mean[worst]:.5g} ± {series.mcse[worst]:.1g}"
        )
    return float(gaps[worst])


def _mixed(what: str, draws: np.ndarray) -> float:
    from .._numerics.chains import summarize

    worst = float(np.max(summarize(draws).r_hat))
    if not worst <= 1.05:
        raise PluginError(f"{what} chains that have mixed, R-hat up to 1.05, got {worst:.3f}")
    return worst


def _check_run(what: str, sampler: Any) -> None:
    """A few transitions of a network with a Gaussian prior, in finwidth's own engine."""
    from .._problem.network import Network
    from .._sampling.sample import sample

    X = np.random.default_rng(1).normal(size=(6, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", AccuracyWarning)  # it is much too short
        tree = sample(
            Network((4,)),
            X,
            X[:, 0],
            temperature=0.5,
            sampler=sampler,
            num_chains=2,
            num_warmup=20,
            num_samples=20,
            progress=False,
        )
    if tree["sample_stats"].sizes.get("draw") != 20:
        raise PluginError(f"{what} 20 draws of finwidth.sample, got {tree['sample_stats'].sizes}")
