"""Rank and bits curves: small panels, one per task and group of languages, on one scale a task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, Literal

from maple.analysis.curves import CurvePoint
from maple.analysis.summary import Summary
from maple.report.figures import N_COLOURS, SYMBOLS, Figure
from maple.report.wording import bits_name, group_name, limits, plural, points, score_limits, signed

Factor = Literal["rank", "bits"]
_UNITS = {"delta": "change from the base in points", "score": "score in points"}


def curve_panels(summary: Summary, factor: Factor) -> list[Figure]:
    """Returns the panels of one factor's curves: a figure per task and group of languages.

    Args:
        summary: the estimates.
        factor: ``rank`` (a line per quantization) or ``bits`` (a line per rank).
    """
    every = _usable(summary, factor)
    if len({_along(p, factor) for p in every}) < 2:
        return []
    keys = dict.fromkeys((p.task, p.group) for p in every)
    return [
        _panel(number, factor, [p for p in every if (p.task, p.group) == key], every)
        for number, key in enumerate(keys)
    ]


def line_names(summary: Summary, factor: Factor) -> list[str]:
    """Returns the names of a factor's lines, in the order of their colours."""
    return _names(_usable(summary, factor), factor)


def series_names(summary: Summary) -> list[str]:
    """Returns the series that the panels can show, one at a time, those with most points first."""
    n_points = Counter(p.series for p in summary.estimates.curves)
    return [series for series, _ in n_points.most_common()]


def _usable(summary: Summary, factor: Factor) -> list[CurvePoint]:
    needs_rank = factor == "rank"
    found = summary.estimates.curves
    return [p for p in found if p.bits is not None and (p.rank is not None or not needs_rank)]


def _along(point: CurvePoint, factor: Factor) -> float:
    """Where a point stands on the panel's horizontal axis."""
    return float((point.rank if factor == "rank" else point.bits) or 0)


def _name(point: CurvePoint, factor: Factor) -> str:
    if factor == "rank":
        return bits_name(point.quantization, point.bits)
    return "no rank" if point.rank is None else f"rank {point.rank}"


def _names(every: Sequence[CurvePoint], factor: Factor) -> list[str]:
    other: Factor = "bits" if factor == "rank" else "rank"
    ordered = sorted(every, key=lambda p: _along(p, other))
    return list(dict.fromkeys(_name(p, factor) for p in ordered))


def _panel(
    number: int, factor: Factor, here: Sequence[CurvePoint], every: Sequence[CurvePoint]
) -> Figure:
    task, group = here[0].task, here[0].group
    same_task = [p for p in every if p.task == task]
    quantity = "delta" if any(p.quantity == "delta" for p in here) else "score"
    n_languages = max(p.n_languages_planned for p in here)
    count = "" if group == "all" else f", {plural(n_languages, 'language')}"
    return Figure(
        id=f"{factor}-{number}",
        title=f"{group_name(group)}{count}",
        description=f"{task}, {_UNITS[quantity]}: "
        + "; ".join(_say(p) for p in here if p.quantity == quantity),
        height=270,
        data=[_trace(factor, line, every) for line in _lines(here, factor)],
        layout={
            "xaxis": _axis(factor, every),
            "yaxis": {"automargin": True},
            "ranges": {q: _range([p for p in same_task if p.quantity == q]) for q in _UNITS},
            "showlegend": False,
        },
        factor=factor,
        task=task,
        columns=("Runs", "Shown", "Point"),
        rows=[(p.series, _UNITS[p.quantity], _say(p)) for p in here],
    )


def _lines(here: Sequence[CurvePoint], factor: Factor) -> list[list[CurvePoint]]:
    """Splits points into lines: one per series, quantity, and level of the other factor."""
    lines: dict[tuple[Any, ...], list[CurvePoint]] = {}
    for point in here:
        key = (point.series, point.quantity, _name(point, factor))
        lines.setdefault(key, []).append(point)
    return [sorted(line, key=lambda p: _along(p, factor)) for line in lines.values()]


def _trace(
    factor: Factor, line: Sequence[CurvePoint], every: Sequence[CurvePoint]
) -> dict[str, Any]:
    first, names = line[0], _names(every, factor)
    number = names.index(_name(first, factor))
    symbol = SYMBOLS[number % len(SYMBOLS)]
    colour = f"var:series-{number % N_COLOURS + 1}"
    # Lines that share a level would hide one another's intervals: each is set a little aside.
    shift = 1 + 0.05 * (number - (len(names) - 1) / 2)
    return {
        "type": "scatter",
        "mode": "lines+markers",
        "name": names[number],
        "series": first.series,
        "quantity": first.quantity,
        "x": [_along(p, factor) * shift for p in line],
        "y": [100 * p.value for p in line],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [100 * (p.high - p.value) for p in line],
            "arrayminus": [100 * (p.value - p.low) for p in line],
            "thickness": 1.4,
            "width": 0,
        },
        "line": {"color": colour, "width": 1.8},
        "marker": {
            "color": colour,
            "size": 7,
            "symbol": [symbol if _is_complete(p) else f"{symbol}-open" for p in line],
        },
        "text": [_say(p) for p in line],
        "hovertemplate": "%{text}<extra></extra>",
    }


def _axis(factor: Factor, every: Sequence[CurvePoint]) -> dict[str, Any]:
    levels = sorted({_along(p, factor) for p in every})
    return {
        "type": "log",
        "title": {"text": "rank" if factor == "rank" else "bits per weight of the base"},
        "tickvals": levels,
        "ticktext": [f"{level:g}" for level in levels],
        "automargin": True,
        "zeroline": False,
    }


def _range(shown: Sequence[CurvePoint]) -> list[float] | None:
    if not shown:
        return None
    low, high = min(100 * p.low for p in shown), max(100 * p.high for p in shown)
    low, high = (min(low, 0), max(high, 0)) if shown[0].quantity == "delta" else (low, high)
    margin = 0.05 * (high - low) + 0.5
    return [low - margin, high + margin]


def _is_complete(point: CurvePoint) -> bool:
    return point.n_languages == point.n_languages_planned


def _say(point: CurvePoint) -> str:
    basis = f", {point.n_seeds} seeds" if point.n_seeds > 1 else ""
    if not _is_complete(point):
        basis += f", {point.n_languages} of {point.n_languages_planned} languages"
    value = (
        f"{signed(point.value)} {limits(point.low, point.high)}"
        if point.quantity == "delta"
        else f"{points(point.value)} {score_limits(point.low, point.high)}"
    )
    rank = "no rank" if point.rank is None else f"rank {point.rank}"
    return f"{rank}, {bits_name(point.quantization, point.bits)}: {value}{basis}"
