"""Check of spans: does each answer stand in its passage, and where the file says it does."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from maple.certify.certificate import Check
from maple.certify.reading import EXAMPLES, PASSAGE, Reading, shown
from maple.files.read import read_parquet


class _Place(NamedTuple):
    id: str
    passage: str
    text: str
    start: int


def span_check(reading: Reading) -> Check:
    """Looks for every reference in its item's passage, and at its offset where one is known."""
    if reading.is_choice or PASSAGE not in reading.samples[0].fields:
        message = "Answers are not spans of a passage."
        return Check(name="spans", status="grey", figure="-", message=message)
    absent = [
        f"{sample.id}: {shown(text)}"
        for sample in reading.samples
        for text in sample.gold
        if text not in sample.fields[PASSAGE]
    ]
    places = list(_places(reading.paths))
    # A file may hold several languages, told by their ids.
    ids = {sample.id for sample in reading.samples}
    places = [place for place in places if place.id in ids] or places
    moved = [
        f"{shown(place.text)} at {place.start}"
        for place in places
        if place.passage[place.start : place.start + len(place.text)] != place.text
    ]
    parts = [f"Answers that do not occur in their passage: {len(absent):,}"] if absent else []
    if moved:
        parts += [f"Answers not at their answer_start: {len(moved):,} of {len(places):,}"]
    found = "Every answer occurs in its passage"
    found += ", where answer_start says." if places else "; the files give no offsets."
    return Check(
        name="spans",
        status="yellow" if parts else "green",
        figure=f"{max(len(absent), len(moved)):,} off" if parts else "found",
        message=f"{'. '.join(parts)}." if parts else found,
        examples=(*absent[:EXAMPLES], *moved[:EXAMPLES]),
    )


def _places(paths: Iterable[Path]) -> Iterator[_Place]:
    """Every answer with an offset, in SQuAD's JSON or Parquet; nothing of any other layout."""
    for path in paths:
        if path.suffix == ".parquet":
            for _, row in read_parquet(path):
                yield from _of_row(row)
        elif path.suffix == ".json":
            yield from _of_json(json.loads(path.read_text(encoding="utf-8")))


def _of_row(row: Any) -> Iterator[_Place]:
    answers = row.get("answers") or {}
    if isinstance(answers, dict) and answers.get("answer_start") is not None:
        for text, start in zip(answers["text"], answers["answer_start"], strict=True):
            yield _Place(str(row.get("id")), row[PASSAGE], text, int(start))


def _of_json(content: Any) -> Iterator[_Place]:
    articles = content.get("data") if isinstance(content, dict) else None
    for article in articles if isinstance(articles, list) else ():
        for paragraph in article.get("paragraphs", ()):
            for question in paragraph.get("qas", ()):
                for answer in question.get("answers", ()):
                    start = answer.get("answer_start")
                    if isinstance(start, int):
                        text = answer.get("text", "")
                        yield _Place(str(question.get("id")), paragraph[PASSAGE], text, start)
