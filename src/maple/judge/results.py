"""What is reported of one judged model: its rates, or why there are none."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from maple.errors import DataError
from maple.judge.annotations import Annotation
from maple.judge.length import GamedBaselines, length_controlled
from maple.judge.winrate import win_rate


def summarise(
    annotations: Sequence[Annotation], gamed: GamedBaselines | None, why_not: str = ""
) -> dict[str, Any]:
    """Returns the content of ``win_rate.json``: AlpacaEval's names, rates in percent.

    Args:
        annotations: verdicts about one model, at least one.
        gamed: AlpacaEval's gamed baselines; None where their file is missing.
        why_not: what is missing, said in place of the length-controlled rate.
    """
    preferences = [a.preference for a in annotations]
    lengths = [len(a.pair.model.output) for a in annotations]
    first = annotations[0]
    result: dict[str, Any] = {
        "generator": first.pair.model.generator,
        "reference": first.pair.reference.generator,
        "annotator": first.annotator,
        "n_annotations": len(annotations),
        "n_unparsable": preferences.count(None),
        "avg_length": int(sum(lengths) / len(lengths)),
        "win_rate": None,
        "length_controlled_winrate": None,
    }
    try:
        result |= asdict(win_rate(preferences))
    except DataError as error:
        return {**result, "no_win_rate": str(error)}
    try:
        if gamed is not None:
            result |= asdict(length_controlled(annotations, gamed))
            if len(annotations) < len(gamed.by_instruction):
                result["note"] = (
                    f"{len(annotations)} of {len(gamed.by_instruction)} instructions: difficulties "
                    "are looked up by row, so these must be the first ones"
                )
    except DataError as error:
        why_not = str(error)
    return {**result, "no_length_controlled_winrate": why_not} if why_not else result


def worded(result: Mapping[str, Any]) -> str:
    """Words a result for a terminal, a few lines."""
    lines = [f"{result['generator']} against {result['reference']}, by {result['annotator']}:"]
    if result["win_rate"] is None:
        lines.append(f"  no win rate: {result['no_win_rate']}")
    else:
        lines.append(
            f"  win rate {_rate(result['win_rate'], result['standard_error'])}: "
            f"{result['n_wins']} wins, {result['n_wins_base']} losses, {result['n_draws']} draws "
            f"of {result['n_total']}"
        )
    unparsable = result["n_unparsable"]
    if unparsable:
        lines.append(
            f"  {unparsable} of {result['n_annotations']} verdicts could not be read: left out"
        )
    if result["length_controlled_winrate"] is not None:
        rate = _rate(result["length_controlled_winrate"], result["lc_standard_error"])
        note = f"; {result['note']}" if "note" in result else ""
        lines.append(f"  length-controlled win rate {rate}{note}")
    elif "no_length_controlled_winrate" in result:
        lines.append(f"  no length-controlled win rate: {result['no_length_controlled_winrate']}")
    if "written" in result:
        lines.append(f"  {result['written']}: annotations.json, win_rate.json")
    return "\n".join(lines)


def _rate(value: float, error: float | None) -> str:
    return f"{value:.4f}" + ("" if error is None else f" (standard error {error:.4f})")
