"""Infinite-width kernels against those of neural-tangents, another group's code.

tests/data/nngp.py says how the values were made.
"""

import json
import pathlib

import numpy as np
import pytest

import finwidth as fw

VALUES = json.loads((pathlib.Path(__file__).parent / "data" / "nngp.json").read_text())
FLAT = np.array(VALUES["flat"])
IMAGES = np.moveaxis(np.array(VALUES["images"]), -1, 1)  # channels first
QUICK = ("erf-1-None", "relu-3-0.5", "erf-2-none")
CLOSE = {"rtol": 1e-12, "atol": 1e-14}


def some_slow(cases, *names):
    """Mark all cases slow but those of QUICK."""
    ids = ["-".join(str(case[one]) for one in names) for case in cases]
    return [
        pytest.param(case, marks=() if one in QUICK else pytest.mark.slow, id=one)
        for case, one in zip(cases, ids, strict=True)
    ]


@pytest.mark.parametrize("case", some_slow(VALUES["dense"], "activation", "depth", "bias"))
def test_dense(case):
    """W_std = λ^(-1/2) in every layer and the readout, b_std = λ_b^(-1/2)."""
    bias = None if case["bias"] is None else case["bias"] ** -2
    net = fw.Network(
        (7,) * case["depth"],
        case["activation"],
        weight_precision=case["std"] ** -2,
        bias_precision=bias,
    )
    np.testing.assert_allclose(fw.nngp_kernel(net, FLAT), case["kernel"], **CLOSE)


@pytest.mark.parametrize(
    "case", some_slow(VALUES["convolution"], "activation", "stride", "pooling")
)
def test_convolution(case):
    """A VALID convolution of 3 × 3 patches, its readout over patches or their average."""
    layer = fw.Convolution(5, patch=3, stride=case["stride"], pooling=case["pooling"])
    net = fw.Network(layers=(layer,), activation=case["activation"])
    np.testing.assert_allclose(fw.nngp_kernel(net, IMAGES), case["kernel"], **CLOSE)


@pytest.mark.parametrize("case", some_slow(VALUES["residual"], "blocks", "branch"))
def test_residual(case):
    """Blocks h → h + branch W erf(h) with an erf readout."""
    block = fw.Residual(5, skip=1.0, branch=case["branch"])
    layers = (fw.Dense(5), *[block] * case["blocks"])
    net = fw.Network(layers=layers, activation="erf")
    np.testing.assert_allclose(fw.nngp_kernel(net, FLAT), case["kernel"], **CLOSE)
