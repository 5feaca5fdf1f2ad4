"""The command line: one module per command, options and errors shared.

``finwidth --help`` must stay quick, so that nothing here imports JAX, NumPyro, ArviZ or
matplotlib before a command needs it.
"""

import warnings
from typing import Any

from . import (
    advise,
    compare,
    demo,
    info,
    map,
    plot,
    plugins,
    report,
    reproduce,
    sample,
    solve,
    sweep,
)
from ._app import app, complain

__all__ = [
    "advise",
    "app",
    "compare",
    "demo",
    "info",
    "main",
    "map",
    "plot",
    "plugins",
    "report",
    "reproduce",
    "sample",
    "solve",
    "sweep",
]


def main() -> None:
    """Run the program ``finwidth``."""
    told: set[str] = set()  # a command may ask theory and sampler, which warn of the same

    def show(message: Warning | str, *_: Any, **__: Any) -> None:
        if str(message) not in told:
            told.add(str(message))
            complain(str(message), kind="warning")

    warnings.showwarning = show
    app(prog_name="finwidth")
