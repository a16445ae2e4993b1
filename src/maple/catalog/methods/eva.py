"""EVA: LoRA whose A begins as the principal directions of each layer's inputs on the data.

    A0 = the first r right singular vectors of X (tokens, in);   B begins at zero

Source: Paischer et al. 2024 (arXiv 2410.07170).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from maple.catalog.contracts import AttachContext, ModelFamily, Shape
from maple.catalog.peft import LoraMethod, calibration_batches

if TYPE_CHECKING:
    from torch import nn


class Eva(LoraMethod):
    """LoRA begun in the directions that explain most of the inputs' variance.

    With ``rho`` above 1 (``peft``: 2) layers trade ranks, and the number of trained parameters is
    known only afterwards. Source of the other defaults: the entry ``lora``.
    """

    rho: Annotated[float, Field(ge=1)] = 1.0
    calibration_rows: Annotated[int, Field(gt=0)] = 64

    def extra_config(self) -> dict[str, Any]:
        """Asks for zeros in B until the data has been seen."""
        from peft import EvaConfig

        return {"init_lora_weights": "eva", "eva_config": EvaConfig(rho=self.rho)}

    def trainable_parameters(self, shape: Shape, family: ModelFamily) -> int | None:
        """LoRA's, where no layer trades ranks."""
        return super().trainable_parameters(shape, family) if self.rho == 1 else None

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Wraps the target modules, then passes data through them until A has settled.

        Raises:
            TrainingError: no module of the base has one of the target names, or there is no data.
        """
        from peft.tuners.lora.eva import initialize_lora_eva_weights

        rows = itertools.islice(calibration_batches(context, "eva"), self.calibration_rows)
        wrapped = super().attach(model, context)
        initialize_lora_eva_weights(wrapped, list(rows), show_progress_bar=False)
        return wrapped
