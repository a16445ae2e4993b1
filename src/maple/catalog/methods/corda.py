"""CorDA: LoRA whose factors begin in the directions of the weight that the data uses.

    W C = U S V^T,   C = mean of x x^T over calibration tokens,   B0 A0 = r terms of U S (V^T C^-1)

Source: Yang et al. 2024 (arXiv 2406.05223).
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field

from maple.catalog.contracts import AttachContext, ModelFamily, Quantizer
from maple.catalog.peft import calibration_batches, check_rank, needs_float_weights
from maple.catalog.residual import ResidualLora

if TYPE_CHECKING:
    import torch
    from torch import nn


class Corda(ResidualLora):
    """LoRA begun by a decomposition that weighs inputs as the training data does.

    ``ipm`` adapts the largest directions, ``kpm`` the smallest, to keep what the base knows.
    Source of defaults: ``peft`` (ipm); 256 calibration rows as in the paper.
    """

    mode: Literal["ipm", "kpm"] = "ipm"
    calibration_rows: Annotated[int, Field(gt=0)] = 256

    def conflict(self, quantizer: Quantizer, family: ModelFamily) -> str | None:
        """``peft`` decomposes the stored weight."""
        return needs_float_weights(quantizer, "corda decomposes the weight with its inputs")

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Measures the inputs of every target module, then wraps them.

        Raises:
            TrainingError: no module of the base has one of the target names, the rank does not suit
                one that has, or there is no data.
        """
        from peft import LoraConfig
        from peft.tuners.lora.config import CordaConfig
        from peft.tuners.lora.corda import preprocess_corda
        from torch.nn import Linear

        rows = itertools.islice(calibration_batches(context, "corda"), self.calibration_rows)
        targets = list(self.target_modules(context.family))
        for name, module in model.named_modules():
            if name.rpartition(".")[2] in targets and isinstance(module, Linear):
                check_rank(self.rank, module.weight, "corda")
        config = LoraConfig(
            r=self.rank,
            target_modules=targets,
            init_lora_weights="corda",
            corda_config=CordaConfig(corda_method=self.mode),
        )

        def run() -> None:
            for row in rows:
                model(**row)

        preprocess_corda(model, config, run_model=run)
        return super().attach(model, context)

    def initialise(self, layer: Any, weight: torch.Tensor) -> None:
        """Through ``peft``, which left the decomposition on the layer below."""
        layer.corda_init("default", "corda")
