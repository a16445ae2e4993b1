"""Everything a killed run needs to go on as if it had not been killed, as one safetensors blob.

Holds the trainable parameters, AdamW's moments, every random generator, the hooks' state and the
curve so far. The data position is the step number: batches are a pure function of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from maple.catalog.contracts import TrainingHooks
from maple.errors import StoreError
from maple.records import CurveRow

if TYPE_CHECKING:
    import torch
    from torch import nn

WRITING_SHARE = 0.05
"""Checkpoints take at most this share of the time: every step where they are cheap."""


class CheckpointStore(Protocol):
    """Where a checkpoint goes; ``run`` passes the store's own."""

    def load(self) -> bytes | None:
        """The last checkpoint, or None."""

    def save(self, state: bytes) -> None:
        """Replaces it in one step."""


class CheckpointPace:
    """Decides when a checkpoint is due: never more than a share of the time goes into them."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._cost = 0.0
        self._last = -float("inf")

    def is_due(self) -> bool:
        """Whether enough time has passed since the last one, given what it cost."""
        return self._clock() - self._last >= self._cost / WRITING_SHARE

    def record(self, seconds: float) -> None:
        """Tells what the last checkpoint cost."""
        self._cost = seconds
        self._last = self._clock()


def pack_state(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    hooks: TrainingHooks,
    *,
    step: int,
    curve: list[CurveRow],
) -> bytes:
    """Serialises a run after ``step``."""
    import torch
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    for name, parameter in _trainable(model).items():
        tensors[f"parameter/{name}"] = parameter.detach()
        for key, value in optimizer.state.get(parameter, {}).items():
            tensors[f"optimizer/{key}/{name}"] = torch.as_tensor(value)
    tensors["generator/cpu"] = torch.get_rng_state()
    if torch.cuda.is_available():
        tensors["generator/cuda"] = torch.cuda.get_rng_state()
    scalars: dict[str, Any] = {}
    for key, value in hooks.state_dict().items():
        if isinstance(value, torch.Tensor):
            tensors[f"hooks/{key}"] = value
        else:
            scalars[key] = value
    header = {"step": step, "curve": [asdict(r) for r in curve], "hooks": scalars}
    copied = {k: v.detach().cpu().contiguous().clone() for k, v in tensors.items()}
    return bytes(save(copied, {"maple": json.dumps(header)}))


def unpack_state(
    state: bytes, model: nn.Module, optimizer: torch.optim.Optimizer, hooks: TrainingHooks
) -> tuple[int, list[CurveRow]]:
    """Restores a run; returns the last finished step and the curve so far.

    Raises:
        StoreError: the checkpoint is broken, or of other parameters than the model's.
    """
    import torch
    from safetensors import SafetensorError
    from safetensors.torch import load

    again = "Delete its folder `checkpoint/` to start this run again."
    try:
        header = json.loads(_metadata(state)["maple"])
        tensors = load(state)
    except (ValueError, KeyError, SafetensorError) as error:
        raise StoreError(f"the checkpoint cannot be read: {error}. {again}") from error
    trainable = _trainable(model)
    stored = {k: v.shape for k, v in tensors.items() if k.startswith("parameter/")}
    if stored != {f"parameter/{name}": p.shape for name, p in trainable.items()}:
        raise StoreError(f"the checkpoint holds other parameters than the run trains. {again}")
    with torch.no_grad():
        for name, parameter in trainable.items():
            parameter.copy_(tensors[f"parameter/{name}"])
            restored = _optimizer_state(tensors, name, parameter)
            if restored:
                optimizer.state[parameter] = restored
    torch.set_rng_state(tensors["generator/cpu"])
    if "generator/cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["generator/cuda"])
    hook_tensors = {
        k.removeprefix("hooks/"): v for k, v in tensors.items() if k.startswith("hooks/")
    }
    hooks.load_state_dict(hook_tensors | header["hooks"])
    return int(header["step"]), [CurveRow(**row) for row in header["curve"]]


def _optimizer_state(
    tensors: dict[str, torch.Tensor], name: str, parameter: nn.Parameter
) -> dict[str, Any]:
    state = {}
    for key, value in tensors.items():
        group, _, rest = key.partition("/")
        kind, _, owner = rest.partition("/")
        if group == "optimizer" and owner == name:
            # AdamW's step counter stays where torch put it: fused on the device, else the CPU.
            state[kind] = (
                value
                if value.dim() == 0 and parameter.device.type == "cpu"
                else value.to(parameter.device)
            )
    return state


def _trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


def _metadata(state: bytes) -> dict[str, str]:
    length = int.from_bytes(state[:8], "little")
    header: dict[str, Any] = json.loads(state[8 : 8 + length])
    metadata: dict[str, str] = header["__metadata__"]
    return metadata
