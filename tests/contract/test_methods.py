"""Every method of the catalog on every quantizer: what no entry may escape.

A method that says it cannot live on a quantizer is believed only after it has been tried.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny_models import FAMILIES, settings, train_on

from maple.base import LoadedBase
from maple.catalog import entry_names, family_for, load_method, load_quantizer
from maple.catalog.contracts import AttachContext, Method
from maple.evaluate import probe_logits
from maple.evaluate.probe import largest_difference
from maple.plan.estimate import shape_from_config
from maple.run.adapters import detach
from maple.store.write import sha256_of_directory

Bases = Callable[..., LoadedBase]

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "lora": [
        {},
        {"rank": 4, "alpha": 4, "targets": "all-linear", "rslora": True, "dropout": 0.1},
        {"rank": 2, "alpha": 1.5, "targets": ("q_proj", "down_proj")},
    ]
}
"""Hyper-parameters to try beside a method's defaults."""

RATES = {"full": 1e-3}
"""Learning rates that overfit one batch in 40 steps; 1e-2 where none is stated."""

TOLERANCES = {
    # The masters are float32 and so is their residual stream; the base's is bfloat16, whose
    # 8 bits leave about 0.02 of a logit of size 4.
    ("full", "bf16"): 0.2,
}
"""Largest logit difference at step 0 and after save and load; exactly 0 where none is stated."""


def variants(name: str) -> list[dict[str, Any]]:
    return VARIANTS.get(name, [{}])


def combinations(*, possible: bool) -> list[Any]:
    found = []
    for name in entry_names("methods"):
        for parameters in variants(name):
            for quantization in entry_names("quantization"):
                method = load_method(name, parameters)
                refusal = method.conflict(
                    load_quantizer(quantization), family_for(model_type="llama")
                )
                if (refusal is None) == possible:
                    label = "-".join([name, *map(str, parameters.values()), quantization])
                    found.append(pytest.param(name, parameters, quantization, id=label))
    return found


every_combination = pytest.mark.parametrize(
    ("name", "parameters", "quantization"), combinations(possible=True)
)
trained_combinations = pytest.mark.parametrize(
    ("name", "parameters", "quantization"),
    [c for c in combinations(possible=True) if c.values[0] != "none"],
)


def attach(method: Method, base: LoadedBase, seed: int = 0) -> Any:
    torch.manual_seed(seed)
    context = AttachContext(family=base.family, quantizer=base.quantizer, seed=seed)
    return method.attach(base.model, context)


def three_steps(name: str) -> Any:
    return settings(learning_rate=RATES.get(name, 1e-2))


def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Copies of every weight and quantization constant of a model, by name."""
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


def assert_equal_weights(before: dict[str, torch.Tensor], after: dict[str, torch.Tensor]) -> None:
    assert before.keys() == after.keys()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert not changed


# ----------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(("name", "parameters", "quantization"), combinations(possible=False))
def test_a_refused_combination_indeed_cannot_be_trained(
    fresh_base: Bases, name: str, parameters: dict[str, Any], quantization: str
) -> None:
    base = fresh_base("llama", quantization)
    method = load_method(name, parameters)
    reason = method.conflict(base.quantizer, base.family)
    assert reason
    assert not reason.endswith(".")
    with pytest.raises((RuntimeError, ValueError, TypeError)):
        train_on(base, method, three_steps(name))


# ------------------------------------------------------------------------------------- step 0


@every_combination
def test_step_0_equals_the_base(
    shared_base: Bases, name: str, parameters: dict[str, Any], quantization: str
) -> None:
    base = shared_base("llama", quantization)
    untouched = probe_logits(base.model, base)
    model = attach(load_method(name, parameters), base)
    try:
        moved = largest_difference(untouched, probe_logits(model, base))
    finally:
        detach(model, base)
    assert moved <= TOLERANCES.get((name, quantization), 0.0)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", entry_names("methods"))
def test_trainable_parameters_are_the_closed_form(
    fresh_base: Bases, request: pytest.FixtureRequest, name: str, family: str
) -> None:
    if name == "full" and family in {"qwen2", "qwen3", "gemma2"}:
        # GAP: a Shape does not tell biases of q, k, v (Qwen2), norms of q and k (Qwen3) or the
        # two further norms of a block (Gemma2): 0.006% of Qwen2.5-0.5B.
        request.applymarker(pytest.mark.xfail(reason="vectors of a block are not in a Shape"))
    base = fresh_base(family)
    shape = shape_from_config(base.model.config.to_dict())
    assert shape is not None
    for parameters in variants(name):
        method = load_method(name, parameters)
        model = attach(method, base)
        counted = sum(p.numel() for p in model.parameters() if p.requires_grad)
        detach(model, base)
        assert counted == method.trainable_parameters(shape, base.family)


@every_combination
def test_only_what_the_method_adds_requires_a_gradient(
    shared_base: Bases, name: str, parameters: dict[str, Any], quantization: str
) -> None:
    base = shared_base("llama", quantization)
    model = attach(load_method(name, parameters), base)
    try:
        assert not any(p.requires_grad for p in base.model.parameters() if p.dtype != torch.float32)
        masters = [p for p in model.parameters() if p.requires_grad]
        assert all(p.dtype == torch.float32 for p in masters)
    finally:
        detach(model, base)
    assert not any(p.requires_grad for p in base.model.parameters())


# ------------------------------------------------------------------------------ after training


@trained_combinations
def test_base_weights_and_logits_are_bit_identical_after_training(
    shared_base: Bases, name: str, parameters: dict[str, Any], quantization: str
) -> None:
    base = shared_base("llama", quantization)
    untouched, before = probe_logits(base.model, base), weights(base.model)
    model, _ = train_on(base, load_method(name, parameters), three_steps(name))
    assert largest_difference(untouched, probe_logits(model, base)) > 1e-3
    detach(model, base)
    assert_equal_weights(before, weights(base.model))
    assert largest_difference(untouched, probe_logits(base.model, base)) == 0.0


@trained_combinations
def test_a_saved_adapter_loads_with_the_same_logits(
    shared_base: Bases, name: str, parameters: dict[str, Any], quantization: str, tmp_path: Path
) -> None:
    base = shared_base("llama", quantization)
    method = load_method(name, parameters)
    model, _ = train_on(base, method, three_steps(name))
    trained = probe_logits(model, base)
    method.save(model, tmp_path)
    detach(model, base)
    assert not list(tmp_path.rglob("*.bin"))
    loaded = method.load(base.model, tmp_path)
    try:
        moved = largest_difference(trained, probe_logits(loaded, base))
    finally:
        detach(loaded, base)
    assert moved <= TOLERANCES.get((name, quantization), 0.0)


@trained_combinations
def test_an_adapter_does_not_depend_on_what_was_trained_before_it(
    fresh_base: Bases,
    name: str,
    parameters: dict[str, Any],
    quantization: str,
    tmp_path: Path,
) -> None:
    method = load_method(name, parameters)
    digests = []
    for cohort in (("wanted",), ("other", "wanted")):
        base = fresh_base("llama", quantization)
        for member in cohort:
            probe_logits(base.model, base)  # a study scores between two trainings
            seed = 0 if member == "wanted" else 1
            model, _ = train_on(base, method, three_steps(name), seed=seed)
            directory = tmp_path / f"{len(cohort)}-{member}"
            directory.mkdir()
            method.save(model, directory)
            detach(model, base)
        digests.append(sha256_of_directory(directory))
    assert digests[0] == digests[1]
    assert sha256_of_directory(tmp_path / "2-other") != digests[0]


@trained_combinations
def test_one_batch_is_overfitted(
    shared_base: Bases, name: str, parameters: dict[str, Any], quantization: str
) -> None:
    base = shared_base("llama", quantization)
    wanted = settings(
        learning_rate=RATES.get(name, 2e-2), batch_size=4, examples=4, epochs=40, max_steps=40
    )
    model, result = train_on(base, load_method(name, parameters), wanted)
    detach(model, base)
    first, last = result.curve[0].loss, result.curve[-1].loss
    assert last < first / 3, f"loss {first:.3f} -> {last:.3f}"


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("name", [n for n in entry_names("methods") if n != "none"])
def test_every_architecture_is_trained_saved_and_loaded(
    shared_base: Bases, name: str, family: str, tmp_path: Path
) -> None:
    base, method = shared_base(family), load_method(name)
    untouched = probe_logits(base.model, base)
    model, _ = train_on(base, method, three_steps(name))
    trained = probe_logits(model, base)
    method.save(model, tmp_path)
    detach(model, base)
    assert largest_difference(trained, untouched) > 1e-3
    assert largest_difference(untouched, probe_logits(base.model, base)) == 0.0
    loaded = method.load(base.model, tmp_path)
    try:
        assert largest_difference(trained, probe_logits(loaded, base)) == 0.0
    finally:
        detach(loaded, base)


@pytest.mark.parametrize("change", ["half", "more"])
def test_an_adapter_that_fits_in_part_is_refused(
    fresh_base: Bases, tmp_path: Path, change: str
) -> None:
    from safetensors.torch import load_file, save_file

    base, method = fresh_base(), load_method("lora", {"rank": 2})
    model, _ = train_on(base, method, three_steps("lora"))
    method.save(model, tmp_path)
    detach(model, base)
    path = tmp_path / "adapter_model.safetensors"
    tensors = load_file(path)
    if change == "half":
        tensors = {k: v for k, v in tensors.items() if ".layers.0." in k}
    else:
        tensors["base_model.model.model.layers.9.self_attn.q_proj.lora_A.weight"] = torch.ones(2, 2)
    save_file(tensors, path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(ValueError, match="adapter"):
            method.load(base.model, tmp_path)
