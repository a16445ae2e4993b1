"""LoRA that begins inside the base's weights, with the base left as it is.

    peft:  W <- W - s B0 A0,  then  W x + s B A x        the base is changed, and not restored
    ours:  W x + s B A x - s B0 A0 x                     B0, A0: a frozen copy of how B, A began

The two are one function, so step 0 equals the base; trained, it is a plain LoRA of twice the rank,
[B, -B0] [A; A0], which is what is stored. A base shared by many runs cannot have its weights taken.
"""

from __future__ import annotations

import copy
from abc import abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maple.catalog.contracts import AttachContext
from maple.catalog.peft import LoraMethod, check_rank, sort_config

if TYPE_CHECKING:
    import torch
    from torch import nn

BEGINNING = "beginning"
"""The name of the frozen copy among ``peft``'s adapters."""


class ResidualLora(LoraMethod):
    """LoRA whose factors begin as a part of the weight they adapt."""

    @abstractmethod
    def initialise(self, layer: Any, weight: torch.Tensor) -> None:
        """Sets a ``peft`` layer's factors from its weight.

        Args:
            layer: ``peft``'s, over a layer that holds ``weight`` for as long as this lasts.
            weight: (out, in) float32, a copy; on a quantized base what its codes stand for.
        """

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Wraps the target modules, and keeps their beginning beside them.

        Raises:
            TrainingError: no module of the base has one of the target names.
        """
        import torch
        from peft.tuners.lora import LoraLayer

        wrapped: Any = super().attach(model, context)
        config = copy.deepcopy(wrapped.peft_config["default"])
        config.lora_dropout = 0.0
        wrapped.add_adapter(BEGINNING, config)
        for layer in (m for m in wrapped.modules() if isinstance(m, LoraLayer)):
            with torch.no_grad():
                self.begin(layer)
            layer.scaling[BEGINNING] = -layer.scaling["default"]
        wrapped.base_model.set_adapter(["default", BEGINNING])
        for name, parameter in wrapped.named_parameters():
            if f".{BEGINNING}." in name:
                parameter.requires_grad_(False)
        return wrapped  # type: ignore[no-any-return]

    def begin(self, layer: Any) -> None:
        """Sets the factors of both adapters of a ``peft`` layer; the layer below stays as it is.

        Raises:
            TrainingError: the rank does not suit the weight.
        """
        from torch import nn

        base = layer.get_base_layer()
        kept = base.weight
        weight = layer_weight(base)
        check_rank(self.rank, weight, self.entry_name())
        # peft's initialisers write into the weight; they get a copy for as long as they run.
        base.weight = nn.Parameter(weight, requires_grad=False)
        try:
            self.initialise(layer, weight)
        finally:
            base.weight = kept
        for factors in (layer.lora_A, layer.lora_B):
            trained = factors["default"].weight
            trained.data = trained.data.float().contiguous()
            factors[BEGINNING].weight.data = trained.data.clone()

    def trained_factors(self, wrapped: Any) -> dict[str, torch.Tensor]:
        """The A (r, in) and B (out, r) that were trained, by the names ``peft`` stores."""
        from peft import get_peft_model_state_dict

        found: dict[str, torch.Tensor] = get_peft_model_state_dict(wrapped, adapter_name="default")
        return found

    def save(self, model: nn.Module, directory: Path) -> None:
        """Writes the difference from the beginning as a LoRA of twice the rank."""
        import torch
        from peft import get_peft_model_state_dict
        from safetensors.torch import save_file

        wrapped: Any = model
        now = self.trained_factors(wrapped)
        then = get_peft_model_state_dict(wrapped, adapter_name=BEGINNING)
        tensors = {
            name: torch.cat((now[name], then[name]))
            if ".lora_A." in name
            else torch.cat((now[name], -then[name]), dim=1)
            for name in now
        }
        save_file(tensors, directory / "adapter_model.safetensors", metadata={"format": "pt"})
        config = copy.deepcopy(wrapped.peft_config["default"])
        config.r, config.inference_mode, config.init_lora_weights = 2 * self.rank, True, True
        config.lora_alpha = self.alpha * (2**0.5 if self.rslora else 2)
        config.base_model_name_or_path = wrapped.get_base_model().name_or_path
        config.save_pretrained(str(directory))
        sort_config(directory)


def layer_weight(layer: nn.Module) -> torch.Tensor:
    """A linear layer's weight (out, in) in float32: a copy, of whatever it is stored as.

    Read off the layer's answer to the identity, so that no quantizer need be known.
    """
    import torch

    weight: Any = layer.weight
    if weight.is_floating_point() and not hasattr(weight, "quant_state"):
        return weight.detach().float().clone()  # type: ignore[no-any-return]
    linear: Any = layer
    with torch.no_grad():
        probe = torch.eye(linear.in_features, device=weight.device)
        answer: torch.Tensor = linear(probe)
    bias = 0 if linear.bias is None else linear.bias
    return (answer - bias).float().T.contiguous()
