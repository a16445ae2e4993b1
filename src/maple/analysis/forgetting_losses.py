"""Loss on held-out text, where training watched it: per configuration and language.

The untouched base has no curve, so there is no loss "before": the change is from the first
measurement of training to the one whose parameters were kept (the last, where none was chosen).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from maple.analysis.configurations import find_configurations
from maple.analysis.intervals import Interval, student_interval
from maple.store.read import Store, StoredRun


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Held-out loss of one configuration in one language, in nats per label token."""

    configuration: str
    run_ids: tuple[str, ...]
    language: str
    first_step: int
    """Of the first measurement; the earliest over the seeds."""
    first: float
    kept: float
    """Means over seeds."""
    change: float
    """``kept - first``: below 0 is a gain."""
    interval: Interval | None
    """Of the change over seeds; None with one seed, which says nothing of another."""


def held_out_losses(
    store: Store, runs: Sequence[StoredRun], labels: Mapping[str, str]
) -> list[HeldOut]:
    """Returns the held-out losses of every configuration whose training measured them.

    Args:
        store: where the curves are.
        runs: the store's runs.
        labels: of configurations, by ``configuration <first run id>``.

    Raises:
        StoreError: a curve cannot be read.
    """
    found = []
    for configuration in find_configurations(runs):
        measured = {run.run_id: _measured(store, run) for run in configuration.runs}
        label = labels.get(f"configuration {configuration.runs[0].run_id}", configuration.series)
        languages = sorted({code for losses in measured.values() for code in losses})
        found += [_held_out(label, measured, language) for language in languages]
    return found


_Losses = dict[str, tuple[int, float, float]]
"""Language -> step of the first measurement, its loss, and the loss that was kept."""


def _measured(store: Store, run: StoredRun) -> _Losses:
    curve = store.curve(run.run_id)
    if "validation_losses" not in curve.column_names:
        return {}
    rows = curve.select(["step", "validation_losses"]).to_pylist()
    measured = [(r["step"], dict(r["validation_losses"])) for r in rows if r["validation_losses"]]
    if not measured:
        return {}
    kept_step = run.train.kept_step if run.train else None
    kept = next((losses for step, losses in measured if step == kept_step), measured[-1][1])
    first_step, first = measured[0]
    return {
        code: (first_step, first[code], kept[code])
        for code in first
        if code in kept and math.isfinite(first[code]) and math.isfinite(kept[code])
    }


def _held_out(label: str, measured: Mapping[str, _Losses], language: str) -> HeldOut:
    own = {run: losses[language] for run, losses in measured.items() if language in losses}
    first = np.array([loss for _, loss, _ in own.values()])
    kept = np.array([loss for _, _, loss in own.values()])
    change, k = kept - first, len(own)
    interval = None
    if k > 1:
        interval = student_interval(float(change.mean()), float(change.var(ddof=1)) / k, k - 1)
    return HeldOut(
        configuration=label,
        run_ids=tuple(own),
        language=language,
        first_step=min(step for step, _, _ in own.values()),
        first=float(first.mean()),
        kept=float(kept.mean()),
        change=float(change.mean()),
        interval=interval,
    )
