"""The command line run in this process, in an empty folder."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from finwidth._cli import app

#: A problem that takes a moment to solve and seconds to sample.
SMALL = ("--train", "12", "--test", "4")
QUICK = ("--warmup", "50", "--draws", "50", "--chains", "2")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The empty working directory of a command."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(folder: Path) -> Callable[..., Any]:
    """Return a function that runs ``finwidth`` with some arguments."""

    def call(*arguments: str) -> Any:
        result = CliRunner().invoke(app, list(arguments), prog_name="finwidth")
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return result

    return call


@pytest.fixture
def run_json(run: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function that runs ``finwidth … --json`` and reads its stdout, NaN refused."""

    def call(*arguments: str) -> Any:
        result = run(*arguments, "--json")
        assert result.exit_code == 0, result.stderr

        def refuse(text: str) -> None:
            raise AssertionError(f"{text} is not JSON")

        return json.loads(result.stdout, parse_constant=refuse)

    return call
