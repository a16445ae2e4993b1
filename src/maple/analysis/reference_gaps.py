"""How much of the way from the untouched base to a reference a run has gone.

    closed = (run - base) / (reference - base)          1: as good as the reference

A reference is a published score, which has no samples and counts as known exactly, or another
untouched model of the same study, paired on the samples that all three answered. Where that model
was asked in another way only, its means stand as a published score would. The interval is Fieller's
(1954): the ratios r for which ``run - base - r (reference - base)`` is not told from 0.
It has no limits where the distance to the reference is itself not told from 0.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from maple.analysis.contrasts import Weights, group_means
from maple.analysis.deltas import Base
from maple.analysis.groups import LanguageGroup, language_groups
from maple.analysis.intervals import student_quantile
from maple.analysis.means import Mean
from maple.analysis.modes import flatten
from maple.analysis.panel import Panel
from maple.analysis.references import Reference
from maple.store.read import StoredRun

NOT_BELOW = "the base is not below the reference: there is no gap to close"
UNBOUNDED = "the gap is not told from 0: its share has no limits"
_KINDS = ("all", "non-english", "resource-class", "low-resource", "high-resource")


@dataclass(frozen=True, kw_only=True)
class ReferenceGap:
    """One run between its base and a reference, in one language or a group of them."""

    task: str
    run_id: str
    base_run_id: str
    reference: str
    kind: Literal["published", "evaluated"]
    source: str
    """Where a published score is from; the run id of an evaluated model."""
    group: str
    """The group's name, or the language's code."""
    n_languages: int
    """Languages that run, base and reference all have."""
    n_languages_planned: int
    n: int
    run_score: float
    base_score: float
    reference_score: float
    closed: float | None
    """Share of the gap; None where there is none."""
    low: float | None
    high: float | None
    is_same_mode: bool
    """Whether the reference was asked as the run was; else the gap holds that difference too."""
    differences: str
    """What was asked otherwise, or is not known."""
    note: str


@dataclass(frozen=True, kw_only=True)
class _Ruler:
    """A reference as a panel can use it."""

    name: str
    kind: Literal["published", "evaluated"]
    source: str
    scores: Mapping[str, float] | None = None
    """Scores taken as known exactly; None for a run of the panel."""
    run_id: str | None = None
    differences: tuple[str, ...] = ()

    def has(self, panel: Panel, language: str) -> bool:
        if self.scores is not None:
            return language in self.scores
        return bool(self.run_id and panel.answered([language], [self.run_id]))


def reference_gaps(
    panel: Panel,
    planned: Sequence[str],
    runs: Sequence[StoredRun],
    bases: Mapping[str, Base],
    references: Iterable[Reference],
    others: Iterable[Panel] = (),
) -> list[ReferenceGap]:
    """Returns the gap of every run to every reference of the panel's task.

    Args:
        panel: the answers to one task.
        planned: its languages.
        runs: every run; untouched models other than a run's own are references to it.
        bases: untouched base by run id.
        references: published scores, of any task.
        others: further panels; untouched models that were asked the panel's task there alone are
            references too, with what was asked otherwise.
    """
    rulers = [
        _Ruler(
            name=r.name,
            kind="published",
            source=r.source,
            scores=r.scores,
            differences=r.differences(panel.mode),
        )
        for r in references
        if r.task == panel.mode.task
    ]
    models = {run.run_id: run.cell.model for run in runs}
    tuned = [run for run in panel.run_ids if run in bases and bases[run].run_id in panel.run_ids]
    groups = [LanguageGroup(kind="all", name=code, languages=(code,)) for code in panel.languages]
    groups += [g for g in language_groups(planned) if g.kind in _KINDS]
    gaps = [gap for ruler in rulers for gap in _gaps(panel, ruler, tuned, bases, groups)]
    for model, ruler in _models_asked(panel, others, runs):
        foreign = [run for run in tuned if models[run] != model]
        gaps += _gaps(panel, ruler, foreign, bases, groups)
    return gaps


def _models_asked(
    panel: Panel, others: Iterable[Panel], runs: Sequence[StoredRun]
) -> Iterator[tuple[str, _Ruler]]:
    """Yields untouched models with a ruler each, those of the panel before those of others."""
    seen = set()
    for run in _evaluated(panel, runs):
        seen.add(run.cell.model)
        name = f"{run.cell.model} ({run.cell.quantization})"
        yield (
            run.cell.model,
            _Ruler(name=name, kind="evaluated", source=run.run_id, run_id=run.run_id),
        )
    for other in others:
        if other is panel or other.mode.task != panel.mode.task:
            continue
        for run in _evaluated(other, runs):
            if run.cell.model not in seen:
                yield run.cell.model, _asked_otherwise(panel, other, run)


def _asked_otherwise(panel: Panel, other: Panel, run: StoredRun) -> _Ruler:
    ours, theirs = flatten(panel.mode.settings), flatten(other.mode.settings)
    row = other.run_ids.index(run.run_id)
    answers = {code: scores[row] for code, scores in other.scores.items()}
    return _Ruler(
        name=f"{run.cell.model} ({run.cell.quantization})",
        kind="evaluated",
        source=run.run_id,
        scores={c: float(np.nanmean(x)) for c, x in answers.items() if not np.isnan(x).all()},
        differences=tuple(
            f"{key} {theirs.get(key)} (ours: {ours.get(key)})"
            for key in sorted({*ours, *theirs})
            if ours.get(key) != theirs.get(key)
        ),
    )


def _evaluated(panel: Panel, runs: Sequence[StoredRun]) -> list[StoredRun]:
    """The untouched models of the panel, each once: at its most bits."""
    found: dict[str, StoredRun] = {}
    untouched = [r for r in runs if r.cell.is_base and r.run_id in panel.run_ids]
    for run in sorted(untouched, key=lambda r: (-(r.cell.bits or 0), r.run_id)):
        found.setdefault(run.cell.model, run)
    return list(found.values())


def _gaps(
    panel: Panel,
    ruler: _Ruler,
    tuned: Sequence[str],
    bases: Mapping[str, Base],
    groups: Sequence[LanguageGroup],
) -> list[ReferenceGap]:
    known = [code for code in panel.languages if ruler.has(panel, code)]
    found = []
    for group in groups:
        # A mean is over languages that all three have; runs that have the same ones go together.
        alike: dict[tuple[str, ...], list[str]] = defaultdict(list)
        for run in tuned:
            trio = {run, bases[run].run_id, *([ruler.run_id] if ruler.run_id else [])}
            there = panel.answered([c for c in group.languages if c in known], trio)
            alike[tuple(sorted(there))].append(run)
        for codes, members in alike.items():
            if codes:
                found += _of_group(panel, ruler, members, bases, group, codes)
    return found


def _of_group(
    panel: Panel,
    ruler: _Ruler,
    members: Sequence[str],
    bases: Mapping[str, Base],
    group: LanguageGroup,
    codes: tuple[str, ...],
) -> list[ReferenceGap]:
    shared = LanguageGroup(kind=group.kind, name=group.name, languages=codes)
    contrasts = [w for run in members for w in _contrasts(run, bases[run].run_id, ruler.run_id)]
    means = [of[0] for of in group_means(panel, contrasts, [shared])]
    found = []
    for i, run in enumerate(members):
        four = [m for m in means[4 * i : 4 * i + 4] if m is not None]
        if len(four) < 4:
            continue
        delta, distance, to_go, base = four
        level = base.value + distance.value
        if ruler.scores is not None:
            # `distance` and `to_go` hold base and run alone: a published score is a constant.
            level = sum(ruler.scores[code] for code in codes) / len(codes)
        closed, low, high, note = _share(delta, distance, to_go, level - base.value)
        found.append(
            ReferenceGap(
                task=panel.mode.label,
                run_id=run,
                base_run_id=bases[run].run_id,
                reference=ruler.name,
                kind=ruler.kind,
                source=ruler.source,
                group=group.name,
                n_languages=len(codes),
                n_languages_planned=len(group.languages),
                n=delta.n_samples,
                run_score=base.value + delta.value,
                base_score=base.value,
                reference_score=level,
                closed=closed,
                low=low,
                high=high,
                is_same_mode=not ruler.differences,
                differences="; ".join(ruler.differences),
                note=note,
            )
        )
    return found


def _contrasts(run: str, base: str, reference: str | None) -> list[Weights]:
    """run - base, reference - base, run - reference, base: all on the samples that all answered."""
    if reference is None:
        return [
            {run: 1.0, base: -1.0},
            {run: 0.0, base: -1.0},
            {run: 1.0, base: 0.0},
            {run: 0.0, base: 1.0},
        ]
    return [
        {run: 1.0, base: -1.0, reference: 0.0},
        {run: 0.0, base: -1.0, reference: 1.0},
        {run: 1.0, base: 0.0, reference: -1.0},
        {run: 0.0, base: 1.0, reference: 0.0},
    ]


def _share(
    delta: Mean, distance: Mean, to_go: Mean, gap: float
) -> tuple[float | None, float | None, float | None, str]:
    """Returns the share of the gap closed, its limits, and what is to be said of them."""
    if gap <= 0:
        return None, None, None, NOT_BELOW
    limits = fieller(
        delta.value,
        gap,
        (
            delta.variance,
            distance.variance,
            (delta.variance + distance.variance - to_go.variance) / 2,
        ),
        delta.df,
    )
    closed = delta.value / gap
    return (closed, None, None, UNBOUNDED) if limits is None else (closed, *limits, "")


def fieller(
    numerator: float, denominator: float, covariance: tuple[float, float, float], df: float
) -> tuple[float, float] | None:
    """Returns Fieller's limits of a ratio of two means; None where it has none.

    Args:
        numerator: a mean.
        denominator: another.
        covariance: variance of the first, of the second, and their covariance.
        df: degrees of freedom of these.
    """
    t2 = student_quantile(df) ** 2
    a = denominator**2 - t2 * covariance[1]
    b = numerator * denominator - t2 * covariance[2]
    c = numerator**2 - t2 * covariance[0]
    root = b * b - a * c
    if a <= 0 or root < 0:
        return None
    return (b - root**0.5) / a, (b + root**0.5) / a
