"""Linear layers that hold integers and multiply in 16 or 32 bits, with a gradient to the input.

x (..., in) ──▶ y = x W'^T (..., out)        W' is made anew from the codes, in the forward
grad_y (..., out) ──▶ grad_x = grad_y W'     and again in the backward: it is never kept
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import nn


class PackedLinear(nn.Linear):
    """A frozen linear layer whose ``weight`` is a tensor of codes.

    It is an ``nn.Linear`` because that is what adapters look for.
    """

    def __init__(self, linear: nn.Linear, codes: torch.Tensor, **constants: torch.Tensor) -> None:
        """Takes over a layer's sizes and bias."""
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight = nn.Parameter(codes, requires_grad=False)
        self.weight.unpacked_shape = tuple(linear.weight.shape)  # type: ignore[attr-defined]
        self.bias = linear.bias
        for name, value in constants.items():
            self.register_buffer(name, value)

    @property
    def W_q(self) -> torch.Tensor:  # noqa: N802
        """The codes, by the name that tells peft to call ``dequantize``."""
        return self.weight

    @abstractmethod
    def dequantize(self) -> torch.Tensor:
        """The weight (out, in) that the codes stand for, in float32."""

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., in) -> (..., out), in the dtype of ``x``."""
        return nn.functional.linear(x, self.dequantize().to(x.dtype))

    def multiply_back(self, gradient: torch.Tensor) -> torch.Tensor:
        """Gradient (..., out) -> (..., in), in its own dtype."""
        return gradient @ self.dequantize().to(gradient.dtype)

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """The product in autocast's dtype where it is on, else in the input's."""
        device = input.device.type
        if torch.is_autocast_enabled(device):
            input = input.to(torch.get_autocast_dtype(device))
        product: torch.Tensor = _Product.apply(input, self)  # type: ignore[no-untyped-call]
        return product if self.bias is None else product + self.bias.to(product.dtype)


class RowInt8(PackedLinear):
    """Codes -127..127 (out, in), and the step of each row."""

    scale: torch.Tensor

    def __init__(self, linear: nn.Linear) -> None:
        """Rounds each row to 127 steps of its largest weight."""
        weight = linear.weight.detach().float()
        scale = (weight.abs().amax(dim=1) / 127).clamp_min(torch.finfo(torch.float32).tiny)
        codes = (weight / scale[:, None]).round().to(torch.int8)
        super().__init__(linear, codes, scale=scale)

    def dequantize(self) -> torch.Tensor:
        """Codes times their row's step."""
        return self.weight.float() * self.scale[:, None]

    # bfloat16 holds every code exactly, so the scale waits until after the product.

    def multiply(self, x: torch.Tensor) -> torch.Tensor:
        """x (..., in) -> (..., out), in the dtype of ``x``."""
        return (nn.functional.linear(x, self.weight.to(x.dtype)) * self.scale).to(x.dtype)

    def multiply_back(self, gradient: torch.Tensor) -> torch.Tensor:
        """Gradient (..., out) -> (..., in), in its own dtype."""
        dtype = gradient.dtype
        return (gradient * self.scale).to(dtype) @ self.weight.to(dtype)


class GroupInt4(PackedLinear):
    """Codes 0..15, two in a byte, and a step and a zero point per group."""

    scale: torch.Tensor
    zero: torch.Tensor
    order: torch.Tensor | None

    def __init__(
        self,
        linear: nn.Linear,
        codes: torch.Tensor,
        scale: torch.Tensor,
        zero: torch.Tensor,
        *,
        order: torch.Tensor | None = None,
    ) -> None:
        """Packs codes.

        Args:
            linear: its sizes and bias are taken over.
            codes: (groups, size), the groups of a row one after another.
            scale: (groups, 1), kept in its own type.
            zero: (groups, 1), likewise.
            order: (in,) where in its row each input's weight stands; None: in its own place.
        """
        half = codes.shape[1] // 2
        packed = codes[:, :half] | codes[:, half:] << 4
        super().__init__(linear, packed, scale=scale, zero=zero)
        self.register_buffer("order", order)

    def dequantize(self) -> torch.Tensor:
        """(code - zero point) times step."""
        codes = torch.cat([self.weight & 15, self.weight >> 4], dim=1)
        groups = (codes.float() - self.zero.float()) * self.scale.float()
        rows = groups.reshape(self.out_features, self.in_features)
        return rows if self.order is None else rows[:, self.order]


def replace_linears(model: nn.Module, make: Callable[[nn.Linear], nn.Module]) -> None:
    """Puts ``make(linear)`` in the place of every linear layer but the output head."""
    owner: Any = model
    head = owner.get_output_embeddings()
    for name, module in list(model.named_modules()):
        if type(module) is nn.Linear and module is not head:
            parent, _, own = name.rpartition(".")
            setattr(model.get_submodule(parent), own, make(module))


class _Product(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, layer: PackedLinear) -> torch.Tensor:
        ctx.layer = layer
        return layer.multiply(x)

    @staticmethod
    def backward(ctx: Any, *gradients: torch.Tensor) -> tuple[torch.Tensor, None]:
        return ctx.layer.multiply_back(gradients[0]), None
