"""P-tuning: virtual tokens before the text, computed by a small trained network.

    v = W3 relu(W2 relu(W1 e)),   e (tokens, hidden) trained;   v alone is stored

Source: Liu et al. 2021 (arXiv 2103.10385); the network is ``peft``'s default, after NeMo's.
"""

from __future__ import annotations

from typing import Any

from maple.catalog.contracts import ModelFamily, Shape
from maple.catalog.peft import Positive
from maple.catalog.prompt import PromptMethod


class PTuning(PromptMethod):
    """Virtual tokens behind a network of three layers, which is dropped after training.

    Source of defaults: ``peft``, whose network is as wide as the model; ``width`` narrows it.
    """

    width: Positive = 128

    def config(self) -> Any:
        """A ``PromptEncoderConfig``."""
        from peft import PromptEncoderConfig

        return PromptEncoderConfig(
            num_virtual_tokens=self.tokens,
            encoder_hidden_size=self.width,
            task_type="CAUSAL_LM",
        )

    def trainable_parameters(self, shape: Shape, family: ModelFamily) -> int | None:
        """The vectors, and three layers with biases."""
        hidden, width = shape.hidden, self.width
        layers = (hidden + 1) * width + (width + 1) * width + (width + 1) * hidden
        return self.tokens * hidden + layers
