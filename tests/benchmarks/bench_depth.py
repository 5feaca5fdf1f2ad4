"""Deep networks: which part of a theory's error is the scale, which the shape of the kernel.

For L hidden layers on the digits 0 and 1 the test error of every theory is split into bias² and
variance, beside those of the posterior and of a network between the two: each layer has Gaussian
features of the same mean and covariance, given the layer before. Saddle-point theories replace its
kernels by one or two numbers a layer; the network itself has other features.

    python tests/benchmarks/bench_depth.py [--activation erf] [--patterns 20] [--width 10]

About ten minutes of one idle core; `--no-sampling` has the theories alone.
"""

import argparse
import os

# before NumPy and JAX start: one thread per linear-algebra call
for _variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_variable] = "1"
os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax  # noqa: E402
import jax.numpy as jnp  # noqa: E402
import numpy as np  # noqa: E402
from rich.console import Console  # noqa: E402
from rich.table import Table  # noqa: E402

import finwidth as fw  # noqa: E402
from finwidth._layers.covariance import Square  # noqa: E402
from finwidth._layers.dense import input_covariance, moments  # noqa: E402

TEMPERATURE = 0.01
JITTER = 1e-9  # of the mean variance, in the factors of Gaussian features


def gaussian_features(
    net: fw.Network, data: fw.Dataset, draws: int
) -> tuple[float, float, float, float]:
    """Error, its MCSE, bias² and variance where the features of every layer are Gaussian."""
    import numpyro
    import numpyro.distributions as dist

    patterns = np.vstack([data.X_train, data.X_test])
    n, P = len(patterns), len(data.X_train)
    y, y_test = jnp.asarray(data.y_train), np.asarray(data.y_test)
    first = jnp.asarray(np.asarray(input_covariance(net, patterns).cross))
    eye = jnp.eye(n)

    def conditional(K: jax.Array) -> tuple[jax.Array, jax.Array]:
        lower = jnp.linalg.cholesky(K[:P, :P] + TEMPERATURE * jnp.eye(P))
        half = jax.scipy.linalg.solve_triangular(lower, K[:P, P:], lower=True)
        labels = jax.scipy.linalg.solve_triangular(lower, y, lower=True)
        return half.T @ labels, jnp.diag(K)[P:] - jnp.sum(half**2, axis=0)

    def model() -> None:
        K = first
        for layer, width in enumerate(net.widths, start=1):
            second, m, _ = moments(net.activation, Square(K, jnp.diag(K), jnp.diag(K)))
            spread = second.cross - m[:, None] * m
            lower = jnp.linalg.cholesky(spread + JITTER * jnp.trace(spread) / n * eye)
            normals = dist.Normal(0, 1).expand([width, n]).to_event(2)
            features = m + numpyro.sample(f"g_{layer}", normals) @ lower.T
            K = features.T @ features / width
        mean, variance = conditional(K)
        numpyro.deterministic("mean", mean)
        numpyro.deterministic("variance", variance)
        noisy = K[:P, :P] + TEMPERATURE * jnp.eye(P)
        likelihood = dist.MultivariateNormal(jnp.zeros(P), covariance_matrix=noisy)
        numpyro.factor("y", likelihood.log_prob(y))

    kernel = fw.infer.SplitHMC(model)
    settings = {"num_warmup": 300, "num_samples": draws, "num_chains": 4}
    mcmc = numpyro.infer.MCMC(kernel, **settings, chain_method="sequential", progress_bar=False)
    mcmc.run(jax.random.PRNGKey(1))
    samples = mcmc.get_samples(group_by_chain=True)
    means = np.asarray(samples["mean"])
    errors = np.mean((means - y_test) ** 2 + np.asarray(samples["variance"]), axis=-1)
    effective = float(numpyro.diagnostics.effective_sample_size(errors))
    bias2 = float(np.mean((np.mean(means, axis=(0, 1)) - y_test) ** 2))
    error = float(np.mean(errors))
    return error, float(np.std(errors)) / effective**0.5, bias2, error - bias2


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--activation", default="relu")
    parser.add_argument("--patterns", type=int, default=20)
    parser.add_argument("--width", type=int, default=10)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--draws", type=int, default=1000, help="of each of four chains")
    parser.add_argument("--no-sampling", action="store_true", help="the theories alone")
    arguments = parser.parse_args()
    n_test = 20 if arguments.patterns == 20 else 100
    data = fw.load_dataset("digits", n_train=arguments.patterns, n_test=n_test)
    net = fw.Network((arguments.width,) * arguments.depth, arguments.activation)
    table = Table(title=f"digits, {arguments.activation}, widths {net.widths}, T = {TEMPERATURE}")
    table.add_column("")
    for name in ("error", "bias²", "variance"):
        table.add_column(name, justify="right")

    def add(name: str, error: float, mcse: float, *parts: float) -> None:
        shown = f"{error:.4f}" + (f" ± {mcse:.4f}" if mcse else "")
        table.add_row(name, shown, *(f"{part:.4f}" for part in parts))

    training = {"temperature": TEMPERATURE}
    infinite = None
    for theory in ("infinite", "nested", "wishart"):
        solution = fw.solve(net, data.X_train, data.y_train, **training, theory=theory)
        infinite = infinite or solution
        scores = solution.generalization_error(data.X_test, data.y_test)
        add(theory, float(scores.error), 0.0, float(scores.bias2), float(scores.variance))
    if not arguments.no_sampling:
        with jax.enable_x64(True):
            add("Gaussian features", *gaussian_features(net, data, arguments.draws))
        tree = fw.sample(
            net,
            data.X_train,
            data.y_train,
            **training,
            X_test=data.X_test,
            y_test=data.y_test,
            num_samples=arguments.draws,
            progress=False,
        )
        report = fw.compare(infinite, tree)
        exact = {name: report.sel(quantity=name) for name in ("error", "bias2", "variance")}
        values = [float(exact[name].exact) for name in exact]
        add("exact", values[0], float(exact["error"].mcse), *values[1:])
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
