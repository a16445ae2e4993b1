"""Judged win rates against the base's: the same judge, reference and instructions, paired."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from maple.analysis.configurations import find_configurations
from maple.analysis.deltas import find_bases
from maple.analysis.intervals import Interval
from maple.analysis.means import LanguageValues, mean_over_languages
from maple.store.read import Store, StoredRun

_Verdicts = dict[tuple[str, str], dict[str, float]]
"""(annotator, reference) -> instruction -> preference for the model, 0..1."""


@dataclass(frozen=True, kw_only=True)
class WinChange:
    """Win rate of a configuration minus its untouched base's, in rates of 0..1."""

    configuration: str
    run_ids: tuple[str, ...]
    base_run_id: str
    annotator: str
    reference: str
    """The model that both were judged against."""
    rate: float
    base_rate: float
    change: Interval
    """Over instructions; it knows nothing of the judge's own errors, nor of other seeds."""
    p: float
    n: int
    """Instructions that all were judged on."""


def win_changes(
    store: Store, runs: Sequence[StoredRun], labels: Mapping[str, str]
) -> list[WinChange]:
    """Returns the changes in win rate of every configuration judged beside its base.

    Args:
        store: whose ``alpaca_eval`` folder holds the verdicts.
        runs: the store's runs.
        labels: of configurations, by ``configuration <first run id>``.

    Raises:
        DataError: a file of verdicts that cannot be read.
    """
    if not (store.directory / "alpaca_eval").is_dir():
        return []
    verdicts = {run.run_id: _verdicts(store.directory, run.run_id) for run in runs}
    bases, found = find_bases(runs), []
    for configuration in find_configurations(runs):
        judged = [r.run_id for r in configuration.runs if verdicts[r.run_id]]
        base = bases.get(judged[0]) if judged else None
        if base is None:
            continue
        label = labels.get(f"configuration {configuration.runs[0].run_id}", configuration.series)
        for judge in verdicts[base.run_id]:
            own = [run for run in judged if judge in verdicts[run]]
            change = _change(own, base.run_id, judge, verdicts, label) if own else None
            if change is not None:
                found.append(change)
    return found


def _change(
    runs: Sequence[str],
    base: str,
    judge: tuple[str, str],
    verdicts: Mapping[str, _Verdicts],
    label: str,
) -> WinChange | None:
    of_base = verdicts[base][judge]
    shared = sorted(set(of_base).intersection(*(verdicts[run][judge] for run in runs)))
    if not shared:
        return None
    own = np.mean([[verdicts[run][judge][text] for text in shared] for run in runs], axis=0)
    other = np.array([of_base[text] for text in shared])
    values = LanguageValues(language="eng_Latn", items=np.arange(len(shared)), values=own - other)
    mean = mean_over_languages([values])
    return WinChange(
        configuration=label,
        run_ids=tuple(runs),
        base_run_id=base,
        annotator=judge[0],
        reference=judge[1],
        rate=float(own.mean()),
        base_rate=float(other.mean()),
        change=mean.interval,
        p=mean.p,
        n=len(shared),
    )


def _verdicts(directory: Path, run_id: str) -> _Verdicts:
    """Preferences by judge; verdicts that state none are in no mean."""
    from maple.judge import read_annotations

    found: _Verdicts = {}
    # A run that was scored twice has a folder per evaluation, its id after the run's.
    for path in sorted((directory / "alpaca_eval").glob(f"{run_id}*/*/annotations.json")):
        for annotation in read_annotations(path):
            if annotation.preference is None:
                continue
            judge = (annotation.annotator, annotation.pair.reference.generator)
            by_text = found.setdefault(judge, {})
            by_text.setdefault(annotation.pair.instruction, annotation.preference - 1)
    return found
