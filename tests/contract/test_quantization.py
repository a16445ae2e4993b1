"""Every quantizer: what it stores, what it computes, and that scoring leaves it trainable."""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tests.int4_checkpoints import CONFIGS, store_in_codes
from tests.tiny_models import batch_loss, make_pools, settings, train_on

from maple.base import LoadedBase, load_base
from maple.base.load import count_parameters
from maple.catalog import entry_names, load_method, load_quantizer
from maple.catalog.contracts import AttachContext
from maple.data import StepSchedule
from maple.errors import SourceError, TrainingError
from maple.evaluate import probe_logits
from maple.evaluate.probe import largest_difference
from maple.plan.estimate import estimate, shape_from_config
from maple.study import MethodRef, ModelRef, RunSpec
from maple.train.passes import Passes

Bases = Callable[..., LoadedBase]

every_quantizer = pytest.mark.parametrize("quantization", entry_names("quantization"))


def first_weight(base: LoadedBase) -> Any:
    return base.model.model.layers[0].self_attn.q_proj.weight


def stored_bytes(module: Any) -> int:
    """Bytes of a module's own weights and of every constant they are read back with."""
    tensors = [getattr(module, name) for name in ("scale", "zero") if hasattr(module, name)]
    tensors = [t for t in tensors if isinstance(t, torch.Tensor)]
    for weight in module.parameters(recurse=False):
        inner = getattr(weight, "__tensor_flatten__", None)
        tensors += [getattr(weight, name) for name in inner()[0]] if inner else [weight.data]
        if (state := getattr(weight, "quant_state", None)) is not None:
            tensors += [state.absmax, *([state.state2.absmax] if state.nested else [])]
        if (scale := getattr(weight, "SCB", None)) is not None:
            tensors.append(scale)
    return sum(t.numel() * t.element_size() for t in tensors)


@every_quantizer
def test_bytes_per_weight_are_those_in_memory(fresh_base: Bases, quantization: str) -> None:
    base = fresh_base("llama", quantization, hidden_size=512, intermediate_size=1024, head_dim=128)
    n_weights = 512 * 512
    expected = load_quantizer(quantization).bytes_per_weight() * n_weights
    # int8 adds a float32 scale a row, 0.8% of a row of 512 and 0.1% of one of 4,096.
    assert stored_bytes(base.model.model.layers[0].self_attn.q_proj) == pytest.approx(
        expected, rel=0.01
    )


@every_quantizer
def test_linear_layers_alone_are_quantized(shared_base: Bases, quantization: str) -> None:
    base = shared_base("llama", quantization)
    dtype = {"fp32": torch.float32, "fp16": torch.float16}.get(quantization, torch.bfloat16)
    assert base.dtype == dtype
    assert base.model.get_output_embeddings().weight.dtype == dtype
    assert base.model.get_input_embeddings().weight.dtype == dtype
    if quantization != "torchao-int8":  # a tensor that says bfloat16 and holds int8
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


@pytest.mark.parametrize("quantization", ["int8-weight-only", "torchao-int8"])
def test_weight_only_int8_is_each_row_in_127_steps_of_its_largest_value(
    shared_base: Bases, fresh_base: Bases, quantization: str
) -> None:
    original = first_weight(shared_base("llama", "bf16")).float().numpy()
    layer = fresh_base("llama", quantization).model.model.layers[0].self_attn.q_proj
    found = layer.dequantize() if quantization == "int8-weight-only" else layer.weight.dequantize()
    step = np.abs(original).max(axis=1, keepdims=True) / 127
    expected = np.rint(original / step) * step
    # torchao divides by 127.5 and keeps its steps in bfloat16.
    rest = np.abs(found.float().numpy() - expected) / step
    assert rest.max() < (0.001 if quantization == "int8-weight-only" else 2)


# Source: Dettmers et al. 2023 (arXiv 2305.14314), appendix E.
NF4 = np.array([
    -1.0, -0.6961928, -0.5250731, -0.3949175, -0.2844414, -0.1847734, -0.0910500, 0.0,
    0.0795803, 0.1609302, 0.2461123, 0.3379152, 0.4407098, 0.5626170, 0.7229568, 1.0,
])  # fmt: skip


# Twelfths, as bitsandbytes' kernels list them: 1 sign, 2 exponent, 1 mantissa bit, and 1/192.
FP4_POSITIVE = np.array([0, 1 / 16, 2, 3, 4, 6, 8, 12]) / 12
FP4 = np.sort(np.concatenate([FP4_POSITIVE, -FP4_POSITIVE[1:]]))


@pytest.mark.parametrize(
    ("quantization", "values"),
    [("nf4", NF4), ("nf4-single", NF4), ("fp4", FP4), ("fp4-single", FP4)],
)
def test_4_bit_weights_are_the_nearest_of_16_values_in_blocks_of_64(
    shared_base: Bases, fresh_base: Bases, quantization: str, values: Any
) -> None:
    from bitsandbytes.functional import dequantize_4bit

    original = first_weight(shared_base("llama", "bf16")).float().numpy().reshape(-1, 64)
    weight = first_weight(fresh_base("llama", quantization))
    found = dequantize_4bit(weight.data, weight.quant_state).float().numpy().reshape(-1, 64)
    scale = np.abs(original).max(axis=1, keepdims=True)
    distance = np.sort(np.abs((original / scale)[..., None] - values), axis=-1)
    nearest = values[np.abs((original / scale)[..., None] - values).argmin(axis=-1)]
    # Half-way between two values either may be taken; dequantized to bfloat16.
    clear = distance[..., 1] - distance[..., 0] > 0.001
    assert clear.mean() > 0.9
    # The scales are themselves in 8 bits (double quantization): 1% of a weight, and bfloat16.
    tolerance = (0.004 if quantization.endswith("single") else 0.02) * float(scale.max())
    np.testing.assert_allclose(found[clear], (nearest * scale)[clear], atol=tolerance)


def half_quadratic_in_numpy(weight: Any) -> tuple[Any, Any, Any]:
    """Badri & Shaji 2023, equations 3 to 6, one group a row."""
    groups = weight.reshape(-1, 64).astype(np.float32)
    low, high = groups.min(1, keepdims=True), groups.max(1, keepdims=True)
    step, zero, best = (high - low) / 15, np.rint(-low * 15 / (high - low)), np.inf
    for _ in range(20):
        codes = np.clip(np.rint(groups / step + zero), 0, 15)
        error = groups - (codes - zero) * step
        shrunk = np.sign(error) * np.maximum(np.abs(error) - np.abs(error) ** -0.3 / 10, 0)
        zero = (codes - (groups - shrunk) / step).mean(1, keepdims=True)
        if np.abs(error).mean() >= best:
            break
        best = np.abs(error).mean()
    return np.clip(np.rint(groups / step + zero), 0, 15), step, zero


def test_hqq4_is_half_quadratic_quantization() -> None:
    from maple.catalog.quantization.hqq4 import half_quadratic

    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    codes, step, zero = (t.numpy() for t in half_quadratic(weight))
    wanted, wanted_step, wanted_zero = half_quadratic_in_numpy(weight.numpy())
    np.testing.assert_allclose(step, wanted_step, rtol=1e-5)
    np.testing.assert_allclose(zero, wanted_zero, atol=0.1)
    assert (codes == wanted).mean() > 0.995  # a quotient near a half may fall either way
    groups = weight.reshape(-1, 64).numpy()
    rounded = np.rint((groups - groups.min(1, keepdims=True)) / wanted_step) * wanted_step
    plain = np.abs(rounded + groups.min(1, keepdims=True) - groups).mean()
    assert np.abs((codes - zero) * step - groups).mean() < 0.99 * plain


def test_hqq4_is_that_of_the_hqq_package() -> None:
    quantize = pytest.importorskip("hqq.core.quantize")
    from maple.catalog.quantization.hqq4 import half_quadratic

    weight = torch.randn(64, 128, generator=torch.Generator().manual_seed(0))
    expected, meta = quantize.Quantizer.quantize(
        weight, nbits=4, group_size=64, round_zero=True, axis=1, bitpack=False, device="cpu"
    )
    codes, step, zero = half_quadratic(weight)
    assert torch.equal(codes.float(), expected.float())
    assert torch.equal(step, meta["scale"])
    assert torch.equal(zero, meta["zero"])


def test_hqq4_refuses_a_layer_that_is_no_whole_number_of_groups() -> None:
    from maple.catalog.quantization.hqq4 import half_quadratic

    with pytest.raises(TrainingError, match=r"groups of 64 .*\(3, 5\).*nf4"):
        half_quadratic(torch.ones(3, 5))


def packed_layers() -> list[Any]:
    from maple.catalog.packed import GroupInt4, RowInt8
    from maple.catalog.quantization.hqq4 import half_quadratic

    torch.manual_seed(0)
    linear = torch.nn.Linear(128, 32)
    return [RowInt8(linear), GroupInt4(linear, *half_quadratic(linear.weight))]


@pytest.mark.parametrize("index", [0, 1], ids=["RowInt8", "GroupInt4"])
def test_a_packed_layer_multiplies_by_what_its_codes_stand_for(index: int) -> None:
    layer = packed_layers()[index]
    x, gradient = torch.randn(3, 5, 128, requires_grad=True), torch.randn(3, 5, 32)
    kept: list[torch.Tensor] = []
    with torch.autograd.graph.saved_tensors_hooks(kept.append, lambda none: none):
        product = layer(x)
    assert not kept  # neither the unpacked weight nor the input
    product.backward(gradient)
    weight = layer.dequantize()
    torch.testing.assert_close(product, x @ weight.T + layer.bias, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(x.grad, gradient @ weight, rtol=1e-5, atol=1e-5)
    assert layer.weight.requires_grad is False


def test_codes_of_4_bits_are_packed_and_unpacked_without_loss() -> None:
    from maple.catalog.packed import GroupInt4

    codes = torch.randint(0, 16, (64, 64), dtype=torch.uint8)
    one, zero = torch.ones(64, 1), torch.zeros(64, 1)
    layer = GroupInt4(torch.nn.Linear(128, 32), codes, one, zero)
    assert torch.equal(layer.dequantize(), codes.float().reshape(32, 128))
    assert layer.weight.numel() == codes.numel() / 2


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
    # Relative error of one product: 0.003, 0.009, 0.09, 0.12 (bf16, int8, nf4 and hqq4, fp4);
    # here of 14 and a head.
    limit = {
        "fp32": 1e-6, "fp16": 0.003, "bf16": 0.02, "int8": 0.06, "int8-weight-only": 0.06,
        "torchao-int8": 0.06, "nf4": 0.4, "nf4-single": 0.4, "fp4": 0.6, "fp4-single": 0.6,
        "hqq4": 0.5, "gptq": 0.5, "awq": 0.5,
    }[quantization]  # fmt: skip
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
    batch_loss(model, base, schedule.micro_batches(1)[0]).backward()
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


@every_quantizer
def test_gradients_through_quantized_layers_point_where_those_of_fp32_do(
    fresh_base: Bases, quantization: str
) -> None:
    exact = adapter_gradients(fresh_base("llama", "fp32"), score_first=False)
    found = adapter_gradients(fresh_base("llama", quantization), score_first=True)
    bits = load_quantizer(quantization).bits
    # Codes of gptq and awq are nearest ones here, found without calibration.
    coarse = {"fp4": 0.55, "fp4-single": 0.55, "gptq": 0.45, "awq": 0.45}
    limit = coarse.get(quantization, {32: 1, 16: 0.999, 8: 0.99, 4: 0.7}[bits])
    for name, gradient in exact.items():
        cosine = torch.cosine_similarity(gradient.flatten(), found[name].flatten(), dim=0)
        assert float(cosine) > limit - 1e-5, f"{name}: {float(cosine):.3f}"


class _EnoughError(Exception):
    """The step has been seen."""


def test_float16_gradients_survive_a_mean_over_many_labels(
    fresh_base: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maple.train import trainee

    # Each label stands for a thousand, which is a batch of 200,000.
    whole = Passes.losses
    monkeypatch.setattr(
        Passes,
        "losses",
        lambda self, inputs, counts: whole(self, inputs, [n * 1000 for n in counts]),
    )
    found: dict[str, dict[str, torch.Tensor]] = {}

    def keep(self: Any, *_: Any, scale: float) -> Any:
        named = dict(self._model.named_parameters())
        found[quantization] = {n: p.grad / scale for n, p in named.items() if p.grad is not None}
        raise _EnoughError

    monkeypatch.setattr(trainee.Trainee, "take_step", keep)
    for quantization in ("fp32", "fp16"):
        base = fresh_base("llama", quantization)
        with pytest.raises(_EnoughError):
            train_on(base, load_method("lora", {"rank": 4, "dropout": 0.0}), settings())
    for name, exact in found["fp32"].items():
        if "lora_B" in name:
            rest = (found["fp16"][name] - exact).norm() / exact.norm()
            assert float(rest) < 0.02, f"{name}: {float(rest):.3f}"


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
    held = sum(stored_bytes(module) for module in base.model.modules())
    assert held == pytest.approx(planned.memory_bytes, rel=0.01)


# --------------------------------------------------------------- bases that are quantized already


STORED = {
    "gptq": {"quant_method": "gptq", "bits": 4, "group_size": 128, "desc_act": False},
    "gptq in 8 bits": {"quant_method": "gptq", "bits": 8, "group_size": 128, "desc_act": False},
    "awq": {"quant_method": "awq", "bits": 4, "group_size": 128, "zero_point": True},
    "nf4": {
        "quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4",
        "bnb_4bit_use_double_quant": True,
    },
    "fp4-single": {"quant_method": "bitsandbytes", "load_in_4bit": True},
    "int8": {"quant_method": "bitsandbytes", "load_in_8bit": True},
    "fp8": {"quant_method": "fp8"},
}  # fmt: skip


def stored_base(directory: Path, to: Path, stored: dict[str, Any]) -> Path:
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    config["quantization_config"] = stored
    (to / "config.json").write_text(json.dumps(config), encoding="utf-8")
    return to


@pytest.mark.parametrize("own", STORED)
def test_a_base_that_is_quantized_already_is_refused_in_other_bits(
    model_directory: Callable[..., Path], tmp_path: Path, own: str
) -> None:
    source = stored_base(model_directory(), tmp_path, STORED[own])
    for quantization in ("bf16", "int8", "nf4-single"):
        if quantization == own:
            continue
        with pytest.raises(SourceError, match=f"stored as {own}: .* as {quantization}") as found:
            load_base(str(source), quantization=quantization, device=torch.device("cpu"))
        assert ("Set quantization to" in str(found.value)) == (own in entry_names("quantization"))


@pytest.mark.parametrize("name", ["gptq", "awq"])
def test_a_quantizer_of_stored_weights_refuses_plain_ones(
    model_directory: Callable[..., Path], name: str
) -> None:
    with pytest.raises(TrainingError, match="plain weights"):
        load_base(str(model_directory()), quantization=name, device=torch.device("cpu"))


@pytest.mark.parametrize("layout", CONFIGS)
@pytest.mark.parametrize("family", ["llama", "qwen2"])
def test_codes_of_a_checkpoint_stand_for_the_weights_of_a_plain_one(
    model_directory: Callable[..., Path], tmp_path: Path, family: str, layout: str
) -> None:
    """Every linear weight, and the logits, are those of a checkpoint that holds them as numbers."""
    from safetensors.torch import load_file, save_file

    plain, codes = tmp_path / "plain", tmp_path / "codes"
    shutil.copytree(model_directory(family), plain)
    weights = store_in_codes(plain, codes, layout)
    expected = {name: torch.tensor(weight) for name, weight in weights.items()}
    whole = load_file(plain / "model.safetensors") | expected
    save_file({n: t.contiguous() for n, t in whole.items()}, plain / "model.safetensors")
    base = load_base(
        str(codes), quantization="awq" if layout == "awq" else "gptq", device=torch.device("cpu")
    )
    modules = dict(base.model.named_modules())
    for name, weight in expected.items():
        assert torch.equal(modules[name.removesuffix(".weight")].dequantize(), weight), name
    other = load_base(str(plain), quantization="bf16", device=torch.device("cpu"))
    logits = probe_logits(base.model, base)
    assert largest_difference(logits, probe_logits(other.model, other)) == 0.0


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("gptq", {"checkpoint_format": "marlin"}),
        ("awq", {"version": "GEMV"}),
    ],
)
def test_a_layout_that_is_not_read_is_named(
    model_directory: Callable[..., Path], tmp_path: Path, name: str, changes: dict[str, Any]
) -> None:
    source = stored_base(model_directory(), tmp_path, STORED[name] | changes)
    (layout,) = changes.values()
    with pytest.raises(SourceError, match=f"in the layout '{layout.lower()}'"):
        load_base(str(source), quantization=name, device=torch.device("cpu"))


@pytest.mark.parametrize(
    ("part", "why"),
    [("q_proj.scales", "q_proj is not stored as"), ("lm_head.qweight", "lm_head is stored in")],
)
def test_codes_that_do_not_fit_the_layers_are_refused(
    model_directory: Callable[..., Path], tmp_path: Path, part: str, why: str
) -> None:
    from safetensors.torch import load_file, save_file

    store_in_codes(model_directory(), tmp_path, "gptq")
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    tensors = {n: t for n, t in tensors.items() if not n.endswith(part)}
    if part.startswith("lm_head"):
        tensors[part] = torch.zeros(8, 640, dtype=torch.int32)
    save_file(tensors, path)
    with pytest.raises(SourceError, match=why):
        load_base(str(tmp_path), quantization="gptq", device=torch.device("cpu"))


def test_a_base_stored_in_4_bits_is_taken_as_it_is(fresh_base: Bases, tmp_path: Path) -> None:
    base = fresh_base("llama", "nf4")
    base.model.save_pretrained(str(tmp_path))
    base.tokenizer.save_pretrained(str(tmp_path))
    again = load_base(str(tmp_path), quantization="nf4", device=torch.device("cpu"))
    assert torch.equal(first_weight(again), first_weight(base))
    logits = probe_logits(base.model, base)
    assert largest_difference(logits, probe_logits(again.model, again)) == 0.0
