"""The command line: one module per command, options and errors shared.

``finwidth --help`` must stay quick, so that nothing here imports JAX, NumPyro, ArviZ or
matplotlib before a command needs it.
"""

import warnings
from typing import Any

from . import compare, demo, info, map, plugins, sample, solve
from ._app import app, complain

__all__ = ["app", "compare", "demo", "info", "main", "map", "plugins", "sample", "solve"]


def main() -> None:
    """Run the program ``finwidth``."""
    warnings.showwarning = _show_warning
    app(prog_name="finwidth")


def _show_warning(message: Warning | str, *_: Any, **__: Any) -> None:
    complain(str(message), kind="warning")
