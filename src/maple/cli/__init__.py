"""The command line: arguments in, one call down, a clear line out."""

from __future__ import annotations

import errno
import os
import sys
import warnings
from typing import Annotated, NoReturn

import typer

from maple.cli import (
    atlas,
    certify,
    compare,
    export,
    judge,
    recommend,
    scores,
    show,
    stores,
    studies,
    track,
    train,
    watch,
)
from maple.cli.app import app
from maple.cli.waiting import choose_waiting
from maple.errors import MapleError
from maple.startup import lean_process

__all__ = ["app", "main"]

app.add_typer(atlas.app, name="atlas", no_args_is_help=True)
app.add_typer(show.app, name="show", no_args_is_help=True)
# In the order of a user's way: a study, its results, one run alone, then what checks and judges.
for _part in (
    studies,
    stores,
    recommend,
    compare,
    watch,
    track,
    train,
    scores,
    export,
    certify,
    judge,
):
    app.registered_commands += _part.app.registered_commands


@app.callback(invoke_without_command=True)
def _program(
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        print(installed("maple-peft"))
        raise typer.Exit


_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
_WHOLE = "What is stored is whole; run the same command again to go on."


def main() -> NoReturn:
    """Runs the command line; errors of ours become one line and an exit code (1 or 2)."""
    choose_waiting(os.environ)
    # Deprecations between the libraries below us are not the user's to mend.
    warnings.simplefilter("ignore", FutureWarning)
    lean_process()
    try:
        app()
    except MapleError as error:
        print(f"maple: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        print(f"maple: {error.filename or 'a file'}: {error.strerror}. {_WHOLE}", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as stop:
        # typer turns the interrupt into an exit of its own.
        if isinstance(stop, SystemExit) and stop.code != 130:
            raise
        print(f"maple: interrupted. {_WHOLE}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)
