"""Runs as configurations: what varies between them, and how to call them in few words."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maple.store.read import StoredRun
from maple.study.spec import canonical_json

SEPARATOR = " · "


@dataclass(frozen=True, kw_only=True, eq=False)
class Configuration:
    """Trained runs that differ by nothing but their seed."""

    series: str
    """Label of everything but rank and quantization: what a curve runs along."""
    quantization: str
    bits: float | None
    rank: int | None
    runs: tuple[StoredRun, ...]
    """One per seed, by rising seed."""


def find_configurations(runs: Sequence[StoredRun]) -> list[Configuration]:
    """Returns the trained configurations, ordered by series, bits and rank."""
    trained = [run for run in runs if not run.cell.is_base]
    labels = series_labels(trained)
    members: dict[tuple[str, str, int], list[StoredRun]] = defaultdict(list)
    for run in trained:
        rank = -1 if run.cell.rank is None else run.cell.rank
        members[_series_key(run), run.cell.quantization, rank].append(run)
    found = [
        Configuration(
            series=labels[group[0].run_id],
            quantization=quantization,
            bits=group[0].cell.bits,
            rank=group[0].cell.rank,
            runs=tuple(sorted(group, key=lambda r: (r.cell.seed, r.run_id))),
        )
        for (_, quantization, _), group in members.items()
    ]
    return sorted(found, key=lambda c: (c.series, c.bits or 0, c.quantization, c.rank or 0))


def run_labels(runs: Sequence[StoredRun]) -> dict[str, str]:
    """Returns a short, unique text per run that leaves out what all runs share."""
    trained = [run for run in runs if not run.cell.is_base]
    varies = _varying(runs, trained)
    parameters = _varying_parameters(runs)
    labels = {}
    for run in runs:
        cell = run.cell
        parts = [
            cell.model if varies["model"] else "",
            "untouched base" if cell.is_base else _method(run, parameters, with_rank=True),
            cell.quantization if varies["quantization"] else "",
            (cell.mixture or "") if varies["mixture"] else "",
            f"seed {cell.seed}" if varies["seed"] and not cell.is_base else "",
        ]
        labels[run.run_id] = SEPARATOR.join(p for p in parts if p)
    return _unique(labels)


def configuration_label(run: StoredRun, labels: Mapping[str, str]) -> str:
    """Returns a run's label without its seed: what its configuration is called.

    Args:
        run: one of the configuration's.
        labels: by run id, from ``run_labels``.
    """
    return labels[run.run_id].removesuffix(f"{SEPARATOR}seed {run.cell.seed}")


def series_labels(trained: Sequence[StoredRun]) -> dict[str, str]:
    """Returns per run the label of its series: everything but rank, quantization and seed."""
    varies = _varying(trained, trained)
    parameters = _varying_parameters(trained)
    by_key: dict[str, str] = {}
    for run in trained:
        cell = run.cell
        parts = [
            cell.model if varies["model"] else "",
            _method(run, parameters, with_rank=False),
            (cell.mixture or "") if varies["mixture"] else "",
        ]
        by_key.setdefault(_series_key(run), SEPARATOR.join(p for p in parts if p))
    labels = _unique(by_key)
    return {run.run_id: labels[_series_key(run)] for run in trained}


def _varying(runs: Sequence[StoredRun], trained: Sequence[StoredRun]) -> dict[str, bool]:
    return {
        "model": len({r.cell.model for r in runs}) > 1,
        "quantization": len({r.cell.quantization for r in runs}) > 1,
        "mixture": len({r.cell.mixture for r in trained}) > 1,
        "seed": len({r.cell.seed for r in trained}) > 1,
    }


def _varying_parameters(runs: Iterable[StoredRun]) -> dict[str, set[str]]:
    """Returns per method the hyper-parameters, other than rank, that take several values."""
    values: dict[str, dict[str, set[str]]] = defaultdict(lambda: defaultdict(set))
    for run in runs:
        for name, value in run.cell.parameters.items():
            values[run.cell.method][name].add(str(value))
    return {
        method: {name for name, seen in found.items() if len(seen) > 1 and name != "rank"}
        for method, found in values.items()
    }


def _method(run: StoredRun, varying: Mapping[str, set[str]], *, with_rank: bool) -> str:
    shown = {"rank"} & run.cell.parameters.keys() if with_rank else set()
    shown |= varying.get(run.cell.method, set()) & run.cell.parameters.keys()
    names = sorted(shown, key=lambda name: (name != "rank", name))
    return " ".join([run.cell.method, *(f"{n}={run.cell.parameters[n]}" for n in names)])


def _unique(labels: Mapping[str, str]) -> dict[str, str]:
    counts: dict[str, int] = defaultdict(int)
    for label in labels.values():
        counts[label] += 1
    seen: dict[str, int] = defaultdict(int)
    unique = {}
    for key, label in labels.items():
        seen[label] += 1
        unique[key] = label if counts[label] == 1 else f"{label} #{seen[label]}"
    return unique


def _series_key(run: StoredRun) -> str:
    cell = run.cell
    parameters = {k: v for k, v in cell.parameters.items() if k != "rank"}
    key: dict[str, Any] = {"method": cell.method, "parameters": parameters}
    spec = run.spec or {"model": cell.model, "mixture": cell.mixture}
    key.update({k: spec.get(k) for k in ("model", "training", "loop_version")})
    mixture = spec.get("mixture")
    # Its name too: a store of another program may tell mixtures apart by nothing else.
    key["mixture"] = [cell.mixture, mixture.get("parts") if isinstance(mixture, dict) else mixture]
    return canonical_json(key)
