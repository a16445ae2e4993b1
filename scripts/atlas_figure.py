"""Draws what the shipped bases can do in each language: `python scripts/atlas_figure.py OUT.html`.

Reads the last probes of each base's curve.jsonl; docs/figures/atlas-bases.png is its picture.
"""

import json
import sys
from pathlib import Path

import plotly.graph_objects as go
from plotly.subplots import make_subplots

from maple.atlas import BASES, LANGUAGES, base_model_path
from maple.atlas.frames import SHORT_CODES, load_frames

MARKS = {"atlas-base": ("#2b6cb0", "circle"), "atlas-qwen": ("#c05621", "diamond")}


def main() -> None:
    """Writes the figure."""
    titles = ("bits per character of new text", "reading: exact answers, in percent")
    figure = make_subplots(rows=2, cols=1, subplot_titles=titles, vertical_spacing=0.2)
    codes = sorted(LANGUAGES, key=lambda code: -load_frames(code).resource_class)
    axis = [[f"class {load_frames(c).resource_class}" for c in codes]]
    axis.append([SHORT_CODES[code] for code in codes])
    for name in BASES:
        colour, symbol = MARKS[name]
        lines = (base_model_path(name) / "curve.jsonl").read_text("utf-8").splitlines()
        *rows, last = map(json.loads, lines)
        probe = [row["probe"] for row in rows if "probe" in row][-1]
        bits = [last["bits_per_character"][code] for code in codes]
        reading = [100 * probe[code]["reading"] for code in codes]
        for place, values in ((1, bits), (2, reading)):
            mark = go.Scatter(
                x=axis,
                y=values,
                name=name,
                mode="markers",
                marker={"color": colour, "symbol": symbol, "size": 8},
                showlegend=place == 1,
            )
            figure.add_trace(mark, row=place, col=1)
    legend = {"orientation": "h", "y": 1.12}
    figure.update_layout(width=1260, height=840, template="plotly_white", legend=legend)
    figure.write_html(Path(sys.argv[1]), include_plotlyjs=True)


if __name__ == "__main__":
    main()
