"""Bottleneck adapters: the formula, where they stand, and the directory they are stored in."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from tests.tiny_models import settings, train_on

from maple.base import LoadedBase
from maple.catalog import load_family, load_method, load_quantizer
from maple.catalog.bottleneck import load_bottleneck
from maple.catalog.contracts import AttachContext, ModelFamily, Shape
from maple.errors import TrainingError
from maple.evaluate import probe_logits
from maple.evaluate.probe import largest_difference
from maple.run.adapters import detach
from maple.store.write import sha256_of_directory

Bases = Callable[..., LoadedBase]

METHODS: dict[str, dict[str, Any]] = {
    "houlsby": {"width": 8, "nonlinearity": "gelu"},
    "pfeiffer": {"width": 12, "nonlinearity": "relu", "scale": 0.5},
    "parallel-adapter": {"width": 10, "nonlinearity": "tanh", "scale": 4.0},
}
every_method = pytest.mark.parametrize("name", METHODS)


def attach(name: str, base: LoadedBase, **changes: Any) -> Any:
    torch.manual_seed(0)
    context = AttachContext(family=base.family, quantizer=base.quantizer, seed=0)
    return load_method(name, METHODS[name] | changes).attach(base.model, context)


def disturb(model: Any) -> dict[str, torch.Tensor]:
    """Random adapter weights, so that they do something; returns them by name."""
    found = {n: p for n, p in model.named_parameters() if p.requires_grad}
    for parameter in found.values():
        torch.nn.init.normal_(parameter, std=0.2)
    return {name: parameter.detach() for name, parameter in found.items()}


@contextmanager
def on(base: LoadedBase, name: str, **changes: Any) -> Iterator[Any]:
    model = attach(name, base, **changes)
    try:
        yield model
    finally:
        detach(model, base)


def first_block(base: LoadedBase) -> tuple[torch.Tensor, torch.Tensor, Any, Any]:
    """What goes into the first block and comes out of it, the block, its other arguments."""
    block: Any = base.model.model.layers[0]
    seen: list[Any] = []
    handle = block.register_forward_hook(
        lambda _, args, kwargs, out: seen.append((args[0], out, kwargs)), with_kwargs=True
    )
    base.model(torch.arange(7)[None])
    handle.remove()
    return seen[0][0], seen[0][1], block, seen[0][2]


def bottleneck(x: torch.Tensor, weights: dict[str, torch.Tensor], at: str, name: str) -> Any:
    """Ten lines of the papers' formula."""
    f = {"houlsby": torch.nn.functional.gelu, "pfeiffer": torch.relu}.get(name, torch.tanh)
    part = {
        key: next(v for n, v in weights.items() if at in n and n.endswith(key))
        for key in ("down.weight", "down.bias", "up.weight", "up.bias")
    }
    hidden = f(x @ part["down.weight"].T + part["down.bias"])
    return METHODS[name].get("scale", 1.0) * (hidden @ part["up.weight"].T + part["up.bias"])


@every_method
def test_a_block_computes_the_papers_formula(shared_base: Bases, name: str) -> None:
    base = shared_base("llama", "fp32")
    with on(base, name) as model, torch.no_grad():
        weights = disturb(model)
        x, found, block, arguments = first_block(base)
        detach(model, base)
        attended = block.self_attn(block.input_layernorm(x), **arguments)[0]
        if name == "houlsby":
            attended = attended + bottleneck(attended, weights, "0.self_attn.o_proj", name)
        stream = x + attended
        read = block.post_attention_layernorm(stream)
        fed = block.mlp(read)
        if name == "houlsby":
            fed = fed + bottleneck(fed, weights, "0.mlp.down_proj", name)
        elif name == "parallel-adapter":
            fed = fed + bottleneck(read, weights, "0.mlp.", name)
        expected = stream + fed
        if name == "pfeiffer":
            expected = expected + bottleneck(expected, weights, "layers.0.", name)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


@every_method
def test_weights_are_trained_in_float32_on_a_bfloat16_base(shared_base: Bases, name: str) -> None:
    base = shared_base("llama", "bf16")
    with on(base, name) as model:
        trained = [p for p in model.parameters() if p.requires_grad]
        assert {p.dtype for p in trained} == {torch.float32}
        # Also where nobody turned autocast on: the stream keeps the base's dtype.
        assert model(torch.arange(7)[None]).logits.dtype == torch.bfloat16


@every_method
def test_the_base_has_its_own_modules_and_no_hooks_afterwards(fresh_base: Bases, name: str) -> None:
    base = fresh_base("llama", "fp32")
    before = {n: id(m) for n, m in base.model.named_modules()}
    model = attach(name, base)
    assert model is base.model
    assert len(list(base.model.named_modules())) > len(before)
    detach(model, base)
    assert {n: id(m) for n, m in base.model.named_modules()} == before
    assert not any(m._forward_hooks for m in base.model.modules())


@every_method
def test_recomputed_activations_give_the_same_gradients(fresh_base: Bases, name: str) -> None:
    curves = []
    for checkpointing in (False, True):
        wanted = settings(gradient_checkpointing=checkpointing)
        base = fresh_base("llama", "fp32")
        model, result = train_on(base, load_method(name, METHODS[name]), wanted)
        curves.append([row.loss for row in result.curve])
        detach(model, base)
    assert curves[0] == curves[1]


def test_dropout_acts_in_training_alone(shared_base: Bases) -> None:
    base = shared_base("llama", "fp32")
    with on(base, "parallel-adapter", dropout=0.5) as model, torch.no_grad():
        disturb(model)
        ids = torch.arange(7)[None]
        model.train()
        assert not torch.equal(model(ids).logits, model(ids).logits)
        model.eval()
        assert torch.equal(model(ids).logits, model(ids).logits)


# ----------------------------------------------------------------------------------- directory


@every_method
def test_a_directory_loads_with_one_call(shared_base: Bases, name: str, tmp_path: Path) -> None:
    base, method = shared_base("llama", "fp32"), load_method(name, METHODS[name])
    with on(base, name) as model:
        disturb(model)
        expected = probe_logits(model, base)
        for directory in (tmp_path / "first", tmp_path / "second"):
            directory.mkdir()
            method.save(model, directory)
    assert sha256_of_directory(directory) == sha256_of_directory(tmp_path / "first")
    loaded = load_bottleneck(base.model, directory)
    try:
        assert not any(p.requires_grad for p in loaded.parameters())
        assert largest_difference(probe_logits(loaded, base), expected) == 0.0
    finally:
        detach(loaded, base)


def test_peft_says_that_it_cannot_load_the_directory(shared_base: Bases, tmp_path: Path) -> None:
    from peft import PeftModel

    base = shared_base("llama", "fp32")
    with on(base, "houlsby") as model:
        load_method("houlsby", METHODS["houlsby"]).save(model, tmp_path)
    with pytest.raises((KeyError, ValueError), match="load_bottleneck"):
        PeftModel.from_pretrained(base.model, str(tmp_path))


@pytest.mark.parametrize("change", ["fewer", "more", "wider"])
def test_weights_that_do_not_fit_are_refused_and_leave_nothing(
    shared_base: Bases, tmp_path: Path, change: str
) -> None:
    base, method = shared_base("llama", "fp32"), load_method("pfeiffer", METHODS["pfeiffer"])
    with on(base, "pfeiffer") as model:
        method.save(model, tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    first = min(tensors)
    if change == "fewer":
        del tensors[first]
    else:
        tensors[first if change == "wider" else "model.layers.9.down.bias"] = torch.ones(77)
    save_file(tensors, path)
    untouched = probe_logits(base.model, base)
    with pytest.raises(ValueError, match="not those of an adapter for this base"):
        method.load(base.model, tmp_path)
    assert not any(hasattr(m, "take_off") for m in base.model.modules())
    assert largest_difference(untouched, probe_logits(base.model, base)) == 0.0


def test_other_hyper_parameters_than_those_stored_are_refused(
    shared_base: Bases, tmp_path: Path
) -> None:
    base = shared_base("llama", "fp32")
    with on(base, "pfeiffer") as model:
        load_method("pfeiffer", METHODS["pfeiffer"]).save(model, tmp_path)
    with pytest.raises(ValueError, match="hyper-parameters are not those"):
        load_method("pfeiffer", METHODS["pfeiffer"] | {"scale": 2.0}).load(base.model, tmp_path)
    with pytest.raises(ValueError, match="hyper-parameters are not those"):
        load_method("houlsby", METHODS["pfeiffer"]).load(base.model, tmp_path)
    (tmp_path / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA"}))
    with pytest.raises(ValueError, match="not that of a bottleneck adapter"):
        load_bottleneck(base.model, tmp_path)


# ------------------------------------------------------------------------------------ refusals


def test_a_second_adapter_on_the_same_base_is_refused(shared_base: Bases) -> None:
    base = shared_base("llama", "fp32")
    with (
        on(base, "houlsby"),
        pytest.raises(TrainingError, match="on this base already"),
    ):
        attach("houlsby", base)


def test_a_base_of_other_blocks_is_refused(fresh_base: Bases) -> None:
    base = fresh_base("llama", "fp32")
    base.model.model.layers[1].mlp = torch.nn.Identity()
    with pytest.raises(TrainingError, match=r"2 blocks; it has 2 and 1.*lora"):
        attach("houlsby", base)


def test_a_family_of_other_names_is_refused() -> None:
    class Other(ModelFamily):
        linear = ("qkv", "dense", "fc1", "fc2")

        def chat(self, turns: Any) -> str:
            return ""

    reason = load_method("houlsby").conflict(load_quantizer("bf16"), Other())
    assert reason is not None
    assert "o_proj" in reason


@pytest.mark.parametrize(("name", "adapters", "width"), [("houlsby", 2, 64), ("pfeiffer", 1, 256)])
def test_the_count_is_that_of_houlsby_et_al(name: str, adapters: int, width: int) -> None:
    # "2md + d + m" for every adapter (section 2.1), here on LLaMA-2-7B.
    shape: Shape = load_family("llama").known_shapes["meta-llama/Llama-2-7b-hf"]
    d, m = shape.hidden, width
    expected = 32 * adapters * (2 * m * d + d + m)
    assert load_method(name).trainable_parameters(shape, load_family("llama")) == expected
