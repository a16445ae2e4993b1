"""What a run scores: per task and language, and as means over languages; gaps are kept as gaps."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maple.analysis.contrasts import group_means
from maple.analysis.groups import Kind, LanguageGroup
from maple.analysis.intervals import Interval, interval_from_moments
from maple.analysis.means import Mean
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
    intervals = {code: _intervals(panel.scores[code]) for code in panel.languages}
    return [
        Score(
            task=panel.mode.label,
            run_id=run,
            language=code,
            metric=metric,
            n=found[0],
            score=found[1].value,
            low=found[1].low,
            high=found[1].high,
            chance_level=chance,
            is_above_chance=None if chance is None else found[1].low > chance,
        )
        for row, run in enumerate(panel.run_ids)
        for code in panel.languages
        if (found := intervals[code][row]) is not None
    ]


def mean_scores(panel: Panel, groups: Sequence[LanguageGroup]) -> list[MeanScore]:
    """Returns the mean over each group of languages for every run of a task."""
    single = {code: _intervals(panel.scores[code]) for code in panel.languages}
    means = group_means(panel, [{run: 1.0} for run in panel.run_ids], groups)
    return [
        _mean_score(panel.mode, run, group, mean, _alone(single, group, row, mean))
        for row, run in enumerate(panel.run_ids)
        for group, mean in zip(groups, means[row], strict=True)
        if mean is not None
    ]


def _intervals(scores: NDArray[np.float64]) -> list[tuple[int, Interval] | None]:
    """Returns per run of a language its count and interval; None where it has no answer."""
    is_there = ~np.isnan(scores)
    n = is_there.sum(axis=1)
    known = np.where(is_there, scores, 0.0)
    mean = known.sum(axis=1) / np.maximum(n, 1)
    squares = (np.where(is_there, scores - mean[:, None], 0.0) ** 2).sum(axis=1)
    variance = squares / np.maximum(n - 1, 1)
    is_binary = ((known == 0) | (known == 1)).all(axis=1)
    cells = zip(n.tolist(), mean.tolist(), variance.tolist(), is_binary.tolist(), strict=True)
    return [
        (k, interval_from_moments(m, v, k, is_binary=binary)) if k else None
        for k, m, v, binary in cells
    ]


def _alone(
    single: Mapping[str, Sequence[tuple[int, Interval] | None]],
    group: LanguageGroup,
    row: int,
    mean: Mean,
) -> Interval | None:
    """The language's own interval, where a mean has one language alone."""
    if mean.n_languages > 1:
        return None
    found = (single[code][row] for code in group.languages if code in single)
    return next(cell[1] for cell in found if cell is not None)


def _mean_score(
    mode: Mode, run: str, group: LanguageGroup, mean: Mean, alone: Interval | None
) -> MeanScore:
    chance = mode.chance_level
    interval = alone or mean.score_interval
    return MeanScore(
        task=mode.label,
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
            f"evaluation is marked done, but not all of its {evaluation.n_samples} rows are there, "
            "or none of them has a score"
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
