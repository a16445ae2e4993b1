"""What tuning changed: a run minus its untouched base, paired on the samples both answered."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maple.analysis.groups import Kind, LanguageGroup
from maple.analysis.intervals import holm
from maple.analysis.means import mean_over_languages
from maple.analysis.panel import Panel
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


def find_bases(runs: Sequence[StoredRun]) -> dict[str, Base]:
    """Returns the base of every trained run that has one.

    The base has the run's model and its quantization, so that a delta is the adapter's doing
    alone. Where there is none, the same model's untouched base at the most bits stands in, and
    says so.
    """
    untouched = [r for r in runs if r.cell.is_base]
    bases = {}
    for run in (r for r in runs if not r.cell.is_base):
        same_model = [b for b in untouched if _model(b) == _model(run)]
        same = [b for b in same_model if b.cell.quantization == run.cell.quantization]
        ranked = sorted(same_model, key=lambda b: (-(b.cell.bits or 0), b.run_id))
        if same:
            bases[run.run_id] = Base(run_id=same[0].run_id, has_same_bits=True)
        elif ranked:
            bases[run.run_id] = Base(run_id=ranked[0].run_id, has_same_bits=False)
    return bases


def _model(run: StoredRun) -> tuple[str, str | None]:
    model = (run.spec or {}).get("model")
    revision = model.get("revision") if isinstance(model, dict) else None
    return run.cell.model, revision


def language_deltas(panel: Panel, bases: Mapping[str, Base]) -> list[Delta]:
    """Returns the delta of every run in every language; p adjusted over all of them."""
    single = [
        LanguageGroup(kind="all", name=language, languages=(language,))
        for language in panel.languages
    ]
    found = group_deltas(panel, bases, single)
    return adjust([dataclasses.replace(d, kind=None) for d in found])


def group_deltas(
    panel: Panel, bases: Mapping[str, Base], groups: Sequence[LanguageGroup]
) -> list[Delta]:
    """Returns the mean delta of every run over each group; p not yet adjusted."""
    return [
        delta
        for run in panel.run_ids
        if run in bases
        for group in groups
        if (delta := _delta(panel, run, bases[run], group)) is not None
    ]


def adjust(deltas: Sequence[Delta]) -> list[Delta]:
    """Returns the deltas with ``p_holm`` over all of them: one family of comparisons."""
    adjusted = holm([d.p for d in deltas])
    return [dataclasses.replace(d, p_holm=p) for d, p in zip(deltas, adjusted, strict=True)]


def _delta(panel: Panel, run_id: str, base: Base, group: LanguageGroup) -> Delta | None:
    parts = panel.contrasts(group.languages, {run_id: 1.0, base.run_id: -1.0})
    if not parts:
        return None
    mean = mean_over_languages(parts)
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
        low=mean.interval.low,
        high=mean.interval.high,
        standard_error=mean.variance**0.5,
        p=mean.p,
        p_holm=mean.p,
    )
