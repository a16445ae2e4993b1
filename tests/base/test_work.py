"""The closed form of training's operations against torch's own counter of products."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from tests.contract.method_lives import context_of
from torch.utils.flop_counter import FlopCounterMode

from maple.base import LoadedBase, compute_context, label_logits
from maple.base.work import TrainingWork, training_work
from maple.catalog import load_method
from maple.run.adapters import detach

Bases = Callable[..., LoadedBase]

N_TOKENS, N_LABELS = 24, 7


# In the first block keys and values have a trained scale and queries have none: eager attention
# leaves out their gradient, one product. The closed form counts an attention's backward as a whole.
BEYOND = {"ia3": 2 * 64 * N_TOKENS**2}


def counted(model: Any, base: LoadedBase) -> int:
    """Operations of the products in one forward and backward pass over one example."""
    ids = torch.arange(N_TOKENS)[None] + 5
    selected = torch.zeros_like(ids, dtype=torch.bool)
    selected[:, -N_LABELS:] = True
    model.train()
    with FlopCounterMode(display=False) as counter, compute_context(base):
        logits = label_logits(
            model,
            input_ids=ids,
            positions=torch.arange(N_TOKENS)[None],
            selected=selected,
            use_cache=False,
        )
        torch.nn.functional.cross_entropy(logits.float(), ids[0, -N_LABELS:]).backward()
    model.eval()
    return int(counter.get_total_flops())


def stated(work: TrainingWork) -> float:
    """The same by closed form, all pairs counted as eager attention computes them all."""
    tokens = N_TOKENS + work.virtual_tokens
    pairs = sum(cost for _, cost in work.per_pair) * tokens**2
    return tokens * work.per_token + N_LABELS * work.per_label + pairs


CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "lora": ("lora", {"rank": 4, "dropout": 0.0}),
    "lora, all layers, dropout": ("lora", {"rank": 4, "targets": "all-linear", "dropout": 0.5}),
    "lora, one target": ("lora", {"rank": 4, "targets": ("down_proj",)}),
    "lora-fa": ("lora-fa", {"rank": 4, "targets": "all-linear"}),
    "pissa": ("pissa", {"rank": 4}),
    "kasa": ("kasa", {"rank": 4}),
    "bitfit": ("bitfit", {}),
    "ia3": ("ia3", {}),
    "ln-tuning": ("ln-tuning", {}),
    "full": ("full", {}),
    "last-k-layers": ("last-k-layers", {"layers": 1}),
    "houlsby": ("houlsby", {}),
    "trainable-tokens": ("trainable-tokens", {"tokens": (3, 9)}),
    "prompt-tuning": ("prompt-tuning", {"tokens": 3}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_closed_form_is_what_torch_counts(fresh_base: Bases, case: str) -> None:
    name, parameters = CASES[case]
    base = eager(fresh_base())
    model = load_method(name, parameters).attach(base.model, context_of(base))
    work = training_work(model, base)
    found, expected = counted(model, base), stated(work)
    detach(model, base)
    assert expected - found == BEYOND.get(case, 0)


def eager(base: LoadedBase) -> LoadedBase:
    """Fused attention has formulas of its own in torch's counter, or none on a CPU."""
    base.model.set_attn_implementation("eager")
    return base


@pytest.mark.parametrize("name", ["boft", "hra", "shira", "dora", "vera", "adalora"])
def test_a_base_layer_counts_however_its_adapter_computes_it(shared_base: Bases, name: str) -> None:
    base = shared_base()
    small = {"vera": {"rank": 4}, "dora": {"rank": 4}, "shira": {"rank": 4}}.get(name, {})
    model = load_method(name, small).attach(base.model, context_of(base))
    work = training_work(model, base)
    detach(model, base)
    linear = 2 * (64 * 64 * 2 + 64 * 32 * 2 + 64 * 128 * 3)
    lora_like = 2 * 2 * 4 * (6 * 64 + 2 * 32) * 3 if name == "dora" else 0
    # Two blocks forward; backward all of the second, and of the first what is behind q, k, v.
    assert 3 * linear < work.per_token <= 4 * linear + lora_like


@pytest.mark.parametrize("quantization", ["nf4", "int8", "int8-weight-only", "hqq4", "bf16"])
def test_packed_weights_count_by_the_shape_they_stand_for(
    shared_base: Bases, quantization: str
) -> None:
    found = []
    for bits in ("fp32", quantization):
        base = shared_base("llama", bits)
        method = load_method("lora", {"rank": 4, "targets": "all-linear"})
        model = method.attach(base.model, context_of(base))
        found.append(training_work(model, base))
        detach(model, base)
    assert found[0] == found[1]


def test_counting_leaves_the_model_and_the_generators_as_they_were(shared_base: Bases) -> None:
    base = shared_base()
    model = load_method("lora", {"dropout": 0.5}).attach(base.model, context_of(base))
    model.train()
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    state = torch.get_rng_state()
    training_work(model, base)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(m.training for m in model.modules() if isinstance(m, torch.nn.Dropout))
    assert all(p.grad is None for p in model.parameters())
    after = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) for m in model.modules())
    detach(model.eval(), base)
    assert after == hooks


@pytest.mark.parametrize("window", [None, 1, 4, 5, 100])
def test_pairs_are_those_of_a_causal_mask_with_a_window(window: int | None) -> None:
    lengths = [1, 4, 5, 9]
    allowed = 0
    for length in lengths:
        row, column = torch.meshgrid(torch.arange(length), torch.arange(length), indexing="ij")
        mask = column <= row
        allowed += int((mask & (row - column < (window or length))).sum())
    work = TrainingWork(per_token=0, per_label=0, per_pair=((window, 3),))
    assert work.flops(lengths, 2) == 3 * allowed


def test_the_windows_of_an_architecture_are_found(shared_base: Bases) -> None:
    windows = {}
    for family in ("llama", "mistral", "gemma2", "qwen2"):
        base = shared_base(family)
        model = load_method("lora", {"rank": 2}).attach(base.model, context_of(base))
        windows[family] = {window for window, _ in training_work(model, base).per_pair}
        detach(model, base)
    assert windows == {"llama": {None}, "mistral": {8}, "gemma2": {8, None}, "qwen2": {None}}
