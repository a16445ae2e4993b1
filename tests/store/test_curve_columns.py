"""A curve row comes back as it was stored, with or without a validation; older files too."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from maple.records import CURVE_SCHEMA, CurveRow
from maple.store.read import open_store
from maple.store.write import open_for_writing
from maple.study import MethodRef, ModelRef, RunSpec

RUN = RunSpec(model=ModelRef(name="m"), method=MethodRef(name="lora"), quantization="fp32")
ROW: dict[str, Any] = {
    "loss": 1.0, "learning_rate": 0.1, "grad_norm": 1.0, "tokens": 1, "label_tokens": 1,
    "step_seconds": 1.0, "tokens_per_second": 1.0, "peak_memory_bytes": 1,
}  # fmt: skip


def store_curve(directory: Path) -> Path:
    """Stores two rows, one of them validated; returns the file."""
    losses = {"swh_Latn": 2.5, "tha_Thai": 1.5}
    curve = [
        CurveRow(step=1, **ROW),
        CurveRow(step=2, **ROW, validation_loss=2.0, validation_losses=losses),
    ]
    with open_for_writing(directory) as store:
        store.begin_run(RUN, {})
        store._table(
            store.layout.run(RUN.id) / "curve.parquet", [asdict(r) for r in curve], CURVE_SCHEMA
        )
    return store.layout.run(RUN.id) / "curve.parquet"


def test_validation_losses_are_stored_by_language_and_null_where_there_are_none(
    tmp_path: Path,
) -> None:
    store_curve(tmp_path)
    first, second = open_store(tmp_path).curve(RUN.id).to_pylist()
    assert (first["validation_loss"], first["validation_losses"]) == (None, None)
    assert second["validation_loss"] == 2.0
    assert dict(second["validation_losses"]) == {"swh_Latn": 2.5, "tha_Thai": 1.5}


def test_a_curve_stored_before_there_were_validations_is_read(tmp_path: Path) -> None:
    path = store_curve(tmp_path)
    older = pq.ParquetFile(path).read().drop_columns(["validation_loss", "validation_losses"])
    pq.write_table(older, path)
    found: pa.Table = open_store(tmp_path).curve(RUN.id)
    assert found.column_names == [n for n in CURVE_SCHEMA.names if "validation" not in n]
    assert found["step"].to_pylist() == [1, 2]
