"""KaSA: LoRA with trained singular values, on weights whose smallest directions are cut out.

    W = U S V^T;   y = (W - U_d S_d V_d^T) x + s B diag(v) A x,   d: the r smallest directions
    loss += beta |v|^2 + gamma (|B^T B - I| + |A A^T - I|), summed over the adapted layers

Source: Wang et al. 2024 (arXiv 2412.06071), equations 9 to 11; as ``peft`` 0.21 has it, which cuts
the directions out of the base itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field

from maple.catalog.contracts import AttachContext, TrainingHooks
from maple.catalog.residual import BEGINNING, ResidualLora, layer_weight
from maple.errors import TrainingError

if TYPE_CHECKING:
    import torch
    from torch import nn


class Kasa(ResidualLora):
    """LoRA of a weight that has lost its smallest directions; stored as a LoRA of twice the rank.

    Source of beta and gamma: ``peft`` (the paper's for GLUE). Source of the rest: the entry
    ``lora``; the paper's rank is 8, its alpha 16.
    """

    step_0: ClassVar[str | None] = (
        "the smallest singular directions of every adapted weight are cut out beforehand"
    )

    shares_passes: ClassVar[bool] = False

    beta: Annotated[float, Field(ge=0)] = 1e-4
    gamma: Annotated[float, Field(ge=0)] = 1e-3

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """A, B, and one singular value a rank."""
        return self.rank * (inputs + outputs + 1)

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Wraps the target modules, cuts beside them, and puts the diagonal between A and B.

        Raises:
            TrainingError: no module of the base has one of the target names, or a weight has no
                more directions than are cut.
        """
        import torch
        from peft.tuners.lora import LoraLayer
        from peft.tuners.lora.variants import KasaLinearVariant
        from torch import nn

        wrapped = super().attach(model, context)
        for module in wrapped.modules():
            if isinstance(module, LoraLayer):
                layer: Any = module
                device = layer.lora_A["default"].weight.device
                drawn = torch.randn(self.rank, device=device, dtype=torch.float32)
                layer.lora_diag = nn.ParameterDict({"default": nn.Parameter(drawn)})
                # Of the variant the forward alone: its ``init`` is what would cut into the base.
                layer.lora_variant["default"] = KasaLinearVariant()
        return wrapped

    def initialise(self, layer: Any, weight: torch.Tensor) -> None:
        """A and B begin as LoRA's do."""

    def begin(self, layer: Any) -> None:
        """Sets the frozen factors to what is cut out of the weight."""
        import torch

        weight = layer_weight(layer.get_base_layer())
        if self.rank >= min(weight.shape):
            raise TrainingError(
                f"kasa cuts {self.rank} directions out of each weight, and one of "
                f"{tuple(weight.shape)} has {min(weight.shape)}. Set rank below that, or name "
                "other targets."
            )
        left, values, right = torch.linalg.svd(weight, full_matrices=False)
        cut = left[:, -self.rank :] * (values[-self.rank :] / layer.scaling["default"])
        layer.lora_A[BEGINNING].weight.data = right[-self.rank :].contiguous()
        layer.lora_B[BEGINNING].weight.data = cut.contiguous()

    def trained_factors(self, wrapped: Any) -> dict[str, torch.Tensor]:
        """A as it is, and B with the diagonal in it."""
        found = super().trained_factors(wrapped)
        ending = ".lora_diag"
        diagonals = {n.removesuffix(ending): v for n, v in found.items() if n.endswith(ending)}
        factors = {n: v for n, v in found.items() if not n.endswith(ending)}
        for name, diagonal in diagonals.items():
            factors[f"{name}.lora_B.weight"] = factors[f"{name}.lora_B.weight"] * diagonal
        return factors

    def hooks(self, model: nn.Module, total_steps: int) -> TrainingHooks:
        """Adds the two penalties to the loss."""
        return _Penalties(model, self.beta, self.gamma)


class _Penalties(TrainingHooks):
    def __init__(self, model: nn.Module, beta: float, gamma: float) -> None:
        from peft.tuners.lora import LoraLayer

        self._beta, self._gamma = beta, gamma
        self._layers: list[Any] = [m for m in model.modules() if isinstance(m, LoraLayer)]

    def extra_loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """How far the factors are from the singular value decomposition of a small update."""
        import torch

        if not self._beta and not self._gamma:
            return None
        terms = []
        for layer in self._layers:
            a, b = layer.lora_A["default"].weight, layer.lora_B["default"].weight
            one = torch.eye(len(a), device=a.device)
            skew = torch.linalg.norm(b.T @ b - one) + torch.linalg.norm(a @ a.T - one)
            size = layer.lora_diag["default"].square().sum()
            terms.append(self._beta * size + self._gamma * skew)
        return torch.stack(terms).sum()
