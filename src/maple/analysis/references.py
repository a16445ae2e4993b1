"""Published scores to hold a study against, from data files that name how they were asked."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from maple import languages
from maple.analysis.modes import Mode
from maple.errors import CatalogError, MapleError

DIRECTORY = Path(__file__).resolve().parents[1] / "references"
_UNITS = {"percent": 100.0, "share": 1.0}
_STATED = ("form", "shots", "split")


@dataclass(frozen=True, kw_only=True)
class Reference:
    """What one model is published to score on one task, asked in one way."""

    name: str
    source: str
    """Where it can be looked up."""
    task: str
    metric: str
    asked: Mapping[str, Any]
    """``form``, ``shots`` and ``split`` by name; None where the source does not state it."""
    scores: Mapping[str, float]
    """Language -> score in 0..1."""

    def differences(self, mode: Mode) -> tuple[str, ...]:
        """Returns in words how it was asked otherwise than a mode; empty where it was not."""
        prompt = mode.settings.get("prompt") or {}
        ours = {**prompt, "split": mode.settings.get("split"), "metric": mode.headline}
        theirs = {**self.asked, "metric": self.metric}
        told = []
        for key, value in theirs.items():
            if value is None:
                told.append(f"{key} not stated (ours: {ours.get(key)})")
            elif value != ours.get(key):
                told.append(f"{key} {value} (ours: {ours.get(key)})")
        return tuple(told)


def published(directory: Path | None = None) -> tuple[Reference, ...]:
    """Returns every published score of a directory, by file name, then task.

    Args:
        directory: of YAML files; None takes those that Maple ships.

    Raises:
        CatalogError: a file is not as ``references/README.md`` says.
    """
    return _read(DIRECTORY if directory is None else directory)


@cache
def _read(directory: Path) -> tuple[Reference, ...]:
    return tuple(r for path in sorted(directory.glob("*.yaml")) for r in _references(path))


def _references(path: Path) -> list[Reference]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        whole = _UNITS[content["unit"]]
        return [
            Reference(
                name=str(content["reference"]),
                source=str(content["source"]),
                task=task,
                metric=str(content["metric"]),
                asked={key: content[key] for key in _STATED},
                scores={languages.find(k).code: _share(v / whole) for k, v in scores.items()},
            )
            for task, scores in content["scores"].items()
        ]
    except (OSError, KeyError, TypeError, AttributeError, ValueError, yaml.YAMLError) as error:
        raise CatalogError(_broken(path, error)) from error
    except MapleError as error:
        raise CatalogError(_broken(path, error)) from error


def _share(score: float) -> float:
    if not 0 <= score <= 1:
        raise ValueError(f"a score is {score} of 1: see its unit")
    return score


def _broken(path: Path, error: Exception) -> str:
    return (
        f"{path} is no file of published scores ({type(error).__name__}: {error}). "
        "references/README.md lists the keys; correct it, or take it away."
    )
