"""Commands that read what is stored, and what there is to name."""

from __future__ import annotations

import json
from typing import Annotated, Any, Literal

import typer

from maple.cli.app import Json, StoreDirectory, console

app = typer.Typer()

_WIDE = 1000
"""Columns that no table needs."""


@app.command()
def status(directory: StoreDirectory) -> None:
    """Show what of a store is done, unfinished, failed and why."""
    from maple.report.status import status_table

    console().print(status_table(directory))


@app.command()
def report(directory: StoreDirectory) -> None:
    """Write report.html and tables from a store."""
    from maple.report import write_report

    print(f"report: {write_report(directory)}")


@app.command("list")
def list_entries(
    kind: Annotated[
        Literal["methods", "tasks", "datasets", "quantization", "models", "languages"],
        typer.Argument(help="What to list."),
    ],
    tasks: Annotated[
        str | None,
        typer.Option(
            help="Of languages: which of these tasks have each; comma-separated, or 'all'."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List what a study may name."""
    from maple.errors import UsageError
    from maple.plan import listing

    if tasks and kind != "languages":
        raise UsageError(f"--tasks goes with `maple list languages`, not with {kind}.")
    content: Any = listing.task_matrix(tasks.split(",")) if tasks else listing.list_rows(kind)
    if as_json:
        print(json.dumps(content, indent=2, ensure_ascii=False))
    else:
        table = listing.matrix_table(content) if tasks else listing.listing_table(kind)
        screen = console()
        if tasks:
            # A column cut to three letters says nothing: lines may be long instead.
            screen.width = max(screen.width, _WIDE)
        screen.print(table)
