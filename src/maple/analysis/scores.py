"""What a run scores: per task and language, and as means over languages; gaps are kept as gaps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from maple.analysis.groups import Kind, LanguageGroup
from maple.analysis.intervals import score_interval
from maple.analysis.means import LanguageValues, mean_over_languages
from maple.analysis.modes import Mode
from maple.analysis.panel import Panel
from maple.store.read import StoredRun


@dataclass(frozen=True, kw_only=True)
class Score:
    """One run on one task in one language."""

    task: str
    run_id: str
    language: str
    metric: str
    n: int
    """Samples scored."""
    score: float
    """Mean over samples, 0..1, with the limits of its 95% interval."""
    low: float
    high: float
    chance_level: float | None
    is_above_chance: bool | None
    """Whether the interval lies above the chance level; None where the task has none."""


@dataclass(frozen=True, kw_only=True)
class MeanScore:
    """One run on one task: the unweighted mean over a group of languages."""

    task: str
    run_id: str
    kind: Kind
    group: str
    n_languages: int
    """Languages in the mean."""
    n_languages_planned: int
    """Languages that the group has in this task; more than above where some are missing."""
    n: int
    score: float
    low: float
    high: float
    chance_level: float | None
    is_above_chance: bool | None


@dataclass(frozen=True, kw_only=True)
class Gap:
    """A cell of the plan that has no estimate, and why: never filled in."""

    task: str
    run_id: str
    language: str
    reason: str
    n_stored: int
    """Samples that are stored but not used: of an unfinished evaluation."""


def score_cells(panel: Panel) -> list[Score]:
    """Returns the score of every run and language of a task that has one."""
    chance, metric = panel.mode.chance_level, panel.mode.headline
    scores = []
    for run in panel.run_ids:
        for part in panel.contrasts(panel.languages, {run: 1.0}):
            interval = score_interval(part.values)
            scores.append(
                Score(
                    task=panel.mode.label,
                    run_id=run,
                    language=part.language,
                    metric=metric,
                    n=part.values.size,
                    score=interval.value,
                    low=interval.low,
                    high=interval.high,
                    chance_level=chance,
                    is_above_chance=None if chance is None else interval.low > chance,
                )
            )
    return scores


def mean_scores(panel: Panel, groups: Sequence[LanguageGroup]) -> list[MeanScore]:
    """Returns the mean over each group of languages for every run of a task."""
    chance = panel.mode.chance_level
    return [
        _mean_score(panel.mode.label, run, group, parts, chance)
        for run in panel.run_ids
        for group in groups
        if (parts := panel.contrasts(group.languages, {run: 1.0}))
    ]


def _mean_score(
    task: str,
    run: str,
    group: LanguageGroup,
    parts: Sequence[LanguageValues],
    chance: float | None,
) -> MeanScore:
    mean = mean_over_languages(parts)
    interval = mean.score_interval if len(parts) > 1 else score_interval(parts[0].values)
    return MeanScore(
        task=task,
        run_id=run,
        kind=group.kind,
        group=group.name,
        n_languages=mean.n_languages,
        n_languages_planned=len(group.languages),
        n=mean.n_samples,
        score=interval.value,
        low=interval.low,
        high=interval.high,
        chance_level=chance,
        is_above_chance=None if chance is None else interval.low > chance,
    )


def find_gaps(
    mode: Mode, languages: Iterable[str], runs: Sequence[StoredRun], scored: Iterable[Score]
) -> list[Gap]:
    """Returns the cells of runs x languages that have no score, each with its reason.

    Args:
        mode: the task as it was asked.
        languages: languages that every run should have been scored in.
        runs: every run of the study, failed ones included.
        scored: the scores of this task.
    """
    have = {(s.run_id, s.language) for s in scored}
    return [
        Gap(
            task=mode.label,
            run_id=run.run_id,
            language=language,
            reason=_reason(mode, run, language),
            n_stored=_n_stored(mode, run.run_id, language),
        )
        for run in runs
        for language in languages
        if (run.run_id, language) not in have
    ]


def _n_stored(mode: Mode, run_id: str, language: str) -> int:
    evaluation = mode.evaluations.get((run_id, language))
    return evaluation.n_samples if evaluation else 0


def _reason(mode: Mode, run: StoredRun, language: str) -> str:
    evaluation = mode.evaluations.get((run.run_id, language))
    if evaluation is not None and evaluation.is_done:
        return (
            f"evaluation is marked done, but not all of its {evaluation.n_samples} rows are there"
        )
    if evaluation is not None:
        available = evaluation.available
        of = f" of {available}" if available else ""
        return f"evaluation unfinished: {evaluation.n_samples}{of} samples stored"
    return _RUN_REASONS[run.status]


_RUN_REASONS: Mapping[str, str] = {
    "failed": "run failed",
    "unfinished": "run unfinished",
    "missing": "run not started",
    "done": "not evaluated",
}
