"""What is known beforehand: deviations of the tasks, and flaws of upstream's own releases."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from importlib.resources import files
from typing import Any

from maple.certify.certificate import Check, Deviation


def deviations_of(task: str) -> tuple[Deviation, ...]:
    """What is known of a task, a variant ``task:argument`` counting as the task."""
    return _all().get(task.partition(":")[0], ())


def mark_known(task: str, split: str, language: str, checks: Sequence[Check]) -> tuple[Check, ...]:
    """Makes green what upstream's release is known to have, to the figure, in a whole split.

    A file with one flaw more, or one less, is not the release that was looked at: it stays yellow.
    """
    is_whole = any(check.name == "count" and check.status == "green" for check in checks)
    known = _known().get(task, {}).get(split, {}).get(language, {}) if is_whole else {}
    return tuple(
        replace(check, status="green", is_known=True)
        if check.status == "yellow" and known.get(check.name) == check.figure
        else check
        for check in checks
    )


@cache
def _known() -> dict[str, Any]:
    return tomllib.loads((files(__package__) / "known.toml").read_text(encoding="utf-8"))


@cache
def _all() -> dict[str, tuple[Deviation, ...]]:
    text = (files(__package__) / "deviations.toml").read_text(encoding="utf-8")
    return {
        task: tuple(Deviation(**entry) for entry in entries)
        for task, entries in tomllib.loads(text).items()
    }
