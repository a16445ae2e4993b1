"""Instruction rows: blank ones passed over and said so, wrong ones refused."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from typing import Any

import pytest

from maple.errors import DataError
from maple.files.instructions import read_instructions


def _write(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(r) + "\n" for r in rows), encoding="utf-8")
    return path


def test_blank_rows_are_passed_over_numbered_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rows: list[dict[str, Any]] = [
        {"instruction": "a", "input": None, "output": "b", "id": "x"},
        {"instruction": "a", "output": " \n"},
        {"instruction": "", "input": "c", "output": "b"},
        {"instruction": "a", "output": None},
        {"instruction": "d", "input": "e", "output": "f"},
    ]
    with caplog.at_level(logging.INFO):
        got = list(read_instructions(_write(tmp_path / "a.jsonl", rows)))
    assert [(r.line, r.instruction, r.input, r.output) for r in got] == [
        (1, "a", "", "b"),
        (5, "d", "e", "f"),
    ]
    assert got[0].fields["id"] == "x"
    assert "a.jsonl: 3 rows with a blank" in caplog.text


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "a"}, "line 1: field 'output' is missing"),
        ({"instruction": ["a"], "output": "b"}, "field 'instruction' must be text"),
        ({"instruction": "a", "input": 3, "output": "b"}, "field 'input' must be text, it is 3"),
    ],
)
def test_wrong_rows_are_named(tmp_path: Path, row: dict[str, Any], message: str) -> None:
    with pytest.raises(DataError, match=message):
        list(read_instructions(_write(tmp_path / "a.jsonl", [row])))
