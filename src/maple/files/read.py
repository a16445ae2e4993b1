"""Readers of data files: each yields (line or row number, row) and names what is wrong and where.

Numbers count from 1: lines in JSON Lines, TSV and CSV, rows in JSON arrays and Parquet. A file is
read a row at a time where its format allows it (all but a JSON array).
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path
from typing import IO, Any

from maple.errors import DataError
from maple.files.fields import place

Row = dict[str, Any]


def read_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yields the rows of a file by its suffix.

    ``.parquet``, ``.jsonl``, ``.json`` (an array, ``{"data": [...]}`` or JSON Lines), ``.tsv`` and
    ``.csv`` with a header line; the text formats also as ``.gz``.

    Raises:
        DataError: another suffix, or content that is not what the suffix promises.
    """
    suffix = Path(path.name.removesuffix(".gz")).suffix.lower()
    if suffix == ".parquet":
        return read_parquet(path)
    if suffix == ".jsonl":
        return read_jsonl(path)
    if suffix == ".json":
        return read_jsonl(path) if _holds_json_lines(path) else read_json_rows(path)
    if suffix in (".tsv", ".csv"):
        return _read_table(path, suffix)
    raise DataError(
        f"{path}: no reader for {suffix or 'a file without a suffix'!r}. "
        "Readable: .parquet .jsonl .json .tsv .csv, the text formats also as .gz."
    )


def read_jsonl(path: Path) -> Iterator[tuple[int, Row]]:
    """Yields (line number, object) of a JSON Lines file; blank lines are passed over.

    Raises:
        DataError: a line that is truncated, not JSON, not an object or not UTF-8; no rows.
    """
    n_rows = 0
    for line, text in _lines(path):
        if text.strip():
            n_rows += 1
            yield line, _parse_line(text, path, line)
    _require_rows(n_rows, path)


def read_json_rows(path: Path) -> Iterator[tuple[int, Row]]:
    """Yields (row number, object) of a JSON array, or of the array under ``data``.

    Raises:
        DataError: not JSON, not UTF-8, no array, a row that is not an object; no rows.
    """
    text = _text(path)
    try:
        content = json.loads(text)
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {error.lineno}: not JSON at column {error.colno} ({error.msg}). "
            "The file is truncated or was edited; fetch it again."
        ) from error
    rows = content.get("data") if isinstance(content, dict) else content
    if not isinstance(rows, list):
        raise DataError(f'{path}: expected an array of rows, or an object with one under "data".')
    for number, row in enumerate(rows, start=1):
        yield number, row if isinstance(row, dict) else _require_object(row, place(path, number))
    _require_rows(len(rows), path)


def read_tsv(
    path: Path, columns: Sequence[str], *, has_header: bool = False
) -> Iterator[tuple[int, dict[str, str]]]:
    """Yields (line number, row) of a tab-separated file; quotes are ordinary characters.

    No quoting, because XNLI's files hold bare quotes: a reader that honours them joins thousands
    of lines into one. Empty lines are passed over.

    Args:
        path: the file, plain or ``.gz``.
        columns: the name of each column, left to right.
        has_header: the first line names the columns; it must equal ``columns``.

    Raises:
        DataError: a line with another number of columns, another header, not UTF-8; no rows.
    """
    n_rows = 0
    for line, text in _lines(path):
        values = text.rstrip("\r\n").split("\t")
        if values == [""]:
            continue
        if len(values) != len(columns):
            raise DataError(
                f"{path}, line {line}: {len(values)} columns where {len(columns)} were expected "
                f"({', '.join(columns)}). Check that the file is the upstream release."
            )
        if has_header and line == 1:
            _require_header(values, columns, path)
            continue
        n_rows += 1
        yield line, dict(zip(columns, values, strict=True))
    _require_rows(n_rows, path)


def read_parquet(path: Path) -> Iterator[tuple[int, Row]]:
    """Yields (row number, row) of a Parquet file, a batch in memory at a time.

    Raises:
        DataError: not Parquet, truncated; no rows.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    number = 0
    try:
        with pq.ParquetFile(path) as parquet:
            for batch in parquet.iter_batches(batch_size=1024):
                for row in batch.to_pylist():
                    number += 1
                    yield number, row
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"{path}: not a whole Parquet file ({error}). Fetch it again.") from error
    _require_rows(number, path)


@contextmanager
def _open(path: Path) -> Iterator[IO[bytes]]:
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as handle:
            yield handle  # type: ignore[misc]
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise DataError(f"{path}: not a whole gzip file ({error}). Fetch it again.") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _text(path: Path) -> str:
    with _open(path) as handle:
        content = handle.read().removeprefix(codecs.BOM_UTF8)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        return "".join(text for _, text in _lines(path))  # names the line


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Decodes a file line by line; only ``\\n`` ends a line, U+2028 and its like do not."""
    offset = 0
    with _open(path) as handle:
        for line, raw in enumerate(handle, start=1):
            content = raw.removeprefix(codecs.BOM_UTF8) if line == 1 else raw
            try:
                text = content.decode("utf-8")
            except UnicodeDecodeError as error:
                at = offset + len(raw) - len(content) + error.start
                raise DataError(
                    f"{path}, line {line}: not UTF-8 at byte {at} of the file "
                    f"(0x{content[error.start]:02x}). Convert the file to UTF-8."
                ) from error
            offset += len(raw)
            yield line, text


def _parse_line(text: str, path: Path, line: int) -> Row:
    try:
        row = json.loads(text)
        return row if isinstance(row, dict) else _require_object(row, f"{path}, line {line}")
    except json.JSONDecodeError as error:
        if not text.endswith("\n"):
            message = "the last line is truncated; fetch the file again or remove the line"
        else:
            message = "one JSON object a line was expected; correct or remove the line"
        raise DataError(
            f"{path}, line {line}: not JSON at column {error.colno} ({error.msg}): {message}."
        ) from error


def _require_object(row: object, where: str) -> Row:
    if isinstance(row, dict):
        return row
    raise DataError(f"{where}: a row must be a JSON object, this is {row!r:.60}.")


def _require_header(values: Sequence[str], columns: Sequence[str], path: Path) -> None:
    if list(values) != list(columns):
        raise DataError(
            f"{path}, line 1: the header is {', '.join(values)}; expected {', '.join(columns)}."
        )


def _require_rows(n_rows: int, path: Path) -> None:
    if not n_rows:
        raise DataError(f"{path}: holds no rows. Fetch it again, or remove it.")


def _holds_json_lines(path: Path) -> bool:
    """Whether a ``.json`` file is JSON Lines: its first line alone is an object of its own."""
    first = next((text for _, text in _lines(path) if text.strip()), "")
    if not first.lstrip().startswith("{"):
        return False
    try:
        content = json.loads(first)
    except json.JSONDecodeError:
        return False
    return not isinstance(content.get("data"), list)


def _read_table(path: Path, suffix: str) -> Iterator[tuple[int, Row]]:
    lines = _lines(path)
    header = next(lines, (1, ""))[1]
    if suffix == ".tsv":
        yield from read_tsv(path, header.rstrip("\r\n").split("\t"), has_header=True)
        return
    reader = csv.reader(chain([header], (text for _, text in lines)))
    n_rows = 0
    try:
        columns = next(reader)
        for values in reader:
            n_rows += 1
            yield reader.line_num, dict(zip(columns, values, strict=True))
    except (csv.Error, ValueError) as error:
        raise DataError(
            f"{path}, line {reader.line_num}: not a row of {len(columns)} columns ({error}). "
            "Quote values that hold commas, quotes or line ends."
        ) from error
    _require_rows(n_rows, path)
