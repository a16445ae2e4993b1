r"""Tables for a paper: ``tables/*.tex``, each a ``tabular`` with booktabs rules to ``\input``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maple.analysis.summary import Summary
from maple.report import grids, sections
from maple.report.files import write_text
from maple.report.static import file_name
from maple.report.wording import limits, points, score_limits, signed

MOST_COLUMNS = 12
"""Runs that a table of scores has as columns; studies with more have the CSV files."""
_ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_",
    "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "\N{MINUS SIGN}": "$-$", "\N{EN DASH}": "--",
    "\N{MIDDLE DOT}": r"\textperiodcentered{}", "\n": " ", "\r": " ",
}  # fmt: skip
Rows = Sequence[Sequence[str]]


def escape(text: str) -> str:
    """Returns a text that LaTeX prints as it is, whatever a study or a model wrote in it."""
    return "".join(_ESCAPES.get(character, character) for character in text)


def tabular(columns: Sequence[str], rows: Rows, note: str) -> str:
    r"""Returns a ``tabular``: the first column to the left, the others to the right.

    Args:
        columns: headings.
        rows: as many cells as there are columns.
        note: a comment above the table that says what it holds.
    """
    lines = [" & ".join(escape(cell) for cell in row) + r" \\" for row in rows]
    head = " & ".join(escape(name) for name in columns) + r" \\"
    comment = "% " + " ".join(note.split())
    begin = r"\begin{tabular}{@{}l" + "r" * (len(columns) - 1) + r"@{}}"
    return "\n".join(
        [
            comment,
            begin,
            r"\toprule",
            head,
            r"\midrule",
            *lines,
            r"\bottomrule",
            r"\end{tabular}",
            "",
        ]
    )


def write_latex(summary: Summary, directory: Path) -> list[Path]:
    """Writes the tables of a paper into ``directory`` and returns their paths.

    Raises:
        StoreError: the directory cannot be written.
    """
    made = {"effects": _effects(summary), "costs": _costs(summary), **_by_task(summary)}
    paths = []
    for name, text in made.items():
        if text:
            path = directory / f"{name}.tex"
            write_text(path, text)
            paths.append(path)
    return paths


def _effects(summary: Summary) -> str:
    table = sections.effects_table(summary)
    rows = [
        [row["name"], *(_effect(cell) for cell in row["cells"])]
        for row in (
            *table["rows"],
            *({**r, "name": f"{r['name']}, {r['task']}"} for r in table["by_task"]),
        )
    ]
    note = "Points, 95% intervals; * told from zero (Holm). \\usepackage{booktabs}"
    return tabular(["Factor", *table["groups"]], rows, note) if rows else ""


def _effect(cell: dict[str, Any] | None) -> str:
    return f"{cell['value']}{'*' if cell['is_told'] else ''} {cell['limits']}" if cell else "–"


def _costs(summary: Summary) -> str:
    keys = ("run", "trainable", "adapter", "tokens", "train", "memory")
    names = ("Run", "Trainable", "Adapter", "Tokens", "Training", "Peak memory")
    rows = [[row[key] for key in keys] for row in sections.cost_table(summary)]
    return tabular(names, rows, "What each run cost.") if rows else ""


def _by_task(summary: Summary) -> dict[str, str]:
    made = {}
    for table in grids.class_tables(summary):
        columns = ["Run", *(f"{g['name']} ({g['n']})" for g in table["groups"])]
        rows = [[r["run"], *(_mean(cell) for cell in r["cells"])] for r in table["rows"]]
        note = (
            f"{table['task']}: mean score in points [95% interval] (runs that share a letter are "
            "tied, Holm); change from the base"
        )
        made[f"means-{file_name(table['task'])}"] = tabular(columns, rows, note)
    for table in grids.score_tables(summary):
        if len(table["runs"]) <= MOST_COLUMNS:
            rows = [[r["name"], *(_score(cell) for cell in r["cells"])] for r in table["rows"]]
            note = f"{table['task']}: mean {table['metric']} in points [95% interval]"
            name = f"scores-{file_name(table['task'])}"
            made[name] = tabular(["Language", *table["runs"]], rows, note)
    return made


def _score(score: Any) -> str:
    return f"{points(score.score)} {score_limits(score.low, score.high)}" if score else "–"


def _mean(cell: dict[str, Any]) -> str:
    delta = cell["delta"]
    change = f"; {signed(delta.delta)} {limits(delta.low, delta.high)}" if delta else ""
    letters = f" ({cell['letters']})" if cell["letters"] else ""
    return f"{_score(cell['mean'])}{letters}{change}"
