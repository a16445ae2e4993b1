"""What bits do to a base: bytes held, error of every linear layer, change of the logits.

fp32 base ── weights W, probe logits ──┐
base in other bits ── bytes, W', probe logits ──┴──▶ |W' - W| / |W|, and likewise of logits
"""

from __future__ import annotations

import gc
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maple.base import LoadedBase, select_device
from maple.catalog import entry_names, load_quantizer, missing_library
from maple.catalog.stored import takes_stored
from maple.errors import UsageError, unknown_name
from maple.evaluate import probe_logits
from maple.files import Files
from maple.run.cohort import load_model
from maple.study import ModelRef

if TYPE_CHECKING:
    import torch
    from torch import nn


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """One linear layer: how far what it multiplies by is from the checkpoint's weights."""

    name: str
    kind: str
    """Last part of the name: ``q_proj``."""
    weights: int
    bytes: int
    """Held in memory, constants included, without a bias."""
    rms_error: float
    """Root mean square of the difference over that of the weights."""
    max_error: float
    """Largest absolute difference, in the weights' own unit."""


@dataclass(frozen=True, kw_only=True)
class ShownQuantization:
    """What one quantizer does to one base."""

    quantization: str
    bits_per_weight: float
    """Of the linear layers but the head; bytes held, not the nominal bits."""
    linear_bytes: int
    base_bytes: int
    """The whole base: linear layers, embeddings, norms and head."""
    logits_rms_error: float
    """On the probe prompts, over the standard deviation of fp32's logits."""
    logits_max_error: float
    same_top_token: float
    """Share of positions whose most likely token is fp32's."""
    layers: tuple[LayerError, ...]

    @property
    def kinds(self) -> dict[str, list[LayerError]]:
        """The layers by kind, in the order of a block."""
        found: dict[str, list[LayerError]] = {}
        for layer in self.layers:
            found.setdefault(layer.kind, []).append(layer)
        return found

    @property
    def median_rms_error(self) -> float:
        """Of all linear layers."""
        return statistics.median(layer.rms_error for layer in self.layers)

    @property
    def worst(self) -> LayerError:
        """The layer with the largest relative error."""
        return max(self.layers, key=lambda layer: layer.rms_error)


def choose_quantizers(wanted: str) -> tuple[list[str], dict[str, str]]:
    """Names out of a comma-separated list, or all that run here.

    Returns:
        The names, and of ``all`` those that do not run here with the reason.

    Raises:
        UsageError: a name is not in the catalog.
    """
    known = entry_names("quantization")
    if wanted != "all":
        names = [name.strip() for name in wanted.split(",") if name.strip()]
        for name in names:
            if name not in known:
                raise UsageError(unknown_name("quantization", name, known))
        return names, {}
    reasons = {name: _why_not(name) for name in known}
    missing = {name: reason for name, reason in reasons.items() if reason}
    runnable = [name for name in known if name not in missing]
    return sorted(runnable, key=lambda name: (-load_quantizer(name).bits, name)), missing


def _why_not(name: str) -> str | None:
    if takes_stored(name):
        return "it takes checkpoints that are quantized already"
    return missing_library(load_quantizer(name))


def show_quantization(
    model: str, names: Sequence[str], files: Files, *, device: torch.device | None = None
) -> Iterator[ShownQuantization]:
    """Loads a base in float32, then in each of the named ways, and compares.

    Args:
        model: Hub repository, directory, or an embedded base.
        names: of quantizers.
        files: where bytes come from.
        device: where the bases go; None: the accelerator where there is one.

    Raises:
        SourceError: the model cannot be had, or its weights are quantized already.
        TrainingError: a quantizer does not run here.
    """
    import torch

    place = device or select_device()
    exact = load_model(ModelRef(name=model), "fp32", files, device=place)
    logits = probe_logits(exact.model, exact)
    # On the CPU, so that a GPU holds one base at a time.
    weights = {n: m.weight.detach().cpu() for n, m in _linears(exact.model).items()}
    del exact
    for name in names:
        gc.collect()
        base = load_model(ModelRef(name=model), name, files, device=place)
        with torch.no_grad():
            yield _compare(name, base, weights, logits)
        del base


def held_bytes(modules: Sequence[nn.Module]) -> int:
    """Bytes of every tensor that modules hold themselves, quantization constants included.

    A storage that several of them share counts once.
    """
    seen: dict[int, Any] = {}
    storages: dict[int, int] = {}
    for module in modules:
        held = {k: v for k, v in vars(module).items() if k != "_modules"}
        for tensor in _tensors(held, seen):
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())


def _compare(
    name: str,
    base: LoadedBase,
    weights: Mapping[str, torch.Tensor],
    exact_logits: Sequence[torch.Tensor],
) -> ShownQuantization:
    import torch

    modules = dict(base.model.named_modules())
    layers = tuple(_layer_error(n, modules[n], weight) for n, weight in weights.items())
    linear_bytes = held_bytes([modules[n] for n in weights]) - _bias_bytes(modules, weights)
    base_bytes = held_bytes(list(modules.values()))
    found = torch.cat(probe_logits(base.model, base))
    exact = torch.cat(list(exact_logits))
    difference = found - exact
    return ShownQuantization(
        quantization=name,
        bits_per_weight=8 * linear_bytes / sum(weight.numel() for weight in weights.values()),
        linear_bytes=linear_bytes,
        base_bytes=base_bytes,
        logits_rms_error=float(difference.pow(2).mean().sqrt() / exact.std()),
        logits_max_error=float(difference.abs().max()),
        same_top_token=float((found.argmax(-1) == exact.argmax(-1)).float().mean()),
        layers=layers,
    )


def _layer_error(name: str, module: Any, weight: torch.Tensor) -> LayerError:
    from peft.utils.integrations import dequantize_module_weight

    difference = dequantize_module_weight(module).detach().float().cpu() - weight
    size = float(weight.norm())
    bias = _bias_bytes({name: module}, [name])
    return LayerError(
        name=name,
        kind=name.rsplit(".", 1)[-1],
        weights=weight.numel(),
        bytes=held_bytes([module]) - bias,
        rms_error=float(difference.norm()) / size if size else 0.0,
        max_error=float(difference.abs().max()),
    )


def _bias_bytes(modules: Mapping[str, Any], names: Sequence[str] | Mapping[str, Any]) -> int:
    biases = [modules[name].bias for name in names]
    return sum(b.numel() * b.element_size() for b in biases if b is not None)


def _linears(model: Any) -> dict[str, nn.Linear]:
    import torch

    head = model.get_output_embeddings()
    return {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    }


def _tensors(thing: Any, seen: dict[int, Any]) -> Iterator[torch.Tensor]:
    """Tensors in a module's attributes: its own, and those of a library's objects among them.

    What was seen is kept in ``seen``, lest its id be given to another object.
    """
    import torch

    if id(thing) in seen:
        return
    seen[id(thing)] = thing
    if isinstance(thing, torch.Tensor):
        parts = getattr(thing, "__tensor_flatten__", None)
        if parts is None:
            yield thing.data
        else:  # a tensor that only looks like one, as torchao's
            for part in parts()[0]:
                yield from _tensors(getattr(thing, part), seen)
        yield from _tensors(getattr(thing, "__dict__", {}), seen)
    elif isinstance(thing, dict):
        for value in thing.values():
            yield from _tensors(value, seen)
    elif type(thing).__module__.startswith("bitsandbytes.") and not isinstance(
        thing, torch.nn.Module
    ):
        yield from _tensors(vars(thing), seen)
