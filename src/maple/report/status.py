"""What of a store is done, unfinished, failed and why: a table for the terminal."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

from rich.table import Table

from maple.analysis.parts import is_part
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
        done, parts, samples = scored.get(run.run_id, (0, 0, 0))
        early = f", {parts} stopped at an early look" if parts else ""
        table.add_row(
            run.run_id,
            run.cell.label,
            run.status,
            f"{done} of {_planned(store)} task-languages{early}",
            f"{samples:,}",
            _error(run),
        )
    return table


def _scored(store: Store) -> dict[str, tuple[int, int, int]]:
    """Run id -> (finished evaluations, parts among them, samples stored)."""
    found: dict[str, tuple[int, int, int]] = {}
    for each in store.evaluations():
        done, parts, samples = found.get(each.run_id, (0, 0, 0))
        more = done + each.is_done, parts + is_part(each), samples + each.n_samples
        found[each.run_id] = more
    return found


def _planned(store: Store) -> int:
    return len(store.study.get("evaluations", ()))


def _error(run: StoredRun) -> str:
    return run.failure.error if run.failure else ""
