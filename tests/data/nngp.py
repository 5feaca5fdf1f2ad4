"""Infinite-width kernels by neural-tangents: how tests/data/nngp.json was made.

python3.12 -m venv nt
nt/bin/pip install neural-tangents==0.6.5 jax==0.4.30 jaxlib==0.4.30 "numpy<2" setuptools
nt/bin/python tests/data/nngp.py > tests/data/nngp.json
"""

import json

import jax

jax.config.update("jax_enable_x64", True)

import numpy as np  # noqa: E402
from neural_tangents import stax  # noqa: E402

rng = np.random.default_rng(2026)
FLAT = np.round(rng.standard_normal((4, 6)), 3)
IMAGES = np.round(rng.standard_normal((3, 5, 4, 2)), 3)  # height, width, channels
ACTIVATIONS = {"erf": stax.Erf(), "relu": stax.Relu(), "gelu": stax.Gelu()}


def kernel(X, *layers):
    """Return the kernel of a network with a linear readout of unit variance."""
    return np.asarray(stax.serial(*layers)[2](X, X, "nngp")).tolist()


def dense(activation, depth, std, bias):
    """Kernel of a dense network; every layer, the readout too, has these standard deviations."""
    layers = []
    for _ in range(depth):
        layers += [stax.Dense(1, W_std=std, b_std=bias), ACTIVATIONS[activation]]
    return kernel(FLAT, *layers, stax.Dense(1, W_std=std, b_std=bias))


def convolution(activation, stride, pooling):
    """Kernel of one layer of 3 × 3 patches."""
    conv = stax.Conv(1, (3, 3), (stride, stride), "VALID", W_std=1.0)
    end = stax.GlobalAvgPool() if pooling == "average" else stax.Flatten()
    return kernel(IMAGES, conv, ACTIVATIONS[activation], end, stax.Dense(1))


def residual(branch, blocks):
    """Kernel of a dense layer, erf blocks h → h + branch W σ(h), and an erf readout."""
    inner = stax.serial(ACTIVATIONS["erf"], stax.Dense(1, W_std=branch))
    block = stax.serial(stax.FanOut(2), stax.parallel(stax.Identity(), inner), stax.FanInSum())
    return kernel(FLAT, stax.Dense(1), *[block] * blocks, ACTIVATIONS["erf"], stax.Dense(1))


print(
    json.dumps(
        {
            "recipe": "tests/data/nngp.py",
            "flat": FLAT.tolist(),
            "images": IMAGES.tolist(),
            "dense": [
                {"activation": a, "depth": d, "std": s, "bias": b, "kernel": dense(a, d, s, b)}
                for a in ACTIVATIONS
                for d in (1, 3)
                for s, b in ((1.0, None), (1.3, 0.5))
            ],
            "convolution": [
                {"activation": a, "stride": s, "pooling": p, "kernel": convolution(a, s, p)}
                for a in ("erf", "relu")
                for s, p in ((1, "none"), (2, "none"), (1, "average"))
            ],
            "residual": [
                {"branch": r, "blocks": n, "kernel": residual(r, n)}
                for r, n in ((1.0, 1), (0.5, 3))
            ],
        }
    )
)
