"""Ratios of interleaved pairs, their median and spread; and whether the work was the same."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from benchmarks.training.contestants import Outcome, PeerSetting
from benchmarks.training.rows import Rows

FIRST_LOSS = 0.002
"""Relative difference allowed of the first step's loss where it saw the same examples."""
OTHER_LOSS = 0.02
"""The same where the examples of a step differ, and of the last step's loss."""
WRAPPED_LABELS = 0.02
"""Share of the labels that packing across row ends may lose: a row's first token has none."""


def summary(ratios: Sequence[float]) -> dict[str, Any]:
    """Median, extremes and every value."""
    return {
        "median": round(statistics.median(ratios), 3),
        "min": round(min(ratios), 3),
        "max": round(max(ratios), 3),
        "pairs": [round(r, 3) for r in ratios],
    }


def differences(ours: Outcome, peer: Outcome, setting: PeerSetting, rows: Rows) -> list[str]:
    """What a peer's training did otherwise than ours; empty where the work was the same."""
    found = []
    for rank, mine in ours.trained.items():
        other = peer.trained[rank]
        if mine.label_tokens != rows.label_tokens:
            found.append(f"rank {rank}: ours saw {mine.label_tokens} labels of {rows.label_tokens}")
        lost = abs(other.label_tokens - rows.label_tokens) / rows.label_tokens
        if lost > (WRAPPED_LABELS if setting.packing else 0):
            found.append(f"rank {rank}: {other.label_tokens} labels of {rows.label_tokens}")
        allowed = FIRST_LOSS if setting.keeps_order else OTHER_LOSS
        for what, a, b, limit in (
            ("first", mine.first_loss, other.first_loss, allowed),
            ("last", mine.last_loss, other.last_loss, OTHER_LOSS),
        ):
            if abs(a - b) > limit * a:
                found.append(f"rank {rank}: {what} loss {b:.3f}, ours {a:.3f}")
    return found
