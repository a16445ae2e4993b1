"""What a recommendation is asked for: languages, memory, what English may lose."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from maple import languages as table
from maple.analysis.groups import ENGLISH, facts
from maple.errors import CatalogError, UsageError

MemoryAt = Literal["training", "use"]

_UNITS = {
    "b": 1,
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgt", start=1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgt", start=1)},
}
_MEMORY = re.compile(r"\s*(\d+(?:\.\d+)?|\.\d+)\s*([a-z]+)\s*", re.IGNORECASE)


@dataclass(frozen=True, kw_only=True)
class Request:
    """One question to a store.

    Raises:
        UsageError: no language, memory that is not positive, or an allowance below 0.
    """

    languages: tuple[str, ...]
    """Canonical codes; each counts once."""
    tasks: tuple[str, ...] = ()
    """Tasks to judge by; empty: all that have one of the languages."""
    memory_bytes: int | None = None
    """What a configuration may take; None: any."""
    memory_at: MemoryAt = "training"
    """Whether ``memory_bytes`` limits training, or loading the base with its adapter."""
    keep_english: float | None = None
    """Points (of 100) that English may lose; None: English is reported, nothing is left out."""
    seed_deviation: float = 0.01
    """Standard deviation (of scores in 0..1) taken between seeds where no configuration has two.

    Source: ours, a point; where two seeds are, it is estimated and this is not used."""
    min_samples: int = 30
    """Shared samples that each language must have at least. Source: ours; below it a variance
    has few degrees of freedom and a normal approximation of 0/1 scores fails."""
    confidence: float = 0.95
    """Of the group that cannot be told from the best, and of every simultaneous limit."""

    def __post_init__(self) -> None:
        """Refuses what cannot be asked."""
        if not self.languages:
            raise UsageError("no language was named. Name some: --languages sw,th,yo.")
        if self.memory_bytes is not None and self.memory_bytes <= 0:
            raise UsageError(
                f"memory of {self.memory_bytes} bytes cannot hold a model. Give --memory 24GiB."
            )
        for name, value in (
            ("keep-english", self.keep_english),
            ("seed-deviation", self.seed_deviation),
        ):
            if value is not None and not (math.isfinite(value) and value >= 0):
                raise UsageError(f"--{name} {value} is no number of points from 0 up.")
        if not 0.5 < self.confidence < 1:
            raise UsageError(f"confidence {self.confidence} lies outside 0.5..1. Use 0.95.")


def parse_memory(text: str) -> int:
    """Returns the bytes that a text such as ``24GiB``, ``24 GB`` or ``24000MB`` states.

    Raises:
        UsageError: no number with a unit of bytes, or none above 0.
    """
    found = _MEMORY.fullmatch(text)
    factor = _UNITS.get(found[2].lower()) if found else None
    if found is None or factor is None or float(found[1]) * factor < 1:
        raise UsageError(
            f"--memory {text!r} is no amount of memory. Write a number above 0 and a unit: 24GiB "
            "(1024-based), 24GB or 24000MB (1000-based)."
        )
    return int(float(found[1]) * factor)


def parse_languages(text: str, evaluated: Sequence[str]) -> tuple[str, ...]:
    """Returns the codes of languages named with commas between them.

    Args:
        text: codes, tags or names; ``all`` means every evaluated language but English.
        evaluated: codes that the store has; one that no table has can be named by its code.

    Raises:
        CatalogError: a name that no language has; suggests near ones and lists the evaluated.
        UsageError: nothing is named.
    """
    names = [name.strip() for name in text.split(",") if name.strip()]
    if [name.lower() for name in names] == ["all"]:
        if not evaluated:
            raise UsageError(
                "--languages all: the store has no evaluation, finished or planned. Score its runs "
                "(maple run), or name languages."
            )
        names = [code for code in evaluated if code != ENGLISH] or list(evaluated)
    codes = [name if name in evaluated else _code(name, evaluated) for name in names]
    if not codes:
        raise UsageError(f"--languages {text!r} names none. Name some: --languages sw,th,yo.")
    return tuple(dict.fromkeys(codes))


def _code(name: str, evaluated: Sequence[str]) -> str:
    try:
        return table.find(name).code
    except CatalogError as error:
        known = ", ".join(f"{code} ({facts(code).name})" for code in evaluated) or "none"
        raise CatalogError(f"{error} The study has: {known}.") from error
