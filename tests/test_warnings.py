"""Warnings point at the user's line and come once a call.

In a process of its own: the run-time checks of types in these tests put frames in between.
"""

import subprocess
import sys

import pytest

SCRIPT = """
import warnings
import numpy as np
import finwidth as fw

X = np.random.default_rng(0).normal(size=(6, 3))
y = np.sign(X[:, 0])
tanh, erf = fw.Network((5,), "tanh"), fw.Network((5,), "erf")
with warnings.catch_warnings(record=True) as told:
    warnings.simplefilter("always")
    {calls}
lines = open(__file__).read().splitlines()
for warning in told:
    place = lines[warning.lineno - 1].strip() if warning.filename == __file__ else warning.filename
    print(warning.category.__name__, place, sep="|")
"""

QUICK = [
    "fw.nngp_kernel(tanh, 100 * X)",
    "fw.solve(erf, np.concatenate([X, X]), np.concatenate([y, y]), temperature=1e-9)",
    "fw.solve(erf, X, 100 * y, temperature=0.1)",
]
LONG = [
    "solution = fw.solve(tanh.replace(widths=(5, 5)), 100 * X, y, temperature=0.1)",
    "solution.predict(1000 * X)",
    'fw.solve(tanh, 100 * X, y, temperature=0.1, theory="corrected").log_evidence',
    "fw.mixture(tanh.replace(widths=(5, 5)), 100 * X, y, temperature=0.1)",
    "fw.sample(erf, X, y, temperature=0.1, X_test=X, y_test=y, num_samples=50, target_ess=1e9)",
]


@pytest.mark.parametrize("calls", [QUICK, pytest.param(LONG, marks=pytest.mark.slow)])
def test_they_point_at_the_callers_line_once(calls: list[str], tmp_path) -> None:
    path = tmp_path / "users.py"
    path.write_text(SCRIPT.format(calls="\n    ".join(calls)))
    run = subprocess.run([sys.executable, str(path)], capture_output=True, text=True, timeout=300)
    assert run.returncode == 0, run.stderr
    told = [line.split("|") for line in run.stdout.splitlines()]
    assert told == [["AccuracyWarning", call] for call in calls]
