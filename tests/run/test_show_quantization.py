"""`maple show quantization`: bytes and errors against numpy, and what the command prints."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from typer.testing import CliRunner

from maple.cli import app
from maple.errors import UsageError
from maple.files import Files
from maple.run.show_quantization import (
    ShownQuantization,
    choose_quantizers,
    held_bytes,
    show_quantization,
)

Directories = Callable[..., Path]


@pytest.fixture(scope="module")
def directory(model_directory: Directories) -> Path:
    # A tied head and biases: neither is a linear layer's weight.
    return model_directory("qwen2", tie_word_embeddings=True)


@pytest.fixture(scope="module")
def shown(directory: Path) -> dict[str, ShownQuantization]:
    names = ["fp32", "bf16", "int8-weight-only", "nf4-single", "hqq4"]
    found = show_quantization(str(directory), names, Files(), device=torch.device("cpu"))
    return {one.quantization: one for one in found}


def test_fp32_is_the_checkpoint_itself(shown: dict[str, ShownQuantization]) -> None:
    one = shown["fp32"]
    assert one.bits_per_weight == 32
    assert one.worst.rms_error == one.logits_rms_error == one.logits_max_error == 0.0
    assert one.same_top_token == 1.0


def test_the_error_of_int8_is_numpys(directory: Path, shown: dict[str, ShownQuantization]) -> None:
    weights = load_file(directory / "model.safetensors")
    assert len(shown["int8-weight-only"].layers) == 2 * 7
    for layer in shown["int8-weight-only"].layers:
        weight = weights[f"{layer.name}.weight"].numpy()
        held = weights[f"{layer.name}.weight"].to(torch.bfloat16).float().numpy()
        step = np.abs(held).max(axis=1, keepdims=True) / 127
        rest = np.rint(held / step) * step - weight
        assert layer.weights == weight.size
        assert layer.rms_error == pytest.approx(
            np.sqrt((rest**2).mean() / (weight**2).mean()), rel=1e-3
        )
        assert layer.max_error == pytest.approx(np.abs(rest).max(), rel=1e-3)


def test_bytes_are_those_of_codes_and_constants(shown: dict[str, ShownQuantization]) -> None:
    for layer in shown["int8-weight-only"].layers:
        rows = layer.weights // (128 if layer.kind == "down_proj" else 64)
        assert layer.bytes == layer.weights + 4 * rows
    for layer in shown["hqq4"].layers:
        assert layer.bytes == layer.weights // 2 + 4 * layer.weights // 64
    # bitsandbytes keeps a table of its 16 values besides.
    for layer in shown["nf4-single"].layers:
        assert layer.bytes == layer.weights // 2 + 4 * layer.weights // 64 + 16 * 4


def test_the_whole_base_is_its_linear_layers_and_the_rest_in_16_bits(
    directory: Path, shown: dict[str, ShownQuantization]
) -> None:
    weights = load_file(directory / "model.safetensors")
    linear = sum(layer.weights for layer in shown["hqq4"].layers)
    rest = sum(w.numel() for w in weights.values()) - linear
    frequencies = 4 * 16  # rotary, float32: 8 used and 8 original
    one = shown["hqq4"]
    assert one.linear_bytes == linear * 4.5 / 8
    assert one.base_bytes - one.linear_bytes == pytest.approx(2 * rest, abs=2 * frequencies)


def test_fewer_bits_err_more(shown: dict[str, ShownQuantization]) -> None:
    order = ["fp32", "bf16", "int8-weight-only", "hqq4"]
    for key in ("median_rms_error", "logits_rms_error", "bits_per_weight"):
        values = [getattr(shown[name], key) for name in order]
        assert values == sorted(values, reverse=key == "bits_per_weight"), key
    assert 0.08 < shown["hqq4"].median_rms_error < shown["nf4-single"].median_rms_error < 0.1


def test_a_storage_that_two_modules_share_counts_once() -> None:
    first, second = torch.nn.Linear(8, 8, bias=False), torch.nn.Linear(8, 8, bias=False)
    assert held_bytes([first, second]) == 2 * 8 * 8 * 4
    second.weight = first.weight
    assert held_bytes([first, second]) == 8 * 8 * 4


def test_all_are_those_that_run_here_and_the_others_have_a_reason() -> None:
    names, missing = choose_quantizers("all")
    assert names[:2] == ["fp32", "bf16"]
    assert {"nf4", "int8", "hqq4"} <= set(names)
    assert "gptq" in missing
    assert choose_quantizers("nf4, int8") == (["nf4", "int8"], {})
    with pytest.raises(UsageError, match="Did you mean 'nf4'"):
        choose_quantizers("nf5")


def maple(*arguments: object) -> str:
    done = CliRunner().invoke(app, [str(a) for a in arguments], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.output


def test_the_command_prints_a_table_or_json(directory: Path) -> None:
    arguments = ("show", "quantization", directory, "--quantization", "bf16,hqq4")
    text = maple(*arguments)
    assert "hqq4" in text
    assert "4.500" in text
    assert "down_proj" in text
    assert "layers.1.mlp.down_proj" in maple(*arguments, "--layers")
    found: list[dict[str, Any]] = json.loads(maple(*arguments, "--json"))
    assert [one["quantization"] for one in found] == ["bf16", "hqq4"]
    assert len(found[1]["layers"]) == 14
