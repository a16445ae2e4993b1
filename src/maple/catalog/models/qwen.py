"""Qwen: Qwen2, Qwen2.5 and Qwen3 dense models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from maple.catalog.contracts import ModelFamily, Shape


class Qwen(ModelFamily):
    """Llama-like blocks with biased (Qwen2) or normalised (Qwen3) queries and keys."""

    model_types: ClassVar[tuple[str, ...]] = ("qwen2", "qwen3")
    known_shapes: ClassVar[Mapping[str, Shape]] = {
        # Source: config.json of the checkpoints.
        "Qwen/Qwen2.5-0.5B": Shape(
            hidden=896, layers=24, heads=14, key_value_heads=2, intermediate=4864,
            vocabulary=151936, tied_head=True,
        ),
        "Qwen/Qwen3-0.6B-Base": Shape(
            hidden=1024, layers=28, heads=16, key_value_heads=8, intermediate=3072,
            vocabulary=151936, head_dim=128, tied_head=True,
        ),
    }  # fmt: skip

    def chat(self, turns: Sequence[tuple[str, str]]) -> str:
        """Renders ChatML. Source: Qwen's tokenizer configuration."""
        text = "".join(f"<|im_start|>{role}\n{content}<|im_end|>\n" for role, content in turns)
        return text + "<|im_start|>assistant\n"
