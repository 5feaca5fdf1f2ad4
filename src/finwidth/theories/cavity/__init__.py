"""One hidden layer by the law of one neuron, given the mean effect of the others.

The hidden weights need not stay Gaussian: a neuron's law is found, not assumed. The equations for
it are solved on quasi-Monte-Carlo points, so that results carry the error bar of their number.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import numpy as np

from ..._basics.arrays import shown
from ..._basics.checks import LARGEST_COUNT, check_count, check_flag, check_number, check_seed
from ..._basics.errors import InputError, warn
from ..._basics.memory import check_memory, shown_memory
from ..._basics.progress import Progress
from ..._layers.dense import whiten_inputs
from ..._likelihoods import Likelihood
from ..._numerics.span import Span
from ..._plugins.hooks import hookimpl
from ..._problem.network import Network
from ..._problem.problem import Problem
from .._theory import Theory, check_dense, checked
from ._classes import check_classes, solve_classes
from ._fit import fit
from ._outputs import CavityOutputsSolution, solve_outputs
from ._outputs_points import most_nodes, room_for
from ._points import MOST_COORDINATES, Given
from ._replicates import MOST_REPLICATES, REPLICATES, Fit, room_for_replicate
from ._solution import CavityPrediction, CavitySolution

__all__ = ["Cavity", "CavityOutputsSolution", "CavityPrediction", "CavitySolution"]

_FEWEST, _MOST, _ENOUGH = 64, 2**20, 2**14  # points of a node
_MEMORY = 4e9  # bytes
_LONG = 256  # patterns
_NOTICEABLE = 0.05  # of E[t²] on a single point
_EFFECTIVE = 300  # points
_CLASSES = 1024  # points of a node with two classes


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
    k = K2 − m mᵀ/N_1 (with 1/λ^b_1 added) and C. The averages are those of a finite number of
    points, the same ones at every run; `standard_error` says what their number costs.

    Parameters
    ----------
    points
        Quasi-Monte-Carlo points at each of a dozen or two values of the readout weight, a power of
        two of at least 64, scrambled in eight ways. None: 1024, in up to 32 ways, until `tolerance`
        is met; where that is too few, doubled, to at most 16384. With several outputs there are
        some hundred values, and points are doubled from 64 on.
    tolerance
        Wanted relative standard error, without `points`, of the error that the training patterns
        have when each is left out: an estimate of the test error that needs no test set. That of
        the test error is up to three times as large; where few points carry what is learned, 4096
        are used in any case.
    memory_limit
        Most bytes, or a string such as "8GB", that the points and what is made of them may take at
        a time. None: 4 GB.
    seed
        Seed of the scrambling; the same seed gives the same solution, to the last bit.
    progress
        Whether to show progress on stderr where there are 256 patterns or more; fewer take seconds.

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
    with the labels. With narrow layers the aligned part can take over; then no solution is found
    that connects to infinite width, and `finwidth.solve` raises ConvergenceError, which names the
    width that was reached.

    Where few of the points carry the law, as with random labels, they are moved along it by
    Hamiltonian trajectories. `n_roots` of the solution counts the fixed points found from other
    starts.

    With D outputs the readout weight, a·φ = u and its tilt are vectors and q is a matrix for each
    neuron, q_de = φᵀC_deφ/N_1, in det(1 + q)^{−1/2} exp[u·(1 + q)⁻¹u/(2N_1)]: a and C are those of
    all outputs together. The solution is a `CavityOutputsSolution`.

    Two classes (logit, probit) count by the Gaussian sites of expectation propagation, as labels
    with a noise of their own; there are then 1024 points of a node unless `points` is given.

    The evidence is not computed (NaN).

    References
    ----------
    Mézard, Parisi, Virasoro, Spin Glass Theory and Beyond (1987), ch. V, for the method; Rubin,
    Ringel, Seroussi, Helias, ICLR 2024, for the law of one neuron with a fixed a. The
    self-consistent C is this package's.
    """

    points: int | None = None
    tolerance: float = 0.005
    memory_limit: int | float | str | None = None
    seed: int = 0
    progress: bool = True

    name = "cavity"
    several_outputs = True
    outputs_alike = False  # other equations, with some hundred nodes

    def __post_init__(self) -> None:
        checked_fields = {
            "points": None if self.points is None else _check_points(self.points),
            "tolerance": check_number("tolerance", self.tolerance, 0.0),
            "memory_limit": _MEMORY
            if self.memory_limit is None
            else check_memory("memory_limit", self.memory_limit),
            "seed": check_seed(self.seed),
            "progress": check_flag("progress", self.progress),
        }
        for name, value in checked_fields.items():
            object.__setattr__(self, name, value)

    def check_likelihood(self, likelihood: Likelihood) -> None:
        """Refuse all but the Gaussian likelihood and two classes by EP."""
        check_classes(likelihood, self.name)

    def check(self, network: Network) -> None:
        """Refuse more than one hidden layer."""
        check_dense(network, self.name)
        if network.depth != 1:
            raise InputError(f"expected one hidden layer for theory='cavity', got {network.depth}")

    @checked
    def solve(self, problem: Problem) -> "CavitySolution":
        """Solve the self-consistent equations.

        Raises
        ------
        InputError
            If T = 0, or the points do not fit into `memory_limit`.
        ConvergenceError
            If the law runs away.
        """
        if not problem.temperature > 0:
            raise InputError(
                "expected temperature = a finite float > 0 for theory='cavity', got "
                f"{problem.temperature!r}"
            )
        network, n = problem.network, problem.n_patterns
        span = Span.of(whiten_inputs(network, problem.X))
        rank, odd = max(1, span.rank), network.activation.parity == "odd"
        if rank > MOST_COORDINATES:
            raise InputError(
                f"expected X = patterns that span at most {MOST_COORDINATES} directions for "
                f"theory='cavity' (the longest Sobol sequence), got {rank}"
            )
        limit = check_memory("memory_limit", self.memory_limit)

        def room(points: int) -> int:
            return room_for(points, n, rank, odd, network.outputs)

        def scramblings(points: int) -> int:
            nodes = most_nodes(odd, network.outputs)
            each = room_for_replicate(nodes * points, n, network.outputs)
            return max(REPLICATES, min(MOST_REPLICATES, int((limit - room(points)) // each)))

        most = self._most_points(n, limit, room)

        given = Given(
            span.coordinates(rank),
            network.weight_precision[1] ** -0.5,
            problem.temperature,
            problem.temperature * np.eye(n) + problem.output_bias,
            problem.y,
            problem.nngp - problem.output_bias,
            odd,
        )
        note = f"the width from infinity down to {network.widths[0]}"
        shown_at_all = self.progress and n >= _LONG
        with Progress("cavity", note, 1000, shown_at_all) as bar:
            told = 0

            def tick(share: float, state: str) -> None:
                nonlocal told
                bar.update(round(1000 * share) - told, state)
                told = round(1000 * share)

            settings: dict[str, Any] = {
                "points": self.points,
                "most": most,
                "scramblings": scramblings,
                "tolerance": self.tolerance,
                "seed": self.seed,
                "tick": tick,
            }
            if network.outputs > 1:
                basis = span.basis(rank)
                solution = solve_outputs(problem, given, basis, **settings)
            else:

                def solve(given: Given) -> Fit:
                    return fit(given, network.activation, float(network.widths[0]), **settings)

                if problem.likelihood.homogeneous:
                    found = solve(given)
                else:
                    if self.points is None:
                        settings["points"] = min(_CLASSES, most)
                    given, found = solve_classes(problem, given, solve)
                solution = CavitySolution(problem, given, found, span.basis(rank))
        found = solution.fit
        largest = max(one.largest for one in found.replicates)
        effective = min(one.law.effective for one in found.replicates)
        if largest > _NOTICEABLE or effective < _EFFECTIVE:
            warn(
                "expected theory='cavity' to be carried by many points, got one with "
                f"{largest:.0%} of E[t²] and {effective:.0f} effective ones: its error bar may be "
                "too small"
            )
        return solution

    def _most_points(self, patterns: int, limit: float, room: Callable[[int], int]) -> int:
        """Return the most points of a node that `memory_limit` allows, within reason."""
        least = _FEWEST if self.points is None else self.points
        needed = room(least)
        if needed > limit:
            raise InputError(
                f"expected memory_limit = at least {shown_memory(float(needed))} for {least} "
                f"points of a node and {patterns} patterns, got {shown_memory(limit)}"
            )
        most = least
        while most < _ENOUGH and room(2 * most) <= limit:
            most *= 2
        return most


def _check_points(points: int) -> int:
    count = check_count("points", points, _FEWEST, LARGEST_COUNT)
    if count & (count - 1) or count > _MOST:
        raise InputError(
            f"expected points = a power of two between {_FEWEST} and {_MOST}, got {shown(points)}"
        )
    return count


@hookimpl
def finwidth_register_theories() -> list[Theory]:
    """Register the theory."""
    return [Cavity()]
