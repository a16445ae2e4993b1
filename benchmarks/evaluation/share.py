"""Share of the machine's bfloat16 product peak in ranking, on a base of hidden size 1,024."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from typing import Any

from benchmarks.evaluation.answers import read_store
from benchmarks.evaluation.contestants import Place, eval_command, run_maple
from benchmarks.evaluation.floor import Counter, forward_flops
from benchmarks.training.bases import Architecture

_IN_CONTEXT = "--no-unconditional"
FORMS = {
    "letters": (("belebele",), ("--prompt", "lm-eval", _IN_CONTEXT)),
    "sentences": (("belebele",), ("--prompt", "mega", "--choices", "cloze", _IN_CONTEXT)),
    "xnli": (("xnli",), ("--prompt", "lm-eval", _IN_CONTEXT)),
}


def ranking_share(
    name: str, place: Place, architecture: Architecture, counter: Counter, *, samples: int
) -> dict[str, Any]:
    """Operations that were done in ranking, and the time they took.

    The time is that of the evaluations alone, as stored: tokenized prompts to written rows.

    Args:
        name: of ``FORMS``.
        place: the wide base with one adapter.
        architecture: of the base.
        counter: with the base's tokenizer.
        samples: of each task and language.
    """
    tasks, form = FORMS[name]
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
    fewest, fed = sum(tokens for _, tokens, _ in evaluations), outcome.passes.tokens
    # Samples that begin alike share what the count has once a sample: what was not fed was not
    # done. Operations go nearly with tokens; attention's, which do not, are a few in a hundred.
    done = min(1.0, fed / fewest)
    evaluations = [(round(flops * done), tokens, s) for flops, tokens, s in evaluations]
    return rates(evaluations) | {
        "tokens_fed": outcome.passes.tokens,
        "process_seconds": round(outcome.seconds, 2),
    }


def rates(evaluations: Sequence[tuple[int, int, float]]) -> dict[str, Any]:
    """Of (operations, tokens, seconds) of each evaluation; the total, and the best of them."""
    flops, tokens, seconds = (sum(column) for column in zip(*evaluations, strict=True))
    each = [f / s / 1e12 for f, _, s in evaluations]
    return {
        "tflops": round(flops / seconds / 1e12, 4),
        "tflops_min": round(min(each), 4),
        "tflops_max": round(max(each), 4),
        "tokens_fewest": tokens,
        "seconds": round(seconds, 3),
    }


def with_peak(found: dict[str, Any], peaks: Sequence[float]) -> dict[str, Any]:
    """The rates over the larger of the peaks measured before and after, in FLOP/s."""
    peak = max(peaks) / 1e12
    shares = {f"share{end}": round(found[f"tflops{end}"] / peak, 4) for end in ("", "_min", "_max")}
    return shares | found | {"peak_tflops": [round(p / 1e12, 4) for p in peaks]}
