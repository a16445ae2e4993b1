"""The forgetting ledger: what tuning gave and took, per language, and what that costs in English.

    task scores     a configuration minus its untouched base, paired, per language and task
    held-out loss   what the training curve recorded, first measurement to the one that was kept
    win rate        judged answers of a configuration's runs minus the base's, per instruction
    trade-off       mean gain over the languages other than English against the change in English

Every configuration is the mean of its seeds. The report draws the trade-off; here are its numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from maple.analysis.forgetting_losses import HeldOut, held_out_losses
from maple.analysis.forgetting_wins import WinChange, win_changes
from maple.analysis.groups import ENGLISH
from maple.analysis.intervals import Interval, holm, student_interval, student_p
from maple.analysis.panel import Panel
from maple.analysis.recommend_evidence import Evidence, find_field, load_evidence
from maple.analysis.recommend_gates import base_names, configured_means
from maple.analysis.recommend_request import Request
from maple.store.read import Store

ALL_TASKS = "mean over tasks"
SIGNIFICANCE = 0.05


@dataclass(frozen=True, kw_only=True)
class Change:
    """A configuration minus its untouched base, in scores (-1..1)."""

    configuration: str
    """Label."""
    run_ids: tuple[str, ...]
    """Its runs that enter, one per seed."""
    base_run_id: str
    task: str
    """The task's label; ``ALL_TASKS`` for the mean over tasks."""
    group: str
    """A language's code, ``non-english``, or ``english``."""
    change: Interval
    """With its 95% interval, by itself."""
    p: float
    p_holm: float
    """Adjusted over the configurations and languages of the task."""
    n: int
    """Shared samples."""
    n_languages: int
    n_tasks: int

    @property
    def is_lost(self) -> bool:
        """Whether a loss is told from zero after Holm's adjustment."""
        return self.p_holm < SIGNIFICANCE and self.change.value < 0


@dataclass(frozen=True, kw_only=True)
class TradeOff:
    """One configuration on the curve of multilingual gain against English loss."""

    configuration: str
    run_ids: tuple[str, ...]
    gain: Interval
    """Mean change over tasks and the languages other than English."""
    english: Interval | None
    """Change in English; below 0 is a loss. None: not evaluated beside its base."""
    n_seeds: int
    is_undominated: bool | None
    """Whether no other has both estimates higher; None where English is not known."""


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """Everything about what was gained and lost."""

    changes: tuple[Change, ...]
    """Per configuration and language, English among them: each task, then the mean over tasks."""
    trade_offs: tuple[TradeOff, ...]
    """By rising gain."""
    held_out: tuple[HeldOut, ...]
    wins: tuple[WinChange, ...]
    notes: tuple[str, ...]

    def as_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return asdict(self)


def forgetting_ledger(store: Store, panels: Sequence[Panel] = ()) -> Ledger:
    """Computes the ledger of a store.

    Args:
        store: where runs, curves and answers are.
        panels: answers that are read already; what they hold is not read again.

    Raises:
        DataError: verdicts of a judge that cannot be read.
        StoreError: a file of the store cannot be read or is not as documented.
    """
    used = [e for panel in panels for e in panel.mode.evaluations.values()] or store.evaluations()
    languages = sorted({e.language for e in used if e.is_done})
    evidence = load_evidence(store, languages, read=panels)
    ledger = ledger_of(evidence)
    labels = evidence.labels
    return dataclasses.replace(
        ledger,
        held_out=tuple(held_out_losses(store, evidence.runs, labels)),
        wins=tuple(win_changes(store, evidence.runs, labels)),
    )


def ledger_of(evidence: Evidence) -> Ledger:
    """Returns the part of the ledger that comes from scores.

    Args:
        evidence: runs and their answers, as ``load_evidence`` gives them.
    """
    languages = sorted({code for panel in evidence.panels for code in panel.languages})
    by_task = [dataclasses.replace(evidence, panels=(panel,)) for panel in evidence.panels]
    changes = [
        dataclasses.replace(change, task=alone.panels[0].mode.label)
        for alone in by_task
        for code in languages
        for change in _over_tasks(alone, [code], code)
    ]
    if len(by_task) > 1:
        changes += [c for code in languages for c in _over_tasks(evidence, [code], code)]
    foreign = [code for code in languages if code != ENGLISH]
    gains = _over_tasks(evidence, foreign, "non-english") if foreign else []
    english = _over_tasks(evidence, [ENGLISH], "english") if ENGLISH in languages else []
    notes = []
    if ENGLISH not in languages:
        notes.append("English is not evaluated: what tuning costs there is not known")
    return Ledger(
        changes=tuple(_adjusted(changes)),
        trade_offs=tuple(_trade_offs(gains, english)),
        held_out=(),
        wins=(),
        notes=tuple(notes),
    )


def _over_tasks(evidence: Evidence, languages: Sequence[str], group: str) -> list[Change]:
    field = find_field(evidence, languages)
    bases = base_names(field)
    names = [name for name in field.candidates if name in bases]
    if not names:
        return []
    # No spread is assumed where there is one seed: the interval then covers test items alone.
    request = Request(languages=tuple(languages), seed_deviation=0.0)
    configured = configured_means(field, request)
    weights = np.vstack([configured.difference(bases[name], [name]) for name in names])
    estimates, covariance, df = configured.contrast(weights)
    found = []
    for i, name in enumerate(names):
        value, variance, own = float(estimates[i]), float(covariance[i, i]), float(df[i])
        p = student_p(value, variance, own)
        found.append(
            Change(
                configuration=field.labels[name],
                run_ids=tuple(run.run_id for run in field.members[name]),
                base_run_id=bases[name],
                task=ALL_TASKS,
                group=group,
                change=student_interval(value, variance, own, reach=1.0),
                p=p,
                p_holm=p,
                n=configured.n_samples,
                n_languages=len({code for _, codes in field.cells for code in codes}),
                n_tasks=len(field.cells),
            )
        )
    return found


def _adjusted(changes: Sequence[Change]) -> list[Change]:
    """Adjusts over the configurations and languages of each task."""
    adjusted: dict[int, float] = {}
    for task in dict.fromkeys(c.task for c in changes):
        own = [i for i, c in enumerate(changes) if c.task == task]
        adjusted |= dict(zip(own, holm([changes[i].p for i in own]), strict=True))
    return [dataclasses.replace(c, p_holm=adjusted[i]) for i, c in enumerate(changes)]


def _trade_offs(gains: Sequence[Change], english: Iterable[Change]) -> list[TradeOff]:
    lost = {change.configuration: change.change for change in english}
    points = [
        TradeOff(
            configuration=gain.configuration,
            run_ids=gain.run_ids,
            gain=gain.change,
            english=lost.get(gain.configuration),
            n_seeds=len(gain.run_ids),
            is_undominated=None,
        )
        for gain in sorted(gains, key=lambda c: (c.change.value, c.configuration))
    ]
    return [dataclasses.replace(p, is_undominated=_is_undominated(p, points)) for p in points]


def _is_undominated(point: TradeOff, points: Sequence[TradeOff]) -> bool | None:
    if point.english is None:
        return None
    own = point.english.value
    return not any(
        other.english is not None
        and other.gain.value >= point.gain.value
        and other.english.value >= own
        and (other.gain.value, other.english.value) != (point.gain.value, own)
        for other in points
    )
