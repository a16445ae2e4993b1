"""trainable-tokens: the embeddings of a few tokens alone are trained.

For tokens that the base hardly knows: a chat format's marks, a script it has rarely seen.
Source: ``peft`` 0.21; where the head is tied, the same rows of it are trained with them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from pydantic import Field

from maple.catalog.contracts import AttachContext, Method, ModelFamily, Shape
from maple.catalog.peft import wrap

if TYPE_CHECKING:
    from torch import nn


class TrainableTokens(Method):
    """Trained rows of the embedding, which begin as they were.

    Source of the default: unknown, begin and end of text are ids 0 to 2 in LLaMA and Mistral.
    """

    tokens: Annotated[tuple[Annotated[int, Field(ge=0)], ...], Field(min_length=1)] = (0, 1, 2)
    target: str = "embed_tokens"

    def trainable_parameters(self, shape: Shape, family: ModelFamily) -> int | None:
        """A row a token."""
        return len(self.tokens) * shape.hidden

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Wraps the embedding.

        Raises:
            TrainingError: no module of the base has the target's name.
        """
        from peft import TrainableTokensConfig

        config = TrainableTokensConfig(
            token_indices=list(self.tokens), target_modules=[self.target], task_type="CAUSAL_LM"
        )
        return wrap(model, config, "trainable-tokens")
