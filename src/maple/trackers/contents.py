"""What a tracker is told of a run: its parameters, curve, costs, scores and failure."""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from maple.analysis.costs import run_costs
from maple.analysis.groups import language_groups
from maple.analysis.modes import Mode, find_modes
from maple.analysis.panel import load_panel
from maple.analysis.scores import mean_scores, score_cells
from maple.errors import StoreError
from maple.store.curves import rows_so_far
from maple.store.read import Failure, Status, Store, StoredRun
from maple.study.spec import canonical_json
from maple.trackers.names import metric_name

Value = str | int | float | bool
_TRAINING = ("loss", "learning_rate", "grad_norm", "tokens_per_second")
_WIN_RATES = (
    "win_rate",
    "standard_error",
    "length_controlled_winrate",
    "lc_standard_error",
)
_KNOBS = ("gradient_checkpointing", "micro_batch_tokens")
"""Settings that are no part of a run's identity, and may differ when it is taken up again."""


@dataclass(frozen=True, kw_only=True)
class Point:
    """One optimiser step."""

    step: int
    """Counted from 1."""
    seconds: float
    """Of training, up to the end of the step."""
    values: Mapping[str, float]
    """By metric name; all finite."""


@dataclass(frozen=True, kw_only=True)
class TrackedRun:
    """One run that has begun, as trackers show it."""

    run_id: str
    label: str
    status: Status
    failure: Failure | None
    parameters: Mapping[str, Value]
    """What the run's identity is made of, by a dotted name; the same every time."""
    notes: Mapping[str, str]
    """Words that may change: study, mixture's name, machine."""
    curve: Sequence[Point]
    results: Mapping[str, float]
    """Costs, scores with their limits, and win rates, by metric name; all finite."""
    started: float
    """When its specification was last written, in seconds since 1970."""
    ended: float | None
    """When it was done or failed; None while it may go on."""

    @property
    def digest(self) -> str:
        """A hash of all but the times: equal where a tracker has nothing new to be told."""
        content = asdict(self)
        for time in ("started", "ended"):
            del content[time]
        return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:32]

    @property
    def last_step(self) -> int:
        """The last finished step, or 0."""
        return self.curve[-1].step if self.curve else 0


def tracked_runs(store: Store) -> list[TrackedRun]:
    """Returns every run that has begun, in the plan's order.

    Scores are those of the report: of finished evaluations alone, with 95% intervals, and the
    mean over a task's languages once all of them are there.

    Raises:
        StoreError: a file of the store cannot be read.
    """
    runs = [run for run in store.runs() if run.spec is not None and run.status != "missing"]
    results = _results(store, runs)
    return [_tracked(store, run, results[run.run_id]) for run in runs]


def _tracked(store: Store, run: StoredRun, results: Mapping[str, float]) -> TrackedRun:
    folder = store.layout.run(run.run_id)
    ends = [folder / {"done": "done", "failed": "failed.json"}.get(run.status, "")]
    return TrackedRun(
        run_id=run.run_id,
        label=run.cell.label,
        status=run.status,
        failure=run.failure,
        parameters=_parameters(run),
        notes=_notes(store, run),
        curve=tuple(_points(rows_so_far(store, run.run_id))),
        results={name: value for name, value in results.items() if math.isfinite(value)},
        started=(folder / "spec.json").stat().st_mtime,
        ended=next((end.stat().st_mtime for end in ends if end.is_file()), None),
    )


# ------------------------------------------------------------------ parameters and notes


def _parameters(run: StoredRun) -> dict[str, Value]:
    spec, cell = run.spec or {}, run.cell
    model, mixture = spec.get("model"), spec.get("mixture") or {}
    training = {k: v for k, v in (spec.get("training") or {}).items() if k not in _KNOBS}
    parts = mixture.get("parts") or [] if isinstance(mixture, dict) else []
    content = {
        "base": cell.model,
        "base_revision": model.get("revision") if isinstance(model, dict) else None,
        "method": cell.method,
        "parameter": dict(cell.parameters),
        "quantization": cell.quantization,
        "bits": cell.bits,
        "data": " + ".join(str(part.get("dataset")) for part in parts) or None,
        "mixture": cell.mixture,
        "part": {str(n): part for n, part in enumerate(parts, start=1)},
        "training": training,
        "seed": cell.seed,
        "loop_version": spec.get("loop_version"),
    }
    return dict(_flat(content))


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Value]]:
    """Dotted names and plain values; what is None says nothing and is left out."""
    for key, value in content.items():
        name = prefix + metric_name(str(key))
        if isinstance(value, Mapping):
            yield from _flat(value, name + ".")
        elif isinstance(value, str | int | float | bool):
            yield name, value
        elif value is not None:
            yield name, json.dumps(value, ensure_ascii=False)


def _notes(store: Store, run: StoredRun) -> dict[str, str]:
    seen = run.environment
    versions = seen.get("versions")
    notes = {
        "study": store.study.get("name"),
        "device": seen.get("device"),
        "git": seen.get("git"),
        "versions": canonical_json(versions) if versions else None,
    }
    return {name: str(value) for name, value in notes.items() if value is not None}


# ------------------------------------------------------------------ curve


def _points(rows: Iterable[Mapping[str, Any]]) -> Iterable[Point]:
    seconds = 0.0
    for row in rows:
        seconds += float(row.get("step_seconds") or 0.0)
        values = {metric_name("train", name): row.get(name) for name in _TRAINING}
        values[metric_name("validation_loss", "mean")] = row.get("validation_loss")
        for language, loss in (row.get("validation_losses") or {}).items():
            values[metric_name("validation_loss", language)] = loss
        finite = {n: float(v) for n, v in values.items() if v is not None and math.isfinite(v)}
        yield Point(step=int(row["step"]), seconds=seconds, values=finite)


# ------------------------------------------------------------------ costs and scores


def _results(store: Store, runs: Sequence[StoredRun]) -> dict[str, dict[str, float]]:
    found: dict[str, dict[str, float]] = defaultdict(dict)
    evaluations = store.evaluations()
    for cost in run_costs(runs, evaluations):
        numbers = {k: v for k, v in asdict(cost).items() if k != "run_id" and v is not None}
        found[cost.run_id] |= {metric_name("cost", k): float(v) for k, v in numbers.items()}
    known = {run.run_id for run in runs}
    modes, _ = find_modes([e for e in evaluations if e.run_id in known], runs)
    for mode in modes:
        for run_id, name, value in _scores(store, mode, runs):
            found[run_id][name] = value
    for run in runs:
        found[run.run_id] |= _win_rates(store.directory, run.run_id)
    return found


def _scores(
    store: Store, mode: Mode, runs: Sequence[StoredRun]
) -> Iterable[tuple[str, str, float]]:
    panel = load_panel(store, mode, [run.run_id for run in runs])
    for score in score_cells(panel):
        yield from _limits(mode.label, score.language, score)
    planned = {e["language"] for e in store.study.get("evaluations", ()) if e["task"] == mode.task}
    languages = {language for _, language in mode.evaluations} | planned
    whole = [group for group in language_groups(languages) if group.kind == "all"]
    for mean in mean_scores(panel, whole):
        if mean.n_languages == mean.n_languages_planned > 1:
            yield from _limits(mode.label, "mean", mean)


def _limits(task: str, where: str, score: Any) -> Iterable[tuple[str, str, float]]:
    yield score.run_id, metric_name("score", task, where), score.score
    yield score.run_id, metric_name("score_low", task, where), score.low
    yield score.run_id, metric_name("score_high", task, where), score.high
    yield score.run_id, metric_name("samples", task, where), float(score.n)


def _win_rates(directory: Path, run_id: str) -> dict[str, float]:
    """Judged win rates in percent; of a run that was judged twice alike, the first by folder."""
    found: dict[str, float] = {}
    for path in sorted((directory / "alpaca_eval").glob(f"{run_id}*/*/win_rate.json")):
        try:
            rates = json.loads(path.read_text(encoding="utf-8"))
            against = f"{rates['annotator']} {rates['reference']}"
            for name in _WIN_RATES:
                if rates.get(name) is not None:
                    found.setdefault(metric_name("judged", against, name), float(rates[name]))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"{path} is no win rate that `maple judge` wrote: {error}") from error
    return found
