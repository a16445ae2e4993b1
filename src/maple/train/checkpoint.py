"""Everything a killed run needs to go on as if it had not been killed, as one safetensors blob.

Holds the trainable parameters, the optimiser's state, every random generator, the hooks' state,
what a keeper holds (the best parameters so far, or their mean) and the curve so far, held-out
losses in it. The data position is the step number: batches are a pure function of it.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol

from maple.catalog.contracts import TrainingHooks
from maple.errors import StoreError
from maple.records import CurveRow
from maple.train.keep import Keeper
from maple.train.optimizers import optimizer_state, restore_optimizer_state

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


_BYTES_PER_SECOND = 2e8
"""What is expected of the first checkpoint: packing, writing and flushing, roughly measured."""


class CheckpointPace:
    """Decides when a checkpoint is due: never more than a share of the time goes into them."""

    def __init__(
        self, state_bytes: int = 0, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begins to count the time.

        Args:
            state_bytes: rough size of a checkpoint, from which the first one's cost is expected.
            clock: seconds.
        """
        self._clock = clock
        self._cost = state_bytes / _BYTES_PER_SECOND
        self._last = clock()

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
    keeper: Keeper | None = None,
    generator: torch.Generator | None = None,
) -> bytes:
    """Serialises a run after ``step``.

    Args:
        model: names and holds what the run trains.
        optimizer: whose state goes with the parameters.
        hooks: of the method, with their own state.
        step: the last finished one.
        curve: its rows so far.
        keeper: what is to be saved in the end, as far as it is known; None: nothing but the last.
        generator: the run's own, where it draws from one; torch's go in any case.

    Numbers that a library counts in Python (bitsandbytes' and transformers' steps) go into the
    header, where they stay numbers.
    """
    import torch
    from safetensors.torch import save

    tensors: dict[str, torch.Tensor] = {}
    trainable = _trainable(model)
    counts: dict[str, dict[str, Any]] = {}
    for name, parameter in trainable.items():
        tensors[f"parameter/{name}"] = parameter.detach()
    for name, key, value in optimizer_state(optimizer, {p: n for n, p in trainable.items()}):
        if isinstance(value, torch.Tensor):
            tensors[f"optimizer/{key}/{name}"] = value
        else:
            counts.setdefault(name, {})[key] = value
    for name, tensor in (keeper.tensors if keeper else {}).items():
        tensors[f"kept/{name}"] = tensor
    tensors |= _random_state(generator)
    if generator is not None:
        tensors["generator/own"] = generator.get_state()
    scalars: dict[str, Any] = {}
    for key, value in hooks.state_dict().items():
        if isinstance(value, torch.Tensor):
            tensors[f"hooks/{key}"] = value
        else:
            scalars[key] = value
    header = {
        "step": step,
        "curve": [asdict(r) for r in curve],
        "hooks": scalars,
        "optimizer": counts,
    }
    return bytes(save(_apart(tensors), {"maple": json.dumps(header)}))


def _apart(tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """On the CPU, whole, no two of them in one memory, which safetensors does not take.

    8-bit optimisers share one table among all parameters.
    """
    seen: set[int] = set()
    apart = {}
    for name, tensor in tensors.items():
        whole = tensor.detach().cpu().contiguous()
        memory = whole.untyped_storage()
        if memory.data_ptr() in seen or memory.nbytes() != whole.nbytes:
            whole = whole.clone()
        seen.add(whole.untyped_storage().data_ptr())
        apart[name] = whole
    return apart


def unpack_state(
    state: bytes,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    hooks: TrainingHooks,
    keeper: Keeper | None = None,
    *,
    generator: torch.Generator | None = None,
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
        counts = header.get("optimizer", {})
        restore_optimizer_state(
            optimizer,
            {p: _optimizer_state(tensors, n) | counts.get(n, {}) for n, p in trainable.items()},
        )
    _restore_random_state(_under("generator/", tensors), generator)
    if generator is not None and "generator/own" in tensors:
        generator.set_state(tensors["generator/own"])
    hooks.load_state_dict(_under("hooks/", tensors) | header["hooks"])
    curve = [CurveRow(**row) for row in header["curve"]]
    if keeper is not None:
        keeper.resume(curve, _under("kept/", tensors))
    return int(header["step"]), curve


def _optimizer_state(tensors: dict[str, torch.Tensor], name: str) -> dict[str, Any]:
    state = {}
    for path, value in _under("optimizer/", tensors).items():
        key, _, owner = path.partition("/")
        if owner == name:
            state[key] = value
    return state


def _random_state(generator: torch.Generator | None) -> dict[str, torch.Tensor]:
    import torch

    found = {"generator/cpu": torch.get_rng_state()}
    if torch.cuda.is_available():
        found["generator/cuda"] = torch.cuda.get_rng_state()
    if generator is not None:
        found[f"generator/{generator.device.type}"] = generator.get_state()
    return found


def _restore_random_state(
    states: Mapping[str, torch.Tensor], generator: torch.Generator | None
) -> None:
    import torch

    if generator is not None:
        generator.set_state(states[generator.device.type])
        return
    torch.set_rng_state(states["cpu"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])


def _under(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, Any]:
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def _trainable(model: nn.Module) -> dict[str, nn.Parameter]:
    return {n: p for n, p in model.named_parameters() if p.requires_grad}


def _metadata(state: bytes) -> dict[str, str]:
    length = int.from_bytes(state[:8], "little")
    header: dict[str, Any] = json.loads(state[8 : 8 + length])
    metadata: dict[str, str] = header["__metadata__"]
    return metadata
