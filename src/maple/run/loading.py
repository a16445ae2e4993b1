"""The lines of Python that load a trained adapter, without Maple wherever that can be."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from maple.catalog import load_quantizer

CONFIG = "adapter_config.json"
_PLAIN = ("torch", "bitsandbytes")
"""Packages whose bits ``transformers`` loads from what the lines can state."""


def peft_type(directory: Path) -> str | None:
    """The type in an adapter's config where ``peft`` knows it; None for any other directory.

    Raises:
        ValueError: the config is not JSON.
    """
    from peft import PeftType

    path = directory / CONFIG
    if not path.is_file():
        return None
    named = str(json.loads(path.read_text(encoding="utf-8")).get("peft_type"))
    return named if named in {str(kind.value) for kind in PeftType} else None


def loading_lines(
    directory: Path, *, base: str, revision: str | None = None, quantization: str
) -> list[str]:
    """Python that loads an adapter on its base, three lines at most.

    They need ``maple`` only where ``peft`` has no such method, or ``transformers`` no such bits.

    Args:
        directory: as ``maple train`` left it.
        base: the directory or Hub repository of the base.
        revision: the commit of a repository; None for a directory.
        quantization: what it was trained on.
    """
    if not (directory / CONFIG).is_file():
        return [
            "from transformers import AutoModelForCausalLM",
            f"model = AutoModelForCausalLM.from_pretrained({str(directory)!r})",
        ]
    call, names = _base(base, revision, quantization)
    if peft_type(directory) is None:
        loader, called = "maple.catalog.bottleneck import load_bottleneck", "load_bottleneck"
    else:
        loader, called = "peft import PeftModel", "PeftModel.from_pretrained"
    return [
        f"from {loader}; {names}",
        f"base = {call}",
        f"model = {called}(base, {str(directory)!r})",
    ]


def loading_notes(directory: Path, quantization: str) -> list[str]:
    """What one must know to get Maple's numbers from those lines."""
    quantizer = load_quantizer(quantization)
    notes = []
    if quantizer.compute_dtype != "float32":
        dtype = f"torch.{quantizer.compute_dtype}"
        notes.append(f"within torch.autocast(..., dtype={dtype}) it computes as it was trained")
    path = directory / CONFIG
    config = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    is_packed = quantizer.bits == 4 and quantizer.library == "bitsandbytes"
    if is_packed and config.get("use_dora"):
        # bitsandbytes repacks its codes there, and the norms are taken of the bytes as they lie.
        notes.append(
            "on a CPU with AVX-512 bfloat16 first set support_avx512bf16_for_cpu = False on every "
            "Linear4bit of the base, or DoRA's norms are wrong"
        )
    return notes


def _base(base: str, revision: str | None, quantization: str) -> tuple[str, str]:
    """The call that loads a base in those bits, and the import that it needs."""
    import torch

    quantizer = load_quantizer(quantization)
    if quantizer.library not in _PLAIN:
        call = f"load_base({base!r}, quantization={quantization!r}, device=select_device()).model"
        return call, "from maple.base import load_base, select_device"
    names = "AutoModelForCausalLM"
    stated = [repr(base), f"dtype={quantizer.compute_dtype!r}"]
    if revision is not None:
        stated.append(f"revision={revision!r}")
    config = quantizer.load_kwargs(getattr(torch, quantizer.compute_dtype))
    if bits := config.get("quantization_config"):
        names += ", BitsAndBytesConfig"
        stated.append(f"quantization_config=BitsAndBytesConfig({_arguments(bits)})")
    call = f"AutoModelForCausalLM.from_pretrained({', '.join(stated)})"
    return call, f"from transformers import {names}"


def _arguments(config: Any) -> str:
    """What a configuration was given that is not its default."""
    given = {key: value for key, value in config.to_diff_dict().items() if key[0] != "_"}
    return ", ".join(f"{key}={value!r}" for key, value in given.items() if key != "quant_method")
