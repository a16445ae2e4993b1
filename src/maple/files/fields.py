"""Typed access to the fields of a row, with errors that name file, line and field."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from maple.errors import DataError


def place(path: Path, line: int) -> str:
    """Words where a row stands: ``a.jsonl, line 3``, or ``row 3`` in formats without lines."""
    is_lined = path.name.removesuffix(".gz").endswith((".jsonl", ".tsv", ".csv"))
    return f"{path}, {'line' if is_lined else 'row'} {line}"


def text_field(
    row: Mapping[str, Any], name: str, path: Path, line: int, optional: bool = False
) -> str:
    """Returns a text field as it stands, white space included.

    Args:
        row: the row.
        name: the field.
        path: the file, for the message.
        line: the line or row number, for the message.
        optional: a missing or null field counts as the empty text.

    Raises:
        DataError: the field is missing or null and not optional, is not text, or holds half of a
            surrogate pair (``"\\ud83d"``), which no tokenizer takes.
    """
    value = row.get(name)
    if value is None and optional:
        return ""
    if not isinstance(value, str):
        raise _wrong(row, name, path, line, "text")
    if not value.isascii():
        _require_unicode(value, name, path, line)
    return value


def filled_field(row: Mapping[str, Any], name: str, path: Path, line: int) -> str:
    """Returns a text field as it stands, which holds more than white space.

    Raises:
        DataError: it is empty, or not what ``text_field`` takes.
    """
    value = text_field(row, name, path, line)
    if not value.strip():
        raise DataError(
            f"{place(path, line)}: field {name!r} is empty. Correct the row, or remove it."
        )
    return value


def int_field(
    row: Mapping[str, Any],
    name: str,
    path: Path,
    line: int,
    among: Collection[int] | None = None,
) -> int:
    """Returns a whole-number field; digits as text count, as Belebele writes its answers.

    Args:
        row: the row.
        name: the field.
        path: the file, for the message.
        line: the line or row number, for the message.
        among: the values that are allowed; None allows all.

    Raises:
        DataError: the field is missing, not a whole number, or not among the allowed values.
    """
    value = row.get(name)
    if isinstance(value, str) and value.strip().isdecimal():
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _wrong(row, name, path, line, "a whole number")
    if among is not None and value not in among:
        allowed = ", ".join(str(v) for v in sorted(among))
        raise DataError(
            f"{place(path, line)}: field {name!r} is {value}; it must be one of {allowed}. "
            "Check that the file is the upstream release."
        )
    return value


def list_field(row: Mapping[str, Any], name: str, path: Path, line: int) -> list[Any]:
    """Returns a list field.

    Raises:
        DataError: the field is missing or not a list.
    """
    value = row.get(name)
    if isinstance(value, list):
        return value
    raise _wrong(row, name, path, line, "a list")


def _require_unicode(value: str, name: str, path: Path, line: int) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{place(path, line)}: field {name!r} holds half of a surrogate pair at character "
            f"{error.start}. Correct the row, or remove it."
        ) from error


def _wrong(row: Mapping[str, Any], name: str, path: Path, line: int, expected: str) -> DataError:
    where = place(path, line)
    if name not in row:
        has = ", ".join(map(str, row)) or "none"
        return DataError(
            f"{where}: field {name!r} is missing; the row has {has}. "
            "Add the field, or check that the file is of this data set."
        )
    value = row[name]
    return DataError(
        f"{where}: field {name!r} must be {expected}, it is "
        f"{'null' if value is None else f'{value!r:.60}'}. Correct the row, or remove it."
    )
