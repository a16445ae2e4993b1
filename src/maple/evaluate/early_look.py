"""In which order a task is scored when it is looked at early, and what a look decides.

samples by the hash of their content   | 250 | 250 | 250 | 250 |
                                       look 1   2     3     4    batches by length within each
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from maple.evaluate.prepare import PreparedTask
from maple.evaluate.sequential import (
    Values,
    adjusted,
    boundary,
    p_value,
    repeated_interval,
    spent,
    z_value,
)
from maple.study.early_look import EarlyLookRule

LEAST_SAMPLES = 20
"""No look before so many samples are in: a z-value of fewer is none."""

Decision = Literal["higher", "lower", "no more", "undecided"]


@dataclass(frozen=True, kw_only=True)
class LookPlan:
    """When one task in one language is looked at, and at which z-values it is stopped."""

    order: tuple[int, ...]
    """Every sample's index, in the order of scoring."""
    counts: tuple[int, ...]
    """Samples that are in at each look; the last is all of them."""
    bounds: tuple[float, ...]
    spent: tuple[float, ...]
    """Two-sided error spent up to each look."""

    @property
    def shares(self) -> tuple[float, ...]:
        """Of the samples, at each look."""
        return tuple(count / self.counts[-1] for count in self.counts)

    def between(self, number: int) -> list[int]:
        """Indices of the samples that a look, from 0, adds to the one before."""
        before = self.counts[number - 1] if number else 0
        return sorted(self.order[before : self.counts[number]])


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What the last look at a comparison found; kept in the evaluation's ``spec.json``."""

    decision: Decision
    is_part: bool
    """Whether samples were left unscored."""
    samples: int
    planned: int
    look: int
    """The look that ended it, from 1."""
    alpha: float
    counts: tuple[int, ...]
    """Of all planned looks, as the bounds and the error spent up to each."""
    bounds: tuple[float, ...]
    spent: tuple[float, ...]
    z: float
    score: float
    """The plain mean of the own scores."""
    difference: float
    """The plain mean over the scored samples: too far from 0, on average, after an early stop."""
    estimate: float
    """Median-unbiased, with the limits of its interval of confidence 1 - alpha: by the order of
    stages, or the repeated interval where futility could have ended it and it is not told apart."""
    low: float
    high: float
    p: float
    repeated_low: float
    """The repeated confidence interval, which holds whatever ended the looking."""
    repeated_high: float

    def as_json(self) -> dict[str, Any]:
        """Plain JSON values."""
        return {k: list(v) if isinstance(v, tuple) else v for k, v in asdict(self).items()}


def plan_looks(rule: EarlyLookRule, prepared: PreparedTask) -> LookPlan:
    """Orders a task's samples by chance and sets the bounds of its looks.

    The order hashes the files' identity, the task, the language and the sample's name: it has
    nothing to do with a sample's length or content, and is the same for every run and process.
    """
    about = f"{prepared.data}\0{prepared.name}\0{prepared.language}"
    names = prepared.sample_ids
    ranks = [hashlib.sha256(f"{about}\0{name}".encode()).digest() for name in names]
    counts = look_counts(rule.looks, len(names))
    shares = [count / len(names) for count in counts]
    return LookPlan(
        order=tuple(sorted(range(len(names)), key=lambda i: (ranks[i], i))),
        counts=counts,
        bounds=boundary(rule.alpha, shares),
        spent=tuple(spent(rule.alpha, share) for share in shares),
    )


def look_counts(looks: Sequence[float], samples: int) -> tuple[int, ...]:
    """Samples at each look; looks at fewer than ``LEAST_SAMPLES`` are left out, the last is not."""
    counts = {math.ceil(share * samples - 1e-9) for share in looks}
    return (*sorted(c for c in counts if LEAST_SAMPLES <= c < samples), samples)


def decide(plan: LookPlan, number: int, differences: Values, rule: EarlyLookRule) -> Decision:
    """Looks at the paired differences of the samples that are in.

    Args:
        plan: of the looks.
        number: of this look, from 0.
        differences: (counts[number],) own score minus the other's, each in -1..1.
        rule: the error, and what ends in futility.
    """
    z, _ = z_value(differences)
    bound = plan.bounds[number]
    if abs(z) >= bound:
        return "higher" if z > 0 else "lower"
    if rule.futility_points is None:
        return "undecided"
    most = rule.futility_points / 100
    above, below = (z_value(differences, against=edge)[0] for edge in (-most, most))
    return "no more" if above >= bound and below <= -bound else "undecided"


def conclude(
    plan: LookPlan, number: int, own: Values, other: Values, *, rule: EarlyLookRule
) -> Outcome:
    """What is kept of a comparison that ended at a look.

    Args:
        plan: of the looks.
        number: of the look that ended it, from 0.
        own: (counts[number],) scores of the run, in the plan's order.
        other: those of the run it is compared with.
        rule: as ``decide`` takes it.
    """
    differences = own - other
    mean = float(differences.mean())
    z, error = z_value(differences)
    before, shares = plan.bounds[:number], plan.shares[: number + 1]
    found = adjusted(mean / error, error, bounds=before, shares=shares, alpha=rule.alpha)
    decision = decide(plan, number, differences, rule)
    repeated = repeated_interval(differences, plan.bounds[number])
    correction = 1 / differences.size  # of the z-value: else an interval without 0 is undecided
    low, high = found.low - correction, found.high + correction
    if rule.futility_points is not None and decision in ("no more", "undecided"):
        low, high = repeated  # the order of stages knows of no such end
    return Outcome(
        decision=decision,
        is_part=number + 1 < len(plan.counts),
        samples=differences.size,
        planned=plan.counts[-1],
        look=number + 1,
        alpha=rule.alpha,
        counts=plan.counts,
        bounds=plan.bounds,
        spent=plan.spent,
        z=z,
        score=float(own.mean()),
        difference=mean,
        estimate=_inside(found.value),
        low=_inside(low),
        high=_inside(high),
        p=p_value(z, bounds=before, shares=shares),
        repeated_low=repeated[0],
        repeated_high=repeated[1],
    )


def _inside(difference: float) -> float:
    return float(np.clip(difference, -1.0, 1.0))
