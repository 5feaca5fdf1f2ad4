"""`solve`, `mixture`, `student_t_process`: from a network and a training set to a solution."""

from typing import Any, cast

from ._basics.arrays import shown
from ._basics.checks import check_choice, check_flag, check_number
from ._basics.errors import InputError
from ._likelihoods import GAUSSIAN, Likelihood, choose_likelihood
from ._numerics.precision import in_float64
from ._problem.network import Network, check_network
from ._problem.problem import make_problem
from .theories._evidence import most_likely
from .theories._large import choose_plan, solve_large
from .theories._mixture.approximate import solve_any
from .theories._saddle.theory import SaddleTheory
from .theories._solution import Solution
from .theories._student_t_process import StudentTProcessSolution, solve_student_t_process
from .theories._theory import Theory, choose_theory, solve_problem

__all__ = ["mixture", "solve", "student_t_process"]


@in_float64
def solve(
    net: Network,
    X: Any,
    y: Any,
    *,
    temperature: float | str | None = None,
    theory: str | Theory = "nested",
    likelihood: str | Likelihood = "gaussian",
    approximation: str | None = None,
    readout_precision: str | None = None,
    method: str | None = None,
    memory_limit: int | float | str | None = None,
    seed: Any = 0,
    progress: Any = True,
) -> Solution:
    """Solve a theory of the posterior for one network, training set and temperature.

    Parameters
    ----------
    net
        The network.
    X
        Training patterns, shape (pattern, input), or images where the first layer is a
        `Convolution`, shape (pattern, row, column) or (pattern, channel, row, column).
    y
        Labels, shape (pattern,), or (pattern, output) for a network of several outputs, which
        "nested", "wishart" and "infinite" take; −1 and +1 with a likelihood of two classes, class
        indices, shape (pattern,), with "softmax".
    temperature
        T ≥ 0, the variance of the Gaussian likelihood. T = 0 needs a positive definite kernel.
        "evidence": the T for which the theory's `log_evidence` is largest, between 1e-5 and 10
        times the mean square of the labels; the solution's `evidence_curve` shows it.
        Other likelihoods are tempered, p(y|f)^(1/T) with T > 0, by default 1.
    theory
        A name out of `finwidth.list_theories`, or a `finwidth.theories.Theory`: "nested", the
        effective action with one Q̄ (and Q) per layer; "wishart", the infinite-width kernel times
        the product of the Q̄, without mean terms; "infinite", the Gaussian process of infinite
        width; "mixture", what `finwidth.mixture` computes of "nested"; "scalar", "nested" of a
        convolution with one Q̄ for all patches, a comparator. For one hidden layer also "adaptive",
        hidden weights with a covariance that the data choose; "corrected", the kernel turned
        towards the labels (odd activations); "perturbative", first order in 1/N_1; "cavity",
        the law of one neuron among the others.
    likelihood
        "gaussian"; "logit", p(y|f) = 1/(1 + exp(−y f)), and "probit", Φ(y f), for two classes with
        theory="nested", "wishart", "infinite", "mixture" or "cavity"; "softmax", for labels
        0 … D − 1 and an output each, with theory="nested", "wishart" or "infinite" and dense
        layers; or a likelihood of your own.
    approximation
        How f is conditioned on two classes: "ep" (the default), expectation propagation, or
        "laplace", around the mode of f.
    readout_precision
        With temperature="evidence", "evidence" chooses λ_L with T: the result's network has it.
    method
        "dense", by P × P matrices; "iterative", by products with a kernel that is made tile by
        tile, with error bars (a `finwidth.theories.LargeSolution`): "infinite", "wishart" and
        "nested" for dense layers, one output, the Gaussian likelihood and T > 0. By default the
        first unless its memory goes beyond `memory_limit`.
    memory_limit
        Bytes, or a string such as "8GB", for the arrays of the solution and its predictions; by
        default what this machine has, of which "iterative" takes half. The numbers do not depend
        on it, only the time and which way is the default. Of a convolution without pooling the
        bytes that the kernels of all pairs of patches may take, 4 GiB by default: beyond it they
        are made anew each time they are needed.
    seed
        Seed of the random probes of "iterative"; the same seed gives the same solution.
    progress
        Whether "iterative" shows progress on stderr.

    Returns
    -------
    Solution
        Order parameters, evidence, and `predict`.

    Raises
    ------
    InputError
        If an argument is not as described, or the kernel is singular to working precision.
    ConvergenceError
        If the saddle point was not reached; the best point is attached as ``.best``.
    PluginError
        If the activation's kernel breaks its contract.
    KeyboardInterrupt
        If "iterative" is interrupted: with what the products so far give as ``.best``.

    Warns
    -----
    AccuracyWarning
        If rounding cost accuracy, or the evidence still grows at the end of the range of T (or
        λ_L) that is searched, which is then taken.

    References
    ----------
    Pacelli et al., Nat. Mach. Intell. 5, 1497 (2023), eqs. 5-13; theory.md, sections 2 to 4, and
    14 for several outputs, 15 for classes, 18 for "iterative".
    """
    chosen = choose_theory(theory)
    likelihood = choose_likelihood(likelihood, approximation)
    progress = check_flag("progress", progress)
    # a convolution's kernels keep to the limit themselves
    by_patches = check_network(net).by_patches
    kernels, limit = (memory_limit, None) if by_patches else (None, memory_limit)
    by_evidence = isinstance(temperature, str) and temperature == "evidence"
    if readout_precision is not None:
        check_choice("readout_precision", readout_precision, ("evidence",))
        if not by_evidence:
            raise InputError(
                "expected readout_precision = None unless temperature = 'evidence', got "
                f"{readout_precision!r} with temperature = {shown(temperature)}"
            )
    if by_evidence:
        if likelihood != GAUSSIAN:
            raise InputError(
                "expected temperature = a number with a likelihood other than 'gaussian', got "
                "'evidence': tempered, it is not normalised"
            )
        problem = make_problem(net, X, y, 1.0, likelihood, kernels)
        if choose_plan(problem, chosen, method, limit, seed) is not None:
            raise InputError(
                "expected temperature = a number with method='iterative', got 'evidence'"
            )
        return most_likely(problem, chosen, readout_precision is not None)
    problem = make_problem(net, X, y, temperature, likelihood, kernels)
    plan = choose_plan(problem, chosen, method, limit, seed)
    if plan is None:
        return solve_problem(problem, chosen)
    return solve_large(problem, cast(SaddleTheory, chosen), plan, progress)


@in_float64
def student_t_process(
    net: Network, X: Any, y: Any, *, temperature: float, degrees_of_freedom: float
) -> StudentTProcessSolution:
    """Condition a Student-t process whose covariance is the infinite-width kernel.

    A comparator, never the network's law. It is the mixture of Gaussian processes over an
    inverse-Gamma scale, s ~ InvGamma(ν/2, (ν − 2)/2), y | s ~ N(0, s (K + T·1)). A finite network
    with an odd activation is close to a *Gamma* mixture (`mixture`, `models.student_t`): the
    Student-t of the theory is the characteristic function of its outputs, not their density.
    This class answers what heavy tails alone would do.

    Parameters
    ----------
    net
        The network; its widths play no role.
    X
        Training patterns, shape (pattern, input).
    y
        Labels, shape (pattern,).
    temperature
        T ≥ 0. The noise is inside the scale: A = K + T·1 is the covariance of y, s multiplies
        both terms, and so f and noise are uncorrelated but not independent. T = 0 needs a
        positive definite kernel.
    degrees_of_freedom
        ν > 2. ν → ∞ is the Gaussian process, solve(..., theory="infinite").

    Returns
    -------
    StudentTProcessSolution
        Evidence and `predict`: the mean is the Gaussian process's, the covariance its covariance
        times (ν + yᵀA⁻¹y − 2)/(ν + P − 2). Usable wherever a `finwidth.Solution` is.

    Raises
    ------
    InputError
        If an argument is not as described, or the kernel is singular to working precision.

    References
    ----------
    Shah, Wilson and Ghahramani, AISTATS 2014, eqs. 5 and 6 (noise inside the kernel: sec. 5).
    Tracey and Wolpert, AIAA SciTech 2018.
    """
    # a variance exists for ν > 2 only
    degrees_of_freedom = check_number("degrees_of_freedom", degrees_of_freedom, 2.0)
    problem = make_problem(net, X, y, temperature)
    return solve_student_t_process(problem, degrees_of_freedom)


@in_float64
def mixture(
    net: Network,
    X: Any,
    y: Any,
    *,
    temperature: float | None = None,
    theory: str = "nested",
    likelihood: str | Likelihood = "gaussian",
    approximation: str | None = None,
    memory_limit: int | float | str | None = None,
) -> Solution:
    """Compute the posterior of the scale mixture, whose saddle point `solve` finds.

    Q̄_ℓ ~ Gamma(N_ℓ/2, rate N_ℓ/2) independently, f | Q̄ ~ GP(0, K_R(Q̄)). For the identity this is
    the network's exact law at any widths and depth; otherwise it keeps the fluctuations of the
    order parameters that the saddle point drops, and shares its approximation of the features.

    Parameters
    ----------
    net
        The network. With theory="nested": one hidden layer (with a mean term, the projection of
        the readout on it is integrated too), up to three with an odd activation, any number for
        the identity without biases. With theory="wishart": any. With several outputs Q̄_ℓ is a
        Wishart matrix: one hidden layer, the identity without biases, or theory="wishart". With
        theory="nested" also a dense layer with one residual block after it, of one output.
    X
        Training patterns, shape (pattern, input).
    y
        Labels, shape (pattern,), or (pattern, output) with several outputs.
    temperature
        T ≥ 0, the variance of the Gaussian likelihood. T = 0 needs a positive definite kernel
        (without mean term and output bias). Other likelihoods are tempered, p(y|f)^(1/T) with
        T > 0, by default 1.
    theory
        How the order parameters enter the kernel, "nested" or "wishart".
    likelihood, approximation
        As for `solve`. Other likelihoods than the Gaussian where only the scale of one kernel
        varies: one hidden layer with an odd activation, "wishart", the identity without biases.
    memory_limit
        Bytes that the kernels of all pairs of patches may take, for a convolution without pooling:
        here they are all needed at once. None: 4 GiB.

    Returns
    -------
    Solution
        A `MixtureSolution`: evidence, law of the order parameters, and `predict`; usable wherever a
        `finwidth.Solution` is. With several outputs a `WishartMixtureSolution`, for a convolution
        without pooling, of at most nine patches, a `PatchMixtureSolution`.

    Raises
    ------
    InputError
        If an argument is not as described, or the kernel is singular to working precision.
    ConvergenceError
        If the quadrature error is above 1e-6, or with Sobol points the standard error of the
        evidence above 5 % of it; the result is attached as ``.best``.

    Warns
    -----
    AccuracyWarning
        If the quadrature error is above 1e-9, or rounding costs more than the eighth digit. Where
        Sobol points take the place of quadrature: if the standard error of the evidence is above
        1e-3 of it.

    Notes
    -----
    Where only the scale of one kernel varies (one hidden layer, "wishart", the identity) the cost
    is one eigendecomposition and O(P) a node (for other likelihoods than the Gaussian: their
    approximation at every node). Otherwise it is some 100 eigendecompositions for two hidden layers
    and 10 000 for three. With several outputs, one hidden layer and D = 2, a lattice over the
    entries of Bartlett's factor of Q̄; otherwise eight scramblings of Sobol points around the mode,
    weighted by importance, whose spread is the standard error.

    References
    ----------
    theory.md, sections 5 and 14; for the identity Zavatone-Veth and Pehlevan, NeurIPS 2021, and
    Hanin and Zlokapa, PNAS 120, e2301345120 (2023).
    """
    likelihood = choose_likelihood(likelihood, approximation)
    return solve_any(make_problem(net, X, y, temperature, likelihood, memory_limit), theory)
