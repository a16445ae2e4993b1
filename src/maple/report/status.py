"""What of a store is done, unfinished, failed and why: a table for the terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.table import Table

from maple.store.read import Store, StoredRun, open_store


def status_table(directory: Path) -> Table:
    """Returns one row per planned run: its state, its scored samples, its error.

    Raises:
        StoreError: the directory is no store, or a file in it is broken.
    """
    store = open_store(directory)
    runs = store.runs()
    counts = Counter(run.status for run in runs)
    summary = ", ".join(f"{count} {status}" for status, count in sorted(counts.items()))
    table = Table(title=f"{directory}: {len(runs)} runs ({summary})")
    for column in ("run", "cell", "training", "scored", "samples", "error"):
        table.add_column(column, overflow="fold")
    scored = _scored(store)
    for run in runs:
        done, samples = scored.get(run.run_id, (0, 0))
        table.add_row(
            run.run_id,
            run.cell.label,
            run.status,
            f"{done} of {_planned(store)} task-languages",
            f"{samples:,}",
            _error(run),
        )
    return table


def _scored(store: Store) -> dict[str, tuple[int, int]]:
    """Run id -> (finished evaluations, samples stored)."""
    found: dict[str, tuple[int, int]] = {}
    for evaluation in store.evaluations():
        done, samples = found.get(evaluation.run_id, (0, 0))
        found[evaluation.run_id] = (done + evaluation.is_done, samples + evaluation.n_samples)
    return found


def _planned(store: Store) -> int:
    return len(store.study.get("evaluations", ()))


def _error(run: StoredRun) -> str:
    return run.failure.error if run.failure else ""
