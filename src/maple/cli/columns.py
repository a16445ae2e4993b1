"""Text and tables that fit the terminal: what is too long goes on below, indented."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Sequence

WIDE = 120
"""Columns from which on a table shows what is not needed to read it."""


def width() -> int:
    """Returns the terminal's columns; 80 where there is no terminal."""
    from rich.console import Console

    return Console().width


def say(text: str, *, indent: int = 0, hang: int = 2) -> None:
    """Prints a text in lines that fit, those after the first indented by ``hang`` more."""
    print(
        textwrap.fill(
            text,
            width=max(40, width()),
            initial_indent=" " * indent,
            subsequent_indent=" " * (indent + hang),
            break_long_words=False,
            break_on_hyphens=False,
        )
    )


def show_table(
    title: str,
    headings: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    texts: Sequence[int],
) -> None:
    """Prints a table without lines.

    Args:
        title: printed above it.
        headings: of the columns.
        rows: cells, shown as they are.
        texts: columns of words, which may go on below; the others are numbers, never broken.
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(title=title, title_justify="left", title_style="", box=None, pad_edge=False)
    for i, heading in enumerate(headings):
        table.add_column(
            heading,
            justify="left" if i in texts else "right",
            no_wrap=i not in texts,
            overflow="fold",
        )
    for row in rows:
        table.add_row(*map(Text, row))
    Console(highlight=False).print(table)
