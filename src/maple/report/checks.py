"""What was wrong with generated answers: per task a grid of checks, and failures to extract."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from maple.analysis.checks import NOT_EXTRACTED, CheckRate
from maple.analysis.groups import facts
from maple.analysis.summary import Summary
from maple.report.wording import count, points, score_limits

NAMES: Mapping[str, str] = {
    "never_stopped": "never stopped",
    "empty": "empty",
    "copied_prompt": "copied the prompt",
    "wrong_language": "wrong language",
    NOT_EXTRACTED: "named no option",
}
"""What a check finds, in the order of the columns."""
MOST_FAILURES = 20
"""Failures to extract that the page names; the table has all."""


def check_sections(summary: Summary) -> list[dict[str, Any]]:
    """Returns per task with generated answers what was wrong with them, worst languages first.

    Rates are means: of a run over languages, of a language over runs, each counting once.
    """
    return [
        _section(summary, mode.label, rates)
        for mode in summary.modes
        if (rates := [r for r in summary.checks if r.task == mode.label])
    ]


def _section(summary: Summary, task: str, rates: Sequence[CheckRate]) -> dict[str, Any]:
    found = {rate.check for rate in rates}
    checks = [name for name in NAMES if name in found] + sorted(found - {*NAMES})
    runs = [run for run in summary.runs if any(r.run_id == run.run_id for r in rates)]
    worst = _worst_first(rates)
    answers = {(r.run_id, r.language): r.n for r in rates}
    return {
        "task": task,
        "checks": [NAMES.get(name, name) for name in checks],
        "n": count(sum(answers.values())),
        "is_clean": not any(rate.n_found for rate in rates),
        "has_runs": len(runs) > 1,
        "runs": [
            {
                "run": summary.labels[run.run_id],
                "is_base": run.cell.is_base,
                "cells": _cells([r for r in rates if r.run_id == run.run_id], checks),
            }
            for run in sorted(runs, key=lambda r: not r.cell.is_base)
        ],
        "languages": [
            {
                "code": code,
                "name": facts(code).name,
                "cells": _cells([r for r in rates if r.language == code], checks),
            }
            for code in worst
        ],
        **_failures(summary, rates),
    }


def _worst_first(rates: Iterable[CheckRate]) -> list[str]:
    """Languages by the highest of their checks' mean rates, the worst one first."""
    values: dict[str, dict[str, list[float]]] = {}
    for rate in rates:
        values.setdefault(rate.language, {}).setdefault(rate.check, []).append(rate.rate)
    worst = {
        code: max(sum(of) / len(of) for of in checks.values()) for code, checks in values.items()
    }
    return sorted(worst, key=lambda code: (-worst[code], code))


def _cells(rates: Sequence[CheckRate], checks: Iterable[str]) -> list[dict[str, Any] | None]:
    return [_cell([rate for rate in rates if rate.check == check]) for check in checks]


def _cell(rates: Sequence[CheckRate]) -> dict[str, Any] | None:
    """A mean and its range, or one rate and its interval; None where nothing was checked."""
    if not rates:
        return None
    mean = sum(rate.rate for rate in rates) / len(rates)
    low, high = (
        (rates[0].low, rates[0].high)
        if len(rates) == 1
        else (min(r.rate for r in rates), max(r.rate for r in rates))
    )
    n_found, n = sum(r.n_found for r in rates), sum(r.n for r in rates)
    return {
        "text": points(mean),
        "strength": round(mean, 2),
        "is_range": len(rates) > 1,
        "limits": score_limits(low, high),
        "title": f"{count(n_found)} of {count(n)} answers",
    }


def _failures(summary: Summary, rates: Iterable[CheckRate]) -> dict[str, Any]:
    """Runs and languages in which answers named no option, the most frequent first."""
    failed = [rate for rate in rates if rate.check == NOT_EXTRACTED and rate.n_found]
    failed.sort(key=lambda rate: (-rate.rate, rate.language))
    return {
        "failures": [
            {
                "run": summary.labels[rate.run_id],
                "language": facts(rate.language).name,
                "code": rate.language,
                "n": count(rate.n),
                "n_found": count(rate.n_found),
                "score": points(rate.score),
                "otherwise": points(rate.score_otherwise),
            }
            for rate in failed[:MOST_FAILURES]
        ],
        "n_more": max(0, len(failed) - MOST_FAILURES),
    }
