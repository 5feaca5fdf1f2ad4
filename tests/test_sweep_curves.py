"""Sweeps as learning curves: what `finwidth plot` and `finwidth report` draw of them."""

import numpy as np
import pytest
import xarray as xr

import finwidth as fw
from finwidth._basics.errors import InputError
from finwidth._plots._pictures import pictures
from finwidth._results.kinds import read_result

WIDTHS = (8, 3)
TEMPERATURES = [0.1, 0.5]


@pytest.fixture(scope="module")
def swept():
    data = fw.load_dataset("random", n_train=6, n_test=4, n_inputs=3, seed=3)
    nets = [fw.Network((width,), name) for name in ("erf", "identity") for width in WIDTHS]
    grid = fw.grid(data=data, net=nets, temperature=TEMPERATURES, theory=["infinite", "nested"])
    return fw.sweep(grid, progress=False)


def sampled(dataset):
    """Return the sweep as if the posterior had been sampled and were the nested theory."""
    exact = dataset.sel(theory=["nested"]).assign_coords(theory=["exact"])
    exact["error_mcse"] = 0.01 * exact["error"]
    exact["r_hat"] = xr.ones_like(exact["error"])
    return xr.concat([dataset, exact], "theory")


def read(dataset, path):
    fw.save(xr.DataTree(dataset), path)
    return read_result(path)


def test_networks_are_found_by_width_and_by_what_else_they_differ_in(swept, tmp_path):
    curves = read(swept, tmp_path / "sweep.nc").dataset
    assert dict(curves["error"].sizes) == {"temperature": 2, "theory": 2, "width": 2, "network": 2}
    for net in range(4):
        one = swept.isel(net=net)
        found = curves.sel(
            width=one["width"].item(), network=f"activation {one['activation'].item()}"
        )
        np.testing.assert_array_equal(
            found["error"].transpose("temperature", "theory"), one["error"]
        )


def test_one_kind_of_network_is_a_curve_over_widths(swept, tmp_path):
    curves = read(swept.isel(net=[0, 1], temperature=0), tmp_path / "sweep.nc").dataset
    assert curves["width"].values.tolist() == sorted(WIDTHS)
    assert set(curves["error"].dims) == {"theory", "width"}


def test_what_is_sampled_stands_beside_the_theories(swept, tmp_path):
    result = read(sampled(swept.isel(net=[0, 1])), tmp_path / "sweep.nc")
    curves = result.dataset
    assert curves["theory"].values.tolist() == ["infinite", "nested"]
    np.testing.assert_array_equal(
        curves["exact_error"].transpose("temperature", "width"),
        curves["error"].sel(theory="nested").transpose("temperature", "width"),
    )
    np.testing.assert_allclose(curves["exact_error_mcse"], 0.01 * curves["exact_error"])
    assert [one.title for one in pictures(result)] == [
        f"Learning curve: temperature = {value:g}" for value in TEMPERATURES
    ]


def test_sampling_alone_is_a_curve_of_points(swept, tmp_path):
    dataset = sampled(swept.isel(net=[0, 1], temperature=0)).sel(theory=["exact"])
    result = read(dataset, tmp_path / "sweep.nc")
    assert result.dataset.sizes["theory"] == 0
    assert np.isfinite(result.dataset["exact_error"]).all()
    (picture,) = pictures(result)
    axes = picture.draw().axes[0]
    assert len(axes.containers) == 1  # the points with their bars


def test_widths_of_several_layers_are_no_curve(swept, tmp_path):
    dataset = swept.isel(net=[0, 1], temperature=0)
    same = dataset.assign_coords(width=("net", [3, 3]), widths=("net", ["3,3", "3,5"]))
    curves = read(same, tmp_path / "sweep.nc").dataset
    assert curves["error"].sizes["net"] == 2


def test_classes_have_no_error_but_a_curve(swept, tmp_path):
    scores = {"error": "accuracy", "bias2": "log_loss"}
    dataset = swept.isel(net=[0, 1], temperature=0)[[*scores, "state", "reason", "converged"]]
    result = read(dataset.rename(scores), tmp_path / "sweep.nc")
    (picture,) = pictures(result)
    assert picture.alt.startswith("Accuracy and log loss against width")
    with pytest.raises(InputError, match=r"expected --score = one of .*, got 'error'"):
        pictures(result, scores=["error"])
