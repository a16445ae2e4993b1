"""An adapter that does not change the base is found out."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from tests.tiny_models import settings, train_on

from maple.base import LoadedBase
from maple.catalog import load_method
from maple.catalog.contracts import AttachContext
from maple.errors import DeadAdapterError
from maple.evaluate import check_alive, probe_logits, prove_alive
from maple.evaluate.probe import PROBES, largest_difference
from maple.run.adapters import detach

Bases = Callable[..., LoadedBase]


def test_probe_logits_are_those_of_a_plain_forward(shared_base: Bases) -> None:
    base = shared_base()
    found = probe_logits(base.model, base)[0]
    ids = torch.tensor([base.tokenizer("The capital of Kenya is")["input_ids"]])
    with torch.no_grad():
        expected = base.model(ids).logits[0]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("quantization", ["fp32", "bf16", "int8", "nf4"])
def test_an_untrained_adapter_is_dead_and_a_trained_one_alive(
    shared_base: Bases, quantization: str
) -> None:
    base = shared_base("llama", quantization)
    untouched = probe_logits(base.model, base)
    noise = largest_difference(untouched, probe_logits(base.model, base))
    assert noise == 0.0
    method = load_method("lora", {"rank": 2})
    context = AttachContext(family=base.family, quantizer=base.quantizer, seed=0)
    dead = method.attach(base.model, context)
    try:
        with pytest.raises(DeadAdapterError, match="mine does not change the base"):
            check_alive(probe_logits(dead, base), untouched, noise=noise, what="mine")
    finally:
        detach(dead, base)
    alive, _ = train_on(base, method, settings())
    try:
        moved = check_alive(probe_logits(alive, base), untouched, noise=noise, what="mine")
    finally:
        detach(alive, base)
    assert moved > 1e-3


def test_a_difference_within_the_noise_is_no_life() -> None:
    base, adapted = [torch.zeros(2, 3)], [torch.full((2, 3), 0.05)]
    with pytest.raises(DeadAdapterError, match=r"noise 0\.01"):
        check_alive(adapted, base, noise=0.01, what="mine")
    assert check_alive(adapted, base, noise=0.001, what="mine") == pytest.approx(0.05)


def test_life_is_proven_on_no_more_prompts_than_it_takes(
    shared_base: Bases, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = shared_base()
    untouched = probe_logits(base.model, base)
    asked: list[str] = []

    def counted(model: object, base: LoadedBase, prompts: list[str]) -> list[torch.Tensor]:
        asked.extend(prompts)
        (text,) = prompts
        shift = shifts.get(text, 0.0)
        return [untouched[PROBES.index(text)] + shift]

    monkeypatch.setattr("maple.evaluate.probe.probe_logits", counted)
    shifts = {PROBES[0]: 1.0}
    prove_alive(base.model, base, untouched, noise=0.0, what="mine")
    assert asked == [PROBES[0]]
    shifts, asked[:] = {PROBES[-1]: 1.0}, []
    prove_alive(base.model, base, untouched, noise=0.0, what="mine")
    assert asked == [*PROBES]
    for dead in ({}, {PROBES[0]: math.nan, PROBES[1]: 1.0}):
        shifts = dead
        with pytest.raises(DeadAdapterError, match="mine does not change the base"):
            prove_alive(base.model, base, untouched, noise=0.0, what="mine")
