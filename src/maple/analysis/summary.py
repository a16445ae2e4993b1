"""A store summarised: every estimate that reports, tables and comparisons are made from."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from maple.analysis.checks import CheckRate
from maple.analysis.configurations import run_labels
from maple.analysis.costs import Cost, run_costs
from maple.analysis.deltas import Base, find_bases
from maple.analysis.early_looks import LookedAt, explain_gaps, looked_at
from maple.analysis.estimates import Estimates, Study, estimate
from maple.analysis.factors import Factors
from maple.analysis.metrics import MetricMean
from maple.analysis.modes import UNJUDGED, Mode, SetAside, find_modes
from maple.analysis.panel import Panel
from maple.analysis.processes import Processes, cores
from maple.analysis.reading import read_modes
from maple.analysis.reference_gaps import ReferenceGap
from maple.analysis.scores import Gap, Score, find_gaps
from maple.store.read import Store, StoredEvaluation, StoredRun, undescribed_run

SECONDS_PER_EVALUATION, SECONDS_PER_ROW = 1.2e-3, 5e-7
"""What a large store took on one core, read and estimated; rough."""
SECONDS_WORTH_IT = 4.0
"""Work of so long is shared: to start processes takes each of them a second of its own."""


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
    panels: tuple[Panel, ...] = field(default=(), repr=False, compare=False)
    """The scores that all this was made from, a mode each, for whoever needs more of them."""

    def count_runs(self) -> dict[str, int]:
        """Returns runs by status: done, failed, unfinished, missing."""
        counts = Counter(run.status for run in self.runs)
        return {status: counts[status] for status in ("done", "failed", "unfinished", "missing")}


def summarise(store: Store, *, processes: int | None = None) -> Summary:
    """Computes every estimate from the sample rows; nothing is cached or written.

    Args:
        store: the results, finished or not.
        processes: how many share the work; None: one on each core where there is enough of it.
            They change nothing that is computed.

    Raises:
        StoreError: a file of the store cannot be read or is not as documented.
    """
    # Many evaluations are read while the processes begin; few have to say first how large they are.
    count = _choose(store.count_evaluations()) if processes is None else processes
    known = store.evaluations() if count == 1 else None
    if known is not None and processes is None:
        count = _choose(len(known), sum(e.n_samples for e in known))
    with Processes(count) as hands, _uncollected():
        return _summarise(store, store.evaluations() if known is None else known, hands)


def _choose(evaluations: int, rows: int = 0) -> int:
    work = SECONDS_PER_EVALUATION * evaluations + SECONDS_PER_ROW * rows
    return cores() if work > SECONDS_WORTH_IT else 1


@contextmanager
def _uncollected() -> Iterator[None]:
    """Keeps Python from looking for garbage in circles, of which we make none.

    It would look through all that was made, hundreds of thousands of estimates, again and again.
    """
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _summarise(store: Store, evaluations: Sequence[StoredEvaluation], hands: Processes) -> Summary:
    runs = _all_runs(store, evaluations)
    modes, aside = find_modes(evaluations, runs)
    modes = _with_unscored(modes, store.study, {a.task for a in aside if a.reason == UNJUDGED})
    languages = {mode.label: _languages(mode, modes, store.study) for mode in modes}
    read = list(read_modes(store, modes, [run.run_id for run in runs], hands))
    panels = tuple(r.panel for r in read)
    study = Study(runs=tuple(runs), bases=find_bases(runs), languages=languages)
    found = estimate(store, modes, panels, study, hands)
    gaps = _gaps(modes, languages, runs, found.estimates.scores, store.study)
    return Summary(
        study=store.study,
        runs=study.runs,
        labels=run_labels(runs),
        bases=study.bases,
        modes=tuple(modes),
        languages=languages,
        estimates=found.estimates,
        metrics=tuple(m for r in read for m in r.metrics),
        checks=tuple(c for r in read for c in r.checks),
        costs=tuple(run_costs(runs, evaluations)),
        gaps=tuple(explain_gaps(gaps, evaluations, modes, aside)),
        set_aside=tuple(_with_verdicts(store, entry) for entry in aside),
        reference_gaps=found.reference_gaps,
        early_looks=tuple(looked_at(evaluations, modes, aside)),
        factors=found.factors,
        panels=panels,
    )


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
