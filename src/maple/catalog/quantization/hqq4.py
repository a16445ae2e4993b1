"""hqq4: 4-bit integers in groups of 64, zero points found by half-quadratic optimization.

    q = round(W / s + z), 0..15;   W' = (q - z) s
    s from the group's range; z by 20 alternations of a shrinking step on the error,
    which lets few weights err much and many little, and the z that is best for what is left

No calibration data, no compiled kernel. Source: Badri & Shaji 2023, "Half-Quadratic Quantization"
(mobiusml.github.io/hqq_blog); as ``hqq`` 0.2 does by default: p 0.7, beta 10, and a stop when the
mean error no longer falls.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from maple.catalog.contracts import Quantizer

if TYPE_CHECKING:
    import torch
    from torch import nn

GROUP = 64


class Hqq4(Quantizer):
    """Linear layers in 4-bit integers with fitted zero points; the head stays 16 bits."""

    bits: ClassVar[int] = 4
    library: ClassVar[str] = "maple"

    def load_kwargs(self, compute_dtype: torch.dtype) -> dict[str, Any]:
        """Loads in 16 bits; ``prepare`` quantizes."""
        return {"dtype": compute_dtype}

    def prepare(self, model: nn.Module) -> nn.Module:
        """Replaces every linear layer but the head, one after another.

        Raises:
            TrainingError: a layer's weights are no whole number of groups.
        """
        import torch

        from maple.catalog.packed import GroupInt4, replace_linears

        def packed(linear: nn.Linear) -> nn.Module:
            codes, step, zero = half_quadratic(linear.weight)
            # Steps need bfloat16's range, zero points float16's digits.
            return GroupInt4(linear, codes, step.to(torch.bfloat16), zero.to(torch.float16))

        replace_linears(model, packed)
        return model

    def bytes_per_weight(self) -> float:
        """4 bits, and a 16-bit scale and a 16-bit zero point per group."""
        return (4 + 32 / GROUP) / 8


def half_quadratic(
    weight: torch.Tensor, *, p: float = 0.7, beta: float = 10.0
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Codes (groups, 64), steps (groups, 1) and zero points (groups, 1) of a weight matrix.

    Raises:
        TrainingError: the weights are no whole number of groups.
    """
    import torch

    from maple.errors import TrainingError

    if weight.numel() % GROUP:
        raise TrainingError(
            f"hqq4 needs groups of {GROUP} weights, and a layer of the base is "
            f"{tuple(weight.shape)}. Choose other bits, such as nf4."
        )
    with torch.no_grad():
        groups = weight.float().reshape(-1, GROUP)
        low, high = groups.amin(1, keepdim=True), groups.amax(1, keepdim=True)
        # 1/s, as hqq has it: bounded for groups that are almost constant.
        rate = torch.where(high - low <= 1e-4, 1.0, 15 / (high - low)).clamp(max=2e4)
        zero = (-low * rate).round()
        best = float("inf")
        for _ in range(20):
            codes = (groups * rate + zero).round().clamp(0, 15)
            error = groups - (codes - zero) / rate
            mean = float(error.abs().mean())
            kept = (error.abs() - error.abs().pow(p - 1) / beta).clamp_min(0) * error.sign()
            zero = (codes - (groups - kept) * rate).mean(1, keepdim=True)
            if mean >= best:
                break
            best = mean
        codes = (groups * rate + zero).round().clamp(0, 15)
    return codes.to(torch.uint8), 1 / rate, zero
