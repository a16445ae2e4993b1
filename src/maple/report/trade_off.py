"""The trade-off of tuning: what the other languages gain, and what English pays for it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from maple.analysis.forgetting import Ledger, TradeOff
from maple.analysis.intervals import Interval
from maple.report.figures import Figure
from maple.report.wording import limits, signed

_MARKS = (
    (True, "no other configuration has both higher", "circle", "var:series-1"),
    (False, "another has both higher", "circle-open", "var:muted"),
)
"""Whether a point is on the curve, what that means, how it is drawn."""


def trade_off_figure(ledger: Ledger | None) -> Figure | None:
    """Returns gain against loss, a mark per configuration; none for fewer than two of them.

    Args:
        ledger: the forgetting ledger; configurations without English are left out.
    """
    known = [point for point in ledger.trade_offs if point.english is not None] if ledger else []
    if len(known) < 2:
        return None
    rows = [_row(point) for point in known]
    told = [f"{row[0]}: {row[1]}, English {row[2]}" for row in rows if row[-1] == "yes"]
    return Figure(
        id="trade-off",
        title="Multilingual gain against the change in English, mean over tasks",
        description=f"Points, 95% intervals; on the curve: {'; '.join(told)}",
        height=420,
        data=[_curve(known), *_traces(known)],
        layout={
            "xaxis": _axis("change in other languages, points"),
            "yaxis": _axis("change in English, points"),
            "showlegend": True,
        },
        columns=("Configuration", "Gain", "English", "On the curve"),
        rows=rows,
    )


def _row(point: TradeOff) -> tuple[str, str, str, str]:
    assert point.english is not None
    is_best = "yes" if point.is_undominated else "no"
    return point.configuration, _say(point.gain), _say(point.english), is_best


def _say(change: Interval) -> str:
    return f"{signed(change.value)} {limits(change.low, change.high)}"


def _curve(known: Sequence[TradeOff]) -> dict[str, Any]:
    best = [p for p in known if p.is_undominated]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [100 * p.gain.value for p in best],
        "y": [100 * p.english.value for p in best if p.english],
        "line": {"color": "var:series-1", "width": 1.2, "dash": "dot"},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _traces(known: Sequence[TradeOff]) -> list[dict[str, Any]]:
    made = []
    for is_best, name, symbol, colour in _MARKS:
        here = [p for p in known if p.is_undominated is is_best]
        english = [p.english for p in here if p.english is not None]
        if here:
            made.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": name,
                    "x": [100 * p.gain.value for p in here],
                    "y": [100 * change.value for change in english],
                    "error_x": _bars([p.gain for p in here]),
                    "error_y": _bars(english),
                    "marker": {"symbol": symbol, "size": 9, "color": colour},
                    "text": ["<br>".join(_row(p)[:3]) for p in here],
                    "hovertemplate": "%{text}<extra></extra>",
                }
            )
    return made


def _bars(changes: Sequence[Interval]) -> dict[str, Any]:
    return {
        "type": "data",
        "symmetric": False,
        "array": [100 * (c.high - c.value) for c in changes],
        "arrayminus": [100 * (c.value - c.low) for c in changes],
        "thickness": 0.8,
        "width": 0,
    }


def _axis(title: str) -> dict[str, Any]:
    return {"title": {"text": title}, "rangemode": "tozero", "zeroline": True, "automargin": True}
