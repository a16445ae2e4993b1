"""Sections that appear when the summary holds their estimates: each a table of what was found.

A kind of estimate is a tuple of frozen dataclasses, looked for by name in the summary and in its
``estimates``. So an analysis of an older Maple has a report, and a new one needs no template.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from maple.analysis.effects import ALL_TASKS
from maple.analysis.forgetting import Ledger
from maple.analysis.groups import facts
from maple.analysis.intervals import Interval
from maple.analysis.summary import Summary
from maple.report.wording import MINUS, NOTHING, group_name, points, signed

MOST_ROWS = 2_000
"""Rows that the page shows; the table in ``tables/`` has all."""
LONG = 30
"""Rows above which a table is closed at first."""
PROSE_FROM = 40
"""Characters from which a cell is a text and no name."""
_CODE = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")


@dataclass(frozen=True, kw_only=True)
class Kind:
    """One kind of estimate and the section that shows it."""

    name: str
    """The attribute of the summary or of its estimates, and the file in ``tables/``."""
    section: str
    title: str
    note: str
    estimate: str = ""
    """The field that ``low`` and ``high`` are the limits of."""
    is_in_points: bool = True
    """Whether intervals are of scores, shown times 100; else in their own unit."""
    columns: tuple[str, ...] = ()
    """Fields to show, in order; none: all."""
    figure: str = ""
    """The id of the figure above the table, where there is one."""


KINDS = (
    Kind(
        name="reference_gaps",
        section="references",
        title="Gap to references",
        note="How much of the distance from the untouched base to a reference a run has closed. "
        "A reference that was asked in another way (prompt, shots, split) is marked, and its gap "
        "holds that difference too.",
        estimate="closed",
        columns=(
            "run_id",
            "task",
            "group",
            "reference",
            "closed",
            "run_score",
            "base_score",
            "reference_score",
            "n_languages",
            "is_same_mode",
            "differences",
        ),
    ),
    Kind(
        name="tied_groups",
        section="comparisons",
        title="Tied runs",
        note="Runs that share a letter cannot be told apart (Holm); a is the best one's. The "
        "difference is from the best, the last column what could have been found.",
        estimate="difference",
        columns=(
            "run_id",
            "task",
            "group",
            "place",
            "letters",
            "score",
            "difference",
            "p_holm",
            "minimum_detectable",
        ),
    ),
    Kind(
        name="trade_offs",
        section="forgetting",
        title="Forgetting ledger",
        note="What each configuration gains in the languages other than English, and what English "
        "pays for it: mean over tasks, paired against the untouched base. Undominated: no other "
        "has both estimates higher.",
        columns=("configuration", "gain", "english", "n_seeds", "is_undominated"),
        figure="trade-off",
    ),
    Kind(
        name="held_out",
        section="forgetting",
        title="Held-out loss",
        note="Nats per label token on text held out of training, where a run validated: at the "
        "first measurement and as kept; below 0 is a gain. The interval is over seeds.",
        is_in_points=False,
        columns=("configuration", "language", "first", "kept", "change", "interval"),
    ),
    Kind(
        name="wins",
        section="forgetting",
        title="Judged win rate",
        note="Against the same reference answers as the untouched base.",
    ),
    Kind(
        name="changes",
        section="forgetting",
        title="Change by language",
        note="Every configuration against its untouched base; the p-value is adjusted over the "
        "configurations and languages of the task (Holm).",
        columns=("configuration", "task", "group", "change", "p_holm", "n", "n_languages"),
    ),
)


def found(summary: Summary, kind: Kind, ledger: Ledger | None = None) -> tuple[Any, ...]:
    """Returns the estimates of a kind, empty where there are none."""
    for place in (summary, summary.estimates, ledger):
        value = getattr(place, kind.name, None)
        if isinstance(value, list | tuple) and all(dataclasses.is_dataclass(v) for v in value):
            return tuple(value)
    return ()


def further_sections(summary: Summary, ledger: Ledger | None = None) -> list[dict[str, Any]]:
    """Returns the sections that have anything to show, with their tables."""
    sections: dict[str, dict[str, Any]] = {}
    for kind in KINDS:
        if rows := found(summary, kind, ledger):
            section = sections.setdefault(
                kind.section, {"id": kind.section, "title": kind.title, "tables": []}
            )
            section["tables"].append(_table(summary, kind, rows))
    return list(sections.values())


def _table(summary: Summary, kind: Kind, rows: Sequence[Any]) -> dict[str, Any]:
    names = [f.name for f in dataclasses.fields(rows[0])]
    columns = [name for name in kind.columns if name in names]
    columns = columns or [name for name in names if name not in ("low", "high")]
    # What holds of all tasks together is what a reader looks for first.
    rows = sorted(rows, key=lambda row: getattr(row, "task", ALL_TASKS) != ALL_TASKS)
    shown = rows[:MOST_ROWS]
    flat = [{f: getattr(row, f) for f in names} for row in shown]
    texts = [[_cell(summary, kind, name, row) for name in columns] for row in flat]
    return {
        "title": kind.title,
        "note": kind.note,
        "figure": kind.figure,
        "file": f"{kind.name}.csv",
        "columns": [_heading(name) for name in columns],
        "classes": [_class(flat[0][c], [row[i] for row in texts]) for i, c in enumerate(columns)],
        "rows": texts,
        "is_long": len(texts) > LONG,
        "n_more": len(rows) - len(shown),
    }


def _class(value: Any, texts: Sequence[str]) -> str:
    """Numbers and intervals stand to the right; a column of long texts gets room."""
    if isinstance(value, int | float | Interval) and not isinstance(value, bool):
        return "number"
    return "prose" if max(map(len, texts)) > PROSE_FROM else ""


_HEADINGS = {
    "p_holm": "p (Holm)",
    "n": "Samples",
    "n_seeds": "Seeds",
    "n_languages": "Languages counted",
    "group": "Languages",
    "is_undominated": "On the curve",
    "is_same_mode": "Asked the same way",
    "minimum_detectable": "Could be found",
}


def _heading(name: str) -> str:
    if name in _HEADINGS:
        return _HEADINGS[name]
    text = name.removesuffix("_id").replace("_", " ")
    return f"{text[:1].upper()}{text[1:]}"


_SCORES = ("score", "run_score", "base_score", "reference_score")
_CHANGES = ("delta", "value", "gain", "difference", "slope", "minimum_detectable")


def _cell(summary: Summary, kind: Kind, name: str, row: Mapping[str, Any]) -> str:
    value = row[name]
    if name.endswith("run_id") and isinstance(value, str):
        return summary.labels.get(value, value)
    if name in ("language", "group") and isinstance(value, str) and _CODE.fullmatch(value):
        return f"{facts(value).name} ({value})"
    if isinstance(value, Interval):
        around = {"low": value.low, "high": value.high}
        return _estimate(value.value, around, signed if kind.is_in_points else _plain)
    if name == "group" and isinstance(value, str):
        return group_name(value)
    if isinstance(value, float) and name in (*_SCORES, *_CHANGES, "closed"):
        return _estimate(value, row if name == kind.estimate else {}, _unit(name))
    return _plain(value)


def _unit(name: str) -> Callable[[float], str]:
    if name == "closed":
        return lambda share: f"{100 * share:.0f}%".replace("-", MINUS)
    return points if name in _SCORES else signed


def _estimate(value: float, row: Mapping[str, Any], say: Callable[[float], str]) -> str:
    low, high = row.get("low"), row.get("high")
    if isinstance(low, float) and isinstance(high, float):
        return f"{say(value)} [{say(low)}, {say(high)}]"
    return say(value)


def _plain(value: Any) -> str:
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return NOTHING
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    if isinstance(value, list | tuple | set | frozenset):
        return ", ".join(_plain(entry) for entry in value)
    return str(value)
