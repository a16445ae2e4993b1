"""Gemma: Gemma 1, 2 and 3 text models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from maple.catalog.contracts import ModelFamily, Shape


class Gemma(ModelFamily):
    """Gated-GELU blocks with a tied head; Gemma 2 caps its logits."""

    model_types: ClassVar[tuple[str, ...]] = ("gemma", "gemma2", "gemma3_text", "gemma3")
    known_shapes: ClassVar[Mapping[str, Shape]] = {
        # Source: config.json of the checkpoint.
        "google/gemma-2-2b": Shape(
            hidden=2304, layers=26, heads=8, key_value_heads=4, intermediate=9216,
            vocabulary=256000, head_dim=256, tied_head=True,
        ),
    }  # fmt: skip

    def chat(self, turns: Sequence[tuple[str, str]]) -> str:
        """Renders ``<start_of_turn>`` blocks; Gemma has no system role, so it joins the user's.

        Source: Gemma model card.
        """
        text, system = "", ""
        for role, content in turns:
            if role == "system":
                system = f"{content}\n\n"
                continue
            name = "model" if role == "assistant" else role
            text += f"<start_of_turn>{name}\n{system if role == 'user' else ''}{content}"
            text += "<end_of_turn>\n"
            system = ""
        return text + "<start_of_turn>model\n"
