"""The table, the verdicts on the targets, and what the last line says first."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from benchmarks.evaluation.pairs import Cell
from benchmarks.training.statistics import summary

TARGETS = {
    "mix": 3.0,
    "sentences": 6.0,
    "letters": 2.5,
    "xnli": 1.8,
    "xcopa": 1.8,
    "generation": 2.0,
}
SHARE_TARGET = 0.5
HEAD = (
    "question", "bits", "ours", "lm-eval", "batch", "x lm-eval", "(spread)", "x cpu",
    "tokens asked", "fed lm-eval", "fed ours", "fewest", "floor", "answers",
)  # fmt: skip


def table(cells: Sequence[Cell], peak: float) -> list[str]:
    """Lines of the table: seconds, ratios, tokens, the floor's seconds at the peak."""
    rows = [HEAD, *(_row(cell, peak) for cell in cells)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join(v.rjust(w) for v, w in zip(row, widths, strict=True)) for row in rows]


CURVE_HEAD = (
    "tokens asked", "fed", "fewest", "GFLOP", "attention", "passes", "GB", "floor", "predicted",
    "measured",
)  # fmt: skip


def curve_lines(name: str, curve: dict[str, Any]) -> list[str]:
    """A curve of cost: its line, then its points."""
    rows = [(name, *CURVE_HEAD)]
    for x, point in curve["points"].items():
        flops = point["gigaflops"]
        rows.append((
            x,
            *map(str, point["tokens"].values()),
            f"{sum(flops.values()):.0f}",
            f"{flops['attention']:.1f}",
            str(point["passes"]),
            f"{point['gigabytes']:.1f}",
            *(f"{point[f'{kind}_seconds']:.2f} s" for kind in ("floor", "predicted")),
            f"{point['seconds']:.2f} s",
        ))  # fmt: skip
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        *("  ".join(v.rjust(w) for v, w in zip(row, widths, strict=True)) for row in rows),
        f"predicted = {curve['fixed_seconds']:.2f} s + {curve['seconds_per_floor_second']:.2f} "
        f"floor; at most {curve['largest_error']:.0%} off",
    ]


def floor_seconds(work: dict[str, Any], peak: float) -> float:
    """The fewest operations at the machine's bfloat16 peak."""
    return float(work["gigaflops_fewest"]) * 1e9 / peak


def _row(cell: Cell, peak: float) -> tuple[str, ...]:
    ratio = summary(cell.ratios())
    seconds = [[o.seconds for o in cell.ours], [cell.seconds_theirs(o) for o in cell.theirs]]
    return (
        cell.question.name,
        cell.bits,
        *(f"{summary(values)['median']:.1f} s" for values in seconds),
        cell.batch_size,
        f"{ratio['median']:.2f}",
        f"{ratio['min']:.2f}-{ratio['max']:.2f}",
        f"{summary(cell.cpu_ratios())['median']:.2f}",
        *map(str, cell.tokens().values()),
        f"{floor_seconds(cell.work, peak):.1f} s",
        _answers(cell),
    )


def _answers(cell: Cell) -> str:
    assert cell.comparison is not None
    if cell.bits == "fp32":
        return "differ" if cell.comparison.found else "equal"
    return f"{cell.comparison.decisions_differ}/{cell.comparison.samples} decided otherwise"


def verdicts(result: dict[str, Any]) -> dict[str, bool]:
    """Which targets were met, by name."""
    met = {}
    for cell in result["cells"]:
        target = TARGETS[cell["question"]]
        name = f"{cell['question']} {cell['bits']}: {target}x lm-eval"
        met[name] = cell["ratio"]["median"] >= target
    for name, found in result["share_of_peak"].items():
        met[f"{name}: {SHARE_TARGET:.0%} of peak"] = found["share"] >= SHARE_TARGET
    for name, found in result["invariance"].items():
        met[f"scores the same: {name}"] = not found["differences"]
    for name in result["failed"]:
        met[f"{name}: ran to its end"] = False
    return met


def headline(cells: Sequence[Cell]) -> dict[str, Any]:
    """Each question's ratio and tokens in a row, out of what the cells hold in full."""
    return {
        "ratios_to_lm_eval": {cell.title: summary(cell.ratios())["median"] for cell in cells},
        "tokens": {cell.title: cell.tokens() for cell in cells},
    }
