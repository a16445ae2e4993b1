"""Writes every estimate as CSV: one file per kind, a row per estimate, scores in 0..1."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maple.analysis.checks import CheckRate
from maple.analysis.costs import Cost
from maple.analysis.curves import CurvePoint
from maple.analysis.deltas import Delta
from maple.analysis.early_looks import LookedAt
from maple.analysis.effects import Effect
from maple.analysis.forgetting import Ledger
from maple.analysis.groups import facts
from maple.analysis.metrics import MetricMean
from maple.analysis.modes import SetAside
from maple.analysis.scores import Gap, MeanScore, Score
from maple.analysis.summary import Summary
from maple.report.files import write_text
from maple.report.further import KINDS, found
from maple.store.read import StoredRun


@dataclass(frozen=True)
class Table:
    """Columns in order, and rows that have them all."""

    columns: tuple[str, ...]
    rows: Sequence[Mapping[str, Any]]


def write_tables(summary: Summary, directory: Path, *, ledger: Ledger | None = None) -> list[Path]:
    """Writes every table as ``directory/<name>.csv`` and returns the paths.

    Raises:
        StoreError: the directory cannot be written.
    """
    paths = []
    for name, table in (make_tables(summary) | _further(summary, ledger)).items():
        path = directory / f"{name}.csv"
        write_text(path, _csv(table))
        paths.append(path)
    return paths


def make_tables(summary: Summary) -> dict[str, Table]:
    """Returns every table by file name; a table without rows still has its columns."""
    estimates = summary.estimates
    group_deltas = [*estimates.mean_deltas, *estimates.run_effects]
    kinds: list[tuple[str, Iterable[Any], type]] = [
        ("scores", estimates.scores, Score),
        ("means", estimates.means, MeanScore),
        ("mean_deltas", group_deltas, Delta),
        ("effects", estimates.effects, Effect),
        ("curves", estimates.curves, CurvePoint),
        ("metrics", summary.metrics, MetricMean),
        ("checks", summary.checks, CheckRate),
        ("costs", summary.costs, Cost),
        ("missing", summary.gaps, Gap),
        ("set_aside", summary.set_aside, SetAside),
        ("early_looks", summary.early_looks, LookedAt),
    ]
    tables = {name: _table(summary, kind, rows) for name, rows, kind in kinds}
    return tables | {"deltas": _deltas(summary), "runs": _runs(summary.runs, summary.labels)}


def _further(summary: Summary, ledger: Ledger | None) -> dict[str, Table]:
    """Tables of the sections that appear only where there is something to show."""
    kinds = [(kind.name, found(summary, kind, ledger)) for kind in KINDS]
    return {name: _flat(_table(summary, type(rows[0]), rows)) for name, rows in kinds if rows}


def _flat(table: Table) -> Table:
    """Intervals inside a row as columns: ``change``, ``change_low``, ``change_high``."""
    nested = {c for c in table.columns for row in table.rows if isinstance(row[c], dict)}
    columns: list[str] = []
    for column in table.columns:
        columns += [column, f"{column}_low", f"{column}_high"] if column in nested else [column]
    rows = []
    for row in table.rows:
        limits = {
            f"{column}_{end}": value.get(end)
            for column in nested
            if isinstance(value := row[column], dict)
            for end in ("low", "high")
        }
        values = {c: v["value"] if isinstance(v, dict) else v for c, v in row.items()}
        rows.append({**values, **limits})
    return Table(tuple(columns), rows)


def _table(summary: Summary, kind: type, rows: Iterable[Any]) -> Table:
    columns: list[str] = []
    for field in dataclasses.fields(kind):
        columns += [field.name, *_FACTS.get(field.name, ())]
    return Table(tuple(columns), [_row(dataclasses.asdict(row), summary.labels) for row in rows])


def _deltas(summary: Summary) -> Table:
    """Deltas of single languages: the group is the language."""
    whole = _table(summary, Delta, summary.estimates.deltas)
    kept = [c for c in whole.columns if c not in ("kind", "n_languages", "n_languages_planned")]
    columns: list[str] = []
    for column in kept:
        columns += ["language", *_FACTS["language"]] if column == "group" else [column]
    rows = [_row({**row, "language": row["group"]}, summary.labels) for row in whole.rows]
    return Table(tuple(columns), rows)


_FACTS = {"run_id": ("run",), "language": ("language_name", "script", "resource_class")}
"""Columns that follow an id, for readers."""


def _row(row: dict[str, Any], labels: Mapping[str, str]) -> dict[str, Any]:
    if "run_id" in row:
        row["run"] = labels.get(row["run_id"], row["run_id"])
    if "language" in row:
        known = facts(row["language"])
        row["language_name"], row["script"] = known.name, known.script
        row["resource_class"] = known.resource_class
    return row


def _runs(runs: Sequence[StoredRun], labels: Mapping[str, str]) -> Table:
    rows = [
        {
            "run_id": run.run_id,
            "run": labels[run.run_id],
            "label": run.cell.label,
            "status": run.status,
            "model": run.cell.model,
            "method": run.cell.method,
            "parameters": json.dumps(run.cell.parameters, ensure_ascii=False, sort_keys=True),
            "rank": run.cell.rank,
            "quantization": run.cell.quantization,
            "bits": run.cell.bits,
            "mixture": run.cell.mixture,
            "seed": run.cell.seed,
            "stands_for": run.cell.stands_for,
            "failed_in": run.failure.stage if run.failure else None,
            "error": run.failure.error if run.failure else None,
        }
        for run in runs
    ]
    columns = (
        "run_id run label status model method parameters rank quantization bits mixture seed "
        "stands_for failed_in error"
    )
    return Table(tuple(columns.split()), rows)


def _csv(table: Table) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, table.columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(table.rows)
    return stream.getvalue()
