"""The layout of docs/explanation/architecture.md: who may import whom, and how long files are."""

import ast
import subprocess
import sys
import tomllib
from pathlib import Path

import grimp
import pytest
from importlinter.cli import lint_imports

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "finwidth"
LONGEST = 350  # lines; a longer file says in its docstring why "More than 350 lines"


def contracts() -> dict[str, dict]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    return {one["name"]: one for one in project["tool"]["importlinter"]["contracts"]}


def layers(contract: str) -> list[str]:
    """Return the names on all layers of a contract."""
    lines = contracts()[contract]["layers"]
    return [name.strip(" ()") for line in lines for name in line.split("|")]


@pytest.mark.parametrize("name", contracts())
def test_contracts_on_imports_hold(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Of all imports, those inside functions and under TYPE_CHECKING included."""
    status = lint_imports(
        config_filename=str(ROOT / "pyproject.toml"),
        limit_to_contracts=(contracts()[name]["id"],),
        no_cache=True,
        no_logo=True,
    )
    assert status == 0, capsys.readouterr().out


def modules(folder: Path) -> set[str]:
    found = {path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir()}
    return {name for name in found if not name.startswith("__")}


def test_every_folder_is_on_a_layer_and_in_the_explanation() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text("utf-8")
    assert set(layers("Imports run downward")) == modules(SOURCE)
    for name in layers("Imports run downward"):
        assert f"`{name}" in page, f"{name} is not described"


def test_a_theory_on_no_layer_is_imported_by_nobody() -> None:
    """So that a theory which none builds upon is one new file, and stands above all others."""
    listed, found = set(layers("Inside theories")), modules(SOURCE / "theories")
    assert listed <= found
    graph = grimp.build_graph("finwidth", cache_dir=None)
    for name in found - listed:
        assert not name.startswith("_"), f"theories/{name} is no theory, and on no layer"
        own = f"finwidth.theories.{name}"
        inside = {own, *graph.find_descendants(own)}
        users = {user for one in inside for user in graph.find_modules_that_directly_import(one)}
        assert not users - inside, f"theories/{name} is imported, and on no layer"


def test_the_lowest_layer_needs_no_jax() -> None:
    modules = [path.stem for path in (SOURCE / "_basics").glob("[a-z]*.py")]
    imports = "".join(f"import finwidth._basics.{name}\n" for name in modules)
    code = f"import sys\n{imports}assert 'jax' not in sys.modules"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_long_files_say_why() -> None:
    for path in SOURCE.rglob("*.py"):
        text = path.read_text("utf-8")
        if len(text.splitlines()) > LONGEST:
            words = " ".join(str(ast.get_docstring(ast.parse(text))).split())
            assert f"More than {LONGEST} lines" in words, f"{path.name} is too long"
