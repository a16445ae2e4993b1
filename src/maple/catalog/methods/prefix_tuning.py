"""Prefix tuning: trained keys and values stand before the text in every layer's attention.

Source: Li and Liang 2021 (arXiv 2101.00190).
"""

from __future__ import annotations

from typing import Any

from maple.catalog.contracts import ModelFamily, Shape
from maple.catalog.prompt import PromptMethod


class PrefixTuning(PromptMethod):
    """Virtual keys and values, trained directly; the paper's network before them is left out.

    Source of defaults: ``peft``, which has no network unless asked.
    """

    def config(self) -> Any:
        """A ``PrefixTuningConfig``."""
        from peft import PrefixTuningConfig

        return PrefixTuningConfig(num_virtual_tokens=self.tokens, task_type="CAUSAL_LM")

    def trainable_parameters(self, shape: Shape, family: ModelFamily) -> int | None:
        """A key and a value a token, head and layer."""
        head = shape.head_dim or shape.hidden // shape.heads
        return self.tokens * shape.layers * 2 * shape.key_value_heads * head
