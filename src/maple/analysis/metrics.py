"""Every metric that the samples carry, the headline one included: EM beside F1, and so on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from maple.analysis.intervals import interval_from_moments
from maple.analysis.modes import Mode
from maple.store.read import Store

# Rounded, because threads sum in any order and a report should be the same each time.
_QUERY = """
    SELECT eval_id, entry.key AS metric, count(*) AS n, round(avg(entry.value), 12) AS mean,
        round(coalesce(var_samp(entry.value), 0), 12) AS variance,
        bool_and(entry.value IN (0, 1)) AS is_binary
    FROM (SELECT eval_id, unnest(map_entries(metrics)) AS entry FROM samples)
    GROUP BY ALL ORDER BY ALL
"""


@dataclass(frozen=True, kw_only=True)
class MetricMean:
    """One metric of one run on one task in one language, in the metric's own unit."""

    task: str
    run_id: str
    language: str
    metric: str
    n: int
    mean: float
    low: float
    high: float


def metric_means(store: Store, modes: Sequence[Mode]) -> list[MetricMean]:
    """Returns the mean of every metric over the samples of every finished evaluation.

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
        interval = interval_from_moments(
            row["mean"], row["variance"], row["n"], is_binary=row["is_binary"]
        )
        found.append(
            MetricMean(
                task=task,
                run_id=run,
                language=language,
                metric=row["metric"],
                n=row["n"],
                mean=interval.value,
                low=interval.low,
                high=interval.high,
            )
        )
    return found
