"""What a growing store looks like now, as plain values that the live page draws.

Files that were read are read again only when their size or time has changed: a look at a store of
a hundred runs costs file names and sizes, not its rows.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from maple.analysis.configurations import run_labels
from maple.analysis.groups import facts
from maple.analysis.intervals import interval_from_moments
from maple.analysis.parts import is_part
from maple.errors import StoreError
from maple.store.curves import checkpoint_rows
from maple.store.read import Store, StoredEvaluation, StoredRun, open_store

CURVE_POINTS = 200
MOST_CURVES = 12
"""Runs whose loss is drawn: those that changed last."""
MOST_SCORES = 300
"""Evaluations that are listed: those that changed last."""
MOST_TEXT = 4_000
"""Characters of an error or of the end of a traceback."""


@dataclass(frozen=True)
class Moments:
    """What scores of a part add up to; NaN, which a judge has yet to score, is left out."""

    n: int = 0
    total: float = 0.0
    squares: float = 0.0
    is_binary: bool = True

    def __add__(self, other: Moments) -> Moments:
        return Moments(
            self.n + other.n,
            self.total + other.total,
            self.squares + other.squares,
            self.is_binary and other.is_binary,
        )


@dataclass
class _Kept:
    """Values made from files, kept while the files stay as they were."""

    make: Callable[[Path], Any]
    found: dict[Path, tuple[tuple[int, int], Any]] = field(default_factory=dict)

    def get(self, path: Path) -> Any:
        stat = path.stat()
        mark = (stat.st_size, stat.st_mtime_ns)
        kept = self.found.get(path)
        if kept is None or kept[0] != mark:
            kept = self.found[path] = (mark, self.make(path))
        return kept[1]


class Watcher:
    """Looks at one store again and again; it never writes."""

    def __init__(self, directory: Path) -> None:
        """Opens the store.

        Raises:
            StoreError: the directory is no store.
        """
        self._directory = directory
        self._parts = _Kept(_moments)
        self._curves = _Kept(_curve)
        self._checkpoints = _Kept(_checkpoint_curve)
        open_store(directory)

    def look(self) -> dict[str, Any]:
        """Returns the store's state as JSON values.

        A file that is broken is named in ``problem`` and the rest is left out: the page shows it
        and asks again. One that vanished is looked for once more, since a run that ends takes its
        checkpoint away.
        """
        try:
            try:
                return self._state(open_store(self._directory))
            except FileNotFoundError:
                return self._state(open_store(self._directory))
        except (StoreError, OSError) as error:
            return {"problem": str(error)[:MOST_TEXT], "time": _now()}

    def _state(self, store: Store) -> dict[str, Any]:
        runs, evaluations = store.runs(), store.evaluations()
        labels = run_labels(runs)
        counts = Counter(run.status for run in runs)
        return {
            "problem": "",
            "time": _now(),
            "name": str(store.study.get("name") or store.directory.name),
            "counts": {s: counts[s] for s in ("done", "unfinished", "failed", "missing")},
            "planned": len(store.study.get("evaluations") or ()),
            "runs": [self._run(store, run, labels, evaluations) for run in runs],
            "curves": self._shown_curves(store, runs, labels),
            "finished": sum(e.is_done for e in evaluations),
            "evaluations": len(evaluations),
            "scores": [self._score(store, e, labels) for e in self._newest(store, evaluations)],
            "failures": [_failure(run, labels) for run in runs if run.failure],
        }

    def _run(
        self,
        store: Store,
        run: StoredRun,
        labels: Mapping[str, str],
        evaluations: Sequence[StoredEvaluation],
    ) -> dict[str, Any]:
        own = [e for e in evaluations if e.run_id == run.run_id]
        curve = self._curve(store, run)
        return {
            "run": labels[run.run_id],
            "status": run.status,
            "steps": curve["steps"],
            "loss": curve["last"],
            "evaluations_done": sum(e.is_done for e in own),
            "evaluations": len(own),
            "samples": sum(self._sum(store, e).n for e in own),
        }

    def _curve(self, store: Store, run: StoredRun) -> dict[str, Any]:
        """The stored curve, or what the last checkpoint of an unfinished run holds of it."""
        path = store.layout.run(run.run_id) / "curve.parquet"
        checkpoint = store.layout.checkpoint(run.run_id)
        if path.exists():
            return {**self._curves.get(path), "time": path.stat().st_mtime_ns}
        if checkpoint.exists():
            found = self._checkpoints.get(checkpoint)
            return {**found, "time": checkpoint.stat().st_mtime_ns}
        return {**_NO_CURVE, "time": 0}

    def _shown_curves(
        self, store: Store, runs: Sequence[StoredRun], labels: Mapping[str, str]
    ) -> list[dict[str, Any]]:
        curves = {run.run_id: self._curve(store, run) for run in runs}
        there = [run for run, curve in curves.items() if curve["steps"]]
        newest = sorted(there, key=lambda run: -int(curves[run]["time"]))[:MOST_CURVES]
        shown = [run for run in there if run in newest]
        keys = ("steps", "last", "x", "y")
        return [{"run": labels[run], **{k: curves[run][k] for k in keys}} for run in shown]

    def _newest(
        self, store: Store, evaluations: Sequence[StoredEvaluation]
    ) -> list[StoredEvaluation]:
        """The evaluations whose folder changed last, the newest first."""
        folder = store.layout.evaluation
        times = {e.eval_id: folder(e.eval_id).stat().st_mtime_ns for e in evaluations}
        return sorted(evaluations, key=lambda e: (-times[e.eval_id], e.eval_id))[:MOST_SCORES]

    def _sum(self, store: Store, evaluation: StoredEvaluation) -> Moments:
        folder = store.layout.evaluation(evaluation.eval_id)
        parts = sorted(folder.glob("part-*.parquet"))
        return sum((self._parts.get(part) for part in parts), Moments())

    def _score(
        self, store: Store, evaluation: StoredEvaluation, labels: Mapping[str, str]
    ) -> dict[str, Any]:
        moments = self._sum(store, evaluation)
        return {
            "run": labels.get(evaluation.run_id, evaluation.run_id),
            "task": evaluation.task,
            "language": facts(evaluation.language).name,
            "code": evaluation.language,
            "metric": evaluation.headline,
            "n": moments.n,
            "is_done": evaluation.is_done,
            "is_part": is_part(evaluation),
            **_interval(moments),
        }


def _interval(moments: Moments) -> dict[str, float | None]:
    if not moments.n:
        return {"score": None, "low": None, "high": None}
    n, mean = moments.n, moments.total / moments.n
    variance = max(0.0, moments.squares - n * mean * mean) / (n - 1) if n > 1 else 0.0
    found = interval_from_moments(mean, variance, n, is_binary=moments.is_binary)
    return {"score": found.value, "low": found.low, "high": found.high}


def _moments(path: Path) -> Moments:
    scores = [s for s in _column(path, ["score"])["score"].to_pylist() if s is not None]
    kept = [s for s in scores if not math.isnan(s)]
    return Moments(
        len(kept), sum(kept), sum(s * s for s in kept), all(s in (0.0, 1.0) for s in kept)
    )


_NO_CURVE: Mapping[str, Any] = {"steps": 0, "last": None, "x": [], "y": []}


def _curve(path: Path) -> dict[str, Any]:
    table = _column(path, ["step", "loss"])
    return _thinned(table["step"].to_pylist(), table["loss"].to_pylist())


def _checkpoint_curve(path: Path) -> dict[str, Any]:
    rows = checkpoint_rows(path)
    return _thinned([row["step"] for row in rows], [row.get("loss") for row in rows])


def _thinned(steps: Sequence[int], losses: Sequence[float | None]) -> dict[str, Any]:
    n = len(steps)
    if not n:
        return dict(_NO_CURVE)
    last = CURVE_POINTS - 1
    places = sorted({round(i * (n - 1) / last) for i in range(CURVE_POINTS)})
    shown = [y if y is not None and math.isfinite(y) else None for y in losses]
    kept = {"x": [steps[p] for p in places], "y": [shown[p] for p in places]}
    return {"steps": n, "last": shown[-1], **kept}


def _column(path: Path, columns: list[str]) -> pa.Table:
    try:
        with pq.ParquetFile(path) as file:
            return file.read(columns)
    except pa.ArrowException as error:
        raise StoreError(f"{path} cannot be read: {str(error).splitlines()[0]}") from error


def _failure(run: StoredRun, labels: Mapping[str, str]) -> dict[str, str]:
    assert run.failure is not None
    return {
        "run": labels[run.run_id],
        "stage": run.failure.stage[:MOST_TEXT],
        "error": run.failure.error[:MOST_TEXT],
        "traceback": run.failure.traceback[-MOST_TEXT:],
    }


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
