"""A frozen linear layer and the low-rank updates beside it, for one run or for several at once.

    rows of run 0 ─┐            ┌─ += s0 · drop(x0) A0ᵀ B0ᵀ
    rows of run 1 ─┼─ x Wᵀ + b ─┼─ += s1 · drop(x1) A1ᵀ B1ᵀ      one product with W for all
    rows of run 2 ─┘            └─ += s2 · drop(x2) A2ᵀ B2ᵀ

Forward and backward are written by hand, so that nothing is added where a product can add it, the
frozen weight gets no gradient, and no copy of an input is kept beside the input.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.autograd import Function


@dataclass(frozen=True, eq=False)
class LowRank:
    """One run's update of one linear layer: ``scale * dropout(x) Aᵀ Bᵀ``."""

    a: nn.Parameter
    """(rank, in)."""
    b: nn.Parameter
    """(out, rank)."""
    scale: float
    dropout: float = 0.0


Updates = Mapping[nn.Module, tuple[LowRank, ...]]
"""What one run adds to each layer it adapts."""


@dataclass
class Rows:
    """Which rows of a stacked pass belong to which run, and each run's random numbers.

    Set before each forward pass; every adapted layer of the model looks here.
    """

    bounds: Sequence[tuple[int, int]]
    """First and last + 1 flattened row of each run."""
    generators: Sequence[torch.Generator | None]
    """Where each run's dropout draws from; None: torch's own generator."""
    are_equal: bool = False
    """Whether all runs were given the same tokens, so that what lies below the first update is
    the same for all of them."""


class AdaptedLinear:
    """The forward pass of one frozen linear layer with the updates of one or several runs."""

    def __init__(
        self, layer: nn.Module, updates: Sequence[tuple[LowRank, ...]], rows: Rows
    ) -> None:
        """Takes a layer as it is, before anything is put in the place of its forward.

        Args:
            layer: a plain ``nn.Linear`` is computed here; any other (quantized) is called, and the
                updates are added to what it returns.
            updates: each run's; none where a run does not adapt this layer.
            rows: where each run's rows are found at every call.
        """
        self._layer = layer
        self._call = layer.forward
        self._weight, self._bias = _plain_weights(layer)
        self._present = [(n, u) for n, of_run in enumerate(updates) for u in of_run]
        self._factors = [factor for _, u in self._present for factor in (u.a, u.b)]
        self._rows = rows

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        """(..., in) -> (..., out), each run's update on that run's rows."""
        rows = self._rows
        parts = tuple(
            _Part(rows.bounds[n], u, rows.generators[n], training=self._layer.training)
            for n, u in self._present
        )
        out: torch.Tensor
        # Nothing trained lies below, so the rows of all runs are those of the first.
        copies = len(rows.bounds) if rows.are_equal and not x.requires_grad else 1
        if self._weight is not None:
            x = x.to(self._weight.dtype)
            out = _Linear.apply(x, self._weight, self._bias, parts, copies, *self._factors)
        else:
            once = x[:, : x.shape[1] // copies] if copies > 1 else x
            done = self._call(once)
            done = done.repeat(1, copies, 1) if copies > 1 else done
            # bitsandbytes hands out views where there is a bias, and those cannot be added to.
            done = done.clone() if done._is_view() else done
            out = _Add.apply(done, x.to(done.dtype), parts, *self._factors)
        return out


def _plain_weights(layer: nn.Module) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Weight and bias of a layer that is nothing but a frozen ``x Wᵀ + b``; else None."""
    hooked = layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer)
    if type(layer) is not nn.Linear or hooked or layer.weight.requires_grad:
        return None, None
    return layer.weight, layer.bias


class _Part:
    """One run's share of one call."""

    def __init__(
        self,
        bounds: tuple[int, int],
        update: LowRank,
        generator: torch.Generator | None,
        *,
        training: bool,
    ) -> None:
        self.start, self.stop = bounds
        self.dropout = update.dropout if training else 0.0
        # What is kept is not scaled up by itself: 1 / (1 - p) is part of the scale.
        self.scale = update.scale / (1 - self.dropout)
        self.generator = generator

    def mask(self, own: torch.Tensor) -> torch.Tensor | None:
        """What dropout takes of (rows, in), as ``_masked`` reads it; None without dropout.

        Where little is dropped a processor draws the places: the gaps between them are geometric,
        so a twentieth of the random numbers does, and less is kept for the backward pass.
        """
        if not self.dropout:
            return None
        if own.device.type == "cpu" and self.dropout <= _SPARSE:
            return _dropped(own.numel(), self.dropout, self.generator)
        return _kept(own, self.dropout, self.generator)


_SPARSE = 0.125
"""Rates up to which drawing places is faster than drawing values."""
_DEVIATIONS, _FEWEST = 6.0, 16
"""How many more places are drawn than are expected: a second round is next to never needed."""
_LEAST = -(1 << 63)
_WORDS = {2: torch.int16, 4: torch.int32, 8: torch.int64}


def _dropped(count: int, rate: float, generator: torch.Generator | None) -> torch.Tensor:
    """(n,) int64, ascending: which of ``count`` values are dropped, each with chance ``rate``."""
    found: list[torch.Tensor] = []
    last = -1
    while last < count:
        expected = (count - last) * rate
        drawn = int(expected + _DEVIATIONS * math.sqrt(expected)) + _FEWEST
        words = torch.empty(-(-drawn // 2), dtype=torch.int64)
        words = words.random_(_LEAST, None, generator=generator).view(torch.int32)[:drawn]
        # 2**-25 is the least that float32 tells from zero here, whose logarithm has no gap.
        chance = words.to(torch.float32).mul_(2.0**-32).add_(0.5).clamp_min_(2.0**-26)
        gaps = chance.log_().mul_(1 / math.log1p(-rate)).to(torch.int64)
        found.append(gaps.add_(1).cumsum_(0).add_(last))
        last = int(found[-1][-1])
    places = found[0] if len(found) == 1 else torch.cat(found)
    return places[: int(torch.searchsorted(places, count))]


def _kept(own: torch.Tensor, rate: float, generator: torch.Generator | None) -> torch.Tensor:
    """Like ``own``, int16: -1 where dropout lets a value pass, 0 where not.

    A random word serves four values, 15 bits each, so a rate is exact to 1 in 32,768.
    """
    count = own.numel()
    words = torch.empty(-(-count // 4), dtype=torch.int64, device=own.device)
    bits = words.random_(_LEAST, None, generator=generator).view(torch.int16)[:count]
    # Below the limit the difference is negative, and its sign fills the word.
    limit = round(rate * (1 << 15))
    return (bits & 0x7FFF).sub_(limit).bitwise_right_shift_(15).bitwise_not_().view(own.shape)


def _masked(values: torch.Tensor, mask: torch.Tensor, *, in_place: bool = False) -> torch.Tensor:
    """Contiguous values, zero where dropped.

    Args:
        values: (rows, width).
        mask: the dropped places, or a word a value.
        in_place: whether ``values`` may be written to.
    """
    if mask.dtype == torch.int64:
        values = values if in_place else values.clone(memory_format=torch.contiguous_format)
        values.view(-1).index_fill_(0, mask, 0)
        return values
    word = _WORDS[values.element_size()]
    # The bits of a number and a word of zeros are zero.
    return (values.view(word) & mask.to(word)).view(values.dtype)


class _Linear(Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        parts: tuple[_Part, ...],
        copies: int,
        *factors: torch.Tensor,
    ) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        once = flat[: len(flat) // copies]
        out = once @ weight.t() if bias is None else torch.addmm(bias, once, weight.t())
        out = out.repeat(copies, 1) if copies > 1 else out
        saved = _add_updates(out, flat, parts, factors)
        ctx.parts = parts
        ctx.save_for_backward(flat, weight, *saved)
        return out.view(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        flat, weight, *saved = ctx.saved_tensors
        of_out = gradient.reshape(len(flat), -1)
        of_x = of_out @ weight if ctx.needs_input_grad[0] else None
        of_factors = _factor_gradients(
            of_out, flat, of_x, parts=ctx.parts, saved=saved, wanted=ctx.needs_input_grad[5:]
        )
        shaped = None if of_x is None else of_x.view(*gradient.shape[:-1], -1)
        return shaped, None, None, None, None, *of_factors


class _Add(Function):
    """The updates alone, added in place to what a quantized layer returned."""

    @staticmethod
    def forward(
        ctx: Any,
        done: torch.Tensor,
        x: torch.Tensor,
        parts: tuple[_Part, ...],
        *factors: torch.Tensor,
    ) -> torch.Tensor:
        flat = x.reshape(-1, x.shape[-1])
        saved = _add_updates(done.view(-1, done.shape[-1]), flat, parts, factors)
        ctx.parts = parts
        ctx.save_for_backward(flat, *saved)
        ctx.mark_dirty(done)
        return done

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> Any:
        flat, *saved = ctx.saved_tensors
        of_out = gradient.reshape(len(flat), -1)
        of_x = torch.zeros_like(flat) if ctx.needs_input_grad[1] else None
        of_factors = _factor_gradients(
            of_out, flat, of_x, parts=ctx.parts, saved=saved, wanted=ctx.needs_input_grad[3:]
        )
        shaped = None if of_x is None else of_x.view(*gradient.shape[:-1], -1)
        return gradient, shaped, None, *of_factors


def _add_updates(
    out: torch.Tensor,
    flat: torch.Tensor,
    parts: Sequence[_Part],
    factors: Sequence[torch.Tensor],
) -> list[torch.Tensor]:
    """Adds every part's update to its rows of ``out``; returns what the backward pass needs.

    Per part: A and B in the compute dtype, the inner product, and what dropout let pass.
    """
    saved = []
    for part, (a, b) in zip(parts, _pairs(factors), strict=True):
        own = flat[part.start : part.stop]
        low_a, low_b = a.to(flat.dtype), b.to(flat.dtype)
        mask = part.mask(own)
        inner = (own if mask is None else _masked(own, mask)) @ low_a.t()
        out[part.start : part.stop].addmm_(inner, low_b.t(), alpha=part.scale)
        saved += [low_a, low_b, inner, own.new_empty(0) if mask is None else mask]
    return saved


def _factor_gradients(
    of_out: torch.Tensor,
    flat: torch.Tensor,
    of_x: torch.Tensor | None,
    *,
    parts: Sequence[_Part],
    saved: Sequence[torch.Tensor],
    wanted: Sequence[bool],
) -> list[torch.Tensor | None]:
    """Gradients of every A and B that wants one; what flows on to the input is added to ``of_x``.

    They are float32, as the factors are, whatever they were computed in.
    """
    gradients: list[torch.Tensor | None] = []
    for n, part in enumerate(parts):
        a, b, inner, mask = saved[4 * n : 4 * n + 4]
        own, coming = flat[part.start : part.stop], of_out[part.start : part.stop]
        of_inner = (coming @ b).mul_(part.scale)
        of_a, of_b = None, None
        if wanted[2 * n]:
            seen = _masked(own, mask) if part.dropout else own
            of_a = (of_inner.t() @ seen).float()
        if wanted[2 * n + 1]:
            of_b = (coming.t() @ inner).float().mul_(part.scale)
        gradients += [of_a, of_b]
        if of_x is None:
            continue
        below = of_x[part.start : part.stop]
        if part.dropout:
            below += _masked(of_inner @ a, mask, in_place=True)
        else:
            below.addmm_(of_inner, a)
    return gradients


def _pairs(factors: Sequence[torch.Tensor]) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return list(zip(factors[::2], factors[1::2], strict=True))


def peft_updates(model: nn.Module) -> dict[nn.Module, tuple[LowRank, ...]]:
    """The plain low-rank updates that ``peft`` has put on a model, by its layer.

    A layer is left out where it does anything else: a variant (DoRA), a bias, a merged weight.
    """
    from peft.tuners.lora import LoraLayer

    return {
        layer: tuple(_update(layer, name) for name in layer.active_adapters if name in layer.lora_A)
        for layer in model.modules()
        if isinstance(layer, LoraLayer) and _is_low_rank(layer)
    }


def _is_low_rank(layer: Any) -> bool:
    if layer.merged or layer.disable_adapters:
        return False
    names = [name for name in layer.active_adapters if name in layer.lora_A]
    plain = all(
        type(factor) is nn.Linear and factor.bias is None
        for name in names
        for factor in (layer.lora_A[name], layer.lora_B[name])
    )
    return bool(names) and plain and not any(name in layer.lora_variant for name in names)


def _update(layer: Any, name: str) -> LowRank:
    dropout = layer.lora_dropout[name]
    return LowRank(
        a=layer.lora_A[name].weight,
        b=layer.lora_B[name].weight,
        scale=float(layer.scaling[name]),
        dropout=float(dropout.p) if isinstance(dropout, nn.Dropout) else 0.0,
    )
