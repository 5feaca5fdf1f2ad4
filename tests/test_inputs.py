"""Arrays that users hand in: taken with every number as it was, or refused in one line."""

from collections import deque
from collections.abc import Sequence
from decimal import Decimal
from fractions import Fraction

import dask.array
import jax
import jax.numpy as jnp
import ml_dtypes
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import xarray as xr

import finwidth as fw
from finwidth._basics.arrays import check_inputs, check_labels
from finwidth._basics.checks import check_choice, check_count, check_number
from finwidth._basics.errors import InputError
from finwidth._problem.label_kinds import check_label_kind

VALUES = np.array([[1.0, -2.0], [0.5, 4.0], [3.0, 0.0]])
WHOLE = np.array([[1, -2], [0, 4], [3, 0]])
BEYOND = 2**53 + 1  # the first integer that float64 does not hold


class Tensor:
    """An array of another library, as NumPy sees one."""

    def __init__(self, content):
        self.content = content

    def __array__(self, dtype=None, copy=None):
        if isinstance(self.content, Exception):
            raise self.content
        return self.content


class Unreadable(Sequence):
    """A sequence whose entries cannot be had."""

    def __len__(self):
        return 3

    def __getitem__(self, index):
        raise RuntimeError("no\nentry")


def objects(rows):
    return np.array(rows, dtype=object)


def masked(rows, mask):
    return np.ma.masked_array(rows, mask)


ACCEPTED = {
    "list": VALUES.tolist(),
    "tuple of arrays": tuple(VALUES),
    "deque": deque(VALUES.tolist()),
    "list of JAX arrays": [jnp.asarray(row) for row in VALUES],
    "list of series": [pd.Series(row) for row in VALUES],
    "JAX": jnp.asarray(VALUES),
    "bfloat16": jnp.asarray(VALUES, jnp.bfloat16),
    "float8": VALUES.astype(ml_dtypes.float8_e4m3fn),
    "float16": VALUES.astype(np.float16),
    "other byte order": VALUES.astype(">f4"),
    "long double": VALUES.astype(np.longdouble),
    "objects": objects([[1, -2.0], [Fraction(1, 2), Decimal(4)], [np.float32(3), False]]),
    "objects of JAX": objects([[1, -2], [0.5, 4], [3, 0]]) * 1,
    "frame": pd.DataFrame(VALUES),
    "frame of numbers as objects": pd.DataFrame(VALUES).astype(object),
    "nullable floats": pd.DataFrame(VALUES).astype("Float64"),
    "xarray": xr.DataArray(VALUES, dims=("pattern", "input")),
    "dask": dask.array.from_array(VALUES),
    "xarray of dask": xr.DataArray(dask.array.from_array(VALUES)),
    "matrix": np.matrix(VALUES),
    "another library's": Tensor(VALUES),
    "a mask that hides nothing": masked(VALUES, np.zeros((3, 2), bool)),
    "no mask": np.ma.array(VALUES),
    "buffer": memoryview(VALUES),
    "sparse columns": pd.DataFrame(VALUES).astype(pd.SparseDtype(float)),
    "list of arrays of no dimensions": [[np.array(entry) for entry in row] for row in VALUES],
}


@pytest.mark.parametrize("kind", ACCEPTED)
def test_every_number_is_taken_as_it_was(kind):
    result = check_inputs(ACCEPTED[kind])
    assert type(result) is np.ndarray and result.dtype == np.float64
    np.testing.assert_array_equal(result, VALUES)


@pytest.mark.parametrize("dtype", ["Int64", "UInt8", "int8", "boolean", "bool", "category"])
def test_whole_numbers_of_pandas(dtype):
    whole = WHOLE if dtype in ("Int64", "int8") else abs(WHOLE) % 2
    np.testing.assert_array_equal(check_inputs(pd.DataFrame(whole).astype(dtype)), whole)
    column = pd.Series(whole[:, 0]).astype(dtype)
    np.testing.assert_array_equal(check_labels(column, 3), whole[:, 0])


def test_integers_that_float64_holds_are_kept_whatever_their_size():
    large = [[2**53, -(2**62)], [2**80, 1]]
    np.testing.assert_array_equal(check_inputs(large), np.array(large, dtype=float))
    np.testing.assert_array_equal(check_inputs([[2**63, -1]]), [[2.0**63, -1.0]])


def test_the_array_is_a_copy():
    X = VALUES.copy()
    result = check_inputs(X)
    X[0, 0] = 9.0
    assert result[0, 0] == VALUES[0, 0]


INEXACT = {
    "int64": np.array([[BEYOND]]),
    "negative": np.array([[-BEYOND]]),
    "uint64": np.array([[2**64 - 1]], dtype=np.uint64),
    "beside a float": [[BEYOND, 0.5]],
    "arrays of two types": [np.array([BEYOND]), np.array([0.5])],
    "beyond int64": [[2**80 + 1]],
    "beyond float64": [[10**400]],
    "nullable": pd.DataFrame({"a": [BEYOND]}, dtype="Int64"),
    "a frame of two types": pd.DataFrame({"a": [BEYOND], "b": [0.5]}),
    "long double": np.array([[1]], np.longdouble) + np.finfo(np.longdouble).eps,
    "long double beyond float64": np.array([[np.finfo(np.longdouble).max]]),
    "a long double among objects": objects([[np.longdouble(1) + np.finfo(np.longdouble).eps]]),
    "decimal": objects([[Decimal("0.1")]]),
    "fraction": objects([[Fraction(1, 3)]]),
}


@pytest.mark.parametrize("kind", INEXACT)
def test_numbers_that_float64_would_round_are_refused(kind):
    if "long double" in kind and np.finfo(np.longdouble).nmant == np.finfo(float).nmant:
        pytest.skip("long double is float64 on this system")
    with pytest.raises(InputError, match="expected X = numbers that float64 holds exactly, got"):
        check_inputs(INEXACT[kind])


ROW = masked([1.0, 999.0], [False, True])
HIDDEN = {
    "array": masked(VALUES, VALUES > 2),
    "integers": masked(WHOLE, WHOLE > 2),
    "list of rows": [ROW, ROW],
    "deep": [[[ROW]]],
    "deque": deque([ROW]),
    "constant": [[1.0, np.ma.masked]],
    "object array": objects([[1.0, np.ma.masked]]),
    "masked objects": masked(objects([[1, 2]]), [[True, False]]),
    "dask": dask.array.from_array(masked(VALUES, VALUES > 2), asarray=False),
    "another library's": Tensor(masked(VALUES, VALUES > 2)),
    "a list of another library's": [Tensor(ROW)],
    "series in a list": [pd.Series([1.0, np.ma.masked], dtype=object)],
}


@pytest.mark.parametrize("kind", HIDDEN)
def test_masked_entries_are_missing_wherever_they_are(kind):
    with pytest.raises(InputError, match="expected X = no masked entries, got"):
        check_inputs(HIDDEN[kind])


MISSING = {
    "xarray of masked": xr.DataArray(masked(VALUES, VALUES > 2)),
    "xarray of dask": xr.DataArray(
        dask.array.from_array(masked(VALUES, VALUES > 2), asarray=False)
    ),
    "frame of masked": pd.DataFrame(masked(VALUES, VALUES > 2)),
    "nullable integers": pd.DataFrame({"a": [1, None]}, dtype="Int64"),
    "nullable floats": pd.DataFrame({"a": [0.5, None]}, dtype="Float64"),
    "nullable booleans": pd.DataFrame({"a": [True, None]}, dtype="boolean"),
    "mixed": pd.DataFrame({"a": pd.array([1, None], dtype="Int64"), "b": [0.5, 1.0]}),
    "None": [[1.0, None]],
    "NA": objects([[pd.NA]]),
    "bfloat16 NaN": jnp.asarray([[jnp.nan]], jnp.bfloat16),
    "Decimal NaN": objects([[Decimal("nan")]]),
}


@pytest.mark.parametrize("kind", MISSING)
def test_missing_entries_are_refused(kind):
    with pytest.raises(InputError, match="^expected X = (finite|a real)") as raised:
        check_inputs(MISSING[kind])
    assert "\n" not in str(raised.value)


REFUSED = {
    "strings": [["1", "2"]],
    "a string among numbers": [[1.0, "2"]],
    "strings among objects": objects([[1.0, "5_0"]]),
    "bytes": np.array([[b"1"]]),
    "complex": VALUES + 0j,
    "a complex number among objects": objects([[1j]]),
    "times": np.array([["2020-01-01"]], "M8[D]"),
    "durations": np.array([[1]], "m8[s]"),
    "a duration among objects": objects([[np.timedelta64(1, "s")]]),
    "timestamps": pd.DataFrame({"a": pd.to_datetime(["2020-01-01"])}),
    "records": np.zeros((2, 1), [("a", float)]),
    "raw bytes": np.zeros((2, 1), "V8"),
    "ragged": [[1.0], [1.0, 2.0]],
    "ragged objects": objects([None, None]),
    "text of pandas": pd.DataFrame(VALUES).astype("string"),
    "a column of text": pd.DataFrame({"a": VALUES[:, 0], "b": ["1"] * 3}),
    "series of lists": pd.Series(VALUES.tolist()),
    "intervals": pd.DataFrame({"a": pd.interval_range(0, 3)}),
    "words": pd.DataFrame({"a": pd.Categorical(["a", "b", "a"])}),
    "sequence that cannot be read": Unreadable(),
    "sparse matrix": scipy.sparse.csr_matrix(VALUES),
    "sparse array": scipy.sparse.coo_array(VALUES),
    "0-d": np.array(1.0),
    "number": 3,
    "None": None,
    "set": {1.0},
    "dict": {"a": [1.0]},
    "generator": (row for row in VALUES),
    "data set of xarray": xr.Dataset({"a": ("x", [1.0])}),
    "keys": jax.random.split(jax.random.key(0), 3),
    "failing": Tensor(RuntimeError("call detach first\nand then numpy")),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_all_else_is_refused_in_one_line(kind):
    with pytest.raises(InputError, match=r"^expected X_test = .*, got ") as raised:
        check_inputs(REFUSED[kind], "X_test")
    assert "\n" not in str(raised.value)


def test_a_sequence_that_holds_itself():
    loop = []
    loop.append(loop)
    with pytest.raises(InputError, match="expected X = "):
        check_inputs(loop)


def test_a_sparse_matrix_is_told_the_way_out():
    with pytest.raises(InputError, match=r"csr_matrix \(its toarray\(\) gives"):
        check_inputs(scipy.sparse.csr_matrix(VALUES))


@pytest.mark.parametrize(
    "call",
    [
        lambda network, X: fw.solve(network, X, np.ones(3), temperature=0.1).action,
        lambda network, X: fw.solve(network, VALUES, X[:, 0], temperature=0.1).action,
        lambda network, X: check_number("temperature", X[0, 0], 0.0),
        lambda network, X: check_count("seed", X[0, 0]),
        lambda network, X: fw.solve(network, list(X), np.ones(3), temperature=0.1).action,
        lambda network, X: fw.nngp_kernel(network, [list(row) for row in X])[0, 0],
    ],
)
def test_tracers_have_no_values(call):
    network = fw.Network((4,), "erf")
    for transform in (jax.jit, jax.grad):
        with pytest.raises(
            InputError, match="got a JAX tracer: call finwidth outside of"
        ) as raised:
            transform(lambda X: call(network, X))(jnp.asarray(VALUES))
        assert "\n" not in str(raised.value)


ODD = [
    np.ma.masked,
    np.timedelta64(3, "s"),
    np.eye(3),
    10**400,
    pd.NA,
    None,
    "3",
    [],
    1j,
]


@pytest.mark.parametrize("value", ODD, ids=repr)
def test_numbers_and_names_are_refused_in_one_line(value):
    for check in (
        lambda: check_number("temperature", value, 0.0),
        lambda: check_count("seed", value),
        lambda: check_choice("sampler", value, ["hmc", "nuts"]),
    ):
        with pytest.raises(InputError, match="^expected ") as raised:
            check()
        assert "\n" not in str(raised.value) and len(str(raised.value)) < 200


NET, SOFT = fw.Network((4,), "erf"), fw.Network((4,), "erf", outputs=3)
IMAGES = np.random.default_rng(0).normal(size=(12, 8, 8, 3))
X12 = IMAGES[:, :, 0, 0]
CLASSES = np.arange(12) % 3


def _solve(net, X, y, **options):
    return fw.solve(net, X, y, **({"temperature": 0.1, "theory": "infinite"} | options))


SAID = {
    "words": (NET, X12, np.array(["cat", "dog"] * 6), {}, r"np.where\(y == 'cat', 1, -1\) makes"),
    "images": (NET, IMAGES, np.ones(12), {}, r"X.reshape\(len\(X\), -1\) makes flat patterns"),
    "a column": (NET, X12, np.ones((12, 1)), {}, r"got shape \(12, 1\): y\[:, 0\]"),
    "one-hot rows": (SOFT, X12, np.eye(3)[CLASSES], {"likelihood": "softmax"}, r"y.argmax\(1\)"),
    "class numbers": (SOFT, X12, CLASSES, {}, r"np.eye\(3\)\[y\] of the numbers of classes"),
    "booleans": (NET, X12, np.arange(12) > 5, {}, r"got booleans: np.where\(y, 1, -1\)"),
    "temperatures": (NET, X12, np.ones(12), {"temperature": [0.1]}, "solve_many takes several"),
    "another name": (NET, X12, np.ones(12), {"theory": "NNGP"}, "it is called 'infinite'"),
    "no plugin": (NET, X12, np.ones(12), {"theory": "qqq"}, "is its plugin installed"),
    "channels": (
        fw.Network(layers=(fw.Convolution(4, 5),), activation="erf"),
        IMAGES,
        np.ones(12),
        {},
        r"channels come second, X.transpose\(0, 3, 1, 2\)",
    ),
}


@pytest.mark.parametrize("kind", SAID)
def test_a_usual_mistake_is_told_what_to_write(kind, unchecked_types):
    net, X, y, options, message = SAID[kind]
    with pytest.raises(InputError, match=message) as raised:
        _solve(net, X, y, **options)
    assert "\n" not in str(raised.value)


def test_a_width_alone_and_a_temperature_of_zero(unchecked_types):
    with pytest.raises(InputError, match=r"got 10: widths=\(10,\)"):
        fw.Network(10)  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="the smallest T that changes nothing more"):
        fw.sample(NET, X12, np.ones(12), temperature=0.0)


def test_channels_last_and_class_numbers_are_warned_of():
    """And are not where they are meant: as floats, as −1 and +1, with channels in their place."""
    net = fw.Network(layers=(fw.Convolution(4, 3),), activation="erf")
    with pytest.warns(fw.AccuracyWarning, match=r"transpose\(0, 3, 1, 2\)"):
        net.layers[0].check_inputs(IMAGES)
    net.layers[0].check_inputs(IMAGES.transpose(0, 3, 1, 2))
    for y in (CLASSES, CLASSES % 2):
        with pytest.warns(fw.AccuracyWarning, match="got their numbers 0 … "):
            check_label_kind(y, regression=True)
        check_label_kind(y.astype(float), regression=True)
        check_label_kind(y, regression=False)
        check_label_kind(np.eye(3, dtype=int)[y], regression=True)
    check_label_kind(2 * (CLASSES % 2) - 1, regression=True)
    check_label_kind(np.zeros(12, int), regression=True)
