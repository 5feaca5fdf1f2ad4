"""The plugin kit: a new distribution that works before anything is changed in it.

The files of a kind are templates in the folder of its name; those of all kinds are in `common`.
"""

import dataclasses
import importlib
import importlib.resources
import keyword
import os
import re
import secrets
import shutil
from pathlib import Path
from typing import Any

from ..._basics.arrays import shown
from ..._basics.checks import check_choice, check_path
from ..._basics.errors import InputError
from ..hooks import PACKAGES

__all__ = ["KINDS", "Kind", "new_plugin"]

_LONGEST = 40  # characters of a name


@dataclasses.dataclass(frozen=True)
class Kind:
    """What differs between kinds beside the templates.

    Parameters
    ----------
    hook
        The hook that brings its items.
    what
        What an item is, for people.
    use, python
        Words of the `finwidth` command, and Python, that use an item; {name} and {class} are put
        in.
    """

    hook: str
    what: str
    use: str
    python: str


KINDS = {
    "activation": Kind(
        "finwidth_register_activations",
        "activation",
        "demo --activation {name}",
        'fw.Network(widths=(50,), activation="{name}")',
    ),
    "theory": Kind(
        "finwidth_register_theories",
        "theory of the posterior",
        "demo --theory {name}",
        'fw.solve(net, X, y, temperature=0.1, theory="{name}")',
    ),
    "sampler": Kind(
        "finwidth_register_samplers",
        "sampler",
        "demo --sampler {name}",
        'fw.sample(net, X, y, temperature=0.1, sampler="{name}")',
    ),
    "data": Kind(
        "finwidth_register_datasets",
        "data set",
        "demo --data {name}",
        'fw.load_dataset("{name}")',
    ),
    "layer": Kind(
        "finwidth_register_layers",
        "layer",
        "demo --layer dense:50 --layer {name}:50",
        "layers = fw.Dense(50), plugin.{class}(50)\n"
        'net = fw.Network(layers=layers, activation="erf")',
    ),
    "likelihood": Kind(
        "finwidth_register_likelihoods",
        "likelihood",
        "demo --likelihood {name} --model network",
        'fw.solve(net, X, y, temperature=0.1, likelihood="{name}")',
    ),
    "observable": Kind(
        "finwidth_register_observables",
        "observable",
        "compare",
        "fw.solve(net, X, y, temperature=0.1).scores(X_test, y_test)",
    ),
}

# template -> file, in which {name} and {package} are put
_FILES = {
    "common/pyproject.toml.j2": "pyproject.toml",
    "common/README.md.j2": "README.md",
    "common/LICENSE.j2": "LICENSE",
    "common/gitignore.j2": ".gitignore",
    "common/test.yml.j2": ".github/workflows/test.yml",
    "{kind}/plugin.py.j2": "src/{package}/__init__.py",
    "{kind}/test.py.j2": "tests/test_{name}.py",
}


def new_plugin(name: Any, kind: Any, folder: Any = ".") -> Path:
    """Write a complete distribution that brings one item, and return its folder.

    Parameters
    ----------
    name
        Of the item: small letters, digits and single underscores, beginning with a letter.
    kind
        One of `KINDS`.
    folder
        Where the folder finwidth-NAME goes.

    Raises
    ------
    InputError
        If `name` is no such name or is taken, or the folder is there already or cannot be written.
        Nothing is left then.
    """
    check_choice("--kind", kind, KINDS)
    words = _words(name, kind)
    parent = check_path("--out", folder, "a folder")
    target = parent / words["distribution"]
    if os.path.lexists(target):
        raise InputError(f"expected a folder that is not there yet, got {str(target)!r}")
    files = _rendered(kind, words)
    temporary = parent / f".{target.name}.{secrets.token_hex(4)}.tmp"
    try:
        for path, text in files.items():
            (temporary / path).parent.mkdir(parents=True, exist_ok=True)
            (temporary / path).write_text(text, "utf-8")
        temporary.rename(target)
    except OSError as error:
        raise InputError(
            f"expected --out = a folder that can be written to, got {str(parent)!r} "
            f"({error.strerror})"
        ) from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return target


def _words(name: Any, kind: str) -> dict[str, str]:
    """Return what templates put in, or raise InputError for a name that cannot be."""
    fits = isinstance(name, str) and re.fullmatch(r"[a-z][a-z0-9]*(_[a-z0-9]+)*", name)
    if not fits or len(name) > _LONGEST or keyword.iskeyword(name):
        raise InputError(
            f"expected NAME = up to {_LONGEST} small letters, digits and single underscores, "
            f"beginning with a letter, such as soft_step, and no keyword of Python's, got "
            f"{shown(name)}"
        )
    described = KINDS[kind]
    shelf = importlib.import_module(PACKAGES[described.hook]).SHELF
    sources = shelf.sources()
    if name in sources:
        raise InputError(
            f"expected NAME = the name of no {shelf.kind} that there is, got {name!r}, which is "
            f"from {sources[name]}"
        )
    words = {
        "kind": kind,
        "name": name,
        "what": described.what,
        "article": "An" if described.what[0] in "aeiou" else "A",
        "distribution": f"finwidth-{name.replace('_', '-')}",
        "package": f"finwidth_{name}",
        "class": "".join(part.capitalize() for part in name.split("_")),
    }
    own = f"import {words['package']} as plugin\n" if "plugin." in described.python else ""
    words["use"] = described.use.format(**words)
    words["python"] = f"import finwidth as fw\n{own}\n{described.python.format(**words)}"
    return words


def _rendered(kind: str, words: dict[str, str]) -> dict[str, str]:
    """Return the text of each file."""
    import jinja2

    environment = jinja2.Environment(
        undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False
    )
    templates = importlib.resources.files(__package__)
    return {
        path.format(**words): environment.from_string(
            templates.joinpath(*source.format(kind=kind).split("/")).read_text("utf-8")
        ).render(words)
        for source, path in _FILES.items()
    }
