"""Fused passes against transformers', peft's and torch's own: values and gradients, in float32."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from scipy.stats import chisquare
from torch import nn
from torch.nn.functional import cross_entropy
from transformers import (
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
)

from maple.base.fused import (
    LowRank,
    Rows,
    find_layout,
    fused,
    label_cross_entropy,
    label_hidden,
    low_rank,
    peft_updates,
    plain_head,
)
from maple.base.fused.attention import packed_attention
from maple.base.fused.low_rank import _dropped, _masked, _Part

SIZES = {
    "hidden_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "intermediate_size": 176,
    "vocab_size": 300,
    "head_dim": 16,
}
MODELS: dict[str, tuple[Any, Any, dict[str, Any]]] = {
    "llama": (LlamaConfig, LlamaForCausalLM, {"tie_word_embeddings": True}),
    "mistral": (MistralConfig, MistralForCausalLM, {"sliding_window": None}),
    "mistral-window": (MistralConfig, MistralForCausalLM, {"sliding_window": 12}),
    "qwen2": (Qwen2Config, Qwen2ForCausalLM, {}),
    "qwen3": (Qwen3Config, Qwen3ForCausalLM, {}),
    "gemma": (GemmaConfig, GemmaForCausalLM, {}),
}
ALL = {"linear": 14, "norm": 5, "unit": 2, "attention": 2}
FUSED = {
    "llama": ALL,
    "mistral": ALL,
    "mistral-window": ALL,
    "qwen2": ALL,
    "qwen3": ALL | {"norm": 9},
    # Its norms multiply by 1 + w, and its units are GELU's.
    "gemma": {"linear": 14, "attention": 2},
}
WIDTH = 40


def adapted(name: str, *, dropout: float = 0.1) -> Any:
    """A small model with a LoRA that is not zero, norms that are not one, dropout on."""
    torch.manual_seed(0)
    config, model, extra = MODELS[name]
    base = model(config(**SIZES, **extra)).requires_grad_(False)
    lora = LoraConfig(r=8, lora_dropout=dropout, target_modules="all-linear", task_type="CAUSAL_LM")
    wrapped = get_peft_model(base, lora)
    for key, parameter in wrapped.named_parameters():
        if "lora_B" in key:
            nn.init.normal_(parameter, std=0.1)
        elif "norm" in key:
            nn.init.normal_(parameter, 1.0, 0.1)
    return wrapped.train()


class SameDropout(nn.Dropout):
    """peft's dropout with the mask that the fused layer draws at this point of the stream."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return x
        update = LowRank(a=nn.Parameter(), b=nn.Parameter(), scale=1.0, dropout=self.p)
        flat = torch.ones_like(x).reshape(-1, x.shape[-1])
        mask = _Part((0, 0), update, None, training=True).mask(flat)
        assert mask is not None
        return torch.where(_masked(flat, mask).view(x.shape) == 1, x / (1 - self.p), 0.0)


def share_dropout(model: nn.Module) -> None:
    for layer in model.modules():
        if isinstance(getattr(layer, "lora_dropout", None), nn.ModuleDict):
            layer.lora_dropout["default"] = SameDropout(layer.lora_dropout["default"].p)


def packed() -> dict[str, torch.Tensor]:
    """Three rows of two, two and one example, the second with padding at its end."""
    drawn = torch.Generator().manual_seed(1)
    cuts = [(10, 30, 0), (25, 9, 6), (40, 0, 0)]
    positions = torch.stack([torch.cat([torch.arange(n) for n in row]) for row in cuts])
    real = torch.stack([torch.arange(WIDTH) < WIDTH - row[2] for row in cuts])
    predicts = (torch.rand(3, WIDTH, generator=drawn) < 0.5) & real
    return {
        "ids": torch.randint(0, 300, (3, WIDTH), generator=drawn),
        "positions": positions,
        "real": real,
        "predicts": predicts,
        "targets": torch.randint(0, 300, (int(predicts.sum()),), generator=drawn),
    }


def gradients(model: nn.Module) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    return found


def plain_step(model: Any, data: dict[str, torch.Tensor]) -> float:
    torch.manual_seed(3)
    out = model(input_ids=data["ids"], position_ids=data["positions"], use_cache=False)
    picked = out.logits[data["predicts"]].float()
    loss = cross_entropy(picked, data["targets"], reduction="sum")
    loss.backward()
    return float(loss.detach())


def fused_step(model: Any, data: dict[str, torch.Tensor]) -> tuple[float, dict[str, int]]:
    head = plain_head(model)
    assert head is not None
    rows = Rows([(0, 3 * WIDTH)], [None])
    with fused(model, [peft_updates(model)], rows) as fusion:
        fusion.layout = find_layout(data["positions"])
        torch.manual_seed(3)
        where = {"positions": data["positions"], "selected": data["predicts"]}
        hidden = label_hidden(model, head, input_ids=data["ids"], use_cache=False, **where)
        assert hidden is not None
        ones = torch.ones(len(data["targets"]))
        total, losses = label_cross_entropy(hidden, head.weight, data["targets"], ones)
        total.backward()
    assert float(losses.sum()) == pytest.approx(float(total.detach()), rel=1e-5)
    return float(total.detach()), fusion.counts


@pytest.mark.parametrize("name", MODELS)
def test_a_step_is_the_models_own(name: str) -> None:
    """Loss and every gradient, dropout's random numbers included."""
    model, data = adapted(name), packed()
    share_dropout(model)
    expected = plain_step(model, data)
    wanted = gradients(model)
    loss, counts = fused_step(model, data)
    assert counts == FUSED[name]
    assert loss == pytest.approx(expected, rel=1e-5)
    found = gradients(model)
    assert found.keys() == wanted.keys()
    for key, gradient in wanted.items():
        assert (found[key] - gradient).norm() <= 1e-4 * gradient.norm(), key
    # The control: with other dropout the same comparison fails.
    assert plain_step(adapted(name, dropout=0.3), data) != pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("rate", [0.05, 0.125, 0.13, 0.5])
def test_dropout_strikes_at_its_rate_and_independently(rate: float) -> None:
    update = LowRank(a=nn.Parameter(), b=nn.Parameter(), scale=1.0, dropout=rate)
    part = _Part((0, 0), update, torch.Generator().manual_seed(0), training=True)
    ones = torch.ones(1001, 999)
    mask = part.mask(ones)
    assert mask is not None
    left = _masked(ones, mask)
    assert set(left.unique().tolist()) == {0.0, 1.0}
    struck = (left == 0).float().flatten()
    # Five standard deviations of a million draws; neighbours may share a random word.
    limit = 5 * (rate * (1 - rate) / struck.numel()) ** 0.5
    assert abs(float(struck.mean()) - rate) < limit
    for step in (1, 2, 999):
        together = (struck[step:] * struck[:-step]).mean()
        assert abs(float(together) - rate**2) < limit
    assert part.scale == pytest.approx(1 / (1 - rate))


def test_gaps_between_dropped_places_are_geometric() -> None:
    rate, count = 0.05, 2_000_000
    places = _dropped(count, rate, torch.Generator().manual_seed(0))
    assert int(places[0]) >= 0
    assert int(places[-1]) < count
    gaps = (places[1:] - places[:-1]).numpy() - 1
    edges = [*range(40), 60, 90]
    found = [((gaps >= low) & (gaps < high)).sum() for low, high in pairwise(edges)]
    found.append((gaps >= edges[-1]).sum())
    chance = [(1 - rate) ** low - (1 - rate) ** high for low, high in pairwise(edges)]
    chance.append((1 - rate) ** edges[-1])
    assert chisquare(found, np.array(chance) * len(gaps)).pvalue > 1e-3


def test_places_are_drawn_to_the_end_in_however_many_rounds(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(low_rank, "_DEVIATIONS", -0.5)
    monkeypatch.setattr(low_rank, "_FEWEST", 1)
    places = _dropped(200_000, 0.1, torch.Generator().manual_seed(0))
    assert (places[1:] > places[:-1]).all()
    assert len(places) == pytest.approx(20_000, abs=700)
    halves = (places < 100_000).sum() / len(places)
    assert float(halves) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("width", [5, 64, 256])
def test_attention_by_its_definition_is_torchs(width: int) -> None:
    """In bfloat16 on a processor, against the fused kernel in float32."""
    drawn = torch.Generator().manual_seed(2)
    lengths = [width, width, max(1, width // 3)]
    positions = torch.cat([torch.arange(n) for n in lengths])[None]
    shape = (sum(lengths), 4, 16)
    inputs = [torch.randn(shape, generator=drawn).bfloat16() for _ in range(3)]
    inputs[1], inputs[2] = inputs[1][:, :2].contiguous(), inputs[2][:, :2].contiguous()
    coming = torch.randn(shape, generator=drawn)

    def outcome(dtype: torch.dtype) -> list[torch.Tensor]:
        own = [x.detach().to(dtype).requires_grad_() for x in inputs]
        out = packed_attention(*own, find_layout(positions), scale=0.25)
        return [out.detach(), *torch.autograd.grad(out, own, coming.to(dtype))]

    for exact, found in zip(outcome(torch.float32), outcome(torch.bfloat16), strict=True):
        assert (found.float() - exact).norm() < 0.02 * exact.norm()


def test_nothing_stays_in_the_model_and_no_random_number_is_used_up() -> None:
    model = adapted("llama")
    before = torch.get_rng_state()
    with fused(model, [peft_updates(model)], Rows([(0, 0)], [None])):
        assert any("forward" in vars(m) for m in model.modules())
    assert torch.equal(before, torch.get_rng_state())
    assert not any("forward" in vars(m) for m in model.modules())


def test_no_example_sees_another() -> None:
    """A changed token moves what stands after it in its own example and nothing else."""
    model, data = adapted("llama", dropout=0.0), packed()
    rows = Rows([(0, 3 * WIDTH)], [None])
    everywhere = torch.ones_like(data["real"])
    head = plain_head(model)
    assert head is not None

    def hidden(ids: torch.Tensor) -> torch.Tensor:
        found = label_hidden(
            model, head, positions=data["positions"], selected=everywhere, input_ids=ids,
            use_cache=False,
        )  # fmt: skip
        assert found is not None
        return found.detach().view(3, WIDTH, -1)

    changed = data["ids"].clone()
    changed[0, 4] = (changed[0, 4] + 1) % 300
    with fused(model, [peft_updates(model)], rows) as fusion:
        fusion.layout = find_layout(data["positions"])
        moved = (hidden(changed) - hidden(data["ids"])).abs().amax(-1) > 0
    assert moved[0, 4:10].all()
    moved[0, 4:10] = False
    assert not moved[data["real"]].any()


def test_a_head_whose_logits_are_capped_is_left_alone() -> None:
    from transformers import Gemma2Config, Gemma2ForCausalLM

    model = Gemma2ForCausalLM(Gemma2Config(**SIZES, final_logit_softcapping=3.0))
    head = plain_head(model.requires_grad_(False))
    assert head is not None
    data = packed()
    where = {"positions": data["positions"], "selected": data["predicts"]}
    assert label_hidden(model, head, input_ids=data["ids"], use_cache=False, **where) is None


def test_a_trained_head_and_trained_norms_are_left_alone() -> None:
    model = adapted("llama")
    model.get_output_embeddings().weight.requires_grad_(True)
    assert plain_head(model) is None
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("layernorm" in name)
    with fused(model, [peft_updates(model)], Rows([(0, 0)], [None])) as fusion:
        # The last norm, before the head, has another name.
        assert fusion.counts["norm"] == 1


@pytest.mark.parametrize("variant", [{"use_dora": True}, {"lora_bias": True}])
def test_what_is_more_than_low_rank_keeps_its_own_code(variant: dict[str, bool]) -> None:
    model = LlamaForCausalLM(LlamaConfig(**SIZES, attention_bias=True)).requires_grad_(False)
    wrapped = get_peft_model(model, LoraConfig(target_modules=["q_proj"], **variant))
    assert peft_updates(wrapped) == {}


def test_cross_entropy_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Against torch's, with a weight for each token, in blocks of three rows."""
    monkeypatch.setattr("maple.base.fused.loss._BLOCK_VALUES", 3 * 50)
    drawn = torch.Generator().manual_seed(5)
    hidden = torch.randn(10, 16, generator=drawn, requires_grad=True)
    weight = torch.randn(50, 16, generator=drawn)
    targets = torch.randint(0, 50, (10,), generator=drawn)
    shares = torch.rand(10, generator=drawn)
    expected = cross_entropy(hidden @ weight.t(), targets, reduction="none")
    (wanted,) = torch.autograd.grad((expected * shares).sum() * 3, hidden)
    total, losses = label_cross_entropy(hidden, weight, targets, shares)
    (found,) = torch.autograd.grad(total * 3, hidden)
    torch.testing.assert_close(losses, expected.detach())
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_hidden_states_of_more_precision_than_the_head() -> None:
    """A float32 hidden state is read in the head's bfloat16, and gets a float32 gradient."""
    drawn = torch.Generator().manual_seed(6)
    hidden = torch.randn(10, 16, generator=drawn, requires_grad=True)
    weight = torch.randn(50, 16, generator=drawn).bfloat16()
    targets = torch.randint(0, 50, (10,), generator=drawn)
    expected = cross_entropy((hidden.bfloat16() @ weight.t()).float(), targets, reduction="sum")
    (wanted,) = torch.autograd.grad(expected, hidden)
    total, _ = label_cross_entropy(hidden, weight, targets, torch.ones(10))
    (found,) = torch.autograd.grad(total, hidden)
    assert found.dtype == torch.float32
    assert float(total.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)
    assert (found - wanted).norm() < 0.02 * wanted.norm()


def test_layout_covers_every_token_once() -> None:
    data = packed()
    layout = find_layout(data["positions"])
    places = torch.cat([g.source for g in layout.groups])
    assert torch.equal(places[layout.back], torch.arange(3 * WIDTH))
    assert layout.longest == WIDTH
    # Five examples, and the padding of the second row.
    assert sum(g.examples for g in layout.groups) == 6
