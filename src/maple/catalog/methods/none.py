"""none: the untouched base, an ordinary cell of every study."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from maple.catalog.contracts import AttachContext, Method, ModelFamily, Shape

if TYPE_CHECKING:
    from torch import nn


class NoMethod(Method):
    """No fine-tuning: what every delta is taken against."""

    def trainable_parameters(self, shape: Shape, family: ModelFamily) -> int | None:
        """Nothing is trained."""
        return 0

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Returns the base as it is."""
        return model

    def save(self, model: nn.Module, directory: Path) -> None:
        """There is nothing to save."""

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        """Returns the base as it is."""
        return model
