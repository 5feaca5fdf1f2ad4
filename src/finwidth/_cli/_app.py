"""The typer application and the one place where errors become exit codes.

0 done; 1 ran but failed (`ConvergenceError`, or a command says so); 2 wrong input, one line on
stderr; 130 interrupted.
"""

import contextlib
import errno
import os
import re
import shlex
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from .._basics.errors import ConvergenceError, FinwidthError, InputError

__all__ = ["app", "command_line", "complain", "say"]

_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def complain(message: str, kind: str = "error") -> None:
    """Write one line to stderr, whatever line breaks `message` has."""
    say(f"finwidth: {kind}: {' '.join(message.split())}")


def say(line: str) -> None:
    """Write a line to stderr; on a full disk it is lost, but not the results or the exit code."""
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:
        _give_up(sys.stderr)


_given: list[str] = []


def command_line() -> str:
    """Return the command that is being run, as a shell takes it."""
    return shlex.join(["finwidth", *_given])


class _Commands(TyperGroup):
    def main(
        self, args: Sequence[str] | None = None, standalone_mode: bool = True, **extra: Any
    ) -> Any:
        given = sys.argv[1:] if args is None else list(args)
        _given[:] = given
        code = self._exit_code(given or ["--help"], **extra)
        if standalone_mode:
            sys.exit(code)
        return code

    def _exit_code(self, args: list[str], **extra: Any) -> int:
        try:
            code = super().main(args, standalone_mode=False, **extra) or 0
            if sys.stdout is not None:
                sys.stdout.flush()
            return code
        except FinwidthError as error:
            complain(str(error))
            return 1 if isinstance(error, ConvergenceError) else 2
        except _UsageError as error:
            complain(_usage(error))
            return 2
        except (KeyboardInterrupt, typer.Abort):
            complain("the command was stopped", kind="interrupted")
            return 130
        except OSError as error:
            if error.filename is not None:  # of a file, not of a stream that is open
                raise
            if error.errno != errno.EPIPE:  # whoever reads may stop, as head does
                complain(f"expected stdout = a file that can be written, got {error.strerror!r}")
            _give_up(sys.stdout)
            return 1


def _give_up(stream: Any) -> None:
    """Let what Python still holds for a stream go nowhere, as it would fail at exit once more."""
    with contextlib.suppress(OSError, ValueError):  # one without a file, in a test
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _usage(error: Any) -> str:
    """Return what is wrong with the command line, without typer's frame."""
    message = error.format_message()
    own = re.search(r"\bexpected .*", message, re.DOTALL)  # from a parser of finwidth's own
    if own:
        return own[0]
    command = error.ctx.command_path if error.ctx is not None else "finwidth"
    return f"expected arguments as '{command} --help' lists them, got: {message}"


class _Command(TyperCommand):
    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Refuse an option of one value that is given twice: the last would win in silence."""
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        for param in order:
            one = not getattr(param, "multiple", True) and not getattr(param, "is_flag", True)
            if one and order.count(param) > 1:
                raise InputError(
                    f"expected {param.opts[0]} once, got it {order.count(param)} times "
                    f"({str(getattr(param, 'help', '')).rstrip('.')})"
                )
        return super().parse_args(ctx, args)


class _App(typer.Typer):
    def command(self, *args: Any, **more: Any) -> Any:
        return super().command(*args, **{"cls": _Command} | more)


app = _App(
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
