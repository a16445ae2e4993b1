"""Bottleneck adapters in a model: put on by hooks, so that no module of the base is replaced.

    x (..., hidden) ── down (width, hidden) ── f ── up (hidden, width) ── * scale ── + ── y

At an output x is y; beside the feed-forward x is its input, and y its output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from maple.errors import TrainingError

_NONLINEARITIES: dict[str, Callable[[torch.Tensor], torch.Tensor]] = {
    "relu": nn.functional.relu,
    "gelu": nn.functional.gelu,
    "silu": nn.functional.silu,
    "tanh": torch.tanh,
}
_NAME = "bottleneck"
"""Under which an adapter is a child of the module it is hooked to."""


class Bottleneck(nn.Module):
    """One adapter: float32 weights, whatever the base computes in."""

    def __init__(
        self, hidden: int, width: int, *, nonlinearity: str, dropout: float, scale: float
    ) -> None:
        """Draws the down-projection from torch's generator; the up-projection is zero."""
        super().__init__()
        self.down = nn.Linear(hidden, width, dtype=torch.float32)
        self.up = nn.Linear(width, hidden, dtype=torch.float32)
        self.dropout = nn.Dropout(dropout)
        self.scale = scale
        self._nonlinearity = _NONLINEARITIES[nonlinearity]
        self._host: nn.Module | None = None
        self._handle: torch.utils.hooks.RemovableHandle | None = None
        for weight in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """What is added: (..., hidden) -> (..., hidden), in the dtype of ``x``."""
        dtype = x.dtype
        if not torch.is_autocast_enabled(x.device.type):
            x = x.to(self.down.weight.dtype)
        added: torch.Tensor = self.up(self._nonlinearity(self.down(x))) * self.scale
        dropped: torch.Tensor = self.dropout(added)
        return dropped.to(dtype)

    def hook_to(self, host: nn.Module, *, reads_input: bool) -> None:
        """Adds itself to the host's output from now on."""

        def add(_: nn.Module, arguments: tuple[Any, ...], output: Any) -> Any:
            # Decoder layers of some architectures return a tuple, hidden states first.
            first = output[0] if isinstance(output, tuple) else output
            adapted = first + self(arguments[0] if reads_input else first)
            return (adapted, *output[1:]) if isinstance(output, tuple) else adapted

        if hasattr(host, _NAME):
            raise TrainingError("a bottleneck adapter is on this base already. Take it off first.")
        host.add_module(_NAME, self)
        # Not through nn.Module's registry, which would make the host its own grandchild.
        object.__setattr__(self, "_host", host)
        self._handle = host.register_forward_hook(add)

    def take_off(self) -> None:
        """Leaves the host as it was."""
        if self._handle is not None and self._host is not None:
            self._handle.remove()
            delattr(self._host, _NAME)


def put_on(
    model: nn.Module, places: Sequence[str], settings: Mapping[str, Any]
) -> list[Bottleneck]:
    """Hooks a new adapter to every named place of every block, in the order of the blocks.

    Raises:
        TrainingError: the blocks have not one o_proj and one down_proj each.
    """
    config: Any = model.config
    adapters = []
    for host, place in list(_hosts(model, places)):
        adapter = Bottleneck(config.hidden_size, **settings)
        # Drawn on the CPU, so that a seed means the same weights on every device.
        adapter.to(next(host.parameters()).device).train(host.training)
        adapter.hook_to(host, reads_input=place == "beside-feed-forward")
        adapters.append(adapter)
    return adapters


def adapter_tensors(model: nn.Module) -> dict[str, torch.Tensor]:
    """Every adapter's weights by the path of its host: ``model.layers.0.mlp.down.weight``."""
    return {
        f"{name.removesuffix('.' + _NAME)}.{own}": value.detach()
        for name, module in model.named_modules()
        if isinstance(module, Bottleneck)
        for own, value in module.named_parameters()
    }


def write_tensors(tensors: Mapping[str, torch.Tensor], path: Path) -> None:
    """Writes them as safetensors, in the order of their names."""
    from safetensors.torch import save_file

    copied = {name: tensors[name].cpu().contiguous() for name in sorted(tensors)}
    save_file(copied, str(path), metadata={"format": "pt"})


def fill(model: nn.Module, stored: Mapping[str, torch.Tensor]) -> None:
    """Copies stored weights into the adapters on a model, and freezes them.

    Raises:
        ValueError: names or shapes are not those of the adapters.
    """
    own = adapter_tensors(model)
    shapes = {name: value.shape for name, value in own.items()}
    differing = {n for n in shapes.keys() | stored.keys()
                 if n not in shapes or n not in stored or shapes[n] != stored[n].shape}  # fmt: skip
    if differing:
        raise ValueError(
            f"its weights are not those of an adapter for this base: {len(differing)} tensors are "
            f"missing, unknown or of another shape, {min(differing)} among them"
        )
    for name, value in own.items():
        value.copy_(stored[name])
    for module in model.modules():
        if isinstance(module, Bottleneck):
            module.requires_grad_(False)


def _hosts(model: nn.Module, places: Sequence[str]) -> Iterator[tuple[nn.Module, str]]:
    modules = dict(model.named_modules())
    attention, feed_forward = (
        [name for name in modules if name.rsplit(".", 1)[-1] == own]
        for own in ("o_proj", "down_proj")
    )
    config: Any = model.config
    found = (len(attention), len(feed_forward))
    if found != (config.num_hidden_layers,) * 2:
        raise TrainingError(
            f"bottleneck adapters need one o_proj and one down_proj in each of the base's "
            f"{config.num_hidden_layers} blocks; it has {found[0]} and {found[1]}. Choose a "
            "method that takes a list of targets, such as lora."
        )
    for projection, output in zip(attention, feed_forward, strict=True):
        mlp = output.rpartition(".")[0]
        paths = {
            "attention-output": projection,
            "feed-forward-output": output,
            "beside-feed-forward": mlp,
            "block-output": mlp.rpartition(".")[0],
        }
        for place in places:
            yield modules[paths[place]], place
