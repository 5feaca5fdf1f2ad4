"""The description of a network is checked when it is made."""

import dataclasses

import pytest

import finwidth as fw


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"widths": ()}, "expected widths = .* got an empty"),
        ({"widths": (0,)}, "expected widths = .* got 0"),
        ({"widths": (-3,)}, "expected widths = .* got -3"),
        ({"widths": (5.0,)}, "expected widths = .* got 5.0"),
        ({"widths": 5}, "expected widths = .* got 5"),
        ({"widths": (5,), "weight_precision": 0.0}, "expected weight_precision = .* got 0.0"),
        (
            {"widths": (5,), "weight_precision": (1.0,)},
            "expected weight_precision = .* got 1 value",
        ),
        ({"widths": (5,), "bias_precision": -1.0}, "expected bias_precision = .* got -1.0"),
        ({"widths": (5,), "bias_precision": (1.0, 2.0, 3.0)}, "expected bias_precision"),
        ({"widths": (5,), "activation": "erff"}, r"expected activation = .* mean 'erf'"),
    ],
)
def test_bad_fields_are_refused(arguments, message, unchecked_types):
    with pytest.raises(fw.InputError, match=message):
        fw.Network(**arguments)


def test_network_is_frozen_hashable_and_replaceable():
    net = fw.Network((5, 6), "erf", 2.0)
    assert net == fw.Network([5, 6], "erf", (2.0, 2.0, 2.0))
    assert hash(net) == hash(fw.Network((5, 6), "erf", 2.0))
    assert net.depth == 2
    assert net.replace(widths=(7,)).weight_precision == (2.0, 2.0)
    with pytest.raises(dataclasses.FrozenInstanceError):
        net.widths = (3,)
    with pytest.raises(fw.InputError, match="expected a field out of"):
        net.replace(width=3)


@pytest.mark.usefixtures("unchecked_types")
@pytest.mark.parametrize("value", [{3, 4}, {3: 1, 4: 1}, iter([3, 4]), "34"])
def test_what_has_no_order_gives_no_layers(value):
    with pytest.raises(fw.InputError, match="expected widths = "):
        fw.Network(value)
    with pytest.raises(fw.InputError, match="expected weight_precision = "):
        fw.Network((3,), "identity", weight_precision=value)
