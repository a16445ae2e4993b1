"""Generic: the fallback for a decoder whose architecture has no file of its own."""

from __future__ import annotations

from collections.abc import Sequence

from maple.catalog.contracts import ModelFamily


class Generic(ModelFamily):
    """Llama-style module names are assumed; a method that finds none of them says so."""

    def chat(self, turns: Sequence[tuple[str, str]]) -> str:
        """Renders ``Role: text`` paragraphs, ending with ``Assistant:``."""
        lines = [f"{role.capitalize()}: {content}\n\n" for role, content in turns]
        return "".join(lines) + "Assistant:"
