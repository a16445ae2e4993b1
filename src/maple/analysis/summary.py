"""A store summarised: every estimate that reports, tables and comparisons are made from."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from maple.analysis.answers import read_answers
from maple.analysis.checks import CheckRate, check_rates
from maple.analysis.configurations import Configuration, find_configurations, run_labels
from maple.analysis.costs import Cost, run_costs
from maple.analysis.curves import CurvePoint, curve_points
from maple.analysis.deltas import Base, Delta, adjust, find_bases, group_deltas, language_deltas
from maple.analysis.early_looks import LookedAt, explain_gaps, looked_at
from maple.analysis.effects import ALL_TASKS, GROUPS, Effect, find_effects, run_effects
from maple.analysis.factors import Factors, find_factors
from maple.analysis.groups import language_groups
from maple.analysis.metrics import MetricMean, metric_means
from maple.analysis.modes import UNJUDGED, Mode, SetAside, find_modes
from maple.analysis.panel import Panel, PanelBuilder
from maple.analysis.reference_gaps import ReferenceGap, reference_gaps
from maple.analysis.references import published
from maple.analysis.scores import Gap, MeanScore, Score, find_gaps, mean_scores, score_cells
from maple.analysis.ties import Asked, Tie, contenders, tied_runs
from maple.store.read import Store, StoredEvaluation, StoredRun, undescribed_run


@dataclass(frozen=True, kw_only=True)
class Estimates:
    """Every number with an interval; scores and deltas in 0..1 and -1..1."""

    scores: tuple[Score, ...]
    means: tuple[MeanScore, ...]
    deltas: tuple[Delta, ...]
    """Per language."""
    mean_deltas: tuple[Delta, ...]
    """Per group of languages; ``p_holm`` over runs and tasks of the group."""
    run_effects: tuple[Delta, ...]
    """Per run, as a mean over tasks."""
    effects: tuple[Effect, ...]
    curves: tuple[CurvePoint, ...]
    tied_groups: tuple[Tie, ...] = ()
    """Per task and group of languages, and for means over tasks: who cannot be told from whom."""


@dataclass(frozen=True, kw_only=True)
class Summary:
    """A store as its report sees it."""

    study: Mapping[str, Any]
    runs: tuple[StoredRun, ...]
    """Planned runs in the plan's order, then unplanned ones."""
    labels: Mapping[str, str]
    """Short text per run id."""
    bases: Mapping[str, Base]
    modes: tuple[Mode, ...]
    languages: Mapping[str, tuple[str, ...]]
    """Languages planned or scored, by the task's label."""
    estimates: Estimates
    metrics: tuple[MetricMean, ...]
    checks: tuple[CheckRate, ...]
    """Of generated answers; none where everything was ranked."""
    costs: tuple[Cost, ...]
    gaps: tuple[Gap, ...]
    """Planned cells without an estimate."""
    set_aside: tuple[SetAside, ...]
    reference_gaps: tuple[ReferenceGap, ...] = ()
    """Every run between its base and published scores, or another model of the study."""
    early_looks: tuple[LookedAt, ...] = ()
    """Comparisons that were looked at while they were scored; parts are in no other estimate."""
    factors: Factors = field(default_factory=Factors)
    """Slopes, models and scaling: what rank, bits, size and language change."""

    def count_runs(self) -> dict[str, int]:
        """Returns runs by status: done, failed, unfinished, missing."""
        counts = Counter(run.status for run in self.runs)
        return {status: counts[status] for status in ("done", "failed", "unfinished", "missing")}


def summarise(store: Store) -> Summary:
    """Computes every estimate from the sample rows; nothing is cached or written.

    Raises:
        StoreError: a file of the store cannot be read or is not as documented.
    """
    evaluations = store.evaluations()
    runs = _all_runs(store, evaluations)
    modes, aside = find_modes(evaluations, runs)
    modes = _with_unscored(modes, store.study, {a.task for a in aside if a.reason == UNJUDGED})
    languages = {mode.label: _languages(mode, modes, store.study) for mode in modes}
    read = [_read(store, mode, [run.run_id for run in runs]) for mode in modes]
    estimates = _estimate([r.panel for r in read], runs, languages)
    gaps = _gaps(modes, languages, runs, estimates.scores, store.study)
    return Summary(
        study=store.study,
        runs=tuple(runs),
        labels=run_labels(runs),
        bases=find_bases(runs),
        modes=tuple(modes),
        languages=languages,
        estimates=estimates,
        metrics=tuple(m for r in read for m in r.metrics),
        checks=tuple(c for r in read for c in r.checks),
        costs=tuple(run_costs(runs, evaluations)),
        gaps=tuple(explain_gaps(gaps, evaluations, modes, aside)),
        set_aside=tuple(_with_verdicts(store, entry) for entry in aside),
        reference_gaps=tuple(_reference_gaps([r.panel for r in read], languages, runs)),
        early_looks=tuple(looked_at(evaluations, modes, aside)),
        factors=find_factors(store, modes, [r.panel for r in read], languages, runs),
    )


def _reference_gaps(
    panels: Sequence[Panel], languages: Mapping[str, tuple[str, ...]], runs: Sequence[StoredRun]
) -> list[ReferenceGap]:
    bases, references = find_bases(runs), published()
    return [
        gap
        for panel in panels
        for gap in reference_gaps(
            panel, languages[panel.mode.label], runs, bases, references, others=panels
        )
    ]


@dataclass(frozen=True, kw_only=True)
class _Read:
    """What one scan over the rows of a mode gives."""

    panel: Panel
    metrics: list[MetricMean]
    checks: list[CheckRate]


def _read(store: Store, mode: Mode, run_order: Sequence[str]) -> _Read:
    builder = PanelBuilder(mode, run_order)
    metrics: list[MetricMean] = []
    checks: list[CheckRate] = []
    for answers in read_answers(store, mode):
        builder.add(answers)
        metrics += metric_means(answers)
        checks += check_rates(answers)
    return _Read(panel=builder.panel(), metrics=metrics, checks=checks)


def _with_verdicts(store: Store, aside: SetAside) -> SetAside:
    """Says where the win rates are, of answers that ``maple judge`` has been at."""
    rates = store.directory.glob(f"alpaca_eval/{aside.run_id}*/*/win_rate.json")
    if aside.reason != UNJUDGED or not any(rates):
        return aside
    return replace(aside, reason=f"judged: win rates in alpaca_eval/{aside.run_id}")


def _all_runs(store: Store, evaluations: Sequence[StoredEvaluation]) -> list[StoredRun]:
    runs = store.runs()
    known = {run.run_id for run in runs}
    orphans = sorted({e.run_id for e in evaluations} - known)
    return [*runs, *(undescribed_run(run_id) for run_id in orphans)]


def _with_unscored(
    modes: Sequence[Mode], study: Mapping[str, Any], unjudged: Collection[str]
) -> list[Mode]:
    """Adds the tasks of the plan that nothing is stored of, so that they show as gaps.

    A task whose answers wait for a judge is no gap: it is set aside, with that reason.
    """
    planned = dict.fromkeys(str(e["task"]) for e in study.get("evaluations", ()))
    scored = {mode.task for mode in modes}
    empty = [
        Mode(label=task, task=task, settings={}, evaluations={})
        for task in planned
        if task not in scored and task not in unjudged
    ]
    order = list(planned)
    return sorted(
        [*modes, *empty],
        key=lambda m: (order.index(m.task) if m.task in order else len(order), m.label),
    )


def _languages(mode: Mode, modes: Sequence[Mode], study: Mapping[str, Any]) -> tuple[str, ...]:
    """What the mode was scored in; for a task's main mode also what was planned."""
    scored = {language for _, language in mode.evaluations}
    same_task = [m for m in modes if m.task == mode.task]
    if mode is max(same_task, key=lambda m: len(m.evaluations)):
        planned = [e for e in study.get("evaluations", ()) if e["task"] == mode.task]
        scored |= {str(e["language"]) for e in planned}
    return tuple(sorted(scored))


def _estimate(
    panels: Sequence[Panel],
    runs: Sequence[StoredRun],
    languages: Mapping[str, tuple[str, ...]],
) -> Estimates:
    answered = {run_id for panel in panels for run_id in panel.run_ids}
    bases = find_bases(runs)
    configurations = find_configurations([run for run in runs if run.run_id in answered])
    by_task = [_estimate_task(p, bases, configurations, languages[p.mode.label]) for p in panels]
    mean_deltas = [d for e in by_task for d in e.mean_deltas]
    groups = dict.fromkeys(d.group for d in mean_deltas)
    return Estimates(
        scores=tuple(s for e in by_task for s in e.scores),
        means=tuple(m for e in by_task for m in e.means),
        deltas=tuple(d for e in by_task for d in e.deltas),
        mean_deltas=tuple(
            d for group in groups for d in adjust([d for d in mean_deltas if d.group == group])
        ),
        run_effects=tuple(run_effects(panels, languages, bases)),
        effects=tuple(find_effects(panels, languages, configurations, bases)),
        curves=tuple(c for e in by_task for c in e.curves),
        tied_groups=tuple(_ties(panels, runs, configurations, languages)),
    )


_COMPARED = ("all", "non-english", "english", "resource-class", "low-resource", "high-resource")
"""Kinds of groups in which every pair of runs is compared."""


def _ties(
    panels: Sequence[Panel],
    runs: Sequence[StoredRun],
    configurations: Sequence[Configuration],
    languages: Mapping[str, tuple[str, ...]],
) -> list[Tie]:
    """Ties in each task, then of the means over the tasks that have the group."""
    field = contenders(runs, configurations)
    untouched = {run.run_id for run in runs if run.cell.is_base}
    asked: dict[str, list[Asked]] = {}
    ties = []
    for panel in panels:
        for group in language_groups(languages[panel.mode.label]):
            if group.kind in _COMPARED:
                asked.setdefault(group.name, []).append((panel, group))
                ties += tied_runs(panel.mode.label, [(panel, group)], field, untouched)
    for name in GROUPS:
        if len(asked.get(name, ())) > 1:
            ties += tied_runs(ALL_TASKS, asked[name], field, untouched)
    return ties


def _estimate_task(
    panel: Panel,
    bases: Mapping[str, Base],
    configurations: Sequence[Configuration],
    languages: Sequence[str],
) -> Estimates:
    groups = language_groups(languages)
    shown = [g for g in groups if g.kind in ("all", "non-english", "resource-class")]
    return Estimates(
        scores=tuple(score_cells(panel)),
        means=tuple(mean_scores(panel, groups)),
        deltas=tuple(language_deltas(panel, bases)),
        mean_deltas=tuple(group_deltas(panel, bases, groups)),
        run_effects=(),
        effects=(),
        curves=tuple(curve_points(panel, configurations, bases, shown)),
    )


def _gaps(
    modes: Sequence[Mode],
    languages: Mapping[str, Sequence[str]],
    runs: Sequence[StoredRun],
    scores: Sequence[Score],
    study: Mapping[str, Any],
) -> list[Gap]:
    planned = {str(cell["run_id"]) for cell in study.get("cells", ()) if "run_id" in cell}
    expected = [run for run in runs if run.run_id in planned] or list(runs)
    return [
        gap
        for mode in modes
        for gap in find_gaps(
            mode, languages[mode.label], expected, [s for s in scores if s.task == mode.label]
        )
    ]
