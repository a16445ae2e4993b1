"""Llama: the LLaMA-2 and LLaMA-3 models and everything that shares their blocks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from maple.catalog.contracts import ModelFamily, Shape


class Llama(ModelFamily):
    """Llama blocks: separate q, k, v, o projections and a gated MLP."""

    model_types: ClassVar[tuple[str, ...]] = ("llama",)
    known_shapes: ClassVar[Mapping[str, Shape]] = {
        # Source: config.json of the checkpoints; parameter totals checked in tests on meta.
        "meta-llama/Llama-2-7b-hf": Shape(
            hidden=4096, layers=32, heads=32, key_value_heads=32, intermediate=11008,
            vocabulary=32000,
        ),
        "meta-llama/Llama-2-13b-hf": Shape(
            hidden=5120, layers=40, heads=40, key_value_heads=40, intermediate=13824,
            vocabulary=32000,
        ),
        "meta-llama/Llama-3.2-1B": Shape(
            hidden=2048, layers=16, heads=32, key_value_heads=8, intermediate=8192,
            vocabulary=128256, head_dim=64, tied_head=True,
        ),
    }  # fmt: skip

    def chat(self, turns: Sequence[tuple[str, str]]) -> str:
        """Renders LLaMA-2's ``[INST]`` format; a system turn is folded into the first user's.

        Source: the LLaMA-2 release's generation code.
        """
        text, system = "", ""
        for role, content in turns:
            if role == "system":
                system = f"<<SYS>>\n{content}\n<</SYS>>\n\n"
            elif role == "user":
                text += f"[INST] {system}{content} [/INST]"
                system = ""
            else:
                text += f" {content} "
        return text
