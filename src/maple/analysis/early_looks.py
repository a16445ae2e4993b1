"""Comparisons that were looked at while they were scored: how each ended, and its estimate.

They are apart from every other estimate: the plain mean of a task that was stopped is too far from
its base's on average, and what was not stopped is so because it is near. The estimate here is the
median-unbiased one by the order of stages (Tsiatis, Rosner & Mehta 1984); no run is ranked by it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from maple.analysis.modes import Mode, SetAside
from maple.analysis.parts import REST, is_part, part_reason
from maple.analysis.scores import Gap
from maple.errors import StoreError
from maple.store.read import StoredEvaluation
from maple.study.spec import canonical_json


@dataclass(frozen=True, kw_only=True)
class LookedAt:
    """One comparison of a run in one task and language, as its last look left it."""

    task: str
    run_id: str
    against_run_id: str
    """The run it was compared with; the evaluation's id where the store lacks it."""
    language: str
    decision: str
    """``higher``, ``lower``, ``no more`` (than the futility limit) or ``undecided``."""
    is_part: bool
    """Whether samples were left unscored."""
    look: int
    n_looks: int
    n: int
    n_planned: int
    alpha: float
    """Two-sided error that the comparison may spend, over all its looks."""
    spent: float
    """What it had spent when it ended."""
    score: float
    """Plain mean of the run over the scored samples; biased where it is a part."""
    delta: float
    """Plain mean difference; biased where it is a part."""
    estimate: float
    """Median-unbiased difference, with the limits of its interval of confidence 1 - alpha."""
    low: float
    high: float
    p: float
    repeated_low: float
    repeated_high: float


def looked_at(
    evaluations: Iterable[StoredEvaluation], modes: Iterable[Mode], aside: Iterable[SetAside]
) -> list[LookedAt]:
    """Returns every finished comparison with looks, but those of other adapters than the current.

    Of rules that differ in their error alone, as those of a study that has grown, the least counts.

    Args:
        evaluations: all that are stored.
        modes: with the evaluations that estimates use.
        aside: those that none uses.

    Raises:
        StoreError: what is kept of a look lacks a key.
    """
    known = {e.eval_id: e for e in evaluations}
    used = {e.eval_id for mode in modes for e in mode.evaluations.values()}
    parts = {a.eval_id for a in aside if _is_by_a_look(a, known[a.eval_id])}
    wanted = used | parts
    found = [e for e in known.values() if e.eval_id in wanted and e.is_done and e.spec.get("looks")]
    rows = {e.eval_id: _looked_at(e, known) for e in found}
    least: dict[str, StoredEvaluation] = {}
    for each in sorted(found, key=lambda e: (-rows[e.eval_id].alpha, e.eval_id)):
        least[_but_its_error(each)] = each
    kept = sorted(least.values(), key=lambda e: (e.task, e.run_id, e.language, e.eval_id))
    return [rows[e.eval_id] for e in kept]


def explain_gaps(
    gaps: Iterable[Gap],
    evaluations: Iterable[StoredEvaluation],
    modes: Iterable[Mode],
    aside: Sequence[SetAside],
) -> list[Gap]:
    """Says of cells without an estimate that an early look is why, where it is."""
    known = {e.eval_id: e for e in evaluations}
    tasks = {mode.label: mode.task for mode in modes}
    reasons = {
        (a.task, a.run_id, a.language): (a.reason, known[a.eval_id].n_samples)
        for a in aside
        if _is_by_a_look(a, known[a.eval_id])
    }
    explained = []
    for gap in gaps:
        found = reasons.get((tasks.get(gap.task, gap.task), gap.run_id, gap.language))
        reason, n = found or (gap.reason, gap.n_stored)
        explained.append(dataclasses.replace(gap, reason=reason, n_stored=n))
    return explained


def _is_by_a_look(aside: SetAside, evaluation: StoredEvaluation) -> bool:
    return aside.reason == (part_reason(evaluation) if is_part(evaluation) else REST)


def _but_its_error(evaluation: StoredEvaluation) -> str:
    """What was asked, and by which rule, without the error that the rule spends."""
    rule = {k: v for k, v in evaluation.spec["early_look"].items() if k != "alpha"}
    asked = {k: evaluation.spec.get(k) for k in _ASKED}
    return canonical_json({**asked, "rule": rule})


def _looked_at(evaluation: StoredEvaluation, known: dict[str, StoredEvaluation]) -> LookedAt:
    looks, rule = evaluation.spec["looks"], evaluation.spec.get("early_look") or {}
    against = str(rule.get("against") or "")
    try:
        return LookedAt(
            task=evaluation.task,
            run_id=evaluation.run_id,
            against_run_id=known[against].run_id if against in known else against,
            language=evaluation.language,
            decision=str(looks["decision"]),
            is_part=bool(looks["is_part"]),
            look=int(looks["look"]),
            n_looks=len(looks["counts"]),
            n=int(looks["samples"]),
            n_planned=int(looks["planned"]),
            spent=float(looks["spent"][int(looks["look"]) - 1]),
            delta=float(looks["difference"]),
            **{key: float(looks[key]) for key in _SAME},
        )
    except (KeyError, TypeError, ValueError, IndexError) as error:
        raise StoreError(
            f"evals/{evaluation.eval_id}/spec.json: looks is not as docs/results_format.md has it "
            f"({type(error).__name__}: {error}). Delete its folder and run the study again."
        ) from error


_ASKED = (
    "run_id", "adapter", "task", "task_version", "language", "data", "split", "prompt", "decoding",
)  # fmt: skip
"""What an evaluation's identity holds beside its rule and engine."""

_SAME = ("alpha", "score", "estimate", "low", "high", "p", "repeated_low", "repeated_high")
