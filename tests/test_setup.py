"""`make` on a machine that lacks something: one line says what to install, nothing is left."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
NEEDED = [
    "Makefile",
    "pyproject.toml",
    "requirements.lock",
    ".python-version",
    ".ci/environment.sh",
    *(path.relative_to(ROOT).as_posix() for path in ROOT.glob("plugins/*/pyproject.toml")),
]


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Return a folder with a copy of what set-up reads, and `bin` with sh and make alone."""
    for name in NEEDED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    for tool in ("sh", "make"):
        found = shutil.which(tool)
        if found is None:
            pytest.skip(f"no {tool} on this machine")
        (tmp_path / "bin" / tool).symlink_to(found)
    return tmp_path


def add_python(machine: Path, script: str) -> None:
    python = machine / "bin" / "python3"
    python.write_text(f"#!{machine}/bin/sh\n{script}\n", encoding="utf-8")
    python.chmod(0o755)


def make_test(machine: Path) -> list[str]:
    before = sorted(machine.rglob("*"))
    done = subprocess.run(
        ["make", "test"],
        cwd=machine,
        env={"PATH": str(machine / "bin"), "HOME": str(machine)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert sorted(machine.rglob("*")) == before
    return (done.stdout + done.stderr).splitlines()


def test_without_python_one_line_says_what_to_install(machine: Path) -> None:
    (line,) = make_test(machine)
    assert "expected Python 3.12 or newer on the PATH, got no python3: install Python 3.12" in line


def test_with_an_old_python_one_line_names_it(machine: Path) -> None:
    add_python(machine, 'if [ "$1" = --version ]; then echo Python 3.9.2; fi')
    (line,) = make_test(machine)
    assert "expected Python 3.12 or newer on the PATH, got Python 3.9.2: install" in line


def test_without_pip_venv_and_uv_one_line_says_what_to_install(machine: Path) -> None:
    # It says that it is new enough, and can import nothing.
    add_python(machine, 'case "$2" in "import sys"*) echo "$0" ;; "") ;; *) exit 1 ;; esac')
    (line,) = make_test(machine)
    assert "expected pip, venv or uv beside" in line and "install pip" in line
