"""EVA: LoRA whose A begins as the principal directions of each layer's inputs on the data.

    A0 = the first r right singular vectors of X (tokens, in);   B begins at zero

Source: Paischer et al. 2024 (arXiv 2410.07170).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from maple.catalog.contracts import AttachContext, ModelFamily, Shape
from maple.catalog.peft import LoraMethod, calibration_batches
from maple.errors import TrainingError

if TYPE_CHECKING:
    import torch
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
            TrainingError: no module of the base has one of the target names, or a layer has fewer
                inputs, or the data fewer tokens, than there are directions to find.
        """
        from peft.tuners.lora import LoraLayer
        from peft.tuners.lora.eva import initialize_lora_eva_weights

        rows = itertools.islice(calibration_batches(context, "eva"), self.calibration_rows)
        directions = round(self.rank * self.rho)
        joined = _joined(rows, directions)
        wrapped = super().attach(model, context)
        for layer in wrapped.modules():
            if isinstance(layer, LoraLayer) and directions > int(layer.in_features or 0):
                raise TrainingError(
                    f"eva finds {directions} directions in the inputs of each layer, and one has "
                    f"{layer.in_features} inputs. Set rank (or rho) lower, or name other targets."
                )
        initialize_lora_eva_weights(wrapped, joined, show_progress_bar=False)
        return wrapped


def _joined(
    rows: Iterable[Mapping[str, torch.Tensor]], fewest: int
) -> list[Mapping[str, torch.Tensor]]:
    """Packed rows end to end, so that each has so many tokens: on fewer peft never ends.

    Raises:
        TrainingError: all of them together have fewer.
    """
    import torch

    joined: list[Mapping[str, torch.Tensor]] = []
    for row in rows:
        if joined and joined[-1]["input_ids"].shape[1] < fewest:
            last = joined.pop()
            row = {key: torch.cat((last[key], row[key]), dim=1) for key in row}
        joined.append(row)
    if len(joined) > 1 and joined[-1]["input_ids"].shape[1] < fewest:
        joined.pop()
    found = joined[-1]["input_ids"].shape[1] if joined else 0
    if found < fewest:
        raise TrainingError(
            f"eva finds {fewest} directions in the inputs of each layer, and there are {found} "
            "tokens to find them in. Set rank (or rho) lower, or calibration_rows higher."
        )
    return joined
