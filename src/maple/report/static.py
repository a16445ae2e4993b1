"""Figures as files for a paper: ``figures/*.svg`` and ``*.pdf``, drawn without a browser.

The same specifications that the page gives to plotly are drawn by matplotlib: marks, lines, bars.
Kaleido, plotly's own exporter, starts a Chromium, which a compute node seldom has.
"""

from __future__ import annotations

import io
import math
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from maple.report.figures import Figure
from maple.report.files import write_bytes

FORMATS = ("svg", "pdf")
COLOURS = {
    "ink": "#1d232b",
    "muted": "#59636f",
    "series-1": "#2a69b0",
    "series-2": "#c4562f",
    "series-3": "#2f8a57",
    "series-4": "#8457b3",
    "series-5": "#a97a10",
    "series-6": "#5d6773",
}
"""The page's light scheme."""
_MARKS = {"circle": "o", "square": "s", "diamond": "D", "triangle-up": "^", "cross": "P", "x": "X"}
_DASHES = {"solid": "-", "dash": "--", "dot": ":", "dashdot": "-."}
MOST_NAMES = 12
"""Entries that a legend has at most."""
LEGEND_COLUMNS = 4
WIDTH = 7.2
"""Of a drawing, in inches: two columns of a paper."""
LETTER = 0.072
"""Inches that a letter takes, about."""
NAME_CHARACTERS = 40
"""In a line of a run's name."""
_INCH = 96
"""Pixels of the page per inch."""


def can_draw() -> bool:
    """Whether matplotlib is installed."""
    from importlib.util import find_spec

    return find_spec("matplotlib") is not None


def write_figures(figures: Sequence[Figure], directory: Path) -> list[Path]:
    """Writes every figure as SVG and PDF; panels of one task stand in one row of a figure.

    Args:
        figures: those of the page.
        directory: ``<store>/figures``.

    Returns:
        The paths; none where matplotlib is not installed.

    Raises:
        StoreError: the directory cannot be written.
    """
    if not can_draw():
        return []
    paths = []
    for name, group in _together(figures).items():
        for kind, content in _draw(group).items():
            path = directory / f"{name}.{kind}"
            write_bytes(path, content)
            paths.append(path)
    return paths


def _together(figures: Sequence[Figure]) -> dict[str, list[Figure]]:
    groups: dict[str, list[Figure]] = {}
    for figure in figures:
        name = figure.id
        if figure.factor:
            name = f"{figure.factor}-{file_name(figure.task)}"
        elif figure.id.startswith("pareto-"):
            name = "pareto"
        groups.setdefault(name, []).append(figure)
    return groups


def file_name(text: str) -> str:
    """Returns a task's label as a part of a file name, in ASCII letters and digits."""
    kept = "".join(c if c.isascii() and (c.isalnum() or c in "_.") else "-" for c in text)
    return kept.strip("-.")[:80] or "task"


def _draw(group: Sequence[Figure]) -> dict[str, bytes]:
    """One drawing in every format, the same bytes on every day."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure as Drawing

    # A task or run may hold a dollar sign, which matplotlib would read as a formula. A minus sign
    # beyond Latin-1 would have every PDF carry a second font, which takes longer than to draw it.
    style: Any = {
        "svg.hashsalt": "maple", "svg.fonttype": "none", "pdf.fonttype": 42, "font.size": 9,
        "axes.unicode_minus": False, "axes.spines.top": False, "axes.spines.right": False,
        "text.parse_math": False,
    }  # fmt: skip
    grid = _Grid.of(group)
    with rc_context(style), warnings.catch_warnings():
        # Scripts that the font lacks show as boxes; the page and the tables have them.
        warnings.simplefilter("ignore", UserWarning)
        drawing = Drawing(figsize=(grid.width, grid.height))
        for place, figure in enumerate(group):
            axes = drawing.add_axes(grid.box(place))
            _fill(axes, figure)
            drawing.text(*grid.corner(place), figure.title, va="top")
            if figure.factor and place % grid.columns:
                axes.tick_params(labelleft=False)
        _legend(drawing, group)
        made = {}
        for kind in FORMATS:
            stream = io.BytesIO()
            dates = {"Date": None} if kind == "svg" else {"CreationDate": None}
            drawing.savefig(stream, format=kind, metadata=dates)
            made[kind] = stream.getvalue()
    return made


@dataclass(frozen=True, kw_only=True)
class _Grid:
    """Where panels stand, in inches: matplotlib's own layouts draw everything twice to find out."""

    columns: int
    width: float
    height: float
    cell_height: float
    left: float
    """Of each cell, for the texts beside its vertical axis."""
    top: float
    """Above all cells, for the legend."""

    @classmethod
    def of(cls, group: Sequence[Figure]) -> _Grid:
        columns = min(len(group), 3)
        rows = math.ceil(len(group) / columns)
        texts = [_wrapped(text) for f in group for text in f.layout["yaxis"].get("ticktext") or ()]
        longest = max((len(line) for text in texts for line in text.split("\n")), default=5)
        has_label = any("title" in f.layout["yaxis"] for f in group)
        cell_height = 2.3 if len(group) > 1 else _height(group[0])
        names = _names(group)
        top = 0.2 * math.ceil(len(names) / LEGEND_COLUMNS) + 0.1 if names else 0.0
        return cls(
            columns=columns,
            width=WIDTH,
            height=rows * cell_height + top,
            cell_height=cell_height,
            left=0.15 + LETTER * longest + (0.2 if has_label else 0),
            top=top,
        )

    def box(self, place: int) -> tuple[float, float, float, float]:
        """Left, bottom, width and height of a panel's axes, as shares of the drawing."""
        row, column = divmod(place, self.columns)
        cell = self.width / self.columns
        bottom = self.height - self.top - (row + 1) * self.cell_height + 0.48
        inner = self.cell_height - 0.48 - 0.3
        return (
            (column * cell + self.left) / self.width,
            bottom / self.height,
            (cell - self.left - 0.12) / self.width,
            inner / self.height,
        )

    def corner(self, place: int) -> tuple[float, float]:
        """Where a panel's title begins."""
        row, column = divmod(place, self.columns)
        return (
            column / self.columns + 0.05 / self.width,
            1 - (self.top + row * self.cell_height + 0.05) / self.height,
        )


def _height(figure: Figure) -> float:
    return min(max(figure.height / _INCH, 2.2), 18.0)


def _wrapped(text: str) -> str:
    """A run's name in lines that leave room for the figure."""
    return "\n".join(textwrap.wrap(text, NAME_CHARACTERS)) or text


def _names(group: Sequence[Figure]) -> list[str]:
    """What a legend would say; nothing where it would be longer than the figure."""
    if len(group) == 1 and not group[0].layout.get("showlegend"):
        return []
    shown = [t for f in group for t in _chosen(f.data) if t.get("showlegend", True)]
    names = list(dict.fromkeys(str(t.get("name", "")) for t in shown))
    return names if 1 < len(names) <= MOST_NAMES else []


def _legend(drawing: Any, group: Sequence[Figure]) -> None:
    """One legend for all panels, above them."""
    found: dict[str, Any] = {}
    for axes in drawing.axes:
        for handle, label in zip(*axes.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    names = [name for name in _names(group) if name in found]
    if names:
        place = {"loc": "upper center", "ncols": LEGEND_COLUMNS, "fontsize": 8, "frameon": False}
        drawing.legend([found[name] for name in names], names, borderaxespad=0.1, **place)


def _fill(axes: Any, figure: Figure) -> None:
    for trace in _chosen(figure.data):
        _trace(axes, trace)
    for axis in ("x", "y"):
        _axis(axes, axis, figure.layout.get(f"{axis}axis") or {})
    quantity = next((str(t["quantity"]) for t in _chosen(figure.data) if "quantity" in t), "")
    if limits := (figure.layout.get("ranges") or {}).get(quantity):
        axes.set_ylim(*limits)


def _chosen(traces: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Of a panel that the page shows one choice at a time: its most frequent series, as changes."""
    series = [str(t["series"]) for t in traces if t.get("series")]
    if not series:
        return list(traces)
    most = max(dict.fromkeys(series), key=series.count)
    here = [t for t in traces if t.get("series") == most]
    changes = [t for t in here if t.get("quantity") == "delta"]
    return changes or here


def _trace(axes: Any, trace: Mapping[str, Any]) -> None:
    line, marker = trace.get("line") or {}, trace.get("marker") or {}
    mode = str(trace.get("mode", ""))
    colour = _colour(line.get("color") or marker.get("color"))
    symbols = marker.get("symbol", "circle")
    symbol = symbols if isinstance(symbols, str) else symbols[0] if symbols else "circle"
    is_hollow = symbol.endswith("-open")
    axes.errorbar(
        trace["x"],
        [math.nan if y is None else y for y in trace["y"]],
        xerr=_bars(trace.get("error_x")),
        yerr=_bars(trace.get("error_y")),
        color=colour,
        linestyle=_DASHES.get(str(line.get("dash", "solid")), "-") if "lines" in mode else "none",
        linewidth=1.2,
        elinewidth=1,
        marker=_MARKS.get(symbol.removesuffix("-open"), "o") if "markers" in mode else None,
        markersize=4.5,
        markerfacecolor="white" if is_hollow else colour,
        drawstyle="steps-post" if line.get("shape") == "hv" else "default",
        label=str(trace.get("name", "")) if trace.get("showlegend", True) else "_",
    )


def _bars(error: Mapping[str, Any] | None) -> list[list[float]] | None:
    if not error:
        return None
    # A limit may lie a rounding error inside its value; matplotlib takes no bar below zero.
    return [[max(0.0, v) for v in error[key]] for key in ("arrayminus", "array")]


def _colour(named: Any) -> str:
    return COLOURS.get(str(named or "").removeprefix("var:"), COLOURS["ink"])


def _axis(axes: Any, which: str, given: Mapping[str, Any]) -> None:
    setter = {"x": "set_x", "y": "set_y"}[which]

    def put(name: str, *values: Any, **options: Any) -> None:
        getattr(axes, f"{setter}{name}")(*values, **options)

    if given.get("type") == "log":
        put("scale", "log")
    if title := (given.get("title") or {}).get("text"):
        put("label", title)
    if given.get("tickvals") is not None:
        put("ticks", given["tickvals"], labels=[_wrapped(t) for t in given.get("ticktext") or ()])
        put("ticks", [], minor=True)
    if given.get("zeroline") or which == "y":
        line = axes.axvline if which == "x" else axes.axhline
        low, high = axes.get_xlim() if which == "x" else axes.get_ylim()
        if given.get("zeroline", True) and low <= 0 <= high:
            line(0, color=COLOURS["muted"], linewidth=0.8, zorder=0)
    if limits := given.get("range"):
        is_log = given.get("type") == "log"
        put("lim", *(10**v if is_log else v for v in limits))
