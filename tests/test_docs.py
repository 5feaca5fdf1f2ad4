"""What the documentation shows, runs: code blocks, examples, command lines, links."""

import functools
import re
import runpy
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import jax
import pytest
import typer
from typer.testing import CliRunner

from finwidth._cli import app
from finwidth._cli._grid import Accuracy
from finwidth._cli._toml import read_table
from finwidth._cli.sweep import Points
from finwidth._plugins import registry as _plugins

ROOT = Path(__file__).parents[1]
PAGES = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
EXAMPLES = sorted(ROOT.glob("examples/*.py"))
LANGUAGES = {"python", "{code-cell} python", "{code-cell}"}


def blocks(page: Path) -> Iterator[tuple[str, int, str]]:
    """Yield (language, first line, text) of every fenced block of a page."""
    language, start, lines = None, 0, []
    for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1):
        fence = re.match(r"(```+)(.*)", line)
        if language is None and fence:
            language, start, lines = fence[2].strip(), number + 1, []
        elif language is not None and fence and not fence[2]:
            yield language, start, "\n".join(lines)
            language = None
        elif language is not None:
            lines.append(line)
    assert language is None, f"a code block of {page.name} is not closed"


def named(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


@pytest.fixture(autouse=True)
def own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    precision = jax.config.read("jax_enable_x64")
    # a folder beside `_static`, as a page's is
    (tmp_path / "page").mkdir()
    (tmp_path / "_static").symlink_to(ROOT / "docs" / "_static")
    monkeypatch.chdir(tmp_path / "page")
    yield
    _plugins.reset()  # pages register plugins
    jax.config.update("jax_enable_x64", precision)
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")


WITH_CODE = [page for page in PAGES if any(block[0] in LANGUAGES for block in blocks(page))]
NOTEBOOKS = [page for page in WITH_CODE if page.read_text("utf-8").startswith("---\nfile_format: ")]


@pytest.mark.parametrize(
    "page",
    # `make docs` executes the notebooks
    [pytest.param(p, marks=pytest.mark.slow if p in NOTEBOOKS else ()) for p in WITH_CODE],
    ids=named,
)
def test_python_blocks_of_a_page_run_in_order(page: Path) -> None:
    namespace: dict[str, object] = {"__name__": "__main__"}
    for language, start, text in blocks(page):
        if language in LANGUAGES:
            text = re.sub(r"^:.*$", "", text, flags=re.MULTILINE)  # options of a cell
            # Blank lines in front, so that a traceback names the line of the page.
            exec(compile("\n" * (start - 1) + text, str(page), "exec"), namespace)


def test_the_build_executes_every_cell_and_stops_at_an_error() -> None:
    """So that no page goes unexecuted: those without cells are run above."""
    settings = runpy.run_path(str(ROOT / "docs" / "conf.py"))
    assert "myst_nb" in settings["extensions"]
    assert settings["nb_execution_mode"] == "force"
    assert settings["nb_execution_raise_on_error"] is True
    left_out = {name: value for name, value in settings.items() if "exclude" in name}
    assert left_out == {"exclude_patterns": ["_build", "jupyter_execute"]}
    assert NOTEBOOKS and "nb_execution_allow_errors" not in settings
    for page in PAGES:
        languages = {language for language, _, _ in blocks(page)}
        cells = {language for language in languages if language.startswith("{code")}
        assert (page in NOTEBOOKS) == bool(cells), f"cells of {named(page)} want the front matter"
        if page in NOTEBOOKS:
            front, _, text = page.read_text("utf-8").partition("\n---\n")
            assert front == "---\nfile_format: mystnb\nkernelspec:\n  name: python3"
            assert cells <= {"{code-cell}", "{code-cell} python"} and "python" not in languages
            # cells that are left out, or that may fail
            assert not re.search(r"skip-execution|raises-exception", text), named(page)
    ci = (ROOT / ".ci" / "run").read_text("utf-8").splitlines()
    assert ci.index("make docs") < ci.index("export PYTEST_ADDOPTS=--durations=25")


@pytest.mark.slow  # the README's code and that of the page on activations are much the same
@pytest.mark.parametrize("example", EXAMPLES, ids=named)
def test_example_runs(example: Path) -> None:
    runpy.run_path(str(example), run_name="__main__")


def test_the_gallery_shows_every_example() -> None:
    text = (ROOT / "docs" / "gallery.md").read_text("utf-8")
    for example in EXAMPLES:
        assert f"[{example.name}](../examples/{example.name})" in text
        picture = f"gallery-{example.stem}.png"
        drawn = picture in example.read_text("utf-8")
        assert drawn == (f"_static/{picture}" in text) == (ROOT / "docs/_static" / picture).exists()


@functools.cache
def options_of(command: str) -> set[str]:
    shown = CliRunner().invoke(app, [*command.split(), "--help"])
    assert shown.exit_code == 0
    return set(re.findall(r"(?<![\w-])--?[a-z][\w-]*", shown.stdout))


def command_lines() -> list[tuple[str, str]]:
    lines = []
    for page in PAGES:
        for language, _, text in blocks(page):
            if language == "console":
                commands = text.replace("\\\n", " ").splitlines()
                lines += [(named(page), c[2:]) for c in commands if c.startswith("$ finwidth ")]
    return lines


@pytest.mark.parametrize(("page", "line"), command_lines())
def test_documented_command_and_its_options_exist(page: str, line: str) -> None:
    words = shlex.split(line, comments=True)[1:]
    plugins = words[0] == "plugins"
    known = options_of(" ".join(words[: 2 if plugins else 1]))
    for word in words:
        if word.startswith("-") and not re.fullmatch(r"-[\d.]+", word):
            assert word.split("=")[0] in known, f"{page} shows {word} in: {line}"


def test_documented_grids_are_grids(tmp_path: Path) -> None:
    texts = [text for page in PAGES for language, _, text in blocks(page) if language == "toml"]
    texts = [text for text in texts if text.startswith("[grid]")]
    assert texts
    for text in texts:
        (tmp_path / "grid.toml").write_text(text, "utf-8")
        tables = read_table(tmp_path / "grid.toml", {"grid": Points, "sampling": Accuracy})
        assert len(tables["grid"].grid()) > 1


def test_the_reference_has_the_help_of_every_command() -> None:
    text = (ROOT / "docs" / "reference" / "command-line.md").read_text("utf-8")
    groups = typer.main.get_command(app).commands
    plugins = groups.pop("plugins").commands
    expected = {*groups, *(f"plugins {name}" for name in plugins)}
    assert set(re.findall(r"^## `finwidth ([\w ]+)`$", text, re.MULTILINE)) == expected
    assert set(re.findall(r'^help_of\("([\w ]+)"\)$', text, re.MULTILINE)) == expected


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links_to_files_of_the_repository_lead_somewhere(page: Path) -> None:
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if not re.match(r"[a-z]+:|#", target):
            assert (page.parent / target.split("#")[0]).exists(), f"{named(page)} links to {target}"


def test_every_page_is_in_the_table_of_contents() -> None:
    docs = ROOT / "docs"
    listed = set(re.findall(r"^[\w/-]+$", (docs / "index.md").read_text("utf-8"), re.MULTILINE))
    pages = {page.relative_to(docs).with_suffix("").as_posix() for page in docs.glob("*/*.md")}
    assert pages == listed & pages, f"not in docs/index.md: {sorted(pages - listed)}"
