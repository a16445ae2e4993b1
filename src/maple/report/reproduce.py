"""What a reader needs to run the study again: its file, the pinned revisions, the environment."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import yaml

from maple.analysis.summary import Summary
from maple.report.embed import cut

MOST_CHARACTERS = 200_000
"""Of the study as text."""


def study_file(summary: Summary) -> str:
    """Returns a study file that asks the same again; empty where none was run (``maple eval``).

    Every value is the one that held, defaults filled in.
    """
    study = summary.study.get("study")
    if not isinstance(study, Mapping) or "methods" not in study:
        return ""
    text = yaml.safe_dump(dict(study), allow_unicode=True, sort_keys=False, width=100)
    return cut(text, MOST_CHARACTERS)


def plan_json(summary: Summary) -> str:
    """Returns ``study.json`` without what the study file says: cells, evaluations, gaps."""
    rest = {key: value for key, value in summary.study.items() if key != "study"}
    return cut(json.dumps(rest, indent=2, ensure_ascii=False), MOST_CHARACTERS)


def revisions(summary: Summary) -> list[tuple[str, str, str]]:
    """Returns what every input was pinned to: kind, name, its commits or content hashes."""
    found: dict[tuple[str, str], dict[str, None]] = defaultdict(dict)
    for run in summary.runs:
        for kind, name, revision in _of_run(run.spec or {}):
            found[kind, name][revision] = None
    for mode in summary.modes:
        for evaluation in mode.evaluations.values():
            if data := evaluation.spec.get("data"):
                found["benchmark", mode.task][str(data)] = None
    kinds = ("base model", "instruction data", "benchmark")
    ordered = sorted(found.items(), key=lambda entry: kinds.index(entry[0][0]))
    return [(kind, name, _several(of)) for (kind, name), of in ordered]


def environments(summary: Summary) -> list[tuple[str, str]]:
    """Returns the environment's entries, with every value that some run has."""
    values: dict[str, dict[str, None]] = defaultdict(dict)
    for run in summary.runs:
        for key, value in run.environment.items():
            inner = value if isinstance(value, Mapping) else {"": value}
            for name, entry in inner.items():
                text = entry if isinstance(entry, str) else json.dumps(entry, ensure_ascii=False)
                values[f"{key} {name}".rstrip()][text] = None
    return [(key, "; ".join(found)) for key, found in sorted(values.items())]


def _of_run(spec: Mapping[str, Any]) -> Iterable[tuple[str, str, str]]:
    model = spec.get("model")
    if isinstance(model, Mapping) and model.get("revision"):
        yield "base model", str(model.get("name")), str(model["revision"])
    mixture = spec.get("mixture")
    parts = mixture.get("parts") if isinstance(mixture, Mapping) else None
    for part in parts or ():
        if isinstance(part, Mapping) and part.get("revision"):
            yield "instruction data", str(part.get("dataset")), str(part["revision"])


def _several(found: Iterable[str]) -> str:
    """One revision, or a benchmark's files: a hash for each language."""
    kept = list(found)
    rest = f" and {len(kept) - 3} more, a hash per language" if len(kept) > 3 else ""
    return ", ".join(kept[:3]) + rest
