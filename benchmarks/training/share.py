"""Share of the measured product peak, and memory at equal tokens per forward pass."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.training.bases import Architecture
from benchmarks.training.contestants import (
    Outcome,
    PeerSetting,
    Place,
    Recipe,
    run_ours,
    run_trl,
)
from benchmarks.training.flops import step_flops
from benchmarks.training.processes import CommandFailedError
from benchmarks.training.rows import Rows

WARM_UP_STEPS = 3
FORWARD_TOKENS = 4096
"""``micro_batch_tokens`` of a study, which the peer's rows times their length equal."""


def product_peak(place_env: dict[str, str], device: str) -> float:
    """FLOP/s of the best bfloat16 product, measured in a process of its own."""
    script = Path(__file__).with_name("product_peak.py")
    done = subprocess.run(
        [sys.executable, str(script), device],
        env=place_env, capture_output=True, text=True, check=True, timeout=300,
    )  # fmt: skip
    return float(json.loads(done.stdout))


def achieved(outcome: Outcome, rows: Rows, architecture: Architecture, rank: int) -> list[float]:
    """FLOP/s of each step of one run of ours.

    Raises:
        SystemExit: the curve's steps are not the ones whose work was counted.
    """
    assert outcome.curves is not None
    curve = outcome.curves[rank]
    if [row["tokens"] for row in curve] != [step.tokens for step in rows.steps]:
        raise SystemExit("the curve's tokens are not those of the drawn steps")
    return [
        step_flops(architecture, step, rank) / row["step_seconds"]
        for step, row in zip(rows.steps, curve, strict=True)
    ]


def share_of_peak(
    recipe: Recipe, place: Place, architecture: Architecture, before: float, *, rank: int
) -> dict[str, Any]:
    """One adapter alone in one process: median achieved FLOP/s over the peak around it.

    Args:
        recipe: its ranks are replaced by the one.
        place: as ever.
        architecture: of the base.
        before: the peak measured before.
        rank: of the adapter.
    """
    alone = replace(recipe, ranks=(rank,))
    outcome = run_ours(alone, replace(place, workers=1), tag="share")
    after = product_peak(place.env(), place.device)
    peak = max(before, after)
    flops = achieved(outcome, place.rows, architecture, rank)
    steady = flops[WARM_UP_STEPS:] or flops
    assert outcome.curves is not None
    curve = outcome.curves[rank]
    speeds = [row["tokens_per_second"] for row in curve][WARM_UP_STEPS:]
    return {
        "bits": place.bits,
        "rank": rank,
        "share": round(statistics.median(steady) / peak, 4),
        "share_min": round(min(steady) / peak, 4),
        "share_max": round(max(steady) / peak, 4),
        "steps": len(steady),
        "tokens_per_step": round(statistics.mean(s.tokens for s in place.rows.steps)),
        "tokens_per_second": round(statistics.median(speeds)) if speeds else None,
        "tflops": round(statistics.median(steady) / 1e12, 4),
        "peak_tflops_before": round(before / 1e12, 4),
        "peak_tflops_after": round(after / 1e12, 4),
        "tree_bytes": outcome.tree_bytes,
        "cuda_bytes": _cuda_peak(outcome),
    }


def grid_share(outcome: Outcome, rows: Rows, architecture: Architecture, peak: float) -> float:
    """Operations of a whole grid over what the peak allows from process start to saved adapters."""
    total = sum(
        step_flops(architecture, step, rank) for rank in outcome.trained for step in rows.steps
    )
    return round(total / outcome.saved_seconds / peak, 4)


def memory_at_equal_tokens(recipe: Recipe, place: Place) -> dict[str, Any]:
    """Our whole grid against one TRL run, as many tokens in a forward pass of each.

    TRL's rows are filled to the end (packing ``wrapped``), so that the tokens are real ones, and
    once more without packing, where as many are padding or real.
    """
    per_device = max(1, FORWARD_TOKENS // recipe.max_length)
    ours = run_ours(recipe, place)
    found: dict[str, Any] = {
        "bits": place.bits,
        "forward_tokens": FORWARD_TOKENS,
        "ours_tree_bytes": ours.tree_bytes,
        "ours_process_bytes": ours.process_bytes,
        "ours_cuda_bytes": _cuda_peak(ours),
    }
    one = replace(recipe, ranks=(max(recipe.ranks),))
    for name, packing in (("wrapped", "wrapped"), ("unpacked", None)):
        setting = PeerSetting(name=name, per_device=per_device, packing=packing)
        try:
            trl = run_trl(one, place, setting)
        except CommandFailedError as error:
            found[f"trl_{name}"] = {"failed": str(error).splitlines()[-1]}
            continue
        found[f"trl_{name}"] = {
            "tree_bytes": trl.tree_bytes,
            "process_bytes": trl.process_bytes,
            "cuda_bytes": _cuda_peak(trl),
            "ratio": round(_compared(ours) / _compared(trl), 3),
        }
    return found


def _cuda_peak(outcome: Outcome) -> int | None:
    peaks = [t.cuda_peak_bytes for t in outcome.trained.values() if t.cuda_peak_bytes]
    return max(peaks) if peaks else None


def _compared(outcome: Outcome) -> int:
    """Bytes on the accelerator where there is one, else of the tree of processes."""
    return _cuda_peak(outcome) or outcome.tree_bytes
