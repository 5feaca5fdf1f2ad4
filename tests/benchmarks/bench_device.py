"""Gradients per second of the marginal posterior on every kind of device that JAX finds.

Run `python tests/benchmarks/bench_device.py [--full]`. Prints the time of one gradient of all
chains side by side, and its ratio to the CPU's, measured in the same run. --full: N_1 = 1000,
P = 1000, N_0 = 784, 64 chains.
"""

import argparse
import os
import time

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np

import finwidth as fw
from finwidth._numerics.precision import precision
from finwidth.models._readout import log_marginal


def seconds_per_gradient(device, dtype: str, n: int, p: int, n_inputs: int, chains: int) -> float:
    """Return the median time of the gradient of `chains` log densities, after compilation."""
    net = fw.Network((n,), "erf")
    rng = np.random.default_rng(0)
    with precision(dtype), jax.default_device(device):
        real = np.dtype(dtype)
        X = jnp.asarray(rng.normal(size=(p, n_inputs)), real)
        y = jnp.asarray(np.sign(rng.normal(size=p)), real)
        weights = jnp.asarray(rng.normal(size=(chains, n, n_inputs)), real)

        def density(w):
            features = fw.models.hidden_features(net, {"W_1": w}, X)
            return log_marginal(fw.models.readout_features(net, features), y, 0.1)

        gradient = jax.jit(jax.vmap(jax.grad(density)))
        gradient(weights).block_until_ready()
        times = []
        for _ in range(5):
            start = time.perf_counter()
            gradient(weights).block_until_ready()
            times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--full", action="store_true")
    full = parser.parse_args().full
    n, p, n_inputs, chains = (1000, 1000, 784, 64) if full else (200, 200, 200, 8)
    devices = {"cpu": jax.devices("cpu")[0]}
    default = jax.devices()[0]
    devices.setdefault(default.platform, default)
    print(f"N_1 = {n}, P = {p}, N_0 = {n_inputs}, {chains} chains; jax {jax.__version__}")
    for dtype in ("float64", "float32"):
        cpu = None
        for platform, device in devices.items():
            seconds = seconds_per_gradient(device, dtype, n, p, n_inputs, chains)
            cpu = cpu or seconds
            print(
                f"{dtype} {platform:4} {device.device_kind:24} {1e3 * seconds:10.2f} ms"
                f"  {cpu / seconds:8.1f} x the CPU"
            )
    if len(devices) == 1:
        print("no other device than the CPU was found")


if __name__ == "__main__":
    main()
