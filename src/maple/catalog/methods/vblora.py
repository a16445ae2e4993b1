"""VB-LoRA: LoRA's factors are cut into vectors, each a mixture of k from one shared, trained bank.

    a = sum over the top k of softmax(logits) of bank vectors;   A and B are made of such a

Source: Li et al. 2024 (arXiv 2405.15179).
"""

from __future__ import annotations

from typing import Any, ClassVar

from maple.catalog.contracts import AttachContext, ModelFamily, Shape
from maple.catalog.peft import Dropout, PeftMethod, Positive


class Vblora(PeftMethod):
    """Low-rank factors composed from a bank of vectors that all layers share.

    ``vector_length`` divides the widths of every adapted layer. Source of defaults: ``peft``.
    """

    step_0: ClassVar[str | None] = (
        "A and B are both mixtures of one bank, so neither can begin at zero alone"
    )

    rank: Positive = 4
    vectors: Positive = 256
    vector_length: Positive = 256
    top_k: Positive = 2
    dropout: Dropout = 0.0

    def config(self, targets: list[str], context: AttachContext) -> Any:
        """A ``VBLoRAConfig``."""
        from peft import VBLoRAConfig

        return VBLoRAConfig(
            r=self.rank,
            num_vectors=self.vectors,
            vector_length=self.vector_length,
            topk=self.top_k,
            vblora_dropout=self.dropout,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """A logit for every vector of the bank, for every piece of A and of B."""
        return self.rank * (inputs + outputs) // self.vector_length * self.vectors

    def trainable_parameters(self, shape: Shape, family: ModelFamily) -> int | None:
        """The layers' logits, and the bank once."""
        logits = super().trainable_parameters(shape, family)
        return None if logits is None else logits + self.vectors * self.vector_length
