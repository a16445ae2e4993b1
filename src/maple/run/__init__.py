"""The only place that knows the order: plan, load, train, evaluate, store."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from maple.run.evaluate import evaluate_models
    from maple.run.local import StudyOutcome, run_study
    from maple.run.progress import Progress

__all__ = ["Progress", "StudyOutcome", "evaluate_models", "run_study"]

_PLACES = {
    "Progress": "progress",
    "StudyOutcome": "local",
    "evaluate_models": "evaluate",
    "run_study": "local",
}


def __getattr__(name: str) -> Any:
    # Each is imported when it is asked for: a nursery begins before any of them.
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
