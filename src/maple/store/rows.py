"""The sample rows of many parts as one table, parts of an older Maple among them."""

from __future__ import annotations

import os
from collections.abc import Collection, Sequence
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from maple.errors import StoreError
from maple.records import SAMPLE_SCHEMA

_ADDED = {"unconditional": "DOUBLE[]", "checks": "MAP(VARCHAR, BOOLEAN)"}
"""Columns that older parts lack, with their types: NULL there."""
SMALL_BYTES = 2**20
"""Parts up to it are read whole, the columns that nobody asked for as well."""
_ALWAYS = [name for name in SAMPLE_SCHEMA.names if name not in _ADDED]


def relation(parts: Sequence[Path], *, has_older: bool = False) -> duckdb.DuckDBPyRelation:
    """Returns the rows of parts, lazily; of two rows of one sample the first by file name.

    Args:
        parts: Parquet files with the columns of ``docs/results_format.md``.
        has_older: whether a part is known to lack columns that were added since.

    Raises:
        StoreError: the first part, or with an older one any part, is broken or lacks a column.
    """
    connection = _connect()
    if not parts:
        return connection.from_arrow(SAMPLE_SCHEMA.empty_table())
    try:
        files = [str(part) for part in parts]
        rows = connection.read_parquet(files, filename=True)
        if has_older or not {*_ADDED} <= {*rows.columns}:
            # By name only now: it opens every part first, and fills in whatever one lacks.
            _check_columns(connection, files)
            rows = connection.read_parquet(files, filename=True, union_by_name=True)
        absent = [n for n in _ADDED if n not in rows.columns]
        columns = [f"NULL::{_ADDED[n]} AS {n}" if n in absent else n for n in SAMPLE_SCHEMA.names]
        order = "PARTITION BY eval_id, sample_id ORDER BY filename"
        ranked = rows.project(f"{', '.join(columns)}, row_number() OVER ({order}) AS copy")
        return ranked.filter("copy = 1").project(", ".join(SAMPLE_SCHEMA.names))
    except duckdb.Error as error:
        raise StoreError(_blame(parts, error) or _unread(error)) from error


def stored(parts: Sequence[Path], columns: Sequence[str]) -> pa.Table:
    """Returns columns of every row, part after part: a sample stored twice is there twice.

    One file at a time by Arrow: tens of thousands of small files take DuckDB's threads twice as
    long in all, because they wait for one another.

    Args:
        parts: Parquet files with the columns of ``docs/results_format.md``.
        columns: names of ``docs/results_format.md``; NULL where an older part lacks one.

    Raises:
        StoreError: a part is broken or lacks a column; the message names it.
    """
    wanted = pa.schema([SAMPLE_SCHEMA.field(name) for name in columns])
    tables = [_read(part, wanted) for part in parts]
    return pa.concat_tables(tables) if tables else pa.Table.from_batches([], wanted)


def answer(parts: Sequence[Path], sql: str) -> pa.Table:
    """Returns the answer to SQL over the table ``samples``: the rows of parts.

    Raises:
        StoreError: a part is broken or lacks a column; the message names it.
    """
    try:
        return _answer(relation(parts), sql)
    except duckdb.Error as error:
        if (blame := _blame(parts, error)) is not None:
            raise StoreError(blame) from error
    try:
        return _answer(relation(parts, has_older=True), sql)
    except duckdb.Error as error:
        raise StoreError(_unread(error)) from error


def broken_part(path: Path, error: BaseException) -> str:
    """Words that a Parquet file of a store cannot be read, and what to do."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    return (
        f"{path} cannot be read as Parquet ({reason}). Delete that file and the `done` beside it, "
        "then run the study again; what else is stored is kept."
    )


def _read(part: Path, wanted: pa.Schema) -> pa.Table:
    try:
        with _opened(part) as file:
            rows = file.read(wanted.names, use_threads=False)
            absent = {name for name in wanted.names if name not in rows.column_names}
            if not absent <= {*_ADDED}:
                raise StoreError(_lacks(part, file.schema_arrow.names))
    except (OSError, pa.ArrowException) as error:
        raise StoreError(broken_part(part, error)) from error
    return rows if rows.schema.equals(wanted) else _typed(rows, wanted)


def _opened(part: Path) -> pq.ParquetFile:
    """Opens a part; a small one is read at once, which takes two thirds of the time of pieces."""
    with open(part, "rb", buffering=0) as file:
        is_small = os.fstat(file.fileno()).st_size <= SMALL_BYTES
        content = file.read() if is_small else None
    return pq.ParquetFile(part if content is None else pa.BufferReader(content))


def _typed(rows: pa.Table, wanted: pa.Schema) -> pa.Table:
    """Brings columns to their documented order and types, where another writer took others.

    Raises:
        StoreError: a column holds something else altogether.
    """
    columns = []
    for field in wanted:
        if field.name not in rows.column_names:
            columns.append(pa.nulls(rows.num_rows, field.type))
            continue
        column = rows[field.name]
        try:
            columns.append(column.cast(field.type))
        except pa.ArrowException as error:
            raise StoreError(
                f"the sample rows' column {field.name} is {column.type}, not {field.type} "
                "(docs/results_format.md)."
            ) from error
    return pa.table(columns, schema=wanted)


def _connect() -> duckdb.DuckDBPyConnection:
    # No part is read twice, so keeping its bytes would cost time and memory for nothing.
    return duckdb.connect(
        config={"autoinstall_known_extensions": "false", "enable_external_file_cache": "false"}
    )


def _answer(rows: duckdb.DuckDBPyRelation, sql: str) -> pa.Table:
    found = rows.query("samples", sql)
    return None if found is None else found.to_arrow_table()


def _check_columns(connection: duckdb.DuckDBPyConnection, files: Sequence[str]) -> None:
    """Raises ``StoreError`` for a part without a column that every part has."""
    lacking = connection.execute(
        "SELECT file_name, list(name) FROM parquet_schema(?) GROUP BY file_name "
        "HAVING NOT list_has_all(list(name), ?) ORDER BY file_name LIMIT 1",
        [files, _ALWAYS],
    ).fetchone()
    if lacking is not None:
        raise StoreError(_lacks(lacking[0], lacking[1]))


def _blame(parts: Sequence[Path], error: duckdb.Error) -> str | None:
    """Names the part that DuckDB stumbled over: its own message may name no file.

    None where no part is broken and some are older than the columns that were added.
    """
    has_older = False
    for part in parts:
        try:
            names = pq.read_schema(part).names
        except (OSError, pa.ArrowException) as broken:
            return broken_part(part, broken)
        if not {*_ALWAYS} <= {*names}:
            return _lacks(part, names)
        has_older |= not {*_ADDED} <= {*names}
    return None if has_older else _unread(error)


def _lacks(part: Path | str, names: Collection[str]) -> str:
    absent = ", ".join(name for name in _ALWAYS if name not in names)
    return f"{part} lacks the column(s) {absent} of docs/results_format.md."


def _unread(error: duckdb.Error) -> str:
    return f"the sample rows cannot be read: {error}"
