"""RMS norm, gated unit and rotary embedding in few passes over memory, gradients by hand.

A processor spends as long on moving a hidden state as on computing with it, so each function works
on blocks of rows that stay in its cache, and keeps for its backward pass only what it was given.
Weights are frozen here: none of these functions gives a gradient to one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch.autograd import Function
from torch.nn.functional import silu

_BLOCK_VALUES = 1 << 18
"""Values of one block: 1 MiB in float32."""


def rms_norm(x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
    """Root-mean-square norm over the last axis, its mean in float32, times a frozen weight.

    Args:
        x: (..., d).
        weight: (d,); gets no gradient.
        eps: added to the mean square.

    Source: Zhang and Sennrich 2019 (arXiv 1910.07467), rounded as transformers rounds it.
    """
    normed: torch.Tensor = _RmsNorm.apply(x, weight, eps)
    return normed


def gated(gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
    """``silu(gate) * up``, both (..., d).

    Source: Shazeer 2020 (arXiv 2002.05202).
    """
    product: torch.Tensor = _Gated.apply(gate, up)
    return product


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary position embedding of each head, its halves paired.

    Args:
        x: (tokens, heads, d).
        cos: (tokens, d), as transformers makes it: the first half repeated.
        sin: (tokens, d).

    Source: Su et al. 2021 (arXiv 2104.09864).
    """
    half = x.shape[-1] // 2
    rotated: torch.Tensor = _Rotate.apply(
        x, cos[:, None, :half].to(x.dtype), sin[:, None, :half].to(x.dtype)
    )
    return rotated


def _blocks(table: torch.Tensor) -> Iterator[slice]:
    rows = len(table)
    width = table[0].numel() if rows else 1
    step = max(1, _BLOCK_VALUES // width) if table.device.type == "cpu" else max(1, rows)
    for start in range(0, rows, step):
        yield slice(start, start + step)


class _RmsNorm(Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, weight: torch.Tensor, eps: float) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        out = torch.empty_like(flat)
        inverse = torch.empty(len(flat), 1, dtype=torch.float32, device=x.device)
        for rows in _blocks(flat):
            block = flat[rows].float()
            torch.rsqrt(block.square().mean(-1, keepdim=True).add_(eps), out=inverse[rows])
            torch.mul((block * inverse[rows]).to(x.dtype), weight, out=out[rows])
        ctx.save_for_backward(flat, weight, inverse)
        return out.view(x.shape)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        flat, weight, inverse = ctx.saved_tensors
        of_out = gradient.reshape(flat.shape)
        of_x = torch.empty_like(flat)
        scale = weight.float()
        for rows in _blocks(flat):
            normed = flat[rows].float().mul_(inverse[rows])
            scaled = of_out[rows].float().mul_(scale)
            along = (scaled * normed).mean(-1, keepdim=True)
            of_x[rows] = scaled.addcmul_(normed, along, value=-1).mul_(inverse[rows])
        return of_x.view(gradient.shape), None, None


class _Gated(Function):
    @staticmethod
    def forward(ctx: Any, gate: torch.Tensor, up: torch.Tensor) -> torch.Tensor:
        width = gate.shape[-1]
        gates, ups = gate.reshape(-1, width), up.reshape(-1, width)
        out = torch.empty_like(gates)
        for rows in _blocks(gates):
            torch.mul(silu(gates[rows]), ups[rows], out=out[rows])
        ctx.save_for_backward(gates, ups)
        return out.view(gate.shape)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        gates, ups = ctx.saved_tensors
        of_out = gradient.reshape(gates.shape)
        of_gate, of_up = torch.empty_like(gates), torch.empty_like(ups)
        for rows in _blocks(gates):
            torch.mul(of_out[rows], silu(gates[rows]), out=of_up[rows])
            of_gate[rows] = torch.ops.aten.silu_backward(of_out[rows] * ups[rows], gates[rows])
        return of_gate.view(gradient.shape), of_up.view(gradient.shape)


class _Rotate(Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(cos, sin)
        return _turn(x, cos, sin, 1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        cos, sin = ctx.saved_tensors
        # A rotation's gradient is the rotation back.
        return _turn(gradient, cos, sin, -1), None, None


def _turn(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, sign: int) -> torch.Tensor:
    half = x.shape[-1] // 2
    out = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    for rows in _blocks(x):
        first, second = x[rows, :, :half], x[rows, :, half:]
        torch.mul(first, cos[rows], out=out[rows, :, :half])
        out[rows, :, :half].addcmul_(second, sin[rows], value=-sign)
        torch.mul(second, cos[rows], out=out[rows, :, half:])
        out[rows, :, half:].addcmul_(first, sin[rows], value=sign)
    return out
