"""What a contestant really fed its model: every pass with its time and its tokens."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Passes:
    """Forward passes of one or more processes."""

    each: tuple[tuple[float, int], ...] = ()
    """Seconds since the epoch, and tokens: padding, branches and trial passes among them."""

    @property
    def tokens(self) -> int:
        return sum(tokens for _, tokens in self.each)

    @property
    def count(self) -> int:
        return len(self.each)

    def between(self, start: float, end: float) -> Passes:
        """Those that began in that time."""
        return Passes(tuple(p for p in self.each if start <= p[0] <= end))


def read_passes(paths: Iterable[Path]) -> Passes:
    """The passes that ``benchmarks/peers/fed_tokens.py`` noted; none where it wrote nothing."""
    found: list[tuple[float, int]] = []
    for path in paths:
        if path.is_file():
            found += [(at, n) for at, n in json.loads(path.read_text(encoding="utf-8"))]
    return Passes(tuple(found))
