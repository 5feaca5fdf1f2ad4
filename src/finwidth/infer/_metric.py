"""A metric that units share, learnt in the warm-up: the stiff directions of a layer's inputs.

The rows of a site, such as the weights of the units of a layer, are exchangeable. The likelihood is
stiff for few of them at a time, along a few directions that are the same for all: those in which
the mean over rows of E[∇∇ᵀ], with ∇ the gradient of the potential energy in whitened coordinates,
exceeds 1. By parts E[∇∇ᵀ] is the expected Hessian, which is 1 without a likelihood. Those
directions get a larger mass, all others keep the prior's.

Source: Girolami & Calderhead, J. R. Stat. Soc. B 73, 123 (2011), sec. 5 (the expected Hessian as a
metric); Marchenko & Pastur (1967) (the edge of its noise).
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from ._model import Values

__all__ = ["FIRST", "SharedMetric", "gather", "init_metric", "is_due", "learn", "pool_metrics"]

# More than this many directions were never stiff, and each costs a little in every step.
_DIRECTIONS = 6
# Larger blocks are left alone: their moments would take the memory of many chains.
_LARGEST = 512
# The metric is learnt after 10, 25, 75, 175, … transitions, each time from those since the last.
# Until the first, which ten will do for, steps are as short as the stiffest direction wants them.
FIRST, _WINDOW = 10, 25


class SharedMetric(NamedTuple):
    """Masses along a few directions of the rows of each site, and what they were learnt from.

    Attributes
    ----------
    directions
        Orthonormal columns, by site, shape (coordinate, direction).
    mass
        Their masses, by site, shape (direction,); 1 where nothing is stiff.
    moment
        Sum of ∇∇ᵀ over rows, transitions and chains, by site, shape (coordinate, coordinate).
    samples
        Number of rows in `moment`, by site.
    chains
        Number of chains whose mean `moment` is.
    stiffness
        s of the mass 1 + s(λ − 1) of a direction of mean Hessian λ.
    """

    directions: Values
    mass: Values
    moment: Values
    samples: Values
    chains: Array
    stiffness: Array

    def drawn(self, noise: Values) -> Values:
        """Return what makes momenta of these masses out of standard normal ones, to be added."""
        return {
            name: ((noise[name] @ along) * (jnp.sqrt(self.mass[name]) - 1)) @ along.T
            for name, along in self.directions.items()
        }

    def kinetic(self, momentum: Values) -> Array:
        """Return the kinetic energy beyond ½|p|²."""
        total = jnp.zeros(())
        for name, along in self.directions.items():
            squares = (momentum[name] @ along) ** 2
            total += 0.5 * jnp.sum(squares * (1 / self.mass[name] - 1))
        return total

    def turned(
        self, position: Values, momentum: Values, angle: Array | float
    ) -> tuple[Values, Values]:
        """Return what the exact flow of the prior for a time `angle` adds to a rotation by it."""
        positions, momenta = {}, {}
        for name, along in self.directions.items():
            root = jnp.sqrt(self.mass[name])
            slow_cos, slow_sin = jnp.cos(angle / root), jnp.sin(angle / root)
            # one product each way for both
            z, p = jnp.stack([position[name], momentum[name]]) @ along
            cos, sin = slow_cos - jnp.cos(angle), jnp.sin(angle)
            moved = [cos * z + (slow_sin / root - sin) * p, cos * p - (slow_sin * root - sin) * z]
            positions[name], momenta[name] = jnp.stack(moved) @ along.T
        return positions, momenta


def init_metric(shapes: Mapping[str, tuple[int, ...]], stiffness: float) -> SharedMetric:
    """Return the prior's metric for sites of these shapes, those that have rows."""
    widths = {
        name: shape[-1]
        for name, shape in shapes.items()
        if math.prod(shape[:-1]) > 1 and 1 < shape[-1] <= _LARGEST
    }
    return SharedMetric(
        {name: jnp.eye(width, min(width, _DIRECTIONS)) for name, width in widths.items()},
        {name: jnp.ones(min(width, _DIRECTIONS)) for name, width in widths.items()},
        {name: jnp.zeros((width, width)) for name, width in widths.items()},
        {name: jnp.zeros(()) for name in widths},
        jnp.ones(()),
        jnp.asarray(stiffness, jnp.result_type(float)),
    )


def gather(metric: SharedMetric, gradient: Values) -> SharedMetric:
    """Return the metric with one more transition in its moment.

    `gradient` is that of the potential energy in whitened coordinates, with a leading chain axis
    for more chains than one.
    """
    moment = {}
    samples = {}
    for name, total in metric.moment.items():
        rows = gradient[name].reshape(-1, total.shape[0])
        moment[name] = total + rows.T @ rows
        samples[name] = metric.samples[name] + rows.shape[0]
    return metric._replace(moment=moment, samples=samples)


def is_due(i: Array, num_warmup: Array) -> Array:
    """Say whether the metric is learnt before transition `i`; not late in the warm-up."""
    window = (i + _WINDOW) // _WINDOW  # 2, 4, 8, …
    power = (window > 1) & (i % _WINDOW == 0) & ((window & (window - 1)) == 0)
    return ((i == FIRST) | power) & (4 * i <= 3 * num_warmup)


def learn(metric: SharedMetric) -> SharedMetric:
    """Return the metric that the moment tells, with a new moment begun."""
    directions, mass = {}, {}
    for name, total in metric.moment.items():
        samples, count = metric.samples[name], metric.mass[name].shape[0]
        values, vectors = jnp.linalg.eigh(total / samples)
        values, vectors = values[-count:], vectors[:, -count:]
        edge = (1 + jnp.sqrt(total.shape[0] / (samples * metric.chains))) ** 2
        stiff = jnp.isfinite(values) & (values > edge)
        directions[name] = jnp.where(
            jnp.all(jnp.isfinite(vectors)), vectors, metric.directions[name]
        )
        mass[name] = jnp.where(stiff, 1 + metric.stiffness * (values - 1), 1.0)
    moment, samples = jax.tree.map(jnp.zeros_like, (metric.moment, metric.samples))
    return metric._replace(directions=directions, mass=mass, moment=moment, samples=samples)


def pool_metrics(metrics: Sequence[SharedMetric]) -> SharedMetric:
    """Return one metric for chains that run separately, with the mean of their moments."""
    moments = [(metric.moment, metric.samples) for metric in metrics]
    mean = jax.tree.map(lambda *leaves: sum(leaves) / len(leaves), *moments)
    return metrics[0]._replace(
        moment=mean[0], samples=mean[1], chains=jnp.full_like(metrics[0].chains, len(metrics))
    )
