"""Checkpoints that are quantized already: what their config says, and on which bits they go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from maple.catalog.load import entry_names, load_quantizer
from maple.catalog.stored_int4 import StoredInt4

if TYPE_CHECKING:
    from transformers import PreTrainedConfig

_LAYOUTS = {"gptq": {"gptq", "gptq_v2"}, "awq": {"gemm"}}
"""How codes of a method lie in a checkpoint, of what is read here."""


def stored_quantization(config: Mapping[str, Any]) -> str | None:
    """Catalog name of what a checkpoint's weights are; None where they are plain numbers.

    Args:
        config: the content of ``config.json``.
    """
    fields = config.get("quantization_config")
    if not fields:
        return None
    method = str(fields.get("quant_method", "unknown"))
    if method != "bitsandbytes":
        bits = fields.get("bits", fields.get("w_bit", 4))
        return method if bits == 4 else f"{method} in {bits} bits"
    if fields.get("load_in_8bit"):
        return "int8"
    values = fields.get("bnb_4bit_quant_type", "fp4")
    return str(values) if fields.get("bnb_4bit_use_double_quant") else f"{values}-single"


def other_bits(config: Mapping[str, Any], quantization: str) -> str | None:
    """Why a checkpoint cannot be had in those bits; None where it can.

    One that is quantized already is taken as it is, or not at all.
    """
    own = stored_quantization(config)
    if own == quantization:
        return _other_layout(config, own)
    if own is None:
        return None
    known = own in entry_names("quantization")
    return (
        f"it is stored as {own}: its weights cannot be had as {quantization}. "
        + (f"Set quantization to {own}, or n" if known else "N")
        + "ame the checkpoint that it was made from"
    )


def takes_stored(quantization: str) -> bool:
    """Whether a quantizer takes checkpoints that are quantized already, and quantizes none."""
    return isinstance(load_quantizer(quantization), StoredInt4)


def as_read_here(config: PreTrainedConfig) -> PreTrainedConfig:
    """A checkpoint's config, from which ``transformers`` reads GPTQ and AWQ without their kernels.

    Args:
        config: of a checkpoint that ``other_bits`` does not refuse; may be changed.
    """
    fields = config.to_dict()
    own = stored_quantization(fields)
    if own not in _LAYOUTS:
        return config
    from maple.catalog.int4_checkpoint import read_here

    return read_here(config, "awq" if own == "awq" else _layout(fields))


def _layout(config: Mapping[str, Any]) -> str:
    """How the codes lie: ``checkpoint_format`` in GPTQ's configs, ``version`` in AWQ's."""
    fields = config["quantization_config"]
    method = fields["quant_method"]
    keys = ("checkpoint_format", "format") if method == "gptq" else ("version", "format")
    stated = next((fields[key] for key in keys if fields.get(key)), None)
    return str(stated or ("gptq" if method == "gptq" else "gemm")).lower()


def _other_layout(config: Mapping[str, Any], own: str) -> str | None:
    if own not in _LAYOUTS or (layout := _layout(config)) in _LAYOUTS[own]:
        return None
    known = " and ".join(sorted(_LAYOUTS[own]))
    return (
        f"it is stored as {own} in the layout {layout!r}, and {known} is what can be read. Name a "
        "checkpoint in that layout, or the one that it was made from"
    )


def plain_weights(config: Mapping[str, Any], quantization: str) -> str | None:
    """Why a checkpoint of plain weights cannot be had in those bits; None where it can."""
    if not takes_stored(quantization) or stored_quantization(config):
        return None
    return (
        f"{quantization} takes checkpoints that were quantized by it, and this one holds plain "
        "weights. Name such a checkpoint, or quantize while loading, for example by nf4"
    )
