"""How often each output check found something, per run, task and language, with intervals."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from maple.analysis.answers import Answers
from maple.analysis.columns import Named
from maple.analysis.intervals import wilson

NOT_EXTRACTED = "not_extracted"
"""The check whose find is a score of 0: the answer names none of the choices."""


@dataclass(frozen=True, kw_only=True)
class CheckRate:
    """One check over the generated answers of one run on one task in one language."""

    task: str
    run_id: str
    language: str
    check: str
    n: int
    """Answers that were checked."""
    n_found: int
    """Answers in which it found something wrong."""
    rate: float
    """``n_found / n``, with the limits of its 95% interval (Wilson)."""
    low: float
    high: float
    score: float | None
    """Mean score of all of them; None where a judge has yet to score them."""
    score_otherwise: float | None
    """Mean score of those in which it found nothing; None where there is none."""


def check_rates(answers: Answers) -> list[CheckRate]:
    """Returns the rate of every check in every evaluation whose answers were checked.

    Rankings have no checks, nor have evaluations stored by a Maple that made none.
    """
    found = [rate for named in answers.checks for rate in _rates(answers, named)]
    return sorted(found, key=lambda rate: (rate.run_id, rate.language, rate.check))


def _rates(answers: Answers, named: Named) -> Iterator[CheckRate]:
    cell, size = named.of(answers.evaluation), len(answers.evaluations)
    is_found, score = named.value == 1, named.of(answers.score)
    n, n_found = np.bincount(cell, minlength=size), np.bincount(cell[is_found], minlength=size)
    total = np.bincount(cell, score, size)
    otherwise = np.bincount(cell[~is_found], score[~is_found], size)
    for i in np.flatnonzero(n).tolist():
        evaluation = answers.evaluations[i]
        interval = wilson(n_found[i] / n[i], int(n[i]))
        yield CheckRate(
            task=answers.mode.label,
            run_id=evaluation.run_id,
            language=evaluation.language,
            check=named.name,
            n=int(n[i]),
            n_found=int(n_found[i]),
            rate=float(interval.value),
            low=interval.low,
            high=interval.high,
            score=_mean(float(total[i]), int(n[i])),
            score_otherwise=_mean(float(otherwise[i]), int(n[i] - n_found[i])),
        )


def _mean(total: float, n: int) -> float | None:
    # Rounded, because rows come in any order and a report should be the same each time.
    return None if n == 0 or math.isnan(total) else round(total / n, 12)
