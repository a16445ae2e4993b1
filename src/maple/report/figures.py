"""Figures as plotly specifications: data here, colours by name, drawn by ``report.js``.

A colour is a CSS custom property (``var:series-1``), so one figure serves the light and the dark
scheme. Every figure carries a text that says what it shows, for readers who do not see it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from maple.analysis.deltas import Delta
from maple.analysis.effects import ALL_TASKS, GROUPS
from maple.analysis.summary import Summary
from maple.report.headline import main_group
from maple.report.wording import group_name, limits, signed

N_COLOURS = 6
SYMBOLS = ("circle", "square", "diamond", "triangle-up", "cross", "x")
_MANY_POINTS = 72
"""Above this many, the figure shows the mean over tasks alone."""


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure: what plotly draws, and what it says in words."""

    id: str
    title: str
    description: str
    height: int
    """Pixels."""
    data: Sequence[Mapping[str, Any]]
    layout: Mapping[str, Any]
    factor: str = ""
    """``rank`` or ``bits`` for a panel of curves; empty for the rest."""
    task: str = ""
    """The task that a panel shows."""
    columns: Sequence[str] = ()
    """Of the figure as a table: what it shows, for readers who do not see it."""
    rows: Sequence[Sequence[str]] = ()

    @property
    def alternative(self) -> str:
        """The figure in one spoken sentence; where it is long, its table says the rest."""
        long = f"{self.title}. {self.description}"
        return long if len(long) <= 600 else f"{long[:600]} … All numbers: the table below."

    def as_json(self) -> dict[str, Any]:
        """What the page's script needs to draw it."""
        return {
            "data": list(self.data),
            "layout": dict(self.layout),
            "height": self.height,
            "columns": list(self.columns),
            "rows": [list(row) for row in self.rows],
        }


def effects_figure(summary: Summary) -> Figure | None:
    """Returns the first figure: what each factor changes, by groups of languages."""
    effects = [e for e in summary.estimates.effects if e.task == ALL_TASKS]
    if not effects:
        return None
    groups = [g for g in GROUPS if any(e.group == g for e in effects)]
    contrasts = list(dict.fromkeys(e.contrast for e in effects))
    rows = [text.replace(" - ", " against ") for text in contrasts]
    traces = []
    for number, group in enumerate(groups):
        found = [e for e in effects if e.group == group]
        offset = (number - (len(groups) - 1) / 2) * 0.72 / len(groups)
        traces.append(
            {
                "type": "scatter",
                "mode": "markers",
                "name": group_name(group),
                "x": [100 * e.value for e in found],
                "y": [contrasts.index(e.contrast) + offset for e in found],
                "error_x": _bars([(100 * e.value, 100 * e.low, 100 * e.high) for e in found], 2),
                "marker": {
                    "symbol": SYMBOLS[number % len(SYMBOLS)],
                    "size": 9,
                    "color": f"var:series-{number % N_COLOURS + 1}",
                },
                "text": [f"{signed(e.value)} {limits(e.low, e.high)}" for e in found],
                "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
            }
        )
    told = [
        (e.contrast.replace(" - ", " against "), group_name(e.group), signed(e.value),
         limits(e.low, e.high)) for e in effects
    ]  # fmt: skip
    return Figure(
        id="effects",
        title="What each factor changes, mean over tasks, with 95% intervals",
        description="; ".join(f"{row[0]}, {row[1]}: {row[2]} {row[3]}" for row in told),
        height=90 + len(rows) * max(44, 17 * len(groups) + 12),
        data=traces,
        layout=_rows_layout(rows, has_legend=len(groups) > 1),
        columns=("Factor", "Languages", "Change in points", "95% interval"),
        rows=told,
    )


def forest(summary: Summary) -> Figure | None:
    """Returns each tuned run's change from its base, per task, with intervals."""
    group = main_group(summary)
    over_tasks = [d for d in summary.estimates.run_effects if d.group == group]
    by_task = [d for d in summary.estimates.mean_deltas if d.group == group]
    tasks = [mode.label for mode in summary.modes if any(d.task == mode.label for d in by_task)]
    deltas = [*over_tasks, *by_task] if len(tasks) != 1 else by_task
    if len(deltas) > _MANY_POINTS and over_tasks:
        deltas, tasks = over_tasks, []
    if not deltas:
        return None
    order = sorted({d.run_id for d in deltas}, key=_mean_first(over_tasks, by_task))
    shown = [*tasks, *dict.fromkeys(d.task for d in over_tasks if len(tasks) != 1)]
    traces = [
        _forest_trace(number, task, found, order, shown)
        for number, task in enumerate(shown)
        for is_complete in (True, False)
        if (found := [d for d in deltas if d.task == task and _is_complete(d) == is_complete])
    ]
    rows = [summary.labels[run] for run in order]
    return Figure(
        id="forest",
        title=f"Change from the untouched base, {group_name(group)}, by tuned run",
        description="; ".join(f"{summary.labels[d.run_id]}, {d.task}: {_say(d)}" for d in deltas),
        height=90 + len(order) * max(20 if len(order) > 16 else 30, 15 * len(shown) + 12),
        data=traces,
        layout=_rows_layout(rows, has_legend=len(shown) > 1),
        columns=("Run", "Task", "Change in points", "95% interval", "Languages"),
        rows=[
            (
                summary.labels[d.run_id],
                d.task,
                signed(d.delta),
                limits(d.low, d.high),
                f"{d.n_languages} of {d.n_languages_planned}",
            )
            for d in sorted(deltas, key=lambda d: order.index(d.run_id))
        ],
    )


def _rows_layout(rows: Sequence[str], *, has_legend: bool) -> dict[str, Any]:
    """Names down the side, points along the bottom, zero always in sight."""
    return {
        "xaxis": {
            "title": {"text": "points"},
            "rangemode": "tozero",
            "zeroline": True,
            "automargin": True,
        },
        "yaxis": {
            "tickvals": list(range(len(rows))),
            "ticktext": list(rows),
            "range": [len(rows) - 0.5, -0.5],
            "zeroline": False,
            "showgrid": False,
            "automargin": True,
        },
        "showlegend": has_legend,
    }


def _bars(values: Sequence[tuple[float, float, float]], thickness: float) -> dict[str, Any]:
    """Intervals as plotly draws them: (value, low, high) in points."""
    return {
        "type": "data",
        "symmetric": False,
        "array": [high - value for value, _, high in values],
        "arrayminus": [value - low for value, low, _ in values],
        "thickness": thickness,
        "width": 0,
    }


def loss_curves(summary: Summary, curves: Mapping[str, pa.Table]) -> Figure | None:
    """Returns the training loss of every run that has a curve.

    Args:
        summary: the runs and their labels.
        curves: training curves by run id; each is shown in at most 400 points.
    """
    drawn = [(run, curve) for run, curve in curves.items() if curve.num_rows]
    if not drawn:
        return None
    traces, ends = [], []
    for number, (run, curve) in enumerate(drawn):
        kept = curve.take(_spread(curve.num_rows, 400))
        steps, losses = kept["step"].to_pylist(), kept["loss"].to_pylist()
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "name": summary.labels[run],
                "x": steps,
                "y": losses,
                "line": {
                    "width": 1.5,
                    "color": f"var:series-{number % N_COLOURS + 1}",
                    "dash": ("solid", "dash", "dot", "dashdot")[number // N_COLOURS % 4],
                },
                "hovertemplate": "step %{x}: %{y:.3f}<extra>%{fullData.name}</extra>",
            }
        )
        ends.append(f"{summary.labels[run]}: from {losses[0]:.3f} to {losses[-1]:.3f}")
    return Figure(
        id="loss",
        title="Training loss by optimiser step",
        description="; ".join(ends),
        height=420,
        data=traces,
        layout={
            "xaxis": {"title": {"text": "optimiser step"}, "automargin": True},
            "yaxis": {"title": {"text": "nats per label token"}, "automargin": True},
            "showlegend": len(traces) <= 12,
        },
        columns=("Run", "Steps", "First loss", "Last loss"),
        rows=[
            (t["name"], f"{t['x'][-1]:,}", *(f"{t['y'][i]:.3f}" for i in (0, -1))) for t in traces
        ],
    )


def _mean_first(over_tasks: Iterable[Delta], by_task: Iterable[Delta]) -> Callable[[str], Any]:
    means = {d.run_id: d.delta for d in over_tasks}
    rest: dict[str, list[float]] = {}
    for delta in by_task:
        rest.setdefault(delta.run_id, []).append(delta.delta)
    return lambda run: (-means.get(run, sum(rest.get(run, [0])) / len(rest.get(run, [0]))), run)


def _forest_trace(
    number: int, task: str, deltas: Sequence[Delta], order: Sequence[str], shown: Sequence[str]
) -> dict[str, Any]:
    is_mean = number == len(shown) - 1 and len(shown) != 1
    step = 0.72 / max(len(shown), 1)
    symbol = "diamond" if is_mean else SYMBOLS[number % len(SYMBOLS)]
    offset = (number - (len(shown) - 1) / 2) * step
    return {
        "type": "scatter",
        "mode": "markers",
        "name": task,
        "legendgroup": task,
        "showlegend": _is_complete(deltas[0]),
        "x": [100 * d.delta for d in deltas],
        "y": [order.index(d.run_id) + offset for d in deltas],
        "error_x": _bars(
            [(100 * d.delta, 100 * d.low, 100 * d.high) for d in deltas], 2 if is_mean else 1.3
        ),
        "marker": {
            "symbol": symbol if _is_complete(deltas[0]) else f"{symbol}-open",
            "size": 11 if is_mean else 8,
            "color": "var:ink" if is_mean else f"var:series-{number % N_COLOURS + 1}",
        },
        "text": [f"{_say(d)}, n = {d.n:,}" for d in deltas],
        "hovertemplate": "%{text}<extra>%{fullData.name}</extra>",
    }


def _is_complete(delta: Delta) -> bool:
    return delta.n_languages == delta.n_languages_planned


def _say(delta: Delta) -> str:
    some = f", {delta.n_languages} of {delta.n_languages_planned} languages"
    partial = "" if _is_complete(delta) else some
    return f"{signed(delta.delta)} {limits(delta.low, delta.high)}{partial}"


def _spread(n: int, most: int) -> list[int]:
    """Returns up to ``most`` positions among n, the first and the last included."""
    if n <= most:
        return list(range(n))
    return sorted({round(i * (n - 1) / (most - 1)) for i in range(most)})
