"""Checkpoints in GPTQ's and AWQ's layouts, made from a plain one by a definition in numpy.

Rounded to the nearest code, with no calibration: what is tested is how codes are read.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file, save_file

AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]
CONFIGS: dict[str, dict[str, Any]] = {
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False},
    "gptq_v2": {"quant_method": "gptq", "bits": 4, "checkpoint_format": "gptq_v2"},
    "gptq act-order": {"quant_method": "gptq", "bits": 4, "desc_act": True},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128, "version": "gemm"},
}


@dataclass
class Codes:
    """A weight (out, in) as codes (in, out), and a step and a zero point (groups, out)."""

    codes: Any
    scales: Any
    zeros: Any
    groups_of: Any
    """(in,) the group of each input."""

    @property
    def weight(self) -> Any:
        """(out, in), what the codes stand for."""
        scale = self.scales.astype(np.float32)[self.groups_of]
        return ((self.codes - self.zeros[self.groups_of].astype(np.float32)) * scale).T


def quantized(weight: Any, *, act_order: bool) -> Codes:
    """Nearest codes between each group's least and largest weight."""
    inputs = weight.shape[1]
    size = min(128, inputs // 2)
    groups_of = np.arange(inputs) // size
    if act_order:
        groups_of = np.random.default_rng(0).permutation(groups_of)
    zeros = np.empty((inputs // size, len(weight)), np.uint8)
    scales = np.empty(zeros.shape, np.float16)
    codes = np.empty(weight.T.shape, np.uint8)
    for group in range(len(zeros)):
        own = weight.T[groups_of == group]
        low, high = np.minimum(own.min(0), 0), np.maximum(own.max(0), 0)
        scales[group] = (high - low) / 15
        step = scales[group].astype(np.float32)
        zeros[group] = np.clip(np.rint(-low / step), 0, 15)
        codes[groups_of == group] = np.clip(np.rint(own / step) + zeros[group], 0, 15)
    return Codes(codes, scales, zeros, groups_of.astype(np.int32))


def words(eights: Any) -> Any:
    """(..., 8) codes -> (...) int32, the first in the lowest four bits."""
    shifts = np.arange(0, 32, 4, dtype=np.uint32)
    return (eights.astype(np.uint32) << shifts).sum(-1, dtype=np.uint32).view(np.int32)


def stored(found: Codes, layout: str) -> dict[str, Any]:
    """The tensors that a checkpoint holds of one layer."""
    inputs, outputs = found.codes.shape
    zeros = found.zeros.reshape(-1, outputs // 8, 8)
    if layout == "awq":
        codes = found.codes.reshape(inputs, outputs // 8, 8)[..., AWQ_ORDER]
        tensors = {"qweight": words(codes), "qzeros": words(zeros[..., AWQ_ORDER])}
    else:
        codes = found.codes.reshape(inputs // 8, 8, outputs).transpose(0, 2, 1)
        less = zeros if layout == "gptq_v2" else (zeros - 1) & 15
        tensors = {"qweight": words(codes), "qzeros": words(less), "g_idx": found.groups_of}
    return tensors | {"scales": found.scales}


def store_in_codes(plain: Path, to: Path, layout: str) -> dict[str, Any]:
    """Writes a checkpoint with its blocks' linear layers in codes; returns what they stand for."""
    shutil.copytree(plain, to, dirs_exist_ok=True)
    tensors, weights = load_file(to / "model.safetensors"), {}
    for name in [n for n in tensors if n.endswith("_proj.weight")]:
        found = quantized(tensors.pop(name).astype(np.float32), act_order="act-order" in layout)
        weights[name] = found.weight
        layer = name.removesuffix(".weight")
        tensors |= {f"{layer}.{part}": t for part, t in stored(found, layout).items()}
    save_file({n: np.ascontiguousarray(t) for n, t in tensors.items()}, to / "model.safetensors")
    path = to / "config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(config | {"quantization_config": CONFIGS[layout]}), encoding="utf-8")
    return weights
