"""The typer application and the one place where errors become exit codes.

0 done; 1 ran but failed (`ConvergenceError`, or a command says so); 2 wrong input, one line on
stderr; 130 interrupted.
"""

import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .._basics.errors import ConvergenceError, FinwidthError

__all__ = ["app", "complain"]

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def complain(message: str, kind: str = "error") -> None:
    """Write one line to stderr, whatever line breaks `message` has."""
    print(f"finwidth: {kind}: {' '.join(message.split())}", file=sys.stderr, flush=True)


class _Commands(TyperGroup):
    def main(
        self, args: Sequence[str] | None = None, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        given = sys.argv[1:] if args is None else list(args)
        code = self._exit_code(given or ["--help"], **extra)
        if standalone_mode:
            sys.exit(code)
        return code

    def _exit_code(self, args: list[str], **extra: Any) -> int:
        try:
            return super().main(args, standalone_mode=False, **extra) or 0
        except FinwidthError as error:
            complain(str(error))
            return 1 if isinstance(error, ConvergenceError) else 2
        except _UsageError as error:
            complain(_usage(error))
            return 2
        except (KeyboardInterrupt, typer.Abort):
            complain("the command was stopped", kind="interrupted")
            return 130


def _usage(error: Any) -> str:
    """Return what is wrong with the command line, without typer's frame."""
    message = error.format_message()
    own = re.search(r"\bexpected .*", message, re.DOTALL)  # from a parser of finwidth's own
    if own:
        return own[0]
    command = error.ctx.command_path if error.ctx is not None else "finwidth"
    return f"expected arguments as '{command} --help' lists them, got: {message}"


app = typer.Typer(
    name="finwidth",
    cls=_Commands,
    help="Bayesian neural networks of finite width: theory, exact posterior, comparison.",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> bool:
    if wanted:
        from finwidth import __version__

        print(__version__)
        raise typer.Exit
    return wanted


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    pass
