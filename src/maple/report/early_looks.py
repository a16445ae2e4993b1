"""The early looks as the page lays them out."""

from __future__ import annotations

from typing import Any

from maple.analysis.groups import facts
from maple.analysis.summary import Summary
from maple.report.wording import count, limits, signed

_DECISIONS = {
    "higher": "higher",
    "lower": "lower",
    "no more": "no larger difference",
    "undecided": "not decided",
}


def early_look_rows(summary: Summary) -> list[dict[str, Any]]:
    """Returns a row per comparison that was looked at while it was scored."""
    return [
        {
            "run": summary.labels.get(each.run_id, each.run_id),
            "against": summary.labels.get(each.against_run_id, each.against_run_id),
            "task": each.task,
            "language": facts(each.language).name,
            "code": each.language,
            "is_part": each.is_part,
            "ended": f"look {each.look} of {each.n_looks}",
            "samples": f"{count(each.n)} of {count(each.n_planned)}",
            "decision": _DECISIONS.get(each.decision, each.decision),
            "estimate": signed(each.estimate),
            "limits": limits(each.low, each.high),
            "plain": signed(each.delta),
            "alpha": f"{each.alpha:.2g}",
            "spent": f"{each.spent:.2g}",
        }
        for each in summary.early_looks
    ]
