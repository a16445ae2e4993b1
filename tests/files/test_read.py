"""Readers: what they yield, and that every broken file is named with its line."""

from __future__ import annotations

import contextlib
import gzip
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maple.errors import DataError
from maple.files.read import read_json_rows, read_jsonl, read_parquet, read_rows, read_tsv

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


def test_jsonl_numbers_lines_from_one_and_skips_blank_ones(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", b'{"a": 1}\n\n{"a": 2}\r\n')
    assert list(read_jsonl(path)) == [(1, {"a": 1}), (3, {"a": 2})]


def test_a_byte_order_mark_is_no_content(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.jsonl", b'\xef\xbb\xbf{"a": 1}\n')
    assert list(read_jsonl(path)) == [(1, {"a": 1})]


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.dictionaries(TEXT, TEXT, min_size=1), min_size=1, max_size=5))
def test_jsonl_gives_back_any_text(
    rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("any") / "a.jsonl"
    lines = [json.dumps(r, ensure_ascii=False) for r in rows]
    path.write_bytes("\n".join(lines).encode())
    assert [r for _, r in read_jsonl(path)] == rows


@settings(max_examples=50, deadline=None)
@given(cut=st.integers(min_value=1, max_value=58))
def test_a_file_cut_anywhere_never_yields_a_wrong_row(
    cut: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    rows = [{"text": "jambo"}, {"text": "你好"}, {"text": "สวัสดี"}]
    content = "".join(json.dumps(r, ensure_ascii=False) + "\n" for r in rows).encode()
    path = _write(tmp_path_factory.mktemp("cut") / "a.jsonl", content[:cut])
    got: list[dict[str, str]] = []
    with contextlib.suppress(DataError):
        got.extend(r for _, r in read_jsonl(path))
    assert got == rows[: len(got)]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"a": 1}\n{"a": ', r"line 2: not JSON.*truncated"),
        (b'{"a": 1}\n{a: 2}\n', r"line 2: not JSON at column 2.*one JSON object a line"),
        (b'{"a": 1}\n[2]\n', r"line 2: a row must be a JSON object, this is \[2\]"),
        (b'{"a": 1}\n{"a": "caf\xe9"}\n', r"line 2: not UTF-8 at byte 19 of the file \(0xe9\)"),
        (b"", "holds no rows"),
        (b"\n \n", "holds no rows"),
    ],
)
def test_broken_jsonl_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = _write(tmp_path / "a.jsonl", content)
    with pytest.raises(DataError, match=message):
        list(read_jsonl(path))


@pytest.mark.parametrize(
    "content", [b'[{"a": 1}, {"a": 2}]', b'{"v": 1, "data": [{"a": 1}, {"a": 2}]}']
)
def test_json_rows_are_an_array_or_stand_under_data(tmp_path: Path, content: bytes) -> None:
    path = _write(tmp_path / "a.json", content)
    assert list(read_json_rows(path)) == [(1, {"a": 1}), (2, {"a": 2})]
    assert list(read_rows(path)) == list(read_json_rows(path))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'[{"a": 1},\n {"a"', r"a\.json, line 2: not JSON"),
        (b'{"rows": []}', "expected an array"),
        (b"3", "expected an array"),
        (b'[{"a": 1}, 2]', "row 2: a row must be a JSON object"),
        (b"[]", "holds no rows"),
    ],
)
def test_broken_json_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = _write(tmp_path / "a.json", content)
    with pytest.raises(DataError, match=message):
        list(read_json_rows(path))


def test_tsv_takes_quotes_as_they_stand(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.tsv", 'He said "no\tx\n"y\t\u2028z\r\n'.encode())
    assert list(read_tsv(path, ["p", "h"])) == [
        (1, {"p": 'He said "no', "h": "x"}),
        (2, {"p": '"y', "h": "\u2028z"}),
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a\tb\na\tb\tc\n", r"line 2: 3 columns where 2 were expected \(p, h\)"),
        (b"\xff\tb\n", "not UTF-8 at byte 0"),
        (b"", "holds no rows"),
    ],
)
def test_broken_tsv_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    path = _write(tmp_path / "a.tsv", content)
    with pytest.raises(DataError, match=message):
        list(read_tsv(path, ["p", "h"]))


def test_a_tsv_header_is_checked(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.tsv", b"p\th\n1\t2\n")
    assert list(read_tsv(path, ["p", "h"], has_header=True)) == [(2, {"p": "1", "h": "2"})]
    with pytest.raises(DataError, match="the header is p, h; expected p, x"):
        list(read_tsv(path, ["p", "x"], has_header=True))


def test_parquet_rows_are_numbered(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"a": ["x", None]}), path)
    assert list(read_parquet(path)) == [(1, {"a": "x"}), (2, {"a": None})]


def test_broken_parquet_is_named(tmp_path: Path) -> None:
    whole = tmp_path / "whole.parquet"
    pq.write_table(pa.table({"a": ["x"]}), whole)
    cut = _write(tmp_path / "cut.parquet", whole.read_bytes()[:-9])
    with pytest.raises(DataError, match=r"cut\.parquet: not a whole Parquet file"):
        list(read_parquet(cut))
    pq.write_table(pa.table({"a": pa.array([], pa.string())}), whole)
    with pytest.raises(DataError, match="holds no rows"):
        list(read_parquet(whole))


ROWS: list[dict[str, Any]] = [{"a": "x,\"'\n", "b": "ñ"}, {"a": "y", "b": "z"}]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", "\n".join(json.dumps(r) for r in ROWS)),
        ("a.json", json.dumps(ROWS, indent=2)),
        ("lines.json", "\n".join(json.dumps(r) for r in ROWS)),
        ("a.csv", 'a,b\n"x,""\'\n",ñ\ny,z\n'),
    ],
)
@pytest.mark.parametrize("is_compressed", [False, True])
def test_rows_are_read_by_suffix(tmp_path: Path, name: str, text: str, is_compressed: bool) -> None:
    content = text.encode()
    path = tmp_path / (name + ".gz" * is_compressed)
    path.write_bytes(gzip.compress(content) if is_compressed else content)
    assert [row for _, row in read_rows(path)] == ROWS


def test_tsv_rows_take_their_names_from_the_header(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.tsv", b'a\tb\nx\t"y\n')
    assert list(read_rows(path)) == [(2, {"a": "x", "b": '"y'})]


def test_a_csv_row_of_another_width_is_named(tmp_path: Path) -> None:
    path = _write(tmp_path / "a.csv", b"a,b\n1,2\n1,2,3\n")
    with pytest.raises(DataError, match="line 3: not a row of 2 columns"):
        list(read_rows(path))


def test_a_truncated_gzip_is_named(tmp_path: Path) -> None:
    whole = gzip.compress(b'{"a": 1}\n' * 100)
    with pytest.raises(DataError, match="not a whole gzip file"):
        list(read_rows(_write(tmp_path / "a.jsonl.gz", whole[:-12])))
    with pytest.raises(DataError, match="not a whole gzip file"):
        list(read_rows(_write(tmp_path / "b.jsonl.gz", b"plain")))


def test_an_unknown_suffix_or_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no reader for '\.py'"):
        read_rows(tmp_path / "a.py")
    with pytest.raises(DataError, match="cannot be read"):
        list(read_rows(tmp_path / "gone.jsonl"))
