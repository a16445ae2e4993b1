"""Prompt tuning: a few trained vectors stand before the text, as if they were tokens.

Source: Lester et al. 2021 (arXiv 2104.08691).
"""

from __future__ import annotations

from typing import Any, Literal

from maple.catalog.contracts import ModelFamily, Shape
from maple.catalog.prompt import PromptMethod


class PromptTuning(PromptMethod):
    """Virtual tokens in the embedding space.

    Source of defaults: 20 and 100 tokens are the paper's plateau, beginning from words of the
    vocabulary better than from noise (figure 3).
    """

    initial: Literal["vocabulary", "random"] = "vocabulary"

    def config(self) -> Any:
        """A ``PromptTuningConfig``."""
        from peft import PromptTuningConfig

        return PromptTuningConfig(
            num_virtual_tokens=self.tokens,
            prompt_tuning_init="SAMPLE_VOCAB" if self.initial == "vocabulary" else "RANDOM",
            task_type="CAUSAL_LM",
        )

    def trainable_parameters(self, shape: Shape, family: ModelFamily) -> int | None:
        """A vector a token."""
        return self.tokens * shape.hidden
