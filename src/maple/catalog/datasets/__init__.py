"""Instruction data, one file each; here is what several share, so that no entry imports another."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from maple.catalog.contracts import Conversation
from maple.files.instructions import read_instructions


def instruction_conversations(path: Path, language: str) -> Iterator[Conversation]:
    """Yields the rows of a MultiAlpaca-like file in order, the line number as id.

    Raises:
        DataError: a row is not what the format promises; names file, line and field.
    """
    for row in read_instructions(path):
        yield Conversation(
            id=str(row.line),
            language=language,
            instruction=row.instruction,
            input=row.input,
            response=row.output,
        )
