"""The JSON files of a store: objects that may be missing, and what a training cost."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maple.errors import StoreError
from maple.records import TrainRecord

_ADVICE = (
    "Delete the file, and the `done` beside it if there is one, and run the study again: what else "
    "is stored is kept."
)
_NOT_KNOWN: Mapping[str, Any] = {"int": 0, "float": math.nan, "str": ""}
_KEYS: Mapping[str, Any] = {
    f.name: _NOT_KNOWN[str(f.type)] if f.default is dataclasses.MISSING else f.default
    for f in dataclasses.fields(TrainRecord)
}
"""Every key of ``train.json`` with what stands for it where it is missing or null."""


def read_object(path: Path) -> dict[str, Any] | None:
    """Returns what a JSON file holds; None where there is no file.

    Raises:
        StoreError: the file cannot be read, or holds no JSON object.
    """
    try:
        # Asking whether it exists first would double the cost of small files.
        with open(path, "rb") as file:
            content = json.loads(file.read().decode("utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read as JSON ({error}). {_ADVICE}") from error
    if not isinstance(content, dict):
        raise StoreError(f"{path} holds no JSON object (docs/results_format.md). {_ADVICE}")
    return content


def train_record(path: Path) -> TrainRecord | None:
    """Returns what a training cost; None where there is no file.

    A number that is missing or null is 0, a time or loss NaN: a store of another program may not
    have taken it down.

    Raises:
        StoreError: the file cannot be read, or a value is of another type.
    """
    content = read_object(path)
    if content is None:
        return None
    kept = {name: value for name in _KEYS if (value := content.get(name)) is not None}
    for name, value in kept.items():
        is_text = isinstance(_KEYS[name], str)
        if isinstance(value, str) != is_text or not isinstance(value, str | int | float):
            wanted = "a text" if is_text else "a number"
            raise StoreError(f"{path}: {name} {value!r} is not {wanted} (docs/results_format.md).")
    return TrainRecord(**{**_KEYS, "run_id": path.parent.name, **kept})
