"""Activations kept, recomputed or offloaded: the same adapter, and a choice by what is free."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from safetensors.torch import save
from tests.tiny_models import settings, train_on

from maple.base import LoadedBase
from maple.catalog import load_method
from maple.train.activations import Activations, choose_activations, free_bytes

LORA = {"rank": 4, "dropout": 0.2, "targets": "all-linear"}


@pytest.mark.parametrize("quantization", ["fp32", "bf16", "nf4"])
def test_what_becomes_of_activations_changes_no_number(
    fresh_base: Callable[..., LoadedBase], quantization: str
) -> None:
    found = {}
    ways: tuple[Activations, ...] = ("keep", "recompute", "offload")
    for way in ways:
        base = fresh_base("llama", quantization)
        model, _ = train_on(base, load_method("lora", LORA), settings(), activations=way)
        found[way] = save({n: p.detach() for n, p in model.named_parameters() if p.requires_grad})
    assert found["keep"] == found["recompute"] == found["offload"]


def test_recomputing_holds_less(fresh_base: Callable[..., LoadedBase]) -> None:
    """Bytes that wait for the backward pass, as torch hands them over."""
    held = {}
    ways: tuple[Activations, ...] = ("keep", "recompute")
    for way in ways:
        total = 0

        def pack(tensor: torch.Tensor) -> torch.Tensor:
            nonlocal total
            total += tensor.nbytes
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            train_on(
                fresh_base("llama"), load_method("lora", LORA), settings(max_steps=1),
                activations=way,
            )  # fmt: skip
        held[way] = total
    assert held["recompute"] < 0.5 * held["keep"]


@pytest.mark.parametrize(
    ("asked", "free", "on_gpu", "expected"),
    [
        ("auto", 1000, False, "keep"),
        ("auto", 100, False, "recompute"),
        ("auto", 100, True, "recompute"),
        ("auto", 10, True, "offload"),
        ("auto", 10, False, "recompute"),
        (True, 1000, False, "recompute"),
        (False, 10, True, "keep"),
    ],
)
def test_the_choice(asked: bool | str, free: int, on_gpu: bool, expected: str) -> None:
    wanted = settings(gradient_checkpointing=asked)
    assert choose_activations(wanted, kept=600, inputs=60, free=free, on_gpu=on_gpu) == expected


def test_unknown_sizes_are_kept() -> None:
    assert choose_activations(settings(), kept=None, inputs=None, free=1, on_gpu=True) == "keep"


def test_free_memory_is_the_machines() -> None:
    assert 2**20 < free_bytes(torch.device("cpu")) < 2**46
