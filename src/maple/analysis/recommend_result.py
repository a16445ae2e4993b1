"""What ``recommend`` returns: a configuration or a refusal, and what both rest on."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from maple.analysis.intervals import Interval
from maple.analysis.recommend_request import Request
from maple.analysis.recommend_size import ORDER, Size

Verdict = Literal[
    "recommended",
    "tied, larger",
    "tied, not near enough",
    "tied, not above its base",
    "below the best",
    "over memory",
    "memory not known",
    "loses English",
    "English not known",
    "not compared",
]
EnglishStatus = Literal["within", "out", "cannot tell", "reported"]


@dataclass(frozen=True, kw_only=True)
class English:
    """What a configuration changes in English against its base."""

    change: Interval
    """In scores (-1..1), simultaneous over the candidates; below 0 is a loss."""
    status: EnglishStatus
    """Of the loss allowed with ``keep_english``: ``out`` where the estimate is beyond it,
    ``within`` where the whole interval is inside it; ``reported`` where none was asked for."""


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """One trained configuration."""

    label: str
    run_ids: tuple[str, ...]
    """Those that are compared: one per seed."""
    size: Size
    verdict: Verdict
    reason: str
    """What the verdict rests on, in words; empty where the numbers say it."""
    score: float | None = None
    """Mean over tasks and the languages asked for, 0..1."""
    gain: Interval | None = None
    """Over its untouched base, simultaneous over the candidates; None: it has none here."""
    gain_p: float | None = None
    """Adjusted over the candidates, one-sided: that it is above its base."""
    behind: float | None = None
    """How far its estimate is behind the best one that is eligible."""
    behind_at_most: float | None = None
    """The upper limit of that."""
    english: English | None = None


@dataclass(frozen=True, kw_only=True)
class InLanguage:
    """The recommended configuration in one of the languages."""

    language: str
    score: float
    """Mean over tasks, 0..1."""
    gain: Interval | None
    """Over its untouched base, limits of all languages at once; None: it has no base here."""


@dataclass(frozen=True, kw_only=True)
class Step:
    """A larger configuration against the recommended one."""

    label: str
    run_ids: tuple[str, ...]
    gain: Interval
    """In scores, simultaneous over the steps."""
    is_told_apart: bool
    memory_bytes: int | None
    """More than the recommended one takes; so are the next three."""
    train_seconds: float | None
    adapter_bytes: int | None
    trainable_parameters: int | None
    is_best: bool
    """Whether it has the highest estimate."""


@dataclass(frozen=True, kw_only=True)
class NextCell:
    """A measurement that would decide something."""

    labels: tuple[str, ...]
    """Configurations to run or score."""
    run_ids: tuple[str, ...]
    tasks: tuple[str, ...]
    languages: tuple[str, ...]
    samples: int | None
    """Samples per task and language that would do, those stored included; None: all there are."""
    available: int | None
    """Samples that the smallest split has."""
    seeds: int | None
    """Seeds per configuration that would do, those stored included; None: as now."""
    why: str


@dataclass(frozen=True, kw_only=True)
class Sureness:
    """How sure the recommendation is."""

    confidence: float
    behind_at_most: float
    """With that confidence no eligible configuration is better by more (scores, 0..1)."""
    probability_within_a_point: float
    """That none is better by more than 0.01, under a flat prior."""
    n_tied: int
    """Configurations and bases that cannot be told from the best."""
    n_samples: int
    """Shared samples over tasks and languages."""
    n_languages: int
    n_tasks: int
    n_seeds: int
    """Runs of the recommended configuration."""
    seed_deviation: float
    """Standard deviation between seeds in the mean."""
    is_seed_deviation_assumed: bool
    detectable: float | None
    """The smallest true lead of another that would be seen four times in five (0..1)."""


@dataclass(frozen=True, kw_only=True)
class Recommendation:
    """The answer to a request."""

    request: Request
    recommended: Candidate | None
    """None where the data cannot support any; ``reasons`` then says why."""
    reasons: tuple[str, ...]
    candidates: tuple[Candidate, ...]
    """Every trained configuration, by rising size."""
    steps: tuple[Step, ...] = ()
    sureness: Sureness | None = None
    next_cells: tuple[NextCell, ...] = ()
    tasks: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    by_language: tuple[InLanguage, ...] = ()

    @property
    def is_refused(self) -> bool:
        """Whether there is no recommendation."""
        return self.recommended is None

    @property
    def tied(self) -> tuple[Candidate, ...]:
        """The candidates that cannot be told from the best, the recommended one among them."""
        return tuple(c for c in self.candidates if c.verdict.startswith(("tied", "recommended")))

    def as_json(self) -> dict[str, Any]:
        """Returns plain JSON values."""
        return {"is_refused": self.is_refused, "smaller_means": ORDER, **asdict(self)}
