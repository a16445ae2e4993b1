"""Checkpoints that are quantized already: what their config says, and on which bits they go."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from maple.catalog.load import entry_names, load_quantizer

_TAKES_STORED_ONLY = "gptqmodel"
"""The library whose quantizers take checkpoints that are quantized, and quantize none."""


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
    if own in (None, quantization):
        return None
    known = own in entry_names("quantization")
    return (
        f"it is stored as {own}: its weights cannot be had as {quantization}. "
        + (f"Set quantization to {own}, or n" if known else "N")
        + "ame the checkpoint that it was made from"
    )


def plain_weights(config: Mapping[str, Any], quantization: str) -> str | None:
    """Why a checkpoint of plain weights cannot be had in those bits; None where it can."""
    if load_quantizer(quantization).library != _TAKES_STORED_ONLY or stored_quantization(config):
        return None
    return (
        f"{quantization} takes checkpoints that were quantized by it, and this one holds plain "
        "weights. Name such a checkpoint, or quantize while loading, for example by nf4"
    )
