"""A run's training curve as far as it got: the stored one, or what its last checkpoint holds."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maple.errors import StoreError
from maple.store.read import Store


def rows_so_far(store: Store, run_id: str) -> list[Mapping[str, Any]]:
    """Returns the finished steps of a run, a mapping per step with the columns of a curve row.

    A run in training has them in its checkpoint alone, so they grow as often as it writes one.

    Raises:
        StoreError: the curve or the checkpoint cannot be read.
    """
    checkpoint = store.layout.checkpoint(run_id)
    is_stored = (store.layout.run(run_id) / "curve.parquet").exists()
    if not is_stored and checkpoint.exists():
        try:
            return checkpoint_rows(checkpoint)
        except FileNotFoundError:
            # The run ended between the two looks: its curve is stored now.
            pass
    rows = store.curve(run_id).to_pylist()
    # Parquet gives a map column as pairs.
    return [r | {"validation_losses": dict(r.get("validation_losses") or ())} for r in rows]


def checkpoint_rows(path: Path) -> list[Mapping[str, Any]]:
    """Returns the curve in a checkpoint's header; its tensors are not read.

    Raises:
        StoreError: the file is no checkpoint, or its rows have no number of a step.
        FileNotFoundError: there is none: a run that ends takes it away.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="np") as file:
            rows = list(json.loads((file.metadata() or {})["maple"])["curve"])
        return [{**row, "step": int(row["step"])} for row in rows]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StoreError(f"{path} holds no curve that can be read: {error}") from error
