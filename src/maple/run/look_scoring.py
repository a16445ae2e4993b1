"""Scores a task part by part, and leaves it off at the look that decides its comparison."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from maple.errors import MapleError
from maple.evaluate import PreparedTask
from maple.evaluate.early_look import LookPlan, Outcome, conclude, decide, plan_looks
from maple.evaluate.sequential import Values
from maple.run.context import CohortContext
from maple.store.read import Store
from maple.study import EvalSpec
from maple.study.early_look import EarlyLookRule


class ScoresSome(Protocol):
    """Scores and stores those of some samples that are not stored yet."""

    def __call__(self, *, stored: set[str], among: Sequence[int]) -> object:
        """Args: stored: names of samples with an answer; among: indices of those to score."""


def score_in_looks(
    prepared: PreparedTask,
    spec: EvalSpec,
    score: ScoresSome,
    facts: Mapping[str, Any],
    context: CohortContext,
) -> None:
    """Scores one task of one run until its comparison is decided.

    What a look decides depends on the rows of its samples alone: a kill and resume, or another
    number of workers, changes nothing.

    Args:
        prepared: the task.
        spec: with its rule.
        score: scores some of its samples.
        facts: what is stored of the evaluation beside its identity.
        context: the store and the base.

    Raises:
        MapleError: the run that it is compared with has not answered the same samples.
    """
    rule = spec.early_look
    assert rule is not None
    other = _other_scores(rule, prepared, context)
    plan = plan_looks(rule, prepared)
    context.store.write_prompts(prepared.prompts_id, prepared.prompts)
    stored = context.store.begin_evaluation(spec, facts)
    context.progress.begin(
        f"{prepared.name} {prepared.language}",
        len(prepared.sample_ids),
        "samples",
        done=len(stored),
    )
    began = time.monotonic()
    outcome = _look(plan, prepared, spec, score, stored, other, context)
    context.store.begin_evaluation(spec, {**facts, "looks": outcome.as_json()})
    seconds = time.monotonic() - began
    context.store.finish_evaluation(
        spec.id, samples=outcome.samples, limit=prepared.limit, seconds=seconds
    )
    context.progress.end(_said(outcome))


def _look(
    plan: LookPlan,
    prepared: PreparedTask,
    spec: EvalSpec,
    score: ScoresSome,
    stored: set[str],
    other: Mapping[str, float],
    context: CohortContext,
) -> Outcome:
    rule = spec.early_look
    assert rule is not None
    names = prepared.sample_ids
    for number in range(len(plan.counts)):
        score(stored=stored, among=plan.between(number))
        found = _scores(spec.id, context)
        seen = [names[i] for i in plan.order[: plan.counts[number]]]
        own: Values = np.array([found[name] for name in seen])
        others: Values = np.array([other[name] for name in seen])
        is_last = number + 1 == len(plan.counts)
        if is_last or decide(plan, number, own - others, rule) != "undecided":
            break
    return conclude(plan, number, own, others, rule=rule)


def _other_scores(
    rule: EarlyLookRule, prepared: PreparedTask, context: CohortContext
) -> dict[str, float]:
    if context.store.has_all(rule.against, len(prepared.sample_ids)):
        found = _scores(rule.against, context)
        if found.keys() >= set(prepared.sample_ids):
            return found
    raise MapleError(
        f"an early look at {prepared.name} {prepared.language} compares with evaluation "
        f"{rule.against}, which is not finished in this store. See why the run that it is "
        "compared with has failed, then run the same command again."
    )


def _scores(eval_id: str, context: CohortContext) -> dict[str, float]:
    store = Store(context.store.layout.root, {})
    rows = store.query("SELECT sample_id, score FROM samples", eval_ids=[eval_id])
    return dict(zip(rows["sample_id"].to_pylist(), rows["score"].to_pylist(), strict=True))


def _said(outcome: Outcome) -> str:
    change = f"{100 * outcome.estimate:+.1f} points, {outcome.decision}"
    if not outcome.is_part:
        return f"no early stop: {change}"
    return (
        f"stopped at look {outcome.look} of {len(outcome.counts)}, "
        f"{outcome.samples} of {outcome.planned} samples: {change}"
    )
