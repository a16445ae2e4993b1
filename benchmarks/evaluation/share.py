"""Share of the machine's bfloat16 product peak in ranking, on a base of hidden size 1,024."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

from benchmarks.evaluation.answers import read_store
from benchmarks.evaluation.contestants import Place, eval_command, run_maple
from benchmarks.evaluation.floor import Counter, forward_flops
from benchmarks.training.bases import Architecture

FORMS = {
    "letters": (("belebele",), ("--prompt", "lm-eval")),
    "sentences": (("belebele",), ("--prompt", "mega", "--choices", "cloze")),
    "xnli": (("xnli",), ("--prompt", "lm-eval")),
}


def ranking_share(
    place: Place, architecture: Architecture, counter: Counter, *, peak: float, samples: int
) -> dict[str, dict[str, Any]]:
    """Operations that had to be done, over what the peak allows in the time they took.

    The time is that of the evaluations alone, as stored: tokenized prompts to written rows.

    Args:
        place: the wide base with one adapter.
        architecture: of the base.
        counter: with the base's tokenizer.
        peak: FLOP/s, measured before.
        samples: of each task and language.
    """
    found = {}
    for name, (tasks, form) in FORMS.items():
        out = place.work / "scratch" / "share"
        shutil.rmtree(out, ignore_errors=True)
        options = [*form, "--limit", str(samples)]
        command = eval_command(place, out, tasks=tasks, bits="bf16", options=options)
        outcome = run_maple(command, place, out)
        evaluations = [
            (forward_flops(architecture, work, stored.rank), work.tokens, stored.seconds)
            for stored in read_store(out)
            for work in [counter.work(stored)]
        ]
        found[name] = {**shares(evaluations, peak), "process_seconds": round(outcome.seconds, 2)}
    return found


def shares(evaluations: Sequence[tuple[int, int, float]], peak: float) -> dict[str, Any]:
    """Of (operations, tokens, seconds) of each evaluation; the total, and the best of them."""
    flops, tokens, seconds = (sum(column) for column in zip(*evaluations, strict=True))
    each = [f / s / peak for f, _, s in evaluations]
    return {
        "share": round(flops / seconds / peak, 4),
        "share_min": round(min(each), 4),
        "share_max": round(max(each), 4),
        "tokens_fewest": tokens,
        "seconds": round(seconds, 3),
        "tflops": round(flops / seconds / 1e12, 4),
    }
