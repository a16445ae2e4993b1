"""LoftQ: LoRA that begins as what quantization took from each weight.

    s B0 A0 = the best rank-r approximation of W - W_q;   W: the checkpoint's weight

Source: Li et al. 2023 (arXiv 2310.08659), one alternation, as in ``peft``'s on-the-fly form. That
one needs a GPU and leaves out the scale s, so that it begins as s times the error.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from maple.catalog.contracts import AttachContext, ModelFamily, Quantizer
from maple.catalog.peft import LoraMethod, check_rank
from maple.catalog.residual import layer_weight
from maple.catalog.stored_int4 import StoredInt4
from maple.errors import TrainingError

if TYPE_CHECKING:
    import torch
    from torch import nn


class Loftq(LoraMethod):
    """LoRA begun closer to the checkpoint than its quantized base is.

    Source of defaults: the entry ``lora``.
    """

    step_0: ClassVar[str | None] = (
        "it begins as the quantization error, so nearer to the checkpoint than the base"
    )

    def conflict(self, quantizer: Quantizer, family: ModelFamily) -> str | None:
        """There must be an error to begin from."""
        if isinstance(quantizer, StoredInt4):
            return "loftq begins from the checkpoint's own weights, and this one holds codes alone"
        if quantizer.bits >= 32:
            return "loftq begins as the quantization error, and float32 holds every weight exactly"
        return None

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Wraps the target modules and sets their factors from the checkpoint's files.

        Raises:
            TrainingError: no module of the base has one of the target names, the checkpoint's files
                are not at hand, or nothing was lost.
        """
        import torch
        from peft.tuners.lora import LoraLayer

        source: Any = model.config
        wrapped = super().attach(model, context)
        for name, layer in wrapped.named_modules():
            if isinstance(layer, LoraLayer):
                base: Any = layer.get_base_layer()
                factors: Any = layer
                key = name.removeprefix("base_model.model.") + ".weight"
                exact = _stored(Path(source._name_or_path), key).to(base.weight.device).float()
                check_rank(self.rank, exact, self.entry_name())
                with torch.no_grad():
                    error = exact - layer_weight(base)
                    if not error.any():
                        raise TrainingError(
                            f"loftq begins as the quantization error, and {name} has none: the "
                            "base holds the checkpoint's weights as they are. Use lora."
                        )
                    left, values, right = torch.linalg.svd(error, full_matrices=False)
                    root = (values[: self.rank] / layer.scaling["default"]).sqrt()
                    factors.lora_B["default"].weight.copy_(left[:, : self.rank] * root)
                    factors.lora_A["default"].weight.copy_(root[:, None] * right[: self.rank])
        return wrapped


def _stored(directory: Path, key: str) -> torch.Tensor:
    """A weight as the checkpoint holds it."""
    from safetensors import safe_open

    for path in sorted(directory.glob("*.safetensors")):
        with safe_open(str(path), framework="pt") as tensors:
            if key in tensors.keys():  # noqa: SIM118 (not a mapping)
                found: torch.Tensor = tensors.get_tensor(key)
                return found
    raise TrainingError(
        f"loftq reads the checkpoint's own weights, and {directory} has no {key} in a "
        "safetensors file. Fetch the model's files, or use lora."
    )
