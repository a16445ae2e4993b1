"""Texts that know which of their parts can be foreseen."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Document:
    """A document and its language.

    A random pairing cannot be foreseen, so most of a passage teaches nothing but its frames. The
    spans are what the text before them determines: answers, marks, repetitions.
    """

    language: str
    text: str
    spans: tuple[tuple[int, int], ...]
    """Half-open ranges of characters, in order and apart."""


class Page:
    """A text in the making that remembers which parts were to be foreseen."""

    def __init__(self, text: str = "") -> None:
        self.text = text
        self.spans: list[tuple[int, int]] = []

    def add(self, text: str, *, foreseen: bool = False) -> "Page":
        """Appends text. A line's end after a foreseen part is foreseen too: the answer stops."""
        start, end = len(self.text), len(self.text) + len(text)
        if foreseen and text:
            self.spans.append((start, end))
        elif text.startswith("\n") and self.spans and self.spans[-1][1] == start:
            self.spans[-1] = (self.spans[-1][0], start + 1)
        self.text += text
        return self

    def lay(self, layout: str, parts: Mapping[str, str], *, foreseen: str) -> None:
        """Appends a layout with its parts filled in; what follows the foreseen part is so too."""
        before, _, after = layout.partition(f"{{{foreseen}}}")
        self.add(_filled(before, parts))
        self.add(parts[foreseen] + _filled(after, parts), foreseen=True)


def _filled(layout: str, parts: Mapping[str, str]) -> str:
    for name, text in parts.items():
        layout = layout.replace(f"{{{name}}}", text)
    return layout
