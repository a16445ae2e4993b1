"""The fused passes of scoring: no gradients, no dropout; of one model, or several on one base.

    tokens of model 0 ─┐            ┌─ += s0 · x0 A0ᵀ B0ᵀ
    the same, model 1 ─┼─ x Wᵀ + b ─┼─ += s1 · x1 A1ᵀ B1ᵀ      one product with W for all
    the same, base    ─┘            └─ (nothing)

What a model's modules can be replaced by is found once; from then on the functions are put in and
taken out for each pass, so that between two passes the model is as it was loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from maple.base.fused.low_rank import LowRank, Rows, Updates
from maple.base.fused.patch import Fusion, fused


@dataclass
class Copies:
    """How the coming pass is stacked: as many copies of its tokens as there are models."""

    count: int
    first: torch.Tensor | None = None
    """What the first adapted layer of the pass read: no update has touched it, nor any other
    layer that reads the same, so its rows are alike in all copies."""


class FewRowsLinear:
    """A float32 layer on a CPU, whose product with few rows is done the other way round.

    A library that multiplies (rows, in) by (in, out) reads the weight badly where the rows are few:
    three rows and a head of 32,000 took 24 ms on two cores, (out, in) by (in, rows) 4 ms. At 32
    rows it still took 20 and 12; more were not measured. One row alone took 6.4 ms either way, and
    as one of two 2.4. In 16 bits neither is faster throughout.
    """

    MOST_ROWS = 32

    @staticmethod
    def takes(module: nn.Module) -> bool:
        """Whether it is such a layer, as torch has it."""
        return (
            type(module) is nn.Linear
            and module.weight.dtype == torch.float32
            and module.weight.device.type == "cpu"
        )

    def __init__(self, layer: nn.Module) -> None:
        """Takes a layer that ``takes`` accepts, as it is."""
        self._layer: Any = layer
        self._call: Callable[[torch.Tensor], torch.Tensor] = layer.forward

    def __call__(self, x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """(..., in) -> (..., out)."""
        rows = x.reshape(-1, x.shape[-1])
        count = len(rows)
        if not 0 < count <= self.MOST_ROWS or x.dtype != torch.float32:
            return self._call(x)
        if count == 1:  # a product of one row is made by one thread alone
            rows = rows.repeat(2, 1)
        out = torch.mm(self._layer.weight, rows.t()).t()[:count]
        if self._layer.bias is not None:
            out = out + self._layer.bias
        return out.contiguous().view(*x.shape[:-1], -1)


def _own_forward(layer: nn.Module) -> Callable[[torch.Tensor], torch.Tensor]:
    return FewRowsLinear(layer) if FewRowsLinear.takes(layer) else layer.forward


class ScoredLinear:
    """A frozen layer with the updates of every model of a stack on that model's rows."""

    def __init__(
        self,
        layer: nn.Module,
        updates: Sequence[tuple[LowRank, ...]],
        copies: Copies,
        dtype: torch.dtype,
    ) -> None:
        """Takes a layer as it is, before anything is put in the place of its forward.

        Args:
            layer: a plain ``nn.Linear`` or a quantized one.
            updates: each model's; none where a model does not adapt this layer.
            copies: of the coming pass.
            dtype: what products are computed in.
        """
        self._call: Callable[[torch.Tensor], torch.Tensor] = _own_forward(layer)
        self._copies = copies
        self._factors = [
            [(u.a.detach().to(dtype), u.b.detach().to(dtype).t(), u.scale) for u in own]
            for own in updates
        ]

    def __call__(self, x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        """(1, copies * tokens, in) -> (1, copies * tokens, out)."""
        copies = self._copies
        if copies.first is None:
            copies.first = x
        if copies.count > 1 and x is copies.first:
            out = self._call(x[:, : x.shape[1] // copies.count]).repeat(1, copies.count, 1)
        else:
            out = self._call(x)
            # bitsandbytes hands out views where there is a bias, and those cannot be added to.
            out = out.clone() if out._is_view() else out
        flat, added = x.reshape(-1, x.shape[-1]), out.view(-1, out.shape[-1])
        step = len(flat) // copies.count
        for number, own in enumerate(self._factors):
            rows = slice(number * step, (number + 1) * step)
            for a, b, scale in own:
                inner = flat[rows].to(a.dtype) @ a.t()
                added[rows].addmm_(inner.to(added.dtype), b.to(added.dtype), alpha=scale)
        return out


class ScoringFusion:
    """What of a model can be fused, ready to be put in."""

    def __init__(self, model: nn.Module, runs: Sequence[Updates], dtype: torch.dtype) -> None:
        """Finds it.

        Args:
            model: the base, or with one method's modules on it.
            runs: the low-rank updates of each model of the stack, by ``peft``'s layer or by the
                base's own; empty for a model whose method has others, which it then applies itself.
            dtype: what products are computed in.
        """
        self.copies = Copies(len(runs))
        before = {module for module in model.modules() if "forward" in vars(module)}
        with fused(model, (), Rows((), ())) as fusion:
            self._forwards = {
                module: vars(module)["forward"]
                for module in model.modules()
                if "forward" in vars(module) and module not in before
            }
        self.fusion: Fusion = fusion
        taken = {*self._forwards, *before}
        for module in dict.fromkeys(module for updates in runs for module in updates):
            own: Any = getattr(module, "base_layer", module)
            parts = [updates.get(module, ()) for updates in runs]
            self._forwards[module] = ScoredLinear(own, parts, self.copies, dtype)
            taken.add(own)
        for module in model.modules():
            if module not in taken and FewRowsLinear.takes(module):
                self._forwards[module] = FewRowsLinear(module)

    @contextmanager
    def on(self) -> Iterator[Fusion]:
        """Puts it in for as long as the block lasts; ``fusion.layout`` is set inside."""
        self.copies.first = None
        try:
            for module, forward in self._forwards.items():
                vars(module)["forward"] = forward
            yield self.fusion
        finally:
            for module in self._forwards:
                vars(module).pop("forward", None)
            self.fusion.layout = None
            self.copies.first = None
