"""Every quantizer: what it stores, what it computes, and that scoring leaves it trainable."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from tests.tiny_models import make_pools, settings

from maple.base import LoadedBase
from maple.base.load import count_parameters
from maple.catalog import entry_names, load_method, load_quantizer
from maple.catalog.contracts import AttachContext, TrainingHooks
from maple.data import StepSchedule
from maple.evaluate import probe_logits
from maple.evaluate.probe import largest_difference
from maple.plan.estimate import estimate, shape_from_config
from maple.study import MethodRef, ModelRef, RunSpec
from maple.train.loop import micro_batch_loss

Bases = Callable[..., LoadedBase]

every_quantizer = pytest.mark.parametrize("quantization", entry_names("quantization"))


def first_weight(base: LoadedBase) -> Any:
    return base.model.model.layers[0].self_attn.q_proj.weight


def stored_bytes(weight: Any) -> int:
    """Bytes of a weight and of every constant it is read back with."""
    tensors = [weight.data]
    if (state := getattr(weight, "quant_state", None)) is not None:
        tensors += [state.absmax, state.state2.absmax]
    if (scale := getattr(weight, "SCB", None)) is not None:
        tensors.append(scale)
    return sum(t.numel() * t.element_size() for t in tensors)


@every_quantizer
def test_bytes_per_weight_are_those_in_memory(fresh_base: Bases, quantization: str) -> None:
    base = fresh_base("llama", quantization, hidden_size=512, intermediate_size=1024, head_dim=128)
    n_weights = 512 * 512
    expected = load_quantizer(quantization).bytes_per_weight() * n_weights
    # int8 adds a float32 scale a row, 0.8% of a row of 512 and 0.1% of one of 4,096.
    assert stored_bytes(first_weight(base)) == pytest.approx(expected, rel=0.01)


@every_quantizer
def test_linear_layers_alone_are_quantized(shared_base: Bases, quantization: str) -> None:
    base = shared_base("llama", quantization)
    dtype = torch.float32 if quantization == "fp32" else torch.bfloat16
    assert base.dtype == dtype
    assert base.model.get_output_embeddings().weight.dtype == dtype
    assert base.model.get_input_embeddings().weight.dtype == dtype
    stored = {4: torch.uint8, 8: torch.int8}.get(base.quantizer.bits, dtype)
    assert first_weight(base).dtype == stored


def test_int8_weights_are_rows_over_their_largest_value(
    shared_base: Bases, fresh_base: Bases
) -> None:
    original = first_weight(shared_base("llama", "bf16")).to(torch.float16).float().numpy()
    weight = first_weight(fresh_base("llama", "int8"))
    scale = np.abs(original).max(axis=1, keepdims=True)
    expected = np.rint(original * (127 / scale))
    # A product that falls between two integers may be rounded either way.
    assert np.abs(weight.data.numpy() - expected).max() <= 1
    assert (weight.data.numpy() == expected).mean() > 0.99
    np.testing.assert_allclose(weight.SCB.numpy(), scale[:, 0], rtol=1e-3)


# Source: Dettmers et al. 2023 (arXiv 2305.14314), appendix E.
NF4 = np.array([
    -1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0,
])  # fmt: skip


def test_nf4_weights_are_the_nearest_of_16_values_in_blocks_of_64(
    shared_base: Bases, fresh_base: Bases
) -> None:
    from bitsandbytes.functional import dequantize_4bit

    original = first_weight(shared_base("llama", "bf16")).float().numpy().reshape(-1, 64)
    weight = first_weight(fresh_base("llama", "nf4"))
    found = dequantize_4bit(weight.data, weight.quant_state).float().numpy().reshape(-1, 64)
    scale = np.abs(original).max(axis=1, keepdims=True)
    nearest = NF4[np.abs((original / scale)[..., None] - NF4).argmin(axis=-1)]
    # The scales are themselves in 8 bits (double quantization): 1% of a weight, and bfloat16.
    np.testing.assert_allclose(found, nearest * scale, atol=0.02 * float(scale.max()))


@every_quantizer
def test_a_base_loads_and_computes_the_same_twice(fresh_base: Bases, quantization: str) -> None:
    first, second = (fresh_base("llama", quantization) for _ in range(2))
    logits = probe_logits(first.model, first)
    assert largest_difference(logits, probe_logits(first.model, first)) == 0.0
    assert largest_difference(logits, probe_logits(second.model, second)) == 0.0


@every_quantizer
def test_logits_are_near_those_of_fp32(shared_base: Bases, quantization: str) -> None:
    exact, base = shared_base("llama", "fp32"), shared_base("llama", quantization)
    pairs = zip(probe_logits(exact.model, exact), probe_logits(base.model, base), strict=True)
    errors = [float((a - b).pow(2).mean().sqrt() / a.std()) for a, b in pairs]
    # Relative error of one product: 0.003, 0.009, 0.09 (bf16, int8, nf4); here of 14 and a head.
    limit = {"fp32": 1e-6, "bf16": 0.02, "int8": 0.06, "nf4": 0.4}[quantization]
    assert max(errors) < limit


def adapter_gradients(base: LoadedBase, *, score_first: bool) -> dict[str, torch.Tensor]:
    method = load_method("lora", {"rank": 4, "dropout": 0.0, "targets": "all-linear"})
    if score_first:
        probe_logits(base.model, base)
    torch.manual_seed(0)
    context = AttachContext(family=base.family, quantizer=base.quantizer, seed=0)
    model: Any = method.attach(base.model, context)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    if score_first:
        probe_logits(model, base)
    schedule = StepSchedule(
        make_pools(), settings(), seed=0, tokenizer=base.tokenizer, family=base.family
    )
    model.train()
    micro_batch_loss(model, base, TrainingHooks(), schedule.micro_batches(1)[0]).backward()
    return {n: p.grad for n, p in model.named_parameters() if p.requires_grad}


@every_quantizer
def test_gradients_after_a_scoring_pass_equal_those_before(
    fresh_base: Bases, quantization: str
) -> None:
    # bitsandbytes repacks 4-bit weights at the first forward without gradients on processors with
    # AVX-512 bfloat16, and the repacked product has no backward; it says so in a warning.
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing`")
        expected = adapter_gradients(fresh_base("llama", quantization), score_first=False)
        found = adapter_gradients(fresh_base("llama", quantization), score_first=True)
    assert found.keys() == expected.keys()
    # The first layer's A has its gradient through every frozen product above it.
    assert all(float(g.abs().max()) > 0 for g in found.values())
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_gradients_through_quantized_layers_point_where_those_of_fp32_do(
    fresh_base: Bases,
) -> None:
    exact = adapter_gradients(fresh_base("llama", "fp32"), score_first=False)
    for quantization, limit in (("bf16", 0.999), ("int8", 0.99), ("nf4", 0.7)):
        found = adapter_gradients(fresh_base("llama", quantization), score_first=True)
        for name, gradient in exact.items():
            cosine = torch.cosine_similarity(gradient.flatten(), found[name].flatten(), dim=0)
            assert float(cosine) > limit, f"{quantization} {name}: {float(cosine):.3f}"


@every_quantizer
def test_a_packed_weight_counts_as_what_it_was_packed_from(
    shared_base: Bases, quantization: str
) -> None:
    expected = sum(p.numel() for p in shared_base("llama", "fp32").model.parameters())
    assert count_parameters(shared_base("llama", quantization).model) == (0, expected)


@every_quantizer
def test_the_planned_memory_of_a_base_is_what_its_weights_take(
    fresh_base: Bases, quantization: str
) -> None:
    base = fresh_base("llama", quantization, hidden_size=512, intermediate_size=1024, head_dim=128)
    shape = shape_from_config(base.model.config.to_dict())
    run = RunSpec(
        model=ModelRef(name="tiny"), method=MethodRef(name="none"), quantization=quantization
    )
    planned = estimate(
        run, shape, family=base.family, method=load_method("none"), quantizer=base.quantizer
    )
    assert planned.memory_bytes is not None
    held = sum(stored_bytes(p) for p in base.model.parameters())
    assert held == pytest.approx(planned.memory_bytes, rel=0.01)
