"""Which evaluations answer the same question, and so may be compared.

A mode is a task as it was asked: version, split, prompt and decoding. Scores of two modes are
never averaged or paired. In one mode a run has one evaluation per language; a second one (of an
older adapter, or of other data) is set aside with a reason.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from maple.analysis.parts import REST, is_part, part_reason
from maple.store.read import StoredEvaluation, StoredRun
from maple.study.spec import canonical_json

UNJUDGED = "generated, not judged: run `maple judge <store>`"
"""Why answers without a score of their own are set aside."""

_KEYS = ("task_version", "split", "prompt", "decoding")


@dataclass(frozen=True, kw_only=True)
class Mode:
    """One task asked in one way, with the evaluations that asked it so."""

    label: str
    """The task's name; with what tells it from its other modes, where there are any."""
    task: str
    settings: Mapping[str, Any]
    """``task_version``, ``split``, ``prompt`` and ``decoding``."""
    evaluations: Mapping[tuple[str, str], StoredEvaluation]
    """By (run id, language)."""

    @cached_property
    def chance_level(self) -> float | None:
        """The score of guessing, in 0..1; None where the task or the store states none."""
        levels = {e.chance_level for e in self.evaluations.values()}
        return levels.pop() if len(levels) == 1 else None

    @cached_property
    def headline(self) -> str:
        """The name of the metric that is the score."""
        return " / ".join(sorted({e.headline for e in self.evaluations.values()})) or "score"


@dataclass(frozen=True, kw_only=True)
class SetAside:
    """An evaluation that no estimate uses, and why."""

    eval_id: str
    run_id: str
    task: str
    language: str
    reason: str


@dataclass(kw_only=True)
class _Group:
    settings: dict[str, Any]
    chosen: dict[tuple[str, str], StoredEvaluation] = field(default_factory=dict)
    parts: set[tuple[str, str]] = field(default_factory=set)
    """Run and language of evaluations that an early look stopped."""


def find_modes(
    evaluations: Iterable[StoredEvaluation], runs: Sequence[StoredRun]
) -> tuple[list[Mode], list[SetAside]]:
    """Groups evaluations into modes, ordered by task, and keeps one per run and language.

    Args:
        evaluations: every stored evaluation.
        runs: the store's runs; their training records say which adapter is current.
    """
    adapters = {r.run_id: r.train.adapter_sha256 for r in runs if r.train is not None}
    adapters = {run: sha for run, sha in adapters.items() if sha}
    groups: dict[str, dict[str, _Group]] = defaultdict(dict)
    aside: list[SetAside] = []
    for evaluation in sorted(evaluations, key=lambda e: _preference(e, adapters), reverse=True):
        settings = {key: evaluation.spec.get(key) for key in _KEYS}
        group = groups[evaluation.task].setdefault(
            canonical_json(settings), _Group(settings=settings)
        )
        kept = group.chosen.setdefault((evaluation.run_id, evaluation.language), evaluation)
        reason = _why_aside(evaluation, kept, adapters)
        if reason is None:
            continue
        if is_part(evaluation) and not _is_stale(evaluation, adapters):
            group.parts.add((evaluation.run_id, evaluation.language))
        if kept is evaluation:
            del group.chosen[evaluation.run_id, evaluation.language]
        aside.append(_set_aside(evaluation, reason))
    for group in (group for by_settings in groups.values() for group in by_settings.values()):
        aside += [_set_aside(e, REST) for e in _take_rest(group)]
    return [mode for task in sorted(groups) for mode in _modes(task, groups[task])], aside


def _preference(evaluation: StoredEvaluation, adapters: Mapping[str, str]) -> tuple[Any, ...]:
    is_current = not _is_stale(evaluation, adapters)
    return (is_current, evaluation.is_done, evaluation.n_samples, evaluation.eval_id)


def _is_stale(evaluation: StoredEvaluation, adapters: Mapping[str, str]) -> bool:
    adapter = evaluation.spec.get("adapter")
    return adapters.get(evaluation.run_id, adapter) != adapter


def _why_aside(
    evaluation: StoredEvaluation, kept: StoredEvaluation, adapters: Mapping[str, str]
) -> str | None:
    if evaluation.spec.get("is_judged"):
        return UNJUDGED
    if _is_stale(evaluation, adapters):
        return "the run's adapter has other bytes than the one that was scored"
    if is_part(evaluation):
        return part_reason(evaluation)
    if kept is not evaluation:
        return f"evaluation {kept.eval_id} of the same run, task and language is preferred"
    return None


def _take_rest(group: _Group) -> list[StoredEvaluation]:
    """Takes out what else is there of runs that an early look stopped and no whole answer fills."""
    filled = {key for key, evaluation in group.chosen.items() if evaluation.is_done}
    partial = {run for run, language in group.parts if (run, language) not in filled}
    return [group.chosen.pop(key) for key in list(group.chosen) if key[0] in partial]


def _set_aside(evaluation: StoredEvaluation, reason: str) -> SetAside:
    return SetAside(
        eval_id=evaluation.eval_id,
        run_id=evaluation.run_id,
        task=evaluation.task,
        language=evaluation.language,
        reason=reason,
    )


def _modes(task: str, groups: Mapping[str, _Group]) -> list[Mode]:
    named = {key: flatten(groups[key].settings) for key in sorted(groups) if groups[key].chosen}
    differing = {
        name
        for flat in named.values()
        for name in flat
        if len({str(other.get(name)) for other in named.values()}) > 1
    }
    modes = []
    for key, flat in named.items():
        told = ", ".join(f"{name}={flat.get(name)}" for name in sorted(differing))
        group = groups[key]
        label = f"{task} ({told})" if told else task
        modes.append(
            Mode(label=label, task=task, settings=group.settings, evaluations=group.chosen)
        )
    return modes


def flatten(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Returns settings in one level: those of prompt and decoding by their own names."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        flat.update(value if isinstance(value, dict) else {key: value})
    return flat
