"""Tables as spreadsheets and pandas write them: read right, or refused with what to do."""

import numpy as np
import pandas as pd
import pytest

from finwidth._basics.errors import InputError
from finwidth.datasets import load_dataset

VALUES = np.array([[1.5, -2.25], [3.0, 4.0], [0.5, 1e-3]])
LABELS = np.array([0.0, 1.0, 0.0])
FRAME = pd.DataFrame({"a": VALUES[:, 0], "b": VALUES[:, 1], "t": LABELS})


def read(folder, content, target=None, classes=(0, 1)):
    """Return the inputs and labels of a table, as they were before they were standardised."""
    (folder / "t.csv").write_bytes(content if isinstance(content, bytes) else content.encode())
    data = load_dataset(
        "csv", path=folder / "t.csv", target=target, classes=classes, n_train=2, n_test=1
    )
    scale = data.attrs["standardisation"]
    X = np.concatenate([data.X_train, data.X_test]) * np.array(scale["std"]) + scale["mean"]
    return X, data.y_mean + data.y_scale * np.concatenate([data.y_train, data.y_test])


READ = {
    "commas": "a,b,t\n1.5,-2.25,0\n3,4,1\n.5,1e-3,0\n",
    "no names": "1.5,-2.25,0\n3,4,1\n.5,1E-3,0\n",
    "semicolons": FRAME.to_csv(sep=";", index=False),
    "tabs": FRAME.to_csv(sep="\t", index=False),
    "decimal commas": FRAME.to_csv(sep=";", decimal=",", index=False),
    "decimal commas beside tabs": FRAME.to_csv(sep="\t", decimal=",", index=False),
    "decimal commas in quotes": '"1,5","-2,25",0\n3,4,1\n"0,5","1e-3",0\n',
    "decimal commas without names": "1,5;-2,25;0\n3;4;1\n,5;1e-3;0\n",
    "three decimals": "1,5;-2,25;0\n3;4,000;1\n0,500;0,001;0\n",
    "quoted names": '"a","b","t"\n1.5,-2.25,0\n3,4,1\n.5,1e-3,0\n',
    "quoted names with separators": '"a;x";"b,y";"t"\n1,5;-2,25;0\n3;4;1\n0,5;0,001;0\n',
    "a semicolon in a name": "a;x,b,t\n1.5,-2.25,0\n3,4,1\n.5,1e-3,0\n",
    "blank lines": "\n\na,b,t\n\n1.5,-2.25,0\n   \n3,4,1\n,,\n.5,1e-3,0\n\n",
    "trailing separators": "a,b,t,\n1.5,-2.25,0,\n3,4,1,\n.5,1e-3,0,\n",
    "trailing separators below names": "a,b,t\n1.5,-2.25,0,\n3,4,1,\n.5,1e-3,0,\n",
    "declared separator": "sep=;\r\na;b;t\r\n1,5;-2,25;0\r\n3;4;1\r\n0,5;0,001;0\r\n",
    "declared bars": "sep=|\n1.5|-2.25|0\n3|4|1\n0.5|0.001|0\n",
    "spaces around": " a , b , t\n 1.5 , -2.25 , 0\n 3 , 4 , 1\n 0.5 , 0.001 , 0\n",
    "old line ends": "1.5,-2.25,0\r3,4,1\r0.5,0.001,0\r",
    "byte-order mark": "ä;b;t\n1,5;-2,25;0\n3;4;1\n0,5;0,001;0\n".encode("utf-8-sig"),
    "UTF-16": "ä\tb\tt\n1,5\t-2,25\t0\n3\t4\t1\n0,5\t0,001\t0\n".encode("utf-16"),
}


@pytest.mark.parametrize("kind", READ)
def test_every_way_of_writing_a_table_gives_its_numbers(tmp_path, kind):
    X, y = read(tmp_path, READ[kind])
    np.testing.assert_allclose(X, VALUES, atol=1e-14)
    np.testing.assert_array_equal(y, 2 * LABELS - 1)


def test_labels_may_have_decimal_commas_or_be_words_with_separators(tmp_path):
    _, y = read(tmp_path, "1;2;0,5\n3;4;-1,25\n5;6;2\n", classes=None)
    np.testing.assert_array_equal(y, [0.5, -1.25, 2.0])
    _, y = read(tmp_path, '1;2;"a,b"\n3;4;"c;d"\n5;6;"a,b"\n', classes=("a,b", "c;d"))
    np.testing.assert_array_equal(y, [-1.0, 1.0, -1.0])


REFUSED = {
    "index": (FRAME.to_csv(), "column 1 without a name.*index=False"),
    "index read and written again": ("Unnamed: 0,a,t\n0,1,0\n1,3,1\n", "column 1 without a name"),
    "an unnamed column": ("a,,t\n0,1,0\n1,3,1\n", "column 2 without a name"),
    "index of R": ("a,b,t\n0,1,2,0\n1,3,4,1\n", "3 columns in row 2 .*got 4"),
    "numbered columns": (
        pd.DataFrame(VALUES.repeat(2, axis=1)).to_csv(index=False),
        r"first row of the table.*header=False",
    ),
    "names twice": ("a,a,t\n1,2,0\n3,4,1\n", "'a'.* twice"),
    "German thousands": ("a;b;t\n1.234,5;2;0\n3;4;1\n", "'1.234,5'.*thousands"),
    "English thousands": ('a,b,t\n"1,234.5",2,0\n3,4,1\n', "'1,234.5'.*thousands"),
    "millions": ("a;b;t\n1,234,567;2;0\n3;4;1\n", "'1,234,567'.*thousands"),
    "thousands or decimals": ("1,234;2;0\n3,456;4;1\n", "'1,234', which may"),
    "points that may be either": ("1.234;2;0\n3.456;4;1\n", "'1.234', which may"),
    "two decimal signs": ("1.5;2,5;0\n3;4;1\n", "one decimal sign"),
    "spaces": ("a,b,t\n1 000,2,0\n3,4,1\n", "'1 000'.*thousands"),
    "hard spaces": ("a,b,t\n1\u00a0000,2,0\n3,4,1\n", "thousands"),
    "apostrophes": ("a,b,t\n1'000,2,0\n3,4,1\n", "thousands"),
    "underscores": ("a,b,t\n5_0,2,0\n3,4,1\n", "'5_0'"),
    "underscores in the first row": ("5_0,2,0\n3,4,1\n", "first row of the table, got '5_0'"),
    "one input with underscores": ("5_0,0\n3,1\n", "first row of the table, got '5_0'"),
    "spaces in the first row": ("1 000,2 000,0\n3,4,1\n", "first row of the table, got '1 000'"),
    "a missing first entry": ("NA,2,0\n3,4,1\n", "first row of the table, got 'NA'"),
    "a missing entry": ("a,b,t\n1,,0\n3,4,1\n", "row 2 of the table, got ''.*missing"),
    "a missing label": ("a,b,t\n1,2,\n3,4,1\n", "a label in row 2"),
    "other digits": ("a,b,t\n\u0661,2,0\n3,4,1\n", "a number in row 2"),
    "percentages": ("a,b,t\n5%,2,0\n3,4,1\n", "'5%'"),
    "dates": ("2020-01-01,0\n2021-01-01,1\n", "got '2020-01-01'"),
    "beyond float64": ("1e999,2,0\n3,4,1\n5,6,0\n", "finite values only, got inf"),
    "bars": ("1|2|0\n3|4|1\n", "separated by ',', ';' or a tab"),
    "an open quote": ('"1,2,0\n3,4,1\n', "expected path = a .csv file"),
    "Latin-1": ("ä;b;t\n1;2;0\n3;4;1\n".encode("latin-1"), "UTF-8"),
    "separators alone": (";;;\n;;;\n", "at least two columns"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_may_mean_two_things_is_refused_in_one_line(tmp_path, kind):
    content, message = REFUSED[kind]
    with pytest.raises(InputError, match=message) as raised:
        read(tmp_path, content)
    assert "\n" not in str(raised.value)


def test_rows_are_counted_as_in_the_file(tmp_path):
    with pytest.raises(InputError, match="row 5 of the table, got 'x' in column 'b'"):
        read(tmp_path, "a,b,t\n\n1,2,0\n\n3,x,1\n")


def test_a_target_says_that_the_first_row_is_names(tmp_path):
    X, _ = read(tmp_path, "2020,b,t\n1.5,-2.25,0\n3,4,1\n.5,1e-3,0\n", target="t")
    np.testing.assert_allclose(X, VALUES, atol=1e-14)


def test_a_regression_is_told_of_labels_as_numbers(tmp_path):
    with pytest.raises(InputError, match="classes=None, --classes none"):
        read(tmp_path, "1,2,0.25\n3,4,-1.5\n5,6,0.75\n")


def test_a_folder_is_no_table(tmp_path):
    with pytest.raises(InputError, match="which is a folder"):
        load_dataset("csv", path=tmp_path)
