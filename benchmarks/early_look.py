"""What early looks spend, find and save: ``python -m benchmarks.early_look``.

    truth: pairs that rise, pairs that fall --> every pair of counts at every look, with its
                                                probability: the error, exactly
                                            --> draws: decisions, samples scored, estimates

Prints two tables and, as its last line, one line of JSON. ``docs/early_look.md`` has the figures.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import lru_cache

import numpy as np
from scipy.signal import convolve
from scipy.stats import multinomial, norm

from maple.evaluate.early_look import LookPlan, Outcome, conclude, decide, look_counts
from maple.evaluate.sequential import Values, boundary, spent, z_value
from maple.study.early_look import EarlyLookRule

LOOKS = (0.25, 0.5, 0.75, 1.0)
SAMPLES = 1000
ONE, GRID, LARGE = 0.05, 0.05 / 200, 0.05 / 10_000
"""The error of one comparison, and its share in a grid of 200 and of 10,000."""
DIFFERING = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Shares of pairs in which one of the two runs is right alone."""


@dataclass(frozen=True, kw_only=True)
class Case:
    """One truth and one rule."""

    points: float
    """True difference."""
    alpha: float
    futility: float | None = None
    differing: float = 0.2
    """Share of pairs in which one of the two runs is right alone."""


CASES = (
    Case(points=0, alpha=ONE),
    Case(points=3, alpha=ONE),
    Case(points=5, alpha=ONE),
    Case(points=8, alpha=ONE),
    Case(points=0, alpha=ONE, futility=4),
    Case(points=4, alpha=ONE, futility=4),
    Case(points=0, alpha=ONE, futility=8),
    Case(points=5, alpha=GRID),
    Case(points=8, alpha=GRID),
    Case(points=12, alpha=GRID),
    Case(points=0, alpha=GRID, futility=6),
)


def rule_of(alpha: float, futility: float | None = None) -> EarlyLookRule:
    """The rule with looks at quarters."""
    return EarlyLookRule(
        alpha=alpha, looks=LOOKS, futility_points=futility, against="x", limit=None
    )


@lru_cache(maxsize=64)
def plan_of(samples: int, alpha: float) -> LookPlan:
    """The looks at samples in their own order."""
    counts = look_counts(LOOKS, samples)
    shares = [count / samples for count in counts]
    return LookPlan(
        order=tuple(range(samples)),
        counts=counts,
        bounds=boundary(alpha, shares),
        spent=tuple(spent(alpha, share) for share in shares),
    )


# ------------------------------------------------------------------------------ exactly


def exact(
    samples: int, alpha: float, *, rises: float, falls: float, futility: float | None = None
) -> dict[str, float]:
    """The probability of each decision, summed over all counts of pairs that rise and fall.

    Args:
        samples: pairs in all.
        alpha: two-sided error.
        rises: probability that a pair rises by a point of score, 1.
        falls: that it falls by 1; else the two are alike.
        futility: as the rule takes it, in points.
    """
    found: dict[str, float] = {}
    inside, before = np.ones((1, 1)), 0
    for number, count in enumerate(plan_of(samples, alpha).counts):
        step = _counted(count - before, rises, falls)
        inside, before = np.maximum(convolve(inside, step), 0.0), count
        decisions = _decisions(samples, alpha, futility, number)
        for decision in np.unique(decisions):
            here = decisions == decision
            found[decision] = found.get(decision, 0.0) + float(inside[here].sum())
        inside = np.where(decisions == "undecided", inside, 0.0)
        if count < samples:
            found.pop("undecided", None)
    return found


def _counted(pairs: int, rises: float, falls: float) -> Values:
    """(rising, falling) the probabilities of counts among so many pairs."""
    up, down = np.indices((pairs + 1, pairs + 1))
    same = pairs - up - down
    counts = np.stack([up, down, np.maximum(same, 0)], axis=-1)
    law = multinomial(pairs, [rises, falls, 1 - rises - falls])
    found: Values = np.where(same >= 0, np.exp(law.logpmf(counts)), 0.0)
    return found


@lru_cache(maxsize=64)
def _decisions(samples: int, alpha: float, futility: float | None, number: int) -> np.ndarray:
    """(rising, falling) what a look decides at each pair of counts."""
    plan, rule = plan_of(samples, alpha), rule_of(alpha, futility)
    count = plan.counts[number]
    found = np.full((count + 1, count + 1), "undecided", dtype="<U9")
    for up in range(count + 1):
        for down in range(count + 1 - up):
            differences = np.repeat([1.0, -1.0, 0.0], [up, down, count - up - down])
            found[up, down] = decide(plan, number, differences, rule)
    return found


def worst_error(samples: int, alpha: float) -> float:
    """The largest probability, over shares of differing pairs, of telling equal runs apart."""
    all_found = (exact(samples, alpha, rises=d / 2, falls=d / 2) for d in DIFFERING)
    return max(found.get("higher", 0.0) + found.get("lower", 0.0) for found in all_found)


def worst_futility(samples: int, alpha: float, points: float) -> float:
    """The largest probability of "no more" or "lower" where the truth is the limit itself."""
    truth = points / 100
    all_found = (
        exact(samples, alpha, rises=(d + truth) / 2, falls=(d - truth) / 2, futility=points)
        for d in (truth, *(each for each in DIFFERING if each > truth))
    )
    return max(found.get("no more", 0.0) + found.get("lower", 0.0) for found in all_found)


def exact_rows() -> Iterator[dict[str, float]]:
    """Errors spent, as shares of those stated."""
    for alpha in (ONE, GRID, LARGE):
        for samples in (20, 40, 100, 400):
            yield {
                "samples": samples,
                "alpha": alpha,
                "spent": worst_error(samples, alpha) / alpha,
                **{
                    f"false_no_more_than_{points}": worst_futility(samples, alpha, points)
                    / (alpha / 2)
                    for points in (2, 5, 15)
                },
            }


# ----------------------------------------------------------------------------- by draws


def simulate(case: Case, studies: int, seed: int) -> dict[str, float]:
    """Shares of decisions and of samples, and how the estimates lie to the truth."""
    random = np.random.default_rng(seed)
    rule, plan = rule_of(case.alpha, case.futility), plan_of(SAMPLES, case.alpha)
    truth = case.points / 100
    kept, whole = [], 0
    for _ in range(studies):
        u = random.random(SAMPLES)
        rises = (u < (case.differing + truth) / 2).astype(float)
        falls = (u > 1 - (case.differing - truth) / 2).astype(float)
        kept.append(_scored(plan, rises, falls, rule))
        whole += abs(z_value(rises - falls)[0]) >= norm.isf(case.alpha / 2)
    return _summed(kept, truth) | {"without_looks": whole / studies}


def _scored(plan: LookPlan, rises: Values, falls: Values, rule: EarlyLookRule) -> Outcome:
    for number, count in enumerate(plan.counts):
        found = decide(plan, number, (rises - falls)[:count], rule)
        if found != "undecided":
            break
    return conclude(plan, number, rises[:count], falls[:count], rule=rule)


def _summed(kept: list[Outcome], truth: float) -> dict[str, float]:
    parts = [o for o in kept if o.is_part] or kept
    estimates = np.array([o.estimate for o in kept])
    return {
        "told_apart": float(np.mean([o.decision in ("higher", "lower") for o in kept])),
        "no_more": float(np.mean([o.decision == "no more" for o in kept])),
        "scored": float(np.mean([o.samples / o.planned for o in kept])),
        "covered": float(np.mean([o.low <= truth <= o.high for o in kept])),
        "repeated_covered": float(
            np.mean([o.repeated_low <= truth <= o.repeated_high for o in kept])
        ),
        "plain_bias_points": 100 * float(np.mean([o.difference for o in kept]) - truth),
        "plain_bias_of_parts": 100 * float(np.mean([o.difference for o in parts]) - truth),
        "adjusted_below_truth": float(
            np.mean(np.where(np.isclose(estimates, truth), 0.5, estimates < truth))
        ),
    }


def main() -> None:
    """Sums and draws every case and prints what came of it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    errors, results = [], []
    print("error spent / stated, the largest over shares of differing pairs; summed exactly")
    for row in exact_rows():
        errors.append(row)
        print(_said(row), flush=True)
    print(f"decisions and estimates: {SAMPLES} samples, {given.studies} draws a case")
    for case in CASES:
        found = simulate(case, given.studies, given.seed)
        results.append(asdict(case) | found)
        print(f"{case.points:g} points, alpha {case.alpha:g}, futility {case.futility}: ", end="")
        print(_said(found), flush=True)
    print(json.dumps({"errors": errors, "samples": SAMPLES, "cases": results}))


def _said(row: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.3g}" for name, value in row.items())


if __name__ == "__main__":
    main()
