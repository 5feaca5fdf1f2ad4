"""Numbers that a change of structure must keep (recipe: tests/recorded.py)."""

import json

import pytest
import recorded

RECORD = json.loads(recorded.FILE.read_text())
CASES = [
    pytest.param(name, compute, id=name, marks=[pytest.mark.slow] if slow else [])
    for name, compute, slow in recorded.recipes()
]


@pytest.mark.parametrize(("name", "compute"), CASES)
@pytest.mark.filterwarnings("ignore::finwidth.AccuracyWarning")
def test_numbers_are_those_recorded(name, compute):
    expected = RECORD["numbers"][name]
    found = compute()
    assert set(found) == set(expected)
    tolerance = 1e-12
    if name.startswith("draws"):
        tolerance = 0.0 if recorded.machine() == RECORD["machine"] else 1e-6
    for key, value in found.items():
        assert abs(value - expected[key]) <= tolerance * abs(expected[key]), key
