"""The repository as a whole: lock file, versions, documentation of hooks, what is committed."""

import ast
import importlib
import importlib.metadata
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import finwidth

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
MODULES = sorted(ROOT.glob("src/finwidth/**/*.py"))


def read(path: str) -> str:
    return (ROOT / path).read_text(encoding="utf-8")


def locked() -> dict[str, str]:
    """Return, by package, the text of its entry in the lock file."""
    entries = re.split(r"\n(?=\S)", read("requirements.lock").strip())
    return {re.split(r"[=\s]", entry, maxsplit=1)[0]: entry for entry in entries}


def tracked() -> list[Path]:
    listing = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listing.returncode:
        pytest.skip("not a git checkout")
    files = [ROOT / name for name in listing.stdout.split("\0") if name]
    return [file for file in files if file.is_file()]


def texts() -> dict[str, str]:
    contents = {}
    for file in tracked():
        raw = file.read_bytes()
        if b"\0" not in raw:
            contents[file.relative_to(ROOT).as_posix()] = raw.decode("utf-8")
    return contents


def test_lock_pins_and_hashes_every_package_and_names_no_server() -> None:
    assert "//" not in read("requirements.lock")
    for name, entry in locked().items():
        assert re.match(r"[a-z0-9-]+==[\w.+]+( ;| \\)", entry), f"{name} is not pinned"
        assert re.search(r"--hash=sha256:[0-9a-f]{64}", entry), f"{name} has no hash"


def test_lock_has_every_direct_dependency() -> None:
    extras = PROJECT["optional-dependencies"]
    wanted = PROJECT["dependencies"] + [
        one for name in extras if name != "cuda" for one in extras[name]
    ]
    names = {re.split(r"[\[<>=~! ]", one, maxsplit=1)[0].lower() for one in wanted} - {"finwidth"}
    assert names <= locked().keys()


# Declared although no module of finwidth imports them.
UNIMPORTED = {
    "arviz": "how users read a run",
    "h5netcdf": "writes and reads netCDF, for xarray by name",
    "h5py": "what h5netcdf works on",
    "zarr": "writes and reads Zarr, for xarray by name",
    "beartype": "checks shapes in the tests, for jaxtyping by name",
    "editables": "make: installs finwidth and its example plugins in place",
    "hatchling": "make: builds them",
    "blackjax": "make docs: docs/how-to/other-libraries.md",
    "furo": "make docs",
    "gpjax": "make docs: docs/how-to/other-libraries.md",
    "myst-nb": "make docs",
    "sphinx": "make docs",
    "sphinx-mathjax-offline": "make docs: docs/conf.py",
    "tinygp": "make docs: docs/how-to/other-libraries.md",
    "pyright": "make lint",
    "ruff": "make lint",
    "pytest-timeout": "make test",
    "pytest-xdist": "make test",
}


def requirements(entries: list[str]) -> set[str]:
    names = {re.split(r"[\[<>=~! ]", one, maxsplit=1)[0].lower() for one in entries}
    return names - {"finwidth"}


def imported(*folders: str) -> set[str]:
    """Return the distributions that the files of some folders import, finwidth itself aside."""
    roots: set[str] = set()
    plugins = {path.name for path in ROOT.glob("plugins/*/src/*")}
    scripts = (*ROOT.glob("tests/*.py"), *ROOT.glob("tests/benchmarks/*.py"))
    own = {"finwidth", *plugins} | {path.stem for path in scripts}
    for folder in folders:
        for path in (ROOT / folder).rglob("*.py"):
            if path.parent == ROOT / "tests" / "data":
                continue  # how values were made, with other packages and elsewhere
            for node in ast.walk(ast.parse(path.read_text("utf-8"))):
                if isinstance(node, ast.Import):
                    roots |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level and node.module:
                    roots.add(node.module.split(".")[0])
    known = importlib.metadata.packages_distributions()
    found = {known.get(root, [root])[0] for root in roots - own - sys.stdlib_module_names}
    return {re.sub(r"[-_.]+", "-", name).lower() for name in found}


def test_what_is_imported_is_declared_and_what_is_declared_is_used() -> None:
    extras = PROJECT["optional-dependencies"]
    core = requirements(PROJECT["dependencies"])
    plots = requirements(extras["plots"]) | requirements(extras["testing"])
    dev = requirements(extras["dev"])
    in_source = imported("src")
    in_tests = imported("tests", "plugins", "examples", "docs")
    assert in_source <= core | plots, "imported and not declared"
    assert in_tests <= core | plots | dev, "imported by the tests and not declared"
    used = in_source | in_tests | UNIMPORTED.keys()
    assert core | plots | dev <= used, "declared and not used"
    assert core <= in_source | UNIMPORTED.keys(), "declared for all and used by the tests alone"
    assert not UNIMPORTED.keys() & in_source, "imported after all"
    assert UNIMPORTED.keys() <= core | plots | dev, "no longer declared"


def test_changelog_opens_with_the_version_of_the_package() -> None:
    versions = re.findall(r"^## \[?(\d[\w.]*)", read("CHANGELOG.md"), re.MULTILINE)
    assert versions[0] == PROJECT["version"] == finwidth.__version__
    assert f"\nversion: {PROJECT['version']}\n" in read("CITATION.cff")


def test_every_hook_is_documented() -> None:
    """In a section of its own, with an example that tests/test_docs.py executes."""
    hookspecs = importlib.import_module("finwidth._plugins.hooks")
    hooks = [name for name in vars(hookspecs) if name.startswith("finwidth_")]
    sections = re.split(r"^## ", read("docs/reference/hooks.md"), flags=re.MULTILINE)
    found = {section.partition("\n")[0].strip("`"): section for section in sections[1:]}
    assert set(found) == set(hooks) != set()
    for hook, section in found.items():
        code = "\n".join(re.findall(r"^```python\n(.*?)^```", section, re.MULTILINE | re.DOTALL))
        assert f"def {hook}(" in code, f"{hook} has no example"
        assert "hookimpl" in code


def test_every_public_name_is_in_the_reference() -> None:
    page = read("docs/reference/api.md")
    listed = re.findall(r"^ +([\w.]+)$|`fw\.(\w+)`", page, re.MULTILINE)
    public = {name for name in finwidth.__all__ if not name.startswith("__")}
    missing = public - {(row or code).split(".")[0] for row, code in listed}
    assert not missing, f"not in docs/reference/api.md: {sorted(missing)}"


def test_every_public_name_exists() -> None:
    for name in finwidth.__all__:
        assert getattr(finwidth, name) is not None


@pytest.mark.parametrize("command", ["make demo", "make test"])
def test_readme_names_the_two_commands(command: str) -> None:
    assert re.search(rf"^{command}\b", read("README.md"), re.MULTILINE)


def test_ci_runs_the_readme_test_command() -> None:
    assert re.search(r"^make test\b", read(".ci/run"), re.MULTILINE)


def test_modules_are_short_and_say_what_they_are_for_and_what_they_export() -> None:
    for module in MODULES:
        name = module.relative_to(ROOT).as_posix()
        source = module.read_text(encoding="utf-8")
        tree = ast.parse(source)
        targets = [t for node in tree.body if isinstance(node, ast.Assign) for t in node.targets]
        assigned = {target.id for target in targets if isinstance(target, ast.Name)}
        assert ast.get_docstring(tree), f"{name} has no docstring"
        assert "__all__" in assigned or module.name == "__main__.py", f"{name} has no __all__"
        assert len(source.splitlines()) < 400, f"{name} is too long"


def test_nothing_committed_names_this_machine() -> None:
    folders = re.compile(r"(?<![\w.}*-])/(?:work|tmp|home|root|Users)/\w")
    for name, text in texts().items():
        found = folders.search(text)
        assert not found, f"{name} names the folder {found and found[0]}…"


def test_nothing_committed_names_a_package_server() -> None:
    # In pieces, so that this file names none either.
    servers = re.compile(
        r"py" r"pi\.|python" r"hosted|--(?:extra-)?index" r"-url|/simp" r"le\b", re.IGNORECASE
    )
    for name, text in texts().items():
        found = servers.search(text)
        assert not found, f"{name} names a package server: {found and found[0]}"


def test_import_is_light_and_leaves_the_precision_of_jax_alone() -> None:
    script = (
        "import sys, jax; before = jax.config.jax_enable_x64; import finwidth; "
        "assert jax.config.jax_enable_x64 == before; "
        "heavy = {'arviz', 'numpyro', 'matplotlib', 'sklearn', 'dask'} & set(sys.modules); "
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
