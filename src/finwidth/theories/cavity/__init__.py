"""One hidden layer by the law of one neuron, given the mean effect of the others.

The hidden weights need not stay Gaussian: a neuron's law is found, not assumed, and the equations
for it are solved by sampling, so that results carry a standard error.
"""

import dataclasses

import jax.numpy as jnp
import numpy as np

from ..._basics.checks import LARGEST_COUNT, check_count, check_flag, check_number, check_seed
from ..._basics.errors import InputError
from ..._basics.progress import Progress
from ..._layers.dense import bias_variances, whiten_inputs
from ..._numerics.span import Span
from ..._plugins.hooks import hookimpl
from ..._problem.network import Network
from ..._problem.problem import Problem
from .._theory import Theory, check_dense, checked
from ._fit import fit
from ._law import LADDER
from ._solution import CavityPrediction, CavitySolution
from ._step import Given

__all__ = ["Cavity", "CavityPrediction", "CavitySolution"]


@dataclasses.dataclass(frozen=True)
class Cavity(Theory):
    """One neuron in the mean effect of all others: kernels that take any shape.

    Integrate the readout: y | W ~ N(0, A), A = T + Σ_i φ_i φ_iᵀ/N_1 (+ 1/λ^b_1), φ = σ(h)/√λ_1.
    Take neuron i out of A, C = (A − φ_iφ_iᵀ/N_1)⁻¹; by the matrix determinant lemma and
    Woodbury's identity its weights have, given the others, exactly the law

        ρ(w) ∝ N(w; 0, 1/λ_0) (1 + q)^{−1/2} exp[u²/(2N_1(1 + q))],
        a = C y,   u = a·φ,   q = φᵀCφ/N_1.

    The approximation is to give a and C, which fluctuate with the other neurons, fixed values. They
    follow from the neurons' mean contributions to f, each neuron being independent and of law ρ:

        K1 = E[φφᵀ/(1 + q)],   K2 = E[(1/(1 + q) + u²/(N_1(1 + q)²)) φφᵀ],
        m = K1 a,   a = (T + K1)⁻¹y,   C = (T + K2 − mmᵀ/N_1)⁻¹.

    The difference between N_1 and N_1 − 1 neurons is dropped in a and C, as are the fluctuations of
    both: terms of relative order 1/N_1. For N_1 → ∞ it is the infinite-width process.

    Predictions are those of a Gaussian process: mean K1(x, X)a, covariance from
    k = K2 − m mᵀ/N_1 (with 1/λ^b_1 added) and C. They are estimates, with `standard_error`.

    Parameters
    ----------
    particles
        Neurons that sample ρ side by side; rounded up to a multiple of 31.
    seed
        Seed; the same seed gives the same solution.
    tolerance
        Wanted relative standard error of yᵀ(T + K1)⁻¹y and of tr(K2 − mmᵀ/N_1).
    max_iterations
        Bound on the iterations.
    progress
        Whether to show progress on stderr.

    Raises
    ------
    InputError
        If an argument is not as described; from `check`, for more than one hidden layer.

    Notes
    -----
    Biases: the hidden one is one more Gaussian weight of each neuron; that of the output is
    Gaussian and independent of the neurons, and adds 1/λ^b_1 to T + K1, to T + K2 − mmᵀ/N_1 and to
    k, not to ρ.

    A neuron's law is bimodal where the network learns: most neurons near the prior, a few aligned
    with the labels. Walkers at fixed values of the readout weight, with exchanges, cross between
    the two. With narrow layers, noisy labels and more patterns than neurons the aligned part can
    take over; then no solution is found that connects to infinite width, and
    `finwidth.solve` raises ConvergenceError.

    The evidence is not computed (NaN): N_1 times the noise of a neuron's normaliser is too much.

    References
    ----------
    Mézard, Parisi, Virasoro, Spin Glass Theory and Beyond (1987), ch. V, for the method; Rubin,
    Ringel, Seroussi, Helias, ICLR 2024, for the law of one neuron with a fixed a. The
    self-consistent C is this package's.
    """

    particles: int = 1024
    seed: int = 0
    tolerance: float = 0.03
    max_iterations: int = 2000
    progress: bool = True

    name = "cavity"
    slow = True

    def __post_init__(self) -> None:
        checked_fields = {
            "particles": check_count("particles", self.particles, 1, LARGEST_COUNT),
            "seed": check_seed(self.seed),
            "tolerance": check_number("tolerance", self.tolerance, 0.0),
            "max_iterations": check_count("max_iterations", self.max_iterations, 1, LARGEST_COUNT),
            "progress": check_flag("progress", self.progress),
        }
        for name, value in checked_fields.items():
            object.__setattr__(self, name, value)

    def check(self, network: Network) -> None:
        """Refuse more than one hidden layer."""
        check_dense(network, self.name)
        if network.depth != 1:
            raise InputError(f"expected one hidden layer for theory='cavity', got {network.depth}")

    @checked
    def solve(self, problem: Problem) -> "CavitySolution":
        """Solve the self-consistent equations and sample the law they give.

        Raises
        ------
        InputError
            If T = 0.
        ConvergenceError
            If the law runs away; where it only stays noisy, the solution says so.
        """
        if not problem.temperature > 0:
            raise InputError(
                "expected temperature = a finite float > 0 for theory='cavity', got "
                f"{problem.temperature!r}"
            )
        network = problem.network
        span = Span.of(whiten_inputs(network, problem.X))
        rank = max(1, span.rank)
        n = problem.n_patterns
        bias = bias_variances(network)[1]
        given = Given(
            jnp.asarray(span.coordinates(rank), jnp.float64),
            jnp.asarray(network.weight_precision[1], jnp.float64),
            jnp.asarray(problem.temperature * np.eye(n) + bias, jnp.float64),
            jnp.asarray(problem.y, jnp.float64),
            jnp.asarray(network.widths[0], jnp.float64),
        )
        ladders = -(-self.particles // LADDER.size)
        count = ladders * LADDER.size
        note = f"{count} neurons of width {network.widths[0]}, at most {self.max_iterations} steps"
        with Progress("cavity", note, self.max_iterations, self.progress) as bar:
            found = fit(
                network.activation,
                given,
                ladders=ladders,
                seed=self.seed,
                tolerance=self.tolerance,
                max_iterations=self.max_iterations,
                tick=lambda driver: bar.update(1, f"step {driver.count}"),
            )
        given = Given(*map(np.asarray, given))
        return CavitySolution(problem, self.seed, self.tolerance, given, found, span.basis(rank))


@hookimpl
def finwidth_register_theories() -> list[Theory]:
    """Register the theory."""
    return [Cavity()]
