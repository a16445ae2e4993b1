"""Puts the fused forward passes into a model for the time of its training, and takes them out.

What a module is, is never guessed from its name alone: a module is fused only where the fused
function gives what the module's own forward gives on a probe. Whatever is not recognised (another
norm, another activation, attention with a soft cap) keeps its own code, so any model trains.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from maple.base.fused.attention import Layout, find_layout, packed_attention
from maple.base.fused.elementwise import gated, rms_norm, rotate
from maple.base.fused.low_rank import AdaptedLinear, Rows, Updates
from maple.base.fused.tree import TreeLayout, tree_attention

_TOLERANCE = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 1e-2}
"""Largest relative difference, in norm, that a probe forgives: rounding, not another formula."""


@dataclass
class Fusion:
    """A model's fused parts. ``rows`` and ``layout`` are set before each forward pass."""

    rows: Rows
    layout: Layout | TreeLayout | None = None
    """Where the examples of the coming pass lie; None: attention runs as the model wrote it."""
    counts: dict[str, int] = field(default_factory=dict)
    """How many modules of each kind are fused."""
    attended: int = 0
    """Calls of fused attention so far, those that fell back not among them."""
    window: float = float("inf")
    """The narrowest sliding window of the fused attentions, which no example may exceed."""


@contextmanager
def fused(model: nn.Module, runs: Sequence[Updates], rows: Rows) -> Iterator[Fusion]:
    """Fuses what can be fused of a frozen decoder, until the block ends.

    Args:
        model: the base, with or without a method's modules on it.
        runs: the low-rank updates of each run that takes part; those of a ``peft`` layer stand for
            what it would have added itself.
        rows: where each run's rows are.
    """
    fusion = Fusion(rows)
    patched: list[nn.Module] = []

    def put(kind: str, module: nn.Module, forward: Callable[..., Any]) -> None:
        vars(module)["forward"] = forward
        patched.append(module)
        fusion.counts[kind] = fusion.counts.get(kind, 0) + 1

    try:
        for module in dict.fromkeys(module for updates in runs for module in updates):
            own: Any = getattr(module, "base_layer", module)
            parts = [updates.get(module, ()) for updates in runs]
            put("linear", module, _Adapted(AdaptedLinear(own, parts, rows)))
        for kind, module, forward in _found(model, fusion):
            put(kind, module, forward)
        yield fusion
    finally:
        for module in patched:
            vars(module).pop("forward", None)


def _found(model: nn.Module, fusion: Fusion) -> Iterator[tuple[str, nn.Module, Callable[..., Any]]]:
    """Modules that a fused function can stand in for; the first of each class is put to proof."""
    known: dict[tuple[str, type], bool] = {}
    for module in list(model.modules()):
        for kind, make in _KINDS.items():
            forward = make(module, fusion)
            if forward is None or "forward" in vars(module):
                continue
            key = (kind, type(module))
            if key not in known:
                known[key] = _agrees(kind, module, forward, fusion)
            if known[key]:
                yield kind, module, forward


class _Adapted:
    """Calls like ``peft``'s layers, which take further arguments that plain layers ignore."""

    def __init__(self, linear: AdaptedLinear) -> None:
        self._linear = linear

    def __call__(self, x: torch.Tensor, *_: Any, **__: Any) -> torch.Tensor:
        return self._linear(x)


def _norm(module: nn.Module, _: Fusion) -> Callable[..., Any] | None:
    weight, eps = getattr(module, "weight", None), getattr(module, "variance_epsilon", None)
    if not isinstance(weight, nn.Parameter) or weight.requires_grad or eps is None:
        return None
    return lambda hidden_states: rms_norm(hidden_states, weight, eps)


def _unit(module: nn.Module, _: Fusion) -> Callable[..., Any] | None:
    parts = [getattr(module, n, None) for n in ("gate_proj", "up_proj", "down_proj")]
    if not all(isinstance(p, nn.Module) for p in parts):
        return None
    # Near zero every activation looks alike: a probe alone would not tell.
    if not _is_silu(getattr(module, "act_fn", None)):
        return None
    own: Any = module
    return lambda x: own.down_proj(gated(own.gate_proj(x), own.up_proj(x)))


def _is_silu(activation: Any) -> bool:
    return isinstance(activation, nn.SiLU) or type(activation).__name__ == "SiLUActivation"


def _attention(module: nn.Module, fusion: Fusion) -> Callable[..., Any] | None:
    names = ("q_proj", "k_proj", "v_proj", "o_proj")
    own: Any = module
    if not all(isinstance(getattr(module, n, None), nn.Module) for n in names):
        return None
    if not all(hasattr(module, n) for n in ("scaling", "head_dim", "config", "attention_dropout")):
        return None
    if own.attention_dropout:
        return None
    # Of small scores a cap changes next to nothing: a probe alone would not tell.
    if any(getattr(module, name, None) is not None for name in _BEYOND):
        return None
    if "position_embeddings" not in inspect.signature(type(module).forward).parameters:
        return None
    original = module.forward
    # Where layers differ in it they name their own; else it is the config's.
    named = getattr(own, "sliding_window", getattr(own.config, "sliding_window", None))
    window = float(named or "inf")
    fusion.window = min(fusion.window, window)

    def forward(hidden_states: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
        layout = fusion.layout
        tokens = hidden_states.shape[:-1]
        if layout is None or kwargs.get("past_key_values") is not None or args:
            return original(hidden_states, *args, **kwargs)
        # Virtual tokens make a pass longer than the data that the layout was read from.
        if layout.back.numel() != tokens.numel() or layout.longest > window:
            return original(hidden_states, *args, **kwargs)
        fusion.attended += 1
        return _attend(own, hidden_states, kwargs["position_embeddings"], layout), None

    return forward


_BEYOND = ("attn_logit_softcapping", "logit_cap", "sinks")
"""What attention modules name that changes the scores after the product."""


def _attend(
    own: Any,
    hidden: torch.Tensor,
    turns: tuple[torch.Tensor, torch.Tensor],
    layout: Layout | TreeLayout,
) -> torch.Tensor:
    shape = (hidden.shape[:-1].numel(), -1, own.head_dim)
    query, key, value = (
        project(hidden).reshape(shape) for project in (own.q_proj, own.k_proj, own.v_proj)
    )
    if hasattr(own, "q_norm"):
        query, key = own.q_norm(query), own.k_norm(key)
    cos, sin = (t.expand(*hidden.shape[:-1], -1).reshape(shape[0], -1) for t in turns)
    query, key = rotate(query, cos, sin), rotate(key, cos, sin)
    # A method may lift some of them to float32 (a scaled key); torch's kernel lowers them too.
    query, key, value = (x.to(_autocast_type(x)) for x in (query, key, value))
    if isinstance(layout, TreeLayout):
        done = tree_attention(query, key, value, layout, scale=own.scaling)
    else:
        done = packed_attention(query, key, value, layout, scale=own.scaling)
    answered: torch.Tensor = own.o_proj(done.reshape(*hidden.shape[:-1], -1))
    return answered


def _autocast_type(x: torch.Tensor) -> torch.dtype:
    is_on = torch.is_autocast_enabled(x.device.type)
    return torch.get_autocast_dtype(x.device.type) if is_on else x.dtype


_KINDS: dict[str, Callable[[nn.Module, Fusion], Callable[..., Any] | None]] = {
    "norm": _norm,
    "unit": _unit,
    "attention": _attention,
}


def _agrees(kind: str, module: nn.Module, forward: Callable[..., Any], fusion: Fusion) -> bool:
    """Whether the fused forward gives what the module's own gives, on a probe, without dropout."""
    probe, arguments = _probe(kind, module)
    with torch.no_grad(), _as_it_runs(probe), _probing(module, fusion):
        try:
            own = module.forward(probe, **arguments)
            fusion.layout = find_layout(torch.arange(_TOKENS)[None]).to(probe.device)
            ours = forward(probe, **arguments)
        except (TypeError, ValueError, RuntimeError, AttributeError, KeyError):
            return False
    first, second = (o[0] if isinstance(o, tuple) else o for o in (own, ours))
    if first.shape != second.shape:
        return False
    difference = (first.float() - second.float()).norm() / first.float().norm().clamp_min(1e-12)
    return bool(difference <= _TOLERANCE.get(first.dtype, 1e-4))


def _as_it_runs(probe: torch.Tensor) -> AbstractContextManager[Any]:
    """Where weights have 16 bits or fewer, float32 layers of adapters fit by autocast alone."""
    if probe.dtype == torch.float32:
        return nullcontext()
    return torch.autocast(probe.device.type, dtype=probe.dtype)


@contextmanager
def _probing(module: nn.Module, fusion: Fusion) -> Iterator[None]:
    """All rows are the first run's, and nothing is dropped; afterwards all is as it was."""
    bounds = fusion.rows.bounds
    modes = [(m, m.training) for m in module.modules()]
    fusion.rows.bounds = [(0, _TOKENS if n == 0 else 0) for n in range(len(bounds))]
    module.eval()
    try:
        yield
    finally:
        fusion.layout, fusion.rows.bounds = None, bounds
        for part, mode in modes:
            part.training = mode


_TOKENS = 12
"""Length of the probe."""


def _probe(kind: str, module: Any) -> tuple[torch.Tensor, dict[str, Any]]:
    """An input for a module of that kind, and what else its forward takes; no global randomness."""
    if kind == "norm":
        weight, width = module.weight, module.weight.shape[-1]
    else:
        first = module.gate_proj if kind == "unit" else module.q_proj
        weight, width = next(module.parameters()), first.in_features
    dtype = weight.dtype if weight.dtype in _TOLERANCE else torch.bfloat16
    drawn = torch.randn(1, _TOKENS, width, generator=torch.Generator().manual_seed(0))
    probe = drawn.to(weight.device, dtype)
    if kind != "attention":
        return probe, {}
    angles = torch.arange(_TOKENS)[:, None] * 0.7 ** torch.arange(module.head_dim // 2)
    turns = torch.cat([angles, angles], -1)[None].to(weight.device)
    mask = torch.full((_TOKENS, _TOKENS), torch.finfo(dtype).min).triu(1)
    return probe, {
        "position_embeddings": (turns.cos().to(dtype), turns.sin().to(dtype)),
        "attention_mask": mask[None, None].to(weight.device, dtype),
    }
