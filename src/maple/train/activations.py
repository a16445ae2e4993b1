"""What becomes of a forward pass's activations until the backward pass reads them.

    keep        they stay: the fastest
    recompute   a block keeps its input alone, and runs again in the backward pass
    offload     they go to the host and come back: for a device that cannot hold the blocks' inputs

None of them changes a number. Source of recompute: Chen et al. 2016 (arXiv 1604.06174).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from maple.study import TrainingSettings

if TYPE_CHECKING:
    import torch
    from torch import nn

Activations = Literal["keep", "recompute", "offload"]

USABLE_SHARE = 0.8
"""Of the memory that is free now, what activations may take."""


def choose_activations(
    settings: TrainingSettings, *, kept: int | None, inputs: int | None, free: int, on_gpu: bool
) -> Activations:
    """Keeps activations where they fit, as ``gradient_checkpointing: auto`` asks.

    Args:
        settings: true and false are taken at their word.
        kept: bytes of all activations of one forward pass; None: not known.
        inputs: bytes of the blocks' inputs alone, and of one block's activations.
        free: bytes of the device that are free now.
        on_gpu: whether there is another memory to offload to.
    """
    if settings.gradient_checkpointing != "auto":
        return "recompute" if settings.gradient_checkpointing else "keep"
    usable = USABLE_SHARE * free
    if kept is None or kept <= usable:
        return "keep"
    too_many = inputs is not None and inputs > usable
    return "offload" if on_gpu and too_many else "recompute"


def free_bytes(device: torch.device) -> int:
    """Bytes that a process could still take on a device."""
    import psutil
    import torch

    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(free + held)
    return int(psutil.virtual_memory().available)


@contextmanager
def training_mode(model: nn.Module, activations: Activations) -> Iterator[None]:
    """Puts a model in training mode with its activations dealt with, until the block ends."""
    from torch.autograd.graph import save_on_cpu

    model.train()
    if activations == "recompute":
        _checkpointing(model, "enable")({"use_reentrant": False})
    try:
        if activations == "offload":
            with save_on_cpu():
                yield
        else:
            yield
    finally:
        if activations == "recompute":
            _checkpointing(model, "disable")()
        model.eval()


def _checkpointing(model: nn.Module, verb: str) -> Callable[..., None]:
    # transformers 5.2x calls it activation checkpointing and warns at the name before.
    name = f"activation_checkpointing_{verb}"
    found: Any = getattr(model, name, None) or getattr(model, f"gradient_checkpointing_{verb}")
    return found  # type: ignore[no-any-return]
