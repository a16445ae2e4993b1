"""Mistral: the 7B models and their successors with grouped-query attention."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from maple.catalog.contracts import ModelFamily, Shape


class Mistral(ModelFamily):
    """Llama-like blocks with grouped-query (and, in v0.1, sliding-window) attention."""

    model_types: ClassVar[tuple[str, ...]] = ("mistral", "mixtral")
    known_shapes: ClassVar[Mapping[str, Shape]] = {
        name: Shape(
            hidden=4096, layers=32, heads=32, key_value_heads=8, intermediate=14336,
            vocabulary=32000,
        )
        for name in (
            "mistralai/Mistral-7B-v0.1",
            "mistralai/Mistral-7B-Instruct-v0.1",
            "mistralai/Mistral-7B-Instruct-v0.2",
        )
    }  # fmt: skip

    def chat(self, turns: Sequence[tuple[str, str]]) -> str:
        """Renders ``[INST] ... [/INST]``; a system turn is put before the first user's text.

        Source: Mistral-7B-Instruct model card.
        """
        text, system = "", ""
        for role, content in turns:
            if role == "system":
                system = f"{content}\n\n"
            elif role == "user":
                text += f"[INST] {system}{content} [/INST]"
                system = ""
            else:
                text += f" {content}</s>"
        return text
