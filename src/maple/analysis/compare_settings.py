"""What two runs were asked and ran with that differs, key by key."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from maple.store.read import StoredRun

_IDENTITY = frozenset({"id"})


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One key whose value differs; None where a run has no such key."""

    source: Literal["spec", "environment"]
    """``spec``: part of what the run is. ``environment``: recorded, never part of it."""
    key: str
    """Dotted path: ``method.parameters.rank``."""
    a: str | None
    b: str | None


def differing(a: StoredRun, b: StoredRun) -> list[Setting]:
    """Returns the settings that differ between two runs, those of the specification first."""
    return [
        *_between("spec", _described(a), _described(b)),
        *_between("environment", a.environment, b.environment),
    ]


def _described(run: StoredRun) -> Mapping[str, Any]:
    cell = run.cell
    return run.spec or {
        "model": cell.model,
        "method": {"name": cell.method, "parameters": dict(cell.parameters)},
        "quantization": cell.quantization,
        "mixture": cell.mixture,
        "seed": cell.seed,
    }


def _between(
    source: Literal["spec", "environment"], a: Mapping[str, Any], b: Mapping[str, Any]
) -> Iterator[Setting]:
    left, right = dict(_flat(a)), dict(_flat(b))
    for key in sorted({*left, *right} - _IDENTITY):
        if left.get(key) != right.get(key):
            yield Setting(source=source, key=key, a=left.get(key), b=right.get(key))


def _flat(content: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in content.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        elif value is not None:
            yield f"{prefix}{key}", json.dumps(value, ensure_ascii=False, sort_keys=True)
