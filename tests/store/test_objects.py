"""What a training cost, as stores of other programs may or may not say it."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest

from maple.analysis.costs import run_costs
from maple.errors import StoreError
from maple.store.objects import read_object, train_record
from maple.store.read import Cell, StoredRun


def stored(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content), "utf-8")
    return path


def test_what_was_not_taken_down_is_not_known(tmp_path: Path) -> None:
    path = stored(tmp_path / "train.json", {"steps": 10, "peak_memory_bytes": None})
    record = train_record(path)
    assert record is not None
    assert (record.steps, record.peak_memory_bytes, record.adapter_sha256) == (10, 0, "")
    assert math.isnan(record.train_seconds)
    cell = Cell(label="r", model="m", method="lora", quantization="bf16")
    run = StoredRun(run_id="r", cell=cell, status="done", train=record)
    (cost,) = run_costs([run], [])
    assert cost.steps == 10
    assert cost.peak_memory_bytes is cost.train_seconds is cost.tokens_per_second is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([], "holds no JSON object"),
        (None, "holds no JSON object"),
        ({"steps": "ten"}, "steps 'ten' is not a number"),
        ({"steps": [1]}, r"steps \[1\] is not a number"),
        ({"adapter_sha256": 5}, "adapter_sha256 5 is not a text"),
    ],
)
def test_what_is_of_another_type_is_refused(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(StoreError, match=message):
        train_record(stored(tmp_path / "train.json", content))


def test_a_broken_file_is_named_and_only_it_is_to_go(tmp_path: Path) -> None:
    path = tmp_path / "study.json"
    path.write_text("{", "utf-8")
    with pytest.raises(StoreError, match=r"study.json cannot be read as JSON.*Delete the file"):
        read_object(path)
    assert read_object(tmp_path / "none.json") is None
