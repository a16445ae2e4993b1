"""The table and the verdicts of a simulation."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.calibration.tally import Count

COVERAGE = (0.93, 0.97)
"""What is demanded of a 95% interval."""
STATED = 0.05
"""What is stated of false discoveries, and of a winner where there is none."""


def kind_of(name: str) -> str:
    """Returns ``power``, ``false`` (discoveries), ``recommendation`` or ``coverage``."""
    if name.startswith("recommended"):
        return "recommendation"
    return "power" if name.startswith("power") else "false" if "null" in name else "coverage"


def is_met(name: str, count: Count) -> bool | None:
    """Whether a count is as demanded, two standard errors of simulation allowed; None: power."""
    slack = 2 * count.standard_error
    if kind_of(name) == "power":
        return None
    if kind_of(name) == "recommendation":
        return count.rate >= 1 - STATED - slack
    if name.startswith("small"):
        # Of few runs little is known of seeds: intervals may be too wide, never too narrow.
        return count.rate >= COVERAGE[0] - slack
    if kind_of(name) == "false":
        return count.rate <= STATED + slack
    return COVERAGE[0] - slack <= count.rate <= COVERAGE[1] + slack


def table(counts: Mapping[str, Count]) -> list[str]:
    """Returns the lines of a table: rate, its standard error, trials, studies, verdict."""
    width = max(len(name) for name in counts)
    lines = [f"{'':{width}}    rate  ± s.e.    trials  studies"]
    for name, count in sorted(counts.items(), key=lambda item: kind_of(item[0])):
        met = {True: "", False: "  NOT MET", None: ""}[is_met(name, count)]
        lines.append(
            f"{name:{width}}  {100 * count.rate:5.1f}%  {100 * count.standard_error:5.2f}"
            f"  {count.trials:8}  {count.studies:7}{met}"
        )
    return lines


def result(counts: Mapping[str, Count]) -> dict[str, Any]:
    """Returns every rate by kind, and whether all are as demanded."""
    found: dict[str, Any] = {"coverage": {}, "false": {}, "recommendation": {}, "power": {}}
    for name, count in counts.items():
        found[kind_of(name)][name] = [round(count.rate, 4), round(count.standard_error, 4)]
    missed = [name for name, count in counts.items() if is_met(name, count) is False]
    return found | {"as_demanded": not missed, "missed": missed}
