"""What a store holds that bears on a recommendation: which runs answered what, and which did not.

A cell is a task in a language. The cells that at least half of the candidates answered are the
ones to judge by; whoever lacks one of them is left out, with the reason, because a mean over other
cells is no comparison.
"""

from __future__ import annotations

import dataclasses
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from maple.analysis.configurations import (
    SEPARATOR,
    Configuration,
    configuration_label,
    find_configurations,
    run_labels,
)
from maple.analysis.modes import UNJUDGED, Mode, SetAside, find_modes
from maple.analysis.panel import Panel, load_panel
from maple.analysis.recommend_joint import shared_items
from maple.store.read import Store, StoredRun

Cell = tuple[str, str]
"""Task label and language."""
_WHOLE = 0.5
"""Share of the fullest run's samples below which a run is no candidate. Source: ours."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Evidence:
    """Runs and their answers; what ``recommend`` needs of a store."""

    runs: tuple[StoredRun, ...]
    panels: tuple[Panel, ...]
    """One per task; of a task asked in several ways the one with the most evaluations."""
    evaluated: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Language -> tasks with a finished evaluation, of the whole store."""
    notes: tuple[str, ...] = ()

    @cached_property
    def groups(self) -> dict[str, tuple[StoredRun, ...]]:
        """Untouched bases under their run id, configurations under a name; each with its runs."""
        bases = [run for run in self.runs if run.cell.is_base and not is_endpoint(run)]
        found = {run.run_id: (run,) for run in bases}
        return found | {_name(c): c.runs for c in find_configurations(list(self.runs))}

    @cached_property
    def labels(self) -> dict[str, str]:
        """A short text for each of the groups."""
        by_run = run_labels(list(self.runs))
        return {name: configuration_label(runs[0], by_run) for name, runs in self.groups.items()}


def load_evidence(
    store: Store,
    languages: Sequence[str],
    tasks: Sequence[str] = (),
    *,
    read: Sequence[Panel] = (),
) -> Evidence:
    """Reads the answers in some languages.

    Args:
        store: where they are.
        languages: canonical codes, English among them where it is to be judged.
        tasks: names of tasks; empty: all.
        read: panels of the same runs; one that holds just the evaluations wanted is taken.

    Raises:
        StoreError: a file of the store cannot be read or is not as documented.
    """
    every = store.evaluations()
    evaluated: dict[str, set[str]] = defaultdict(set)
    for e in every:
        if e.is_done and not e.spec.get("is_judged"):
            evaluated[e.language].add(e.task)
    runs = store.runs()
    # An evaluation whose run the store does not describe is of no configuration.
    described = {run.run_id for run in runs}
    wanted = [
        e
        for e in every
        if e.language in languages and e.run_id in described and (not tasks or e.task in tasks)
    ]
    modes, aside = find_modes(wanted, runs)
    chosen, notes = _one_mode_per_task(modes)
    return Evidence(
        runs=tuple(runs),
        panels=tuple(
            next((p for p in read if p.mode == mode), None)
            or load_panel(store, mode, [r.run_id for r in runs])
            for mode in chosen
        ),
        evaluated={code: tuple(sorted(found)) for code, found in sorted(evaluated.items())},
        notes=(*notes, *_notes_on_aside(aside), *_notes_on_endpoints(runs)),
    )


def is_endpoint(run: StoredRun) -> bool:
    """Whether only an endpoint has the model: something to hold scores against, not to choose."""
    return run.cell.quantization == "endpoint"


def _notes_on_endpoints(runs: Sequence[StoredRun]) -> list[str]:
    names = [run.cell.model for run in runs if is_endpoint(run)]
    if not names:
        return []
    return [f"only an endpoint has {', '.join(names)}: no configuration, and no rival of one"]


def _notes_on_aside(aside: Sequence[SetAside]) -> list[str]:
    """Why answers that are stored are not used; a second evaluation of the same is no loss."""
    reasons = Counter(a.reason for a in aside if not a.reason.endswith("is preferred"))
    del reasons[UNJUDGED]
    are = {n: "evaluation is" if n == 1 else "evaluations are" for n in reasons.values()}
    return [f"{n} {are[n]} set aside: {reason}" for reason, n in reasons.items()]


def _one_mode_per_task(modes: Sequence[Mode]) -> tuple[list[Mode], list[str]]:
    by_task: dict[str, list[Mode]] = defaultdict(list)
    for mode in modes:
        if any(e.is_done for e in mode.evaluations.values()):
            by_task[mode.task].append(mode)
    chosen, notes = [], []
    for found in by_task.values():
        best = max(found, key=lambda m: sum(e.is_done for e in m.evaluations.values()))
        chosen.append(best)
        if len(found) > 1:
            others = "; ".join(m.label for m in found if m is not best)
            notes.append(f"{best.label} is used, having the most evaluations; not used: {others}")
    return chosen, notes


@dataclass(frozen=True, kw_only=True, eq=False)
class Field:
    """The candidates that answered the same cells, and those that are left out."""

    cells: tuple[tuple[Panel, tuple[str, ...]], ...]
    """Each task's panel with the languages to average."""
    members: Mapping[str, tuple[StoredRun, ...]]
    """Name of a configuration -> its runs; of an untouched base, its run id -> itself."""
    left_out: Mapping[str, str]
    """Name -> why it cannot be compared."""
    labels: Mapping[str, str]
    """Name -> a short text."""
    partial: tuple[str, ...] = ()
    """Names of trained configurations that are left out and have some of the answers."""
    unscored: tuple[str, ...] = ()
    """Of those left out, the planned ones without any; who failed is not among them."""
    other_seeds: Mapping[str, str] = field(default_factory=dict)
    """Run id -> a short text, of the members' runs that are left out: they would be averaged in."""

    @property
    def run_ids(self) -> list[str]:
        """Every run of the members."""
        return [run.run_id for runs in self.members.values() for run in runs]

    @property
    def bases(self) -> list[str]:
        """Names of the untouched bases."""
        return [name for name, runs in self.members.items() if runs[0].cell.is_base]

    @property
    def candidates(self) -> list[str]:
        """Names of the trained configurations."""
        return [name for name, runs in self.members.items() if not runs[0].cell.is_base]

    @property
    def languages(self) -> list[str]:
        """Those that any task has."""
        return list(dict.fromkeys(code for _, codes in self.cells for code in codes))

    def within(self, languages: Sequence[str]) -> Field:
        """Returns the same members, judged in some of the languages."""
        cells = [(p, tuple(c for c in codes if c in languages)) for p, codes in self.cells]
        return dataclasses.replace(self, cells=tuple(cell for cell in cells if cell[1]))

    def samples(self) -> dict[str, int]:
        """Returns the shared samples of each language, summed over tasks."""
        found: dict[str, int] = defaultdict(int)
        for panel, languages in self.cells:
            for language in languages:
                found[language] += int(shared_items(panel, language, self.run_ids).sum())
        return dict(found)


def find_field(evidence: Evidence, languages: Sequence[str]) -> Field:
    """Returns who can be compared with whom in some languages.

    Args:
        evidence: runs and answers.
        languages: canonical codes.
    """
    groups = evidence.groups
    counts = _counts(evidence.panels, languages)
    trained = [runs for runs in groups.values() if not runs[0].cell.is_base]
    cells = _common_cells(counts, trained)
    most = {cell: max(counts[cell].values()) for cell in cells}
    members, left_out = {}, {}
    for name, runs in groups.items():
        whole = [r for r in runs if not _lacking(r, cells, counts, most)]
        if whole and cells:
            members[name] = tuple(whole)
        else:
            left_out[name] = _why(runs, cells, counts, most)
    found = _without_strangers(
        Field(
            cells=tuple(
                (panel, codes)
                for panel in evidence.panels
                if (codes := tuple(x for x in languages if (panel.mode.label, x) in cells))
            ),
            members=members,
            left_out=left_out,
            labels=evidence.labels,
        )
    )
    answered = {run for cell in cells for run, n in counts[cell].items() if n}
    trained_out = [name for name in found.left_out if not groups[name][0].cell.is_base]
    partial = [n for n in trained_out if any(r.run_id in answered for r in groups[n])]
    unscored = [
        name
        for name in trained_out
        if name not in partial and any(r.status != "failed" for r in groups[name])
    ]
    kept = set(found.run_ids)
    return dataclasses.replace(
        found,
        partial=tuple(partial),
        unscored=tuple(unscored),
        other_seeds={
            r.run_id: f"{found.labels[n]}{SEPARATOR}seed {r.cell.seed}"
            for n in found.candidates
            for r in groups[n]
            if r.run_id not in kept
        },
    )


def _name(configuration: Configuration) -> str:
    # A configuration with one run is not that run: a second seed may come.
    return f"configuration {configuration.runs[0].run_id}"


def _counts(panels: Sequence[Panel], languages: Sequence[str]) -> dict[Cell, dict[str, int]]:
    """Samples by cell and run."""
    return {
        (panel.mode.label, language): dict(
            zip(
                panel.run_ids,
                (~np.isnan(panel.scores[language])).sum(axis=1).tolist(),
                strict=True,
            )
        )
        for panel in panels
        for language in languages
        if language in panel.scores
    }


def _common_cells(
    counts: Mapping[Cell, Mapping[str, int]], trained: Sequence[Sequence[StoredRun]]
) -> list[Cell]:
    """The cells that at least half of the configurations with any answer have."""

    def has(runs: Sequence[StoredRun], cell: Cell) -> bool:
        return any(counts[cell].get(run.run_id) for run in runs)

    scored = [runs for runs in trained if any(has(runs, cell) for cell in counts)]
    return [c for c in counts if scored and 2 * sum(has(r, c) for r in scored) >= len(scored)]


def _lacking(
    run: StoredRun,
    cells: Sequence[Cell],
    counts: Mapping[Cell, Mapping[str, int]],
    most: Mapping[Cell, int],
) -> list[Cell]:
    return [c for c in cells if counts[c].get(run.run_id, 0) < max(1, _WHOLE * most[c])]


def _why(
    runs: Sequence[StoredRun],
    cells: Sequence[Cell],
    counts: Mapping[Cell, Mapping[str, int]],
    most: Mapping[Cell, int],
) -> str:
    states = sorted({run.status for run in runs} - {"done"})
    lacking = min((_lacking(run, cells, counts, most) for run in runs), key=len)
    where = ", ".join(f"{task} {language}" for task, language in lacking[:4])
    more = f" and {len(lacking) - 4} more" if len(lacking) > 4 else ""
    state = f"run {', '.join(states)}; " if states else ""
    if not cells:
        return f"{state}no answers in the languages asked for"
    return f"{state}not enough answers in {where}{more}"


def _without_strangers(found: Field) -> Field:
    """Leaves out runs until every cell has items that all answered: samples must be shared."""
    members, left_out = dict(found.members), dict(found.left_out)
    for panel, languages in found.cells:
        for language in languages:
            while members and not _shared(panel, language, members):
                name = _stranger(panel, language, members)
                del members[name]
                left_out[name] = (
                    f"shares no sample with the others in {panel.mode.label} {language}"
                )
    return Field(cells=found.cells, members=members, left_out=left_out, labels=found.labels)


def _shared(panel: Panel, language: str, members: Mapping[str, Sequence[StoredRun]]) -> bool:
    runs = [run.run_id for group in members.values() for run in group]
    return bool(shared_items(panel, language, runs).any())


def _stranger(panel: Panel, language: str, members: Mapping[str, Sequence[StoredRun]]) -> str:
    """The member whose items the fewest others answered."""
    answered = ~np.isnan(panel.scores[language])
    popularity = answered.sum(axis=0)
    return min(
        members,
        key=lambda name: min(
            float(popularity[answered[panel.run_ids.index(r.run_id)]].mean()) for r in members[name]
        ),
    )
