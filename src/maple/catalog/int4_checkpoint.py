"""Reads GPTQ and AWQ checkpoints: 4-bit codes as they were stored, on any device, by no kernel.

    W'[in, out] = (code - zero[g, out]) * scale[g, out]      g: the group that input belongs to

    gptq     qweight (in/8, out): 8 inputs in a word      zeros stored less 1 (gptq_v2: as they are)
             g_idx (in,): groups of inputs that need not lie side by side
    awq      qweight (in, out/8): 8 outputs in a word, in the order 0 2 4 6 1 3 5 7

``transformers`` reads the tensors into stand-ins of the linear layers, which then become
``GroupInt4``. Source: the layouts as ``gptqmodel`` 7.7 and AutoAWQ write them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors import safe_open
from torch import nn
from transformers import PreTrainedConfig
from transformers.quantizers.auto import register_quantization_config, register_quantizer
from transformers.quantizers.base import HfQuantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from maple.catalog.packed import GroupInt4

_NAME = "maple-int4"
_PARTS = ("qweight", "qzeros", "scales", "g_idx", "bias")
_DTYPES = {"I32": torch.int32, "F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
_COLUMN_OF_AWQ = [0, 4, 1, 5, 2, 6, 3, 7]
"""Where in a word the eight outputs stand, in their own order."""


def read_here(config: PreTrainedConfig, layout: str) -> PreTrainedConfig:
    """The config of such a checkpoint, with this reader named in the place of its own.

    Args:
        config: as ``AutoConfig`` gives it; changed.
        layout: ``gptq``, ``gptq_v2`` or ``awq``.
    """
    config.quantization_config = {"quant_method": _NAME, "layout": layout}
    return config


@register_quantization_config(_NAME)
class Int4CheckpointConfig(QuantizationConfigMixin):
    """Which layout the codes are stored in."""

    def __init__(self, layout: str, quant_method: str = _NAME) -> None:
        """Keeps what ``read_here`` wrote."""
        self.layout = layout
        vars(self)["quant_method"] = quant_method  # transformers types it by its own methods


@register_quantizer(_NAME)
class Int4CheckpointReader(HfQuantizer):
    """Puts stand-ins in the places of what is stored as codes, and layers in theirs."""

    def _process_model_before_weight_loading(
        self, model: Any, checkpoint_files: Sequence[str] = (), **_: Any
    ) -> None:
        modules = dict(model.named_modules())
        for name, tensors in _stored_layers(checkpoint_files).items():
            linear = modules.get(name)
            if not isinstance(linear, nn.Linear) or linear is model.get_output_embeddings():
                raise ValueError(
                    f"{name} is stored in codes, and is no linear layer within a block of the "
                    "architecture: such codes are not read"
                )
            model.set_submodule(name, _StoredLinear(linear, tensors))

    def _process_model_after_weight_loading(self, model: Any, **_: Any) -> Any:
        layout = vars(self.quantization_config)["layout"]
        for name, module in list(model.named_modules()):
            if isinstance(module, _StoredLinear):
                model.set_submodule(name, _unpacked(name, module, layout))
        self.remove_quantization_config(model)  # type: ignore[no-untyped-call]
        return model

    def is_serializable(self) -> bool:
        """Never: what is in memory is no longer what was stored."""
        return False

    @property
    def is_trainable(self) -> bool:
        """Adapters on it are."""
        return True


class _StoredLinear(nn.Module):
    """A linear layer's tensors as they lie in the checkpoint."""

    def __init__(self, linear: nn.Linear, tensors: Mapping[str, torch.Tensor]) -> None:
        super().__init__()
        self.shape = (linear.out_features, linear.in_features)
        self.dtype = linear.weight.dtype
        for part, tensor in tensors.items():
            self.register_buffer(part, tensor)

    def part(self, name: str) -> torch.Tensor | None:
        return dict(self.named_buffers()).get(name)


def _stored_layers(files: Sequence[str]) -> dict[str, dict[str, torch.Tensor]]:
    """By layer, empty tensors of the sizes and types of its parts."""
    found: dict[str, dict[str, torch.Tensor]] = {}
    for file in files:
        with safe_open(str(file), framework="pt") as stored:
            for key in stored.keys():  # noqa: SIM118 (not a mapping)
                layer, _, part = key.rpartition(".")
                if part in _PARTS:
                    told = stored.get_slice(key)
                    dtype = _DTYPES[told.get_dtype()]
                    empty = torch.empty(told.get_shape(), dtype=dtype, device="meta")
                    found.setdefault(layer, {})[part] = empty
    return {layer: parts for layer, parts in found.items() if "qweight" in parts}


def _unpacked(name: str, stored: _StoredLinear, layout: str) -> GroupInt4:
    """The layer that multiplies by what the codes stand for.

    Raises:
        ValueError: the tensors' sizes are not those of 4-bit codes in equal groups.
    """
    outputs, inputs = stored.shape
    words, scales = stored.part("qweight"), stored.part("scales")
    zeros, groups_of = stored.part("qzeros"), stored.part("g_idx")
    n_groups = 0 if scales is None else len(scales)
    size = inputs // n_groups if n_groups else 0
    expected = (inputs, outputs // 8) if layout == "awq" else (inputs // 8, outputs)
    if words is None or scales is None or zeros is None or words.shape != expected:
        raise ValueError(f"{name} is not stored as {layout} stores 4-bit codes of {stored.shape}")
    if size * n_groups != inputs or size % 2:
        raise ValueError(f"{name} has {n_groups} groups of {inputs} inputs, which are not equal")
    codes, zero = _awq(words, zeros) if layout == "awq" else _gptq(words, zeros, layout)
    codes = codes.t()
    order = None
    if groups_of is not None and bool((groups_of.diff() < 0).any()):
        sorted_inputs = groups_of.argsort(stable=True)
        codes, order = codes[:, sorted_inputs], sorted_inputs.argsort().to(torch.int32)
    linear = nn.Linear(inputs, outputs, bias=False, device="meta")
    if (bias := stored.part("bias")) is not None:
        linear.bias = nn.Parameter(bias.to(stored.dtype), requires_grad=False)
    return GroupInt4(
        linear,
        codes.reshape(-1, size).contiguous(),
        scales.t().reshape(-1, 1).contiguous(),
        zero.t().reshape(-1, 1).contiguous(),
        order=order,
    )


def _gptq(
    words: torch.Tensor, zeros: torch.Tensor, layout: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (in, out) and zero points (groups, out)."""
    codes = _nibbles(words).transpose(1, 2).flatten(0, 1)
    zero = _nibbles(zeros).flatten(1)
    return codes, zero if layout == "gptq_v2" else (zero + 1) & 15


def _awq(words: torch.Tensor, zeros: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Codes (in, out) and zero points (groups, out)."""
    codes, zero = (_nibbles(of)[..., _COLUMN_OF_AWQ].flatten(1) for of in (words, zeros))
    return codes, zero


def _nibbles(words: torch.Tensor) -> torch.Tensor:
    """(...) int32 -> (..., 8) uint8, the lowest four bits first."""
    parts = [((words >> shift) & 15).to(torch.uint8) for shift in range(0, 32, 4)]
    return torch.stack(parts, dim=-1)
