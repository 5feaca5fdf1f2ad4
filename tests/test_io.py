"""Files: what is saved comes back the same, whole or not at all, and says what it was."""

import dataclasses
import errno
import json
import os
import socket
import traceback
from pathlib import Path
from types import SimpleNamespace

import arviz as az
import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings, strategies as st

from finwidth._basics.errors import InputError
from finwidth._basics.files import atomic_path
from finwidth._problem.network import Network
from finwidth._results.attach import attach
from finwidth._results.files import load, save
from finwidth._results.provenance import provenance, read_provenance
from finwidth.activations._activation import Activation

ERF = Activation("erf", jax.scipy.special.erf, parity="odd")
NETWORK = Network(widths=(7,), activation=ERF, weight_precision=(1.0, 2.5))
TEMPERATURE = 0.01


@dataclasses.dataclass(frozen=True)
class FakeTheory:
    """What `attach` needs of a solution: f(x) = sum of the inputs, variance 1/4."""

    network: Network = NETWORK
    temperature: float = TEMPERATURE
    theory: str = "nested"
    action: float = 3.5
    log_evidence: float = -1.75
    residual: float = 1e-13

    @property
    def order_parameters(self):
        layer = np.arange(1, self.network.depth + 1)
        variables = {"q_bar": ("layer", np.full(layer.size, 0.8)), "q": ("layer", layer * 0.25)}
        return xr.Dataset(variables, coords={"layer": layer}, attrs={"converged": True})

    def predict(self, X_test, full_covariance=False):
        mean = np.asarray(X_test).sum(axis=1)
        return SimpleNamespace(mean=mean, variance=np.full(mean.shape, 0.25), covariance=None)

    def generalization_error(self, X_test, y_test):
        bias2 = float(np.mean((y_test - self.predict(X_test).mean) ** 2))
        return xr.Dataset({"error": bias2 + 0.25, "bias2": bias2, "variance": 0.25})


def make_tree(n_chains=4, n_draws=30, n_test=5, y_test=True, temperature=TEMPERATURE):
    """A run with the groups, dimensions and types that `finwidth.sample` gives."""
    rng = np.random.default_rng(0)
    index = {"chain": np.arange(n_chains), "draw": np.arange(n_draws)}
    draws = lambda *dims: rng.normal(size=(n_chains, n_draws, *dims))  # noqa: E731
    constant = {"X_test": (("test_pattern", "input"), rng.normal(size=(n_test, 3)))}
    if y_test:
        constant["y_test"] = ("test_pattern", rng.choice([-1.0, 1.0], n_test))
    tree = xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(
                {
                    "W_1": (("chain", "draw", "unit", "input"), draws(7, 3)),
                    "v": (("chain", "draw", "unit"), draws(7)),
                },
                coords=index | {"unit": np.arange(7)},
            ),
            "sample_stats": xr.Dataset(
                {
                    "diverging": (("chain", "draw"), draws() > 2.0),
                    "n_steps": (("chain", "draw"), np.full((n_chains, n_draws), 7, np.int32)),
                    "energy": (("chain", "draw"), draws().astype(np.float32)),
                },
                coords=index,
                attrs={"sample_dims": ["chain", "draw"]},
            ),
            "predictions": xr.Dataset(
                {"f": (("chain", "draw", "test_pattern"), draws(n_test))}, coords=index
            ),
            "predictions_constant_data": xr.Dataset(constant),
            "observed_data": xr.Dataset({"y": ("pattern", np.array([-1.0, 1.0]))}),
        }
    )
    record = {"temperature": temperature, "network": network_json(), "seed": 0, "plugins": []}
    tree.attrs["provenance"] = json.dumps(record)
    return tree


def network_json():
    return {
        "widths": [7],
        "activation": "erf",
        "weight_precision": [1.0, 2.5],
        "bias_precision": None,
    }


def assert_same(one, other):
    """Groups, values, dimensions, coordinates, attributes and types are all the same."""
    assert one.identical(other)
    for path, node in one.subtree_with_keys:
        for name, variable in node.to_dataset(inherit=False).variables.items():
            assert variable.dtype == other[path].to_dataset(inherit=False).variables[name].dtype


# Round trips


def test_a_saved_run_comes_back_the_same(tmp_path):
    tree = attach(make_tree(), FakeTheory())
    path = save(tree, tmp_path / "run.nc")
    assert path == tmp_path / "run.nc"
    assert_same(load(path), tree)
    assert load(path)["sample_stats/diverging"].dtype == bool
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.nc"]


def test_a_loaded_run_can_be_saved_over_its_own_file(tmp_path):
    path = save(make_tree(), tmp_path / "run.nc")
    save(attach(load(path), FakeTheory()), path)
    assert "theory/nested" in [node.path.strip("/") for node in load(path).subtree]
    assert_same(load(path), attach(make_tree(), FakeTheory()))


@settings(max_examples=6, deadline=None)
@given(
    chains=st.integers(1, 3),
    draws=st.integers(1, 4),
    patterns=st.integers(1, 4),
    with_labels=st.booleans(),
)
def test_round_trip_of_any_shape(tmp_path_factory, chains, draws, patterns, with_labels):
    tree = make_tree(chains, draws, patterns, with_labels)
    path = tmp_path_factory.mktemp("shape") / "run.nc"
    assert_same(load(save(tree, path)), tree)


def test_jax_arrays_are_saved_as_numpy_arrays(tmp_path):
    values = jnp.arange(6.0).reshape(2, 3)
    dataset = xr.Dataset(
        {"f": (("chain", "draw"), values)}, coords={"weight": ("draw", jnp.ones(3))}
    )
    tree = xr.DataTree.from_dict({"predictions": dataset})
    loaded = load(save(tree, tmp_path / "run.nc"))["predictions"]
    assert isinstance(loaded["f"].data, np.ndarray)
    np.testing.assert_array_equal(loaded["f"], values)
    assert "weight" in loaded.coords


def test_arviz_opens_the_file(tmp_path):
    path = save(make_tree(), tmp_path / "run.nc")
    opened = az.from_netcdf(path)
    summary = az.summary(opened, var_names=["v"])
    assert list(summary.index) == [f"v[{unit}]" for unit in range(7)]
    opened.close()


def test_arviz_plots_the_loaded_run(tmp_path):
    import matplotlib.pyplot as plt

    tree = load(save(make_tree(), tmp_path / "run.nc"))
    collection = az.plot_trace(tree, var_names=["v"], coords={"unit": [0]}, backend="matplotlib")
    collection.savefig(tmp_path / "trace.png")
    plt.close("all")
    assert (tmp_path / "trace.png").stat().st_size > 0


# Nothing half-written


def test_the_old_file_survives_a_failed_write(tmp_path):
    path = tmp_path / "run.nc"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="stop"), atomic_path(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("stop")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_interrupt_leaves_no_file(tmp_path):
    with pytest.raises(KeyboardInterrupt), atomic_path(tmp_path / "run.nc") as temporary:
        temporary.write_text("half")
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_the_temporary_file_keeps_the_suffix_and_the_result_the_umask(tmp_path):
    plain = tmp_path / "plain.png"
    plain.touch()
    with atomic_path(tmp_path / "figure.png") as temporary:
        assert temporary.suffix == ".png"
        assert temporary.parent == tmp_path
        temporary.write_text("new")
    assert (tmp_path / "figure.png").read_text() == "new"
    assert (tmp_path / "figure.png").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("value", [None, True, {"a": 1}, [None], [True, False], np.bool_(True), 1j])
@pytest.mark.parametrize("group", ["/", "posterior", "posterior/v"])
def test_attributes_that_netcdf_lacks_are_refused_by_name(tmp_path, group, value):
    tree = make_tree()
    tree[group].attrs["note"] = value
    with pytest.raises(InputError, match=r"expected attributes of /.*got note = "):
        save(tree, tmp_path / "run.nc")
    assert list(tmp_path.iterdir()) == []


def test_a_variable_that_netcdf_lacks_leaves_nothing_behind(tmp_path):
    tree = make_tree()
    tree["posterior"] = xr.DataTree(xr.Dataset({"odd": ("unit", np.array([{}, []], object))}))
    with pytest.raises(InputError, match="expected tree = data that netCDF can hold, got"):
        save(tree, tmp_path / "run.nc")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["missing/run.nc", "file/run.nc", "."])
def test_save_needs_a_folder(tmp_path, name):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="expected path = a file in an existing, writable folder"):
        save(make_tree(), tmp_path / name)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_save_into_a_folder_that_is_not_writable(tmp_path, monkeypatch):
    folder = tmp_path / "locked"
    folder.mkdir()
    if os.geteuid() == 0:  # root may write anywhere: let the system call refuse
        system_open = os.open

        def refuse(path, flags, *args):
            if flags & os.O_CREAT and Path(path).parent == folder:
                raise PermissionError(13, "Permission denied")
            return system_open(path, flags, *args)

        monkeypatch.setattr(os, "open", refuse)
    else:
        folder.chmod(0o500)
    with pytest.raises(InputError, match=r"writable folder, got .*Permission denied"):
        save(make_tree(), folder / "run.nc")
    assert list(folder.iterdir()) == []


# A disk or a place that does not take the file


def failing(error, at):
    """Return what a system call does where the disk fails for files in the folder `at`."""

    def wrap(call):
        def wrapped(path, *args, **kwargs):
            where = os.readlink(f"/proc/self/fd/{path}") if isinstance(path, int) else path
            if str(where).startswith(str(at)):
                raise OSError(error, os.strerror(error))
            return call(path, *args, **kwargs)

        return wrapped

    return wrap


ERRORS = {"full": errno.ENOSPC, "over quota": errno.EDQUOT, "broken": errno.EIO}


@pytest.mark.parametrize("moment", ["write", "fsync", "replace"])
@pytest.mark.parametrize("error", ERRORS)
def test_a_disk_that_fails_leaves_the_older_file_whole(tmp_path, monkeypatch, moment, error):
    path = save(make_tree(), tmp_path / "run.nc")
    older = path.read_bytes()
    owner, name = (Path, "write_bytes") if moment == "write" else (os, moment)
    wrap = failing(ERRORS[error], tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(owner, name, wrap(getattr(owner, name)))
        for target in (path, tmp_path / "new.nc"):
            with pytest.raises(InputError, match=r"^expected path = .*; what was there .*$"):
                save(attach(make_tree(), FakeTheory()), target)
    assert path.read_bytes() == older
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.nc"]


def test_the_errors_of_a_disk_that_fails_may_be_kept(tmp_path, monkeypatch):
    """No view of the file's content is left in them: Python 3.12.1 crashes when it is collected."""
    monkeypatch.setattr(Path, "write_bytes", failing(errno.EIO, tmp_path)(Path.write_bytes))
    with pytest.raises(InputError) as caught:
        save(make_tree(1, 1, 1)["predictions"], tmp_path / "run.nc")
    error = caught.value
    while error is not None:
        for frame, _ in traceback.walk_tb(error.__traceback__):
            assert not any(isinstance(one, memoryview) for one in frame.f_locals.values())
        error = error.__cause__ or error.__context__


def test_a_disk_that_cannot_even_remove_a_file(tmp_path, monkeypatch):
    """It has become read-only: what is said is why the file could not be written."""
    wrap = failing(errno.EROFS, tmp_path)
    for name in ("write_bytes", "unlink"):
        monkeypatch.setattr(Path, name, wrap(getattr(Path, name)))
    with pytest.raises(InputError, match="expected path = a file that can be written, got"):
        save(make_tree(), tmp_path / "run.nc")


def test_a_folder_that_cannot_be_flushed_does_not_matter(tmp_path, monkeypatch):
    """Some network file systems refuse; the file is whole and in its place."""
    fsync = os.fsync

    def refuse(descriptor):
        if os.path.isdir(f"/proc/self/fd/{descriptor}"):
            raise OSError(errno.EINVAL, "Invalid argument")
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)
    assert_same(load(save(make_tree(), tmp_path / "run.nc")), make_tree())


def test_a_limit_on_the_size_of_files(tmp_path):
    resource = pytest.importorskip("resource")
    path = save(make_tree(n_draws=2), tmp_path / "run.nc")
    older = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1024, hard))
    try:
        with pytest.raises(InputError, match=r"run.nc' \(File too large\)"):
            save(make_tree(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == older
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.nc"]


@pytest.mark.parametrize("link", [False, True])
@pytest.mark.parametrize("kind", ["pipe", "device", "socket", "folder"])
def test_what_is_not_a_file_is_never_replaced(tmp_path, monkeypatch, kind, link):
    place = tmp_path / "place"
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "socket":
        monkeypatch.chdir(tmp_path)  # its path must be short
        with socket.socket(socket.AF_UNIX) as server:
            server.bind("place")
    elif kind == "folder":
        place.mkdir()
    else:
        place = Path("/dev/null")  # save must not come to write there: see the mock below
        monkeypatch.setattr(os, "replace", None)
    target = place
    if link:
        target = tmp_path / "link"
        target.symlink_to(place)
    mode, before = place.stat().st_mode, sorted(tmp_path.iterdir())
    monkeypatch.setattr(xr.DataTree, "to_netcdf", None)  # it is refused before any work
    with pytest.raises(InputError, match=f"^expected path = a file in .*, got the {kind} "):
        save(make_tree(), target)
    assert (place.stat().st_mode, sorted(tmp_path.iterdir())) == (mode, before)


def test_a_loop_of_links(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(InputError, match="^expected path = a file in an existing, writable folder"):
        save(make_tree(), tmp_path / "loop")


def test_save_takes_a_data_tree_only(tmp_path):
    with pytest.raises(InputError, match="expected tree = an xarray.DataTree, got Dataset"):
        save(xr.Dataset(), tmp_path / "run.nc")


# Files that are not runs


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "no such file"), (b"", "signature"), (b"not netCDF at all", "signature")],
)
def test_load_says_what_it_wanted(tmp_path, content, reason):
    path = tmp_path / "run.nc"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=rf"expected path = a netCDF file.*got .*{reason}"):
        load(path)


def test_load_of_a_folder(tmp_path):
    with pytest.raises(InputError, match="a folder"):
        load(tmp_path)


@pytest.mark.parametrize("kept", [0.02, 0.3, 0.7, 0.99])
def test_load_of_a_file_that_was_cut_short(tmp_path, kept):
    path = save(make_tree(), tmp_path / "run.nc")
    content = path.read_bytes()
    path.write_bytes(content[: int(kept * len(content))])
    with pytest.raises(InputError, match="expected path = a netCDF file"):
        load(path)


# Provenance


def test_provenance_is_json_and_complete():
    record = provenance(
        NETWORK,
        temperature=np.float64(0.01),
        seed=np.int64(3),
        data={"name": "digits", "classes": (0, 1)},
        precisions=jnp.ones(2),
        folder=Path("a"),
        bias=None,
    )
    assert json.loads(json.dumps(record)) == record
    packages = {"python", "finwidth", "jax", "jaxlib", "numpyro", "arviz", "numpy", "scipy"}
    assert packages | {"xarray"} == set(record["versions"])
    digest = {"activation_digest": NETWORK.activation.digest}
    assert record["network"] == network_json() | digest
    assert record["data"] == {"name": "digits", "classes": [0, 1]}
    assert record["device"]["platform"] == "cpu"
    assert record["created"].endswith("+00:00")
    assert isinstance(record["plugins"], list)


def test_provenance_refuses_what_json_lacks():
    with pytest.raises(InputError, match="expected sampler = something JSON can hold, got"):
        provenance(NETWORK, sampler=object())


def test_provenance_is_read_back_after_a_round_trip(tmp_path):
    tree = make_tree()
    tree.attrs["provenance"] = json.dumps(provenance(NETWORK, temperature=0.01))
    record = read_provenance(load(save(tree, tmp_path / "run.nc")))
    digest = {"activation_digest": NETWORK.activation.digest}
    assert record["network"] == network_json() | digest
    assert record["temperature"] == 0.01


@pytest.mark.parametrize("text", [None, "{", "[1]", 3])
def test_read_provenance_needs_a_json_object(text):
    tree = make_tree()
    if text is None:
        del tree.attrs["provenance"]
    else:
        tree.attrs["provenance"] = text
    with pytest.raises(InputError, match=r"expected tree.attrs\['provenance'\] = a JSON object"):
        read_provenance(tree)


# attach


def test_attach_puts_the_prediction_under_the_name_of_the_theory():
    tree, theory = make_tree(), FakeTheory()
    attached = attach(tree, theory)
    group = attached["theory/nested"]
    x_test = tree["predictions_constant_data/X_test"].values
    np.testing.assert_array_equal(group["f_mean"], x_test.sum(axis=1))
    assert group["f_mean"].dims == group["f_variance"].dims == ("test_pattern",)
    assert group["q_bar"].dims == group["q"].dims == ("layer",)
    assert float(group["action"]) == theory.action
    assert float(group["error"]) == pytest.approx(float(group["bias2"] + group["variance"]))
    assert attached is tree


def test_attach_keeps_one_group_for_each_theory_and_replaces_it():
    tree = attach(attach(make_tree(), FakeTheory()), FakeTheory(theory="infinite"))
    assert set(tree["theory"].children) == {"nested", "infinite"}
    assert float(tree["theory/nested/action"]) == 3.5
    attach(tree, FakeTheory(action=9.0))
    assert float(tree["theory/nested/action"]) == 9.0


def test_attach_without_labels_gives_no_error():
    group = attach(make_tree(y_test=False), FakeTheory())["theory/nested"]
    assert not {"error", "bias2", "variance"} & set(group.data_vars)


def test_attach_needs_test_points():
    tree = make_tree()
    del tree["predictions_constant_data"]
    with pytest.raises(InputError, match="expected tree with X_test"):
        attach(tree, FakeTheory())


@pytest.mark.parametrize(
    ("theory", "message"),
    [
        (FakeTheory(temperature=0.1), r"same temperature, got 0.1 in the theory and 0.01 in the"),
        (FakeTheory(network=NETWORK.replace(widths=(8,))), r"got widths = \[8\] in the theory"),
        (FakeTheory(network=NETWORK.replace(bias_precision=1.0)), "got bias_precision"),
        (FakeTheory(network=NETWORK.replace(weight_precision=1.0)), "got weight_precision"),
    ],
)
def test_attach_refuses_a_theory_of_another_run(theory, message):
    with pytest.raises(InputError, match=message):
        attach(make_tree(), theory)
