"""Writes a store to a tracker: what is new, and nothing twice."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from maple.store.read import open_store
from maple.trackers.contents import tracked_runs
from maple.trackers.protocol import Tracker


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one look at a store led to."""

    written: int
    """Runs that were new, or had changed."""
    unchanged: int
    waiting: int
    """Planned runs that have not begun: they are not in the tracker yet."""
    is_report_written: bool
    is_complete: bool
    """Whether every planned run is done or has failed: nothing changes until it is run again."""


def write_study(directory: Path, tracker: Tracker) -> Outcome:
    """Writes every run that has begun, and ``report.html`` where there is one.

    Args:
        directory: the store; a study may be running in it.
        tracker: where to write.

    Raises:
        StoreError: the directory is no store, or a file of it cannot be read.
        TrackerError: the tracker cannot be reached, or refuses something.
    """
    store = open_store(directory)
    planned = store.runs()
    runs = tracked_runs(store)
    written = 0
    for run in runs:
        held = tracker.held(run.run_id)
        if held is None or held.digest != run.digest:
            tracker.write(run, after_step=0 if held is None else held.step)
            written += 1
    report = directory / "report.html"
    is_attached = report.exists() and tracker.attach(
        report, hashlib.sha256(report.read_bytes()).hexdigest()[:32]
    )
    return Outcome(
        written=written,
        unchanged=len(runs) - written,
        waiting=len(planned) - len(runs),
        is_report_written=is_attached,
        is_complete=all(run.status in ("done", "failed") for run in planned),
    )
