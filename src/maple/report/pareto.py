"""Quality against cost: which runs no other run beats at once in score and in price."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maple.analysis.costs import Cost
from maple.analysis.deltas import Delta
from maple.analysis.summary import Summary
from maple.report.figures import N_COLOURS, SYMBOLS, Figure
from maple.report.headline import main_group
from maple.report.wording import duration, group_name, limits, points, score_limits, signed, size

Price = Callable[[Cost], float | None]

PRICES: Mapping[str, tuple[str, Price, Callable[[float | None], str]]] = {
    "memory": ("peak memory of training", lambda c: c.peak_memory_bytes, size),
    "time": ("training time", lambda c: c.train_seconds, duration),
    "size": ("adapter size on disk", lambda c: c.adapter_bytes, size),
}
"""What a run can cost: name, how it is read off, how it is said."""
_LADDERS = ((1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 3.5, 4, 5, 6, 8))
"""Ticks within a power of ten: the first that put three on the axis, else the last."""
_UNITS = {"memory": (2**30, "GiB"), "time": (60.0, "minutes"), "size": (2**20, "MiB")}


@dataclass(frozen=True, kw_only=True)
class Point:
    """One run: what it costs and what it is worth."""

    run_id: str
    price: float
    value: float
    """Points: a change from the base, or where there is none a score."""
    low: float
    high: float


def front(points_of: Sequence[Point]) -> list[Point]:
    """Returns the points that none beats: no other is cheaper and as good, or better and no dearer.

    By the estimates alone; their intervals say how sure that is. The cheapest comes first.
    """
    kept: list[Point] = []
    for point in sorted(points_of, key=lambda p: (p.price, -p.value)):
        if not kept or point.value > kept[-1].value:
            kept.append(point)
    return kept


def pareto_panels(summary: Summary) -> list[Figure]:
    """Returns a figure per kind of cost; none where fewer than two runs have one and a value."""
    found = {kind: _points(summary, price) for kind, (_, price, _) in PRICES.items()}
    return [_panel(summary, kind, of) for kind, of in found.items() if len(of) > 1]


def _points(summary: Summary, price: Price) -> list[Point]:
    values = _values(summary)
    prices = {cost.run_id: price(cost) for cost in summary.costs}
    return [
        Point(run_id=run, price=paid, value=value, low=low, high=high)
        for run, (value, low, high) in values.items()
        if (paid := prices.get(run)) is not None and paid > 0
    ]


def _changes(summary: Summary) -> list[Delta]:
    """Changes from the base as means over tasks; of a study of one task, that task's."""
    estimates, group = summary.estimates, main_group(summary)
    if estimates.run_effects:
        return [d for d in estimates.run_effects if d.group == group]
    by_task = [d for d in estimates.mean_deltas if d.group == group]
    return by_task if len({d.task for d in by_task}) == 1 else []


def is_change(summary: Summary) -> bool:
    """Whether the value is a change from the untouched base; else it is a score."""
    return bool(_changes(summary))


def _values(summary: Summary) -> dict[str, tuple[float, float, float]]:
    """Run id -> value and limits: only of runs that have every task and language of the group.

    A mean over other cells than its neighbours' must not stand on one axis with them.
    """
    if changes := _changes(summary):
        whole = [d for d in changes if d.n_languages == d.n_languages_planned]
        return {d.run_id: (100 * d.delta, 100 * d.low, 100 * d.high) for d in whole}
    means = [m for m in summary.estimates.means if m.group == "all"]
    if len({m.task for m in means}) != 1:
        return {}
    whole_means = [m for m in means if m.n_languages == m.n_languages_planned]
    return {m.run_id: (100 * m.score, 100 * m.low, 100 * m.high) for m in whole_means}


def _panel(summary: Summary, kind: str, found: Sequence[Point]) -> Figure:
    name, _, say = PRICES[kind]
    best = front(found)
    unit, unit_name = _UNITS[kind]
    value = "change from the base in points" if is_change(summary) else "score in points"
    on_front = {p.run_id for p in best}
    rows = [
        (
            summary.labels[p.run_id],
            say(p.price),
            *_said(summary, p),
            "yes" if p.run_id in on_front else "no",
        )
        for p in sorted(found, key=lambda p: (p.price, -p.value))
    ]
    told = [f"{row[0]}: {row[1]}, {row[2]} {row[3]}" for row in rows if row[-1] == "yes"]
    return Figure(
        id=f"pareto-{kind}",
        title=f"{name[:1].upper()}{name[1:]}",
        description=f"{value}, {group_name(main_group(summary))}; on the front: {'; '.join(told)}",
        height=340,
        data=[_step(best, unit), *_traces(summary, found, unit, say)],
        layout={
            "xaxis": _axis(f"{name} ({unit_name})", [p.price / unit for p in found]),
            "yaxis": {"title": {"text": value}, "automargin": True},
            "showlegend": False,
        },
        columns=("Run", name.capitalize(), value.capitalize(), "95% interval", "On the front"),
        rows=rows,
    )


def _axis(title: str, prices: Sequence[float]) -> dict[str, Any]:
    """A logarithmic axis with few round ticks: plotly's own show bare digits between tens."""
    low, high = 0.8 * min(prices), 1.25 * max(prices)
    tens = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    ticks: list[float] = []
    for steps in _LADDERS:
        ladder = [step * 10.0**ten for ten in tens for step in steps]
        ticks = [tick for tick in ladder if low <= tick <= high]
        if len(ticks) > 2:
            break
    return {
        "title": {"text": title},
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [f"{tick:g}" for tick in ticks],
        "automargin": True,
    }


def _said(summary: Summary, point: Point) -> tuple[str, str]:
    value, low, high = point.value / 100, point.low / 100, point.high / 100
    if is_change(summary):
        return signed(value), limits(low, high)
    return points(value), score_limits(low, high)


def _step(best: Sequence[Point], unit: float) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [p.price / unit for p in best],
        "y": [p.value for p in best],
        "line": {"shape": "hv", "color": "var:muted", "width": 1.2, "dash": "dot"},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def family_names(summary: Summary) -> list[str]:
    """Returns what the marks' colours stand for: a method at its bits, in the plan's order."""
    trained = [run.cell for run in summary.runs if not run.cell.is_base]
    return list(dict.fromkeys(f"{cell.method}, {cell.quantization}" for cell in trained))


def _traces(
    summary: Summary, found: Sequence[Point], unit: float, say: Callable[[float | None], str]
) -> list[dict[str, Any]]:
    cells = {run.run_id: run.cell for run in summary.runs}
    names = family_names(summary)
    by_family: dict[str, list[Point]] = {}
    for point in found:
        cell = cells[point.run_id]
        by_family.setdefault(f"{cell.method}, {cell.quantization}", []).append(point)
    made = [(n, _family(summary, names.index(n), by_family[n], unit, say)) for n in by_family]
    return [{"name": name, **trace} for name, trace in made]


def _family(
    summary: Summary,
    number: int,
    found: Sequence[Point],
    unit: float,
    say: Callable[[float | None], str],
) -> dict[str, Any]:
    said = [" ".join(_said(summary, p)) for p in found]
    return {
        "type": "scatter",
        "mode": "markers",
        "x": [p.price / unit for p in found],
        "y": [p.value for p in found],
        "error_y": {
            "type": "data",
            "symmetric": False,
            "array": [p.high - p.value for p in found],
            "arrayminus": [p.value - p.low for p in found],
            "thickness": 1,
            "width": 0,
        },
        "marker": {
            "size": 8,
            "symbol": SYMBOLS[number % len(SYMBOLS)],
            "color": f"var:series-{number % N_COLOURS + 1}",
        },
        "text": [
            f"{summary.labels[p.run_id]}<br>{say(p.price)}, {text}"
            for p, text in zip(found, said, strict=True)
        ],
        "hovertemplate": "%{text}<extra></extra>",
    }
