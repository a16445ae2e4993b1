"""What tuning changed: a run minus its untouched base, paired on the samples both answered."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maple.analysis.contrasts import group_means
from maple.analysis.groups import Kind, LanguageGroup
from maple.analysis.intervals import benjamini_hochberg, holm
from maple.analysis.means import Mean
from maple.analysis.paired import Test, cell_tests
from maple.analysis.panel import Panel
from maple.analysis.power import minimum_detectable
from maple.store.read import StoredRun


@dataclass(frozen=True, kw_only=True)
class Base:
    """The untouched base that a run is compared with."""

    run_id: str
    has_same_bits: bool
    """False where the store has no untouched base at the run's own quantization."""


@dataclass(frozen=True, kw_only=True)
class Delta:
    """A run minus its base on one task, in one language or as a mean over a group of them."""

    task: str
    run_id: str
    base_run_id: str
    has_same_bits: bool
    kind: Kind | None
    """None for a single language."""
    group: str
    """The group's name, or the language's code."""
    n_languages: int
    n_languages_planned: int
    n: int
    """Shared samples."""
    delta: float
    """Difference of scores in -1..1, with the limits of its 95% interval."""
    low: float
    high: float
    standard_error: float
    p: float
    """Two-sided, against no difference."""
    p_holm: float
    """Adjusted over the runs and languages of the task, or over runs and tasks of the group."""
    p_bh: float = math.nan
    """By Benjamini and Hochberg, over the same family: holds the share of false discoveries."""
    test: Test = "student"
    """What gave ``p``; in a single language of 0 and 1 McNemar's test."""
    minimum_detectable: float = math.nan
    """The smallest true difference found four times in five at this size, unadjusted."""


def find_bases(runs: Sequence[StoredRun]) -> dict[str, Base]:
    """Returns the base of every trained run that has one.

    The base has the run's model and its quantization, so that a delta is the adapter's doing
    alone. Where there is none, the same model's untouched base at the most bits stands in, and
    says so.
    """
    untouched = [r for r in runs if r.cell.is_base]
    bases = {}
    for run in (r for r in runs if not r.cell.is_base):
        same_model = [b for b in untouched if _is_same_model(b, run)]
        same = [b for b in same_model if b.cell.quantization == run.cell.quantization]
        ranked = sorted(same_model, key=lambda b: (-(b.cell.bits or 0), b.run_id))
        if same:
            bases[run.run_id] = Base(run_id=same[0].run_id, has_same_bits=True)
        elif ranked:
            bases[run.run_id] = Base(run_id=ranked[0].run_id, has_same_bits=False)
    return bases


def _is_same_model(base: StoredRun, run: StoredRun) -> bool:
    """By name and commit; the name alone where the store does not say which commit it was."""
    commits = {commit for r in (base, run) if (commit := _revision(r)) is not None}
    return base.cell.model == run.cell.model and len(commits) < 2


def _revision(run: StoredRun) -> str | None:
    model = (run.spec or {}).get("model")
    return model.get("revision") if isinstance(model, dict) else None


def language_deltas(panel: Panel, bases: Mapping[str, Base]) -> list[Delta]:
    """Returns the delta of every run in every language; p adjusted over all of them."""
    single = [
        LanguageGroup(kind="all", name=language, languages=(language,))
        for language in panel.languages
    ]
    tests = _cell_tests(panel, bases)
    found = []
    for delta in group_deltas(panel, bases, single):
        p, test = tests.get((delta.run_id, delta.group)) or (delta.p, delta.test)
        found.append(dataclasses.replace(delta, kind=None, p=p, test=test))
    return adjust(found)


def _cell_tests(
    panel: Panel, bases: Mapping[str, Base]
) -> dict[tuple[str, str], tuple[float, Test] | None]:
    """The test of each run and language against the base, where one fits better than Student's."""
    row = {run: i for i, run in enumerate(panel.run_ids)}
    runs = [run for run in row if run in bases and bases[run].run_id in row]
    own, other = [row[run] for run in runs], [row[bases[run].run_id] for run in runs]
    found: dict[tuple[str, str], tuple[float, Test] | None] = {}
    for code, scores in panel.scores.items():
        tests = cell_tests(scores[own], scores[other])
        found |= {(run, code): test for run, test in zip(runs, tests, strict=True)}
    return found


def group_deltas(
    panel: Panel, bases: Mapping[str, Base], groups: Sequence[LanguageGroup]
) -> list[Delta]:
    """Returns the mean delta of every run over each group; p not yet adjusted."""
    runs = [run for run in panel.run_ids if run in bases]
    contrasts = [{run: 1.0, bases[run].run_id: -1.0} for run in runs]
    return [
        _delta(panel, run, bases[run], group, mean)
        for run, means in zip(runs, group_means(panel, contrasts, groups), strict=True)
        for group, mean in zip(groups, means, strict=True)
        if mean is not None
    ]


def adjust(deltas: Sequence[Delta]) -> list[Delta]:
    """Returns the deltas with ``p_holm`` and ``p_bh`` over all: one family of comparisons."""
    p_values = [d.p for d in deltas]
    adjusted = zip(deltas, holm(p_values), benjamini_hochberg(p_values), strict=True)
    return [dataclasses.replace(d, p_holm=p, p_bh=q) for d, p, q in adjusted]


def _delta(panel: Panel, run_id: str, base: Base, group: LanguageGroup, mean: Mean) -> Delta:
    interval, p = mean.interval, mean.p
    return Delta(
        task=panel.mode.label,
        run_id=run_id,
        base_run_id=base.run_id,
        has_same_bits=base.has_same_bits,
        kind=group.kind,
        group=group.name,
        n_languages=mean.n_languages,
        n_languages_planned=len(group.languages),
        n=mean.n_samples,
        delta=mean.value,
        low=interval.low,
        high=interval.high,
        standard_error=mean.variance**0.5,
        p=p,
        p_holm=p,
        p_bh=p,
        minimum_detectable=minimum_detectable(mean.variance**0.5, mean.df),
    )
