"""Start-up: help without the heavy imports, and errors without tracebacks."""

import subprocess
import sys

import pytest

import finwidth

HEAVY = ("numpy", "jax", "numpyro", "arviz", "matplotlib", "xarray", "sklearn", "scipy")


@pytest.mark.parametrize("arguments", [["--help"], ["demo", "--help"], ["--version"]])
def test_help_imports_nothing_heavy(arguments):
    program = (
        "import sys\n"
        "from finwidth._cli import app\n"
        f"app({arguments!r}, prog_name='finwidth', standalone_mode=False)\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    assert done.stdout


def test_entry_point_reports_an_error_in_one_line():
    program = (
        "import sys; from finwidth._cli import main; "
        "sys.argv = ['finwidth', 'solve', '--width', '0']; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith("finwidth: error: expected widths = ")
    assert done.stderr.count("\n") == 1


def test_warnings_take_one_line():
    program = (
        "import sys, warnings, finwidth._cli as cli\n"
        "cli.solve.solve_theory = lambda *_: warnings.warn('first\\nsecond') or sys.exit(0)\n"
        "sys.argv = ['finwidth', 'solve']; cli.main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == "finwidth: warning: first second\n"


def test_version(run):
    assert run("--version").stdout.strip() == finwidth.__version__


def test_the_package_runs_as_the_command():
    command = [sys.executable, "-m", "finwidth", "--version"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == finwidth.__version__


def test_no_command_prints_the_help(run):
    result = run()
    assert result.exit_code == 0
    for command in ("demo", "solve", "sample", "compare", "plugins", "info"):
        assert command in result.stdout
