"""`finwidth plugins new`: a distribution of each kind that works before anything is changed."""

import os
import runpy
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import finwidth as fw
from finwidth._plugins.kit import KINDS, new_plugin

NAMES = {
    "activation": "soft_step",
    "theory": "last",
    "sampler": "steady",
    "data": "two_rings",
    "layer": "gained",
    "likelihood": "averaged",
    "observable": "within",
}


def install(folder: Path) -> None:
    """Write what installing a distribution would, beside its code."""
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    info = folder / "src" / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    entries = project["entry-points"]["finwidth"].items()
    lines = [f"{name} = {module}" for name, module in entries]
    (info / "entry_points.txt").write_text("\n".join(["[finwidth]", *lines, ""]))


@pytest.mark.parametrize("kind", KINDS)
def test_a_new_distribution_is_complete(kind: str, tmp_path: Path) -> None:
    name = NAMES[kind]
    folder = new_plugin(name, kind, tmp_path)
    distribution = f"finwidth-{name.replace('_', '-')}"
    assert folder == tmp_path / distribution
    assert [path.name for path in tmp_path.iterdir()] == [distribution]  # no temporary one
    files = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    assert files == {
        "pyproject.toml",
        "README.md",
        "LICENSE",
        ".gitignore",
        ".github/workflows/test.yml",
        f"src/finwidth_{name}/__init__.py",
        f"tests/test_{name}.py",
    }
    project = tomllib.loads((folder / "pyproject.toml").read_text("utf-8"))["project"]
    assert project["name"] == distribution
    assert project["entry-points"] == {"finwidth": {name: f"finwidth_{name}"}}
    for path in files:
        text = (folder / path).read_text("utf-8")
        assert "{%" not in text and ("{{" not in text or path.endswith(".yml")), path
    workflow = (folder / ".github/workflows/test.yml").read_text("utf-8")
    assert "${{ matrix.python }}\n" in workflow and f"plugins check {name}\n" in workflow
    module = runpy.run_path(str(folder / f"src/finwidth_{name}/__init__.py"))
    (item,) = module[KINDS[kind].hook]()
    assert item.name == name
    compile((folder / f"tests/test_{name}.py").read_text("utf-8"), "test", "exec")


@pytest.mark.parametrize("name", ["x", "x" * 20 + "_" + "y" * 19])
def test_a_new_distribution_is_linted_and_formatted(name: str, tmp_path: Path) -> None:
    """However long its name is."""
    for kind in KINDS:
        folder = new_plugin(name, kind, tmp_path)
        for command in (["check", "--no-cache"], ["format", "--check", "--no-cache"]):
            done = subprocess.run(
                [sys.executable, "-m", "ruff", *command, "."],
                cwd=folder,
                capture_output=True,
                text=True,
            )
            assert done.returncode == 0, done.stdout
        folder.rename(tmp_path / kind)


@pytest.mark.parametrize(
    "name",
    ["", "Softplus", "2nd", "soft-plus", "soft__plus", "_soft", "soft_", "söft", "a b", "lambda"]
    + ["../up", "x" * 41, "two\nlines", None, 3],
)
def test_a_name_that_cannot_be_one_is_refused(name: object, tmp_path: Path) -> None:
    with pytest.raises(fw.InputError, match="^expected NAME = up to 40 small letters") as caught:
        new_plugin(name, "activation", tmp_path)
    assert "\n" not in str(caught.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("kind", "name"),
    [
        ("activation", "erf"),
        ("theory", "nested"),
        ("sampler", "nuts"),
        ("data", "digits"),
        ("layer", "dense"),
        ("likelihood", "probit"),
        ("observable", "accuracy"),
    ],
)
def test_a_name_that_is_taken_is_refused(kind: str, name: str, tmp_path: Path) -> None:
    with pytest.raises(fw.InputError, match=f"got '{name}', which is from finwidth itself"):
        new_plugin(name, kind, tmp_path)
    assert not list(tmp_path.iterdir())


def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "finwidth-soft-step").mkdir()
    with pytest.raises(fw.InputError, match="expected a folder that is not there yet, got"):
        new_plugin("soft_step", "activation", tmp_path)
    assert not list((tmp_path / "finwidth-soft-step").iterdir())
    (tmp_path / "file").touch()
    with pytest.raises(fw.InputError, match="expected --out = a folder that can be written to"):
        new_plugin("soft_step", "activation", tmp_path / "file")
    with pytest.raises(fw.InputError, match="expected --kind = one of .*'activation'"):
        new_plugin("soft_step", "activations", tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "finwidth-soft-step"]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_new_distribution_passes_its_own_tests(kind: str, tmp_path: Path) -> None:
    """And can be checked and used by name, in a process that finds it installed."""
    name = NAMES[kind]
    folder = new_plugin(name, kind, tmp_path)
    install(folder)
    source = str(Path(fw.__file__).parents[1])
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(folder / "src"), source]),
        "FINWIDTH_LOAD_PLUGINS": folder.name,
        "PYTEST_ADDOPTS": "",  # ours are not theirs
    }
    small = ["--train", "12", "--test", "6", "--widths", "6", "--warmup", "60", "--draws", "60"]
    if kind == "layer":
        del small[4:6]
    if kind == "observable":
        small[4] = "--width"
    use = KINDS[kind].use.format(name=name).split()
    for command in (
        ["pytest", "-q", "-p", "no:cacheprovider"],
        ["finwidth", "plugins", "check", name],
        ["finwidth", *use, *small],
    ):
        done = subprocess.run(
            [sys.executable, "-m", *command],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
