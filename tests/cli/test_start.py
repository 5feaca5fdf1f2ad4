"""Start-up: help without the heavy imports, and errors without tracebacks."""

import os
import pathlib
import re
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


def test_warnings_take_one_line_and_come_once():
    program = (
        "import sys, warnings, finwidth._cli as cli\n"
        "def work(*_):\n"
        "    for line in (1, 2):\n"
        "        warnings.warn_explicit('first\\nsecond', UserWarning, 'users.py', line)\n"
        "    sys.exit(0)\n"
        "cli.solve.solve_theory = work\n"
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


FULL = pathlib.Path("/dev/full")  # a device on which there is never any space left
needs_full = pytest.mark.skipif(not FULL.exists(), reason=f"this system has no {FULL}")


@needs_full
@pytest.mark.parametrize("arguments", [["--help"], ["--version"]])
def test_stdout_on_a_full_disk_is_told_in_one_line(arguments):
    with FULL.open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "finwidth", *arguments], stdout=full, stderr=subprocess.PIPE
        )
    assert done.returncode == 1
    assert re.fullmatch(
        rb"finwidth: error: expected stdout = [^\n]*No space left[^\n]*\n", done.stderr
    )


@needs_full
def test_the_exit_code_survives_a_full_disk_under_stderr():
    with FULL.open("w") as full:
        command = [sys.executable, "-m", "finwidth", "solve", "--widht", "0"]
        assert subprocess.run(command, stderr=full).returncode == 2


def test_a_reader_that_stops_is_no_error():
    """As with ``finwidth --help | head -n 1``; no traceback."""
    read, write = os.pipe()
    os.close(read)
    command = [sys.executable, "-m", "finwidth", "--help"]
    done = subprocess.run(command, stdout=write, stderr=subprocess.PIPE)
    os.close(write)
    assert (done.returncode, done.stderr) == (1, b"")
