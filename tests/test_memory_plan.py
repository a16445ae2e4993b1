"""The planner's counts against the true architectures, built on the meta device (no weights)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from tests.contract.test_methods import NAMES, NEEDS_NUMBERS

from maple.catalog import family_for, load_method, load_quantizer
from maple.catalog.contracts import AttachContext, Method, ModelFamily
from maple.plan.estimate import estimate, shape_from_config, total_parameters
from maple.run.adapters import detach
from maple.study import MethodRef, ModelRef, RunSpec

LLAMA, MISTRAL = "meta-llama/Llama-2-7b-hf", "mistralai/Mistral-7B-v0.1"

# Source: config.json of each checkpoint.
CONFIGURATIONS: dict[str, tuple[str, dict[str, Any]]] = {
    LLAMA: (
        "Llama",
        {
            "hidden_size": 4096,
            "intermediate_size": 11008,
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "num_key_value_heads": 32,
            "vocab_size": 32000,
            "max_position_embeddings": 4096,
        },
    ),
    MISTRAL: (
        "Mistral",
        {
            "hidden_size": 4096,
            "intermediate_size": 14336,
            "num_attention_heads": 32,
            "num_hidden_layers": 32,
            "num_key_value_heads": 8,
            "vocab_size": 32000,
            "max_position_embeddings": 32768,
            "sliding_window": 4096,
        },
    ),
}
TOTALS = {LLAMA: 6_738_415_616, MISTRAL: 7_241_732_096}
# Trainable parameters per unit of rank: design notes on the MAPLE paper (arXiv 2401.07598).
PER_RANK = {
    (LLAMA, ("q_proj", "v_proj")): 524_288,
    (LLAMA, "attention"): 1_048_576,
    (LLAMA, "all-linear"): 2_498_560,
    (MISTRAL, ("q_proj", "v_proj")): 425_984,
    (MISTRAL, "attention"): 851_968,
    (MISTRAL, "all-linear"): 2_621_440,
}


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    import transformers

    built = {}
    with torch.device("meta"):
        for name, (kind, sizes) in CONFIGURATIONS.items():
            config = getattr(transformers, f"{kind}Config")(**sizes, tie_word_embeddings=False)
            built[name] = getattr(transformers, f"{kind}ForCausalLM")(config)
    return built


def family_of(name: str) -> ModelFamily:
    return family_for(model_name=name)


@pytest.mark.parametrize("name", TOTALS)
def test_total_parameters_are_those_of_the_architecture(models: dict[str, Any], name: str) -> None:
    family = family_of(name)
    assert sum(p.numel() for p in models[name].parameters()) == TOTALS[name]
    assert total_parameters(family.known_shapes[name], family) == TOTALS[name]


@pytest.mark.parametrize("name", TOTALS)
def test_the_known_shape_is_what_the_configuration_says(models: dict[str, Any], name: str) -> None:
    shape = shape_from_config(models[name].config.to_dict())
    family = family_of(name)
    assert shape is not None
    assert family.linear_shapes(shape) == family.linear_shapes(family.known_shapes[name])
    assert total_parameters(shape, family) == TOTALS[name]


@pytest.mark.parametrize("rank", [8, 16, 32, 64, 128])
@pytest.mark.parametrize(("name", "targets"), PER_RANK)
def test_lora_parameters_are_the_closed_form_and_what_peft_attaches(
    models: dict[str, Any], name: str, targets: Any, rank: int
) -> None:
    family, model = family_of(name), models[name]
    method = load_method("lora", {"rank": rank, "targets": targets})
    expected = PER_RANK[name, targets] * rank
    assert method.trainable_parameters(family.known_shapes[name], family) == expected
    assert attached_parameters(method, model, family) == expected


def attached_parameters(method: Method, model: Any, family: ModelFamily) -> int:
    """Parameters that require a gradient once the method is on the model; taken off again."""
    with torch.device("meta"):
        context = AttachContext(family=family, quantizer=load_quantizer("bf16"), seed=0)
        adapted = method.attach(model.requires_grad_(False), context)
    counted = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    loaded: Any = type("Base", (), {"model": model})()
    detach(adapted, loaded)
    return counted


@pytest.fixture(scope="module")
def two_blocks() -> Any:
    """Mistral-7B cut to two blocks: keys and values are narrower than queries, unlike LLaMA-2's."""
    import transformers

    sizes = CONFIGURATIONS[MISTRAL][1] | {"num_hidden_layers": 2, "tie_word_embeddings": False}
    with torch.device("meta"):
        return transformers.MistralForCausalLM(transformers.MistralConfig(**sizes))


@pytest.mark.parametrize("name", sorted(set(NAMES) - NEEDS_NUMBERS.keys()))
def test_every_method_fits_mistral_7b_with_the_closed_form(two_blocks: Any, name: str) -> None:
    family, method = family_of(MISTRAL), load_method(name)
    shape = replace(family.known_shapes[MISTRAL], layers=2)
    expected = method.trainable_parameters(shape, family)
    assert expected is not None
    assert attached_parameters(method, two_blocks, family) == expected


@pytest.mark.parametrize("name", NEEDS_NUMBERS)
def test_a_method_that_meta_tensors_cannot_show_has_a_closed_form_all_the_same(name: str) -> None:
    for model in CONFIGURATIONS:
        family = family_of(model)
        count = load_method(name).trainable_parameters(family.known_shapes[model], family)
        assert count is not None
        assert 0 < count < TOTALS[model]


@pytest.mark.parametrize("quantization", ["fp32", "bf16", "fp16"])
@pytest.mark.parametrize("name", TOTALS)
def test_the_planned_memory_of_an_untouched_base_is_that_of_its_weights(
    models: dict[str, Any], name: str, quantization: str
) -> None:
    family, quantizer = family_of(name), load_quantizer(quantization)
    dtype = getattr(torch, quantizer.compute_dtype)
    run = RunSpec(
        model=ModelRef(name=name), method=MethodRef(name="none"), quantization=quantization
    )
    planned = estimate(
        run,
        family.known_shapes[name],
        family=family,
        method=load_method("none"),
        quantizer=quantizer,
    )
    held = sum(p.numel() * dtype.itemsize for p in models[name].parameters())
    assert planned.memory_bytes == held


@pytest.mark.parametrize("name", TOTALS)
def test_full_training_counts_every_parameter(name: str) -> None:
    family = family_of(name)
    count = load_method("full").trainable_parameters(family.known_shapes[name], family)
    assert count == TOTALS[name]
