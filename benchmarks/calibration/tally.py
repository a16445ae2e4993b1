"""Counts of a simulation: how often something held, study by study."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field


@dataclass(kw_only=True)
class Count:
    """Events of one kind over all studies."""

    hits: int = 0
    trials: int = 0
    studies: int = 0
    squares: float = 0.0
    """Sum over studies of hits², trials² and their product, for the standard error."""
    cross: float = 0.0
    trials_squared: float = 0.0

    @property
    def rate(self) -> float:
        """Hits over trials."""
        return self.hits / self.trials

    @property
    def standard_error(self) -> float:
        """Of the rate; what is counted in one study is not independent, the studies are."""
        rate = self.rate
        total = self.squares - 2 * rate * self.cross + rate**2 * self.trials_squared
        # A few studies without a single miss do not make the rate known exactly: two of each
        # outcome are added to as many draws as there were studies (Agresti & Coull 1998).
        drawn = min(self.studies, self.trials)
        near = (rate * drawn + 2) / (drawn + 4)
        least = (
            near * (1 - near) / (drawn + 4) if rate in (0, 1) else rate * (1 - rate) / self.trials
        )
        return math.sqrt(max(total / self.trials**2, least))

    def add(self, hits: int, trials: int) -> None:
        """Adds one study."""
        self.hits += hits
        self.trials += trials
        self.studies += 1
        self.squares += hits**2
        self.cross += hits * trials
        self.trials_squared += trials**2


@dataclass
class Study:
    """What one simulated study contributes."""

    found: dict[str, list[bool]] = field(default_factory=lambda: defaultdict(list))

    def note(self, name: str, held: bool) -> None:
        """Adds one event."""
        self.found[name].append(bool(held))

    def note_interval(self, name: str, low: float, high: float, truth: float) -> None:
        """Adds whether an interval holds the truth."""
        self.note(name, low <= truth <= high)

    def counts(self) -> dict[str, tuple[int, int]]:
        """Returns hits and trials by name."""
        return {name: (sum(held), len(held)) for name, held in self.found.items()}


def tally(studies: Iterable[Mapping[str, Sequence[int]]]) -> dict[str, Count]:
    """Returns the counts over studies, in the order that names first appear."""
    counts: dict[str, Count] = {}
    for study in studies:
        for name, (hits, trials) in study.items():
            counts.setdefault(name, Count()).add(hits, trials)
    return counts
