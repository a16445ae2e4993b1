"""Reads instruction rows, the format that Stanford Alpaca set: instruction, input, output."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maple.files.fields import text_field
from maple.files.read import read_rows


@dataclass(frozen=True, kw_only=True)
class InstructionRow:
    """One instruction and its response, as a file states them."""

    line: int
    """Line or row number, from 1."""
    instruction: str
    input: str
    """What the instruction applies to; empty where there is nothing."""
    output: str
    fields: dict[str, Any]
    """The whole row, with whatever else upstream keeps in it."""


def read_instructions(path: Path) -> Iterator[InstructionRow]:
    """Yields the instruction rows of a file in order, numbers kept.

    A row whose instruction or output is blank or null teaches nothing and is passed over: one of
    MultiAlpaca's 10,191 in Japanese, 11 of Alpaca's first 21,320. The log says how many were.

    Raises:
        DataError: a row without the fields, or with fields of another type; names file and line.
    """
    n_blank = 0
    for line, row in read_rows(path):
        instruction = _text_or_null(row, "instruction", path, line)
        output = _text_or_null(row, "output", path, line)
        given = text_field(row, "input", path, line, optional=True)
        if not instruction.strip() or not output.strip():
            n_blank += 1
            continue
        yield InstructionRow(
            line=line, instruction=instruction, input=given, output=output, fields=row
        )
    if n_blank:
        logging.getLogger(__name__).info(
            "%s: %d rows with a blank instruction or output passed over", path.name, n_blank
        )


def _text_or_null(row: dict[str, Any], name: str, path: Path, line: int) -> str:
    """Text, or "" for null; unlike an optional field it must be there."""
    return text_field(row, name, path, line, optional=name in row)
