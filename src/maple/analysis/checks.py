"""How often each output check found something, per run, task and language, with intervals."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from maple.analysis.intervals import wilson
from maple.analysis.modes import Mode
from maple.store.read import Store

NOT_EXTRACTED = "not_extracted"
"""The check whose find is a score of 0: the answer names none of the choices."""

# Rounded, because threads sum in any order and a report should be the same each time.
_QUERY = """
    SELECT eval_id, entry.key AS name, count(*) AS n, count(*) FILTER (entry.value) AS n_found,
        round(avg(score), 12) AS score,
        round(avg(score) FILTER (NOT entry.value), 12) AS score_otherwise
    FROM (SELECT eval_id, score, unnest(map_entries(checks)) AS entry FROM samples)
    GROUP BY ALL ORDER BY ALL
"""


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


def check_rates(store: Store, modes: Sequence[Mode]) -> list[CheckRate]:
    """Returns the rate of every check in every finished evaluation whose answers were checked.

    Rankings have no checks, nor have evaluations stored by a Maple that made none.

    Raises:
        StoreError: a part cannot be read.
    """
    done = {
        e.eval_id: (mode.label, key)
        for mode in modes
        for key, e in mode.evaluations.items()
        if e.is_done
    }
    found = []
    for row in store.query(_QUERY, eval_ids=set(done)).to_pylist():
        task, (run, language) = done[row["eval_id"]]
        interval = wilson(row["n_found"] / row["n"], row["n"])
        found.append(
            CheckRate(
                task=task,
                run_id=run,
                language=language,
                check=row["name"],
                n=row["n"],
                n_found=row["n_found"],
                rate=interval.value,
                low=interval.low,
                high=interval.high,
                score=_number(row["score"]),
                score_otherwise=_number(row["score_otherwise"]),
            )
        )
    return found


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else value
