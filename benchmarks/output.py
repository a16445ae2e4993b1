"""What the benchmark commands share: progress, and the result as it is printed and kept."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"


def compact(result: dict[str, Any]) -> dict[str, Any]:
    """The result without each process's own numbers, which ``--save`` keeps."""
    cells = [{k: v for k, v in cell.items() if k != "outcomes"} for cell in result["cells"]]
    return result | {"cells": cells}


def save(result: dict[str, Any], name: str) -> None:
    """Keeps the result as ``results/NAME.json`` beside the commands."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


def say(text: str) -> None:
    """Progress goes to standard error: standard output is the table and the JSON."""
    print(text, file=sys.stderr, flush=True)
