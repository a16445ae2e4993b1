"""Small files in XCOPA's and XQuAD's formats that nothing is wrong with."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maple.files import Files

Row = dict[str, Any]

# Who, where and what; every item names two places and two things.
_WORDS = {
    "sw": (
        "Mwalimu wa shule ya kijiji cha {} aliwaambia wanafunzi wake habari za safari ndefu.",
        "Watoto wote walifurahi sana kusikia habari za mto wa {}.",
        "Wazazi walikasirika kwa sababu ya mvua ya {}.",
    ),
    "en": (
        "The teacher of the village school of {} told the pupils about the long journey.",
        "All of the children were very happy to hear about the river of {}.",
        "The parents were angry because of the rain of {}.",
    ),
    "it": (
        "Il maestro della scuola del paese di {} ha raccontato agli alunni il lungo viaggio.",
        "Tutti i bambini erano molto felici di sentire parlare del fiume di {}.",
        "I genitori erano arrabbiati per colpa della pioggia di {}.",
    ),
}
N_ROWS = 100
"""What XCOPA declares of its validation split."""


def copa_rows(language: str) -> list[Row]:
    """Rows of the validation split, half of each label."""
    premise, right, wrong = _WORDS[language]
    return [
        {
            "premise": premise.format(_name(n)),
            "choice1": (right, wrong)[n % 2].format(_name(n + 7)),
            "choice2": (wrong, right)[n % 2].format(_name(n + 7)),
            "question": ("cause", "effect")[n // 2 % 2],
            "label": n % 2,
            "idx": n,
            "changed": False,
        }
        for n in range(N_ROWS)
    ]


def _name(n: int) -> str:
    syllables = ("ba", "ke", "li", "mo", "nu", "pa", "re", "si", "to", "wu", "ya", "ze")
    return (syllables[n % 12] + syllables[n // 12 % 12] + syllables[(n * 5) % 12]).capitalize()


def write_copa(root: Path, language: str, rows: list[Row] | str | bytes) -> Path:
    path = root / "xcopa" / "data" / language / f"val.{language}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    if isinstance(rows, list):
        rows = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    path.write_bytes(rows.encode() if isinstance(rows, str) else rows)
    return path


@pytest.fixture
def copa(tmp_path: Path) -> Files:
    """Three whole parallel languages."""
    for language in _WORDS:
        write_copa(tmp_path, language, copa_rows(language))
    return Files(directory=tmp_path)


def squad(
    contexts: list[tuple[str, list[tuple[str, str, int]]]],
) -> dict[str, Any]:
    """SQuAD's layout of (passage, [(question, answer, start)])."""
    paragraphs = [
        {
            "context": passage,
            "qas": [
                {
                    "id": f"p{p}q{q}",
                    "question": question,
                    "answers": [{"text": text, "answer_start": start}],
                }
                for q, (question, text, start) in enumerate(asked)
            ],
        }
        for p, (passage, asked) in enumerate(contexts)
    ]
    return {"version": "1.1", "data": [{"title": "t", "paragraphs": paragraphs}]}


@pytest.fixture
def write_squad(tmp_path: Path) -> Callable[..., Files]:
    """Writes ``xquad/xquad.en.json``."""

    def _write(contexts: list[tuple[str, list[tuple[str, str, int]]]]) -> Files:
        path = tmp_path / "xquad" / "xquad.en.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(squad(contexts), ensure_ascii=False), encoding="utf-8")
        return Files(directory=tmp_path)

    return _write
