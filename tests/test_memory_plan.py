"""The planner's counts against the true architectures, built on the meta device (no weights)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from maple.catalog import family_for, load_method, load_quantizer
from maple.catalog.contracts import AttachContext, ModelFamily
from maple.plan.estimate import shape_from_config, total_parameters
from maple.run.adapters import detach

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
    if rank not in (8, 128):  # peft is slow on 224 modules, and the count is linear in the rank
        return
    with torch.device("meta"):
        context = AttachContext(family=family, quantizer=load_quantizer("bf16"), seed=0)
        adapted = method.attach(model.requires_grad_(False), context)
    counted = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    loaded: Any = type("Base", (), {"model": model})()
    detach(adapted, loaded)
    assert counted == expected


@pytest.mark.parametrize("name", TOTALS)
def test_full_training_counts_every_parameter(name: str) -> None:
    family = family_of(name)
    count = load_method("full").trainable_parameters(family.known_shapes[name], family)
    assert count == TOTALS[name]
