"""The metric that rows share: its flow is that of the Hamiltonian, and it finds what is stiff."""

import jax
import jax.numpy as jnp
import numpy as np
import scipy.linalg

from finwidth._numerics.precision import float64
from finwidth.infer._metric import SharedMetric, gather, init_metric, is_due, learn, pool_metrics

SHAPES = {"W": (7, 4), "b": (7,)}


def metric_of(directions, mass):
    return init_metric(SHAPES, 6.0)._replace(
        directions={"W": jnp.asarray(directions)}, mass={"W": jnp.asarray(mass)}
    )


def test_flow_is_that_of_the_hamiltonian():
    """Against the matrix exponential of z' = M⁻¹p, p' = −z, of one row."""
    rng = np.random.default_rng(0)
    along = np.linalg.qr(rng.normal(size=(4, 4)))[0][:, :2]
    mass = np.array([9.0, 2.5])
    matrix = np.eye(4) + (along * (mass - 1)) @ along.T
    generator = np.block(
        [[np.zeros((4, 4)), np.linalg.inv(matrix)], [-np.eye(4), np.zeros((4, 4))]]
    )
    z, p = rng.normal(size=(2, 7, 4))
    angle = 0.7
    wanted = np.concatenate([z, p], axis=1) @ scipy.linalg.expm(angle * generator).T
    with float64():
        metric = metric_of(along, mass)
        z_extra, p_extra = metric.turned({"W": jnp.asarray(z)}, {"W": jnp.asarray(p)}, angle)
        kinetic = metric.kinetic({"W": jnp.asarray(p)})
        drawn = p + np.asarray(metric.drawn({"W": jnp.asarray(p)})["W"])
    cos, sin = np.cos(angle), np.sin(angle)
    z_new = cos * z + sin * p + np.asarray(z_extra["W"])
    p_new = cos * p - sin * z + np.asarray(p_extra["W"])
    np.testing.assert_allclose(np.concatenate([z_new, p_new], axis=1), wanted, atol=1e-12)
    exact = 0.5 * np.sum(p * (p @ np.linalg.inv(matrix)))
    np.testing.assert_allclose(0.5 * np.sum(p**2) + float(kinetic), exact, rtol=1e-12)
    # standard normal noise has the kinetic energy ½|noise|², whatever the metric
    scaled = 0.5 * np.sum(drawn * (drawn @ np.linalg.inv(matrix)))
    np.testing.assert_allclose(scaled, 0.5 * np.sum(p**2), rtol=1e-12)


def test_the_stiff_direction_is_found_and_noise_is_not():
    """Gradients of variance 1, and of variance 5 along one direction."""
    rng = np.random.default_rng(1)
    stiff = np.array([3.0, 0.0, -4.0, 0.0]) / 5
    with float64():
        metric = init_metric(SHAPES, 6.0)
        assert set(metric.mass) == {"W"}
        assert np.all(metric.mass["W"] == 1)
        chains = []
        for _ in range(2):
            noise = rng.normal(size=(500, 7, 4))
            rows = noise + (np.sqrt(5) - 1) * (noise @ stiff)[..., None] * stiff
            chains.append(gather(metric, {"W": jnp.asarray(rows), "b": jnp.zeros((500, 7))}))
        learnt = learn(pool_metrics(chains))
    masses = np.asarray(learnt.mass["W"])
    assert np.sum(masses > 1) == 1
    assert masses.max() > 5
    found = np.asarray(learnt.directions["W"])[:, masses.argmax()]
    assert abs(found @ stiff) > 0.99
    assert all(np.all(np.asarray(leaf) == 0) for leaf in jax.tree.leaves(learnt.moment))


def test_gradients_that_are_not_finite_leave_the_priors_metric():
    with float64():
        spoilt = gather(
            init_metric(SHAPES, 6.0), {"W": jnp.full((7, 4), jnp.nan), "b": jnp.zeros(7)}
        )
        learnt = learn(spoilt)
    assert isinstance(learnt, SharedMetric)
    assert np.all(np.asarray(learnt.mass["W"]) == 1)
    assert np.all(np.isfinite(np.asarray(learnt.directions["W"])))


def test_it_is_learnt_a_few_times_and_never_at_the_end():
    times = np.arange(400)

    def due(num_warmup: int) -> list[int]:
        return list(times[np.asarray(is_due(jnp.asarray(times), jnp.asarray(num_warmup)))])

    assert due(400) == [10, 25, 75, 175]
    assert due(80) == [10, 25]
    assert not np.any(is_due(jnp.asarray(times), jnp.asarray(0)))
