"""The loop's numbers are those of the last release, or LOOP_VERSION says that they are not.

Where a change of the numbers is meant: raise ``LOOP_VERSION`` in ``study/spec.py``, run this file
with MAPLE_WRITE_GOLDEN=1, and say so in the commit (``Results: LOOP_VERSION 1 -> 2``).
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.tiny_models import settings, train_on

from maple.base import LoadedBase
from maple.catalog import load_method
from maple.study import LOOP_VERSION

GOLDEN = Path(__file__).parent / "golden_curve.json"
LORA = {"rank": 4, "alpha": 8, "dropout": 0.0, "targets": "all-linear"}


def test_the_curve_is_the_golden_one(fresh_base: Callable[..., LoadedBase]) -> None:
    wanted = settings(
        max_steps=12,
        epochs=10,
        batch_size=6,
        warmup_steps=3,
        scheduler="cosine",
        weight_decay=0.01,
        learning_rate=3e-3,
    )
    _, result = train_on(fresh_base(), load_method("lora", LORA), wanted)
    found = {
        "loop_version": LOOP_VERSION,
        "loss": [row.loss for row in result.curve],
        "grad_norm": [row.grad_norm for row in result.curve],
        "label_tokens": [row.label_tokens for row in result.curve],
    }
    if os.environ.get("MAPLE_WRITE_GOLDEN"):
        GOLDEN.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    golden = json.loads(GOLDEN.read_text(encoding="utf-8"))
    advice = "the loop's numbers changed: raise LOOP_VERSION (see this file's first lines)"
    assert found["loop_version"] == golden["loop_version"], "write the golden curve anew"
    assert found["label_tokens"] == golden["label_tokens"], advice
    # float32 on another processor: the sums' order differs, the steps carry it on.
    assert found["loss"] == pytest.approx(golden["loss"], rel=1e-4), advice
    assert found["grad_norm"] == pytest.approx(golden["grad_norm"], rel=1e-3), advice
