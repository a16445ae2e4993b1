"""What ``make bench-train`` computes from what it measures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from benchmarks.training.bases import Architecture
from benchmarks.training.contestants import Outcome, PeerSetting, Recipe, Trained
from benchmarks.training.flops import step_flops
from benchmarks.training.rows import Rows, Step, draw_rows
from benchmarks.training.statistics import differences, summary

TINY = Architecture(
    hidden=32, layers=2, heads=4, key_value_heads=2, intermediate=48,
    vocabulary=64, tied_head=False,
)  # fmt: skip
RECIPE = Recipe(ranks=(8,), examples=32, batch_size=16, max_length=100)


def made_rows(lengths: tuple[int, ...] = (50,) * 32) -> Rows:
    steps = (Step(tokens=sum(lengths), label_tokens=400, pairs=1),)
    return Rows(Path(), Path(), lengths, steps, {}, 0)


def trained(**changes: Any) -> Trained:
    seen = {"label_tokens": 400, "steps": 2, "first_loss": 10.0, "last_loss": 9.0}
    return Trained(**(seen | {"training_seconds": 1.0} | changes))


def outcome(seconds: float = 4.0, **changes: Any) -> Outcome:
    return Outcome(
        saved_seconds=seconds,
        ended_seconds=seconds,
        cpu_seconds=seconds,
        tree_bytes=1,
        process_bytes=1,
        trained={8: trained(**changes)},
    )


def test_closed_form_equals_torchs_count_of_a_real_step() -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=TINY.hidden,
        num_hidden_layers=TINY.layers,
        num_attention_heads=TINY.heads,
        num_key_value_heads=TINY.key_value_heads,
        intermediate_size=TINY.intermediate,
        vocab_size=TINY.vocabulary,
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    lora = LoraConfig(r=3, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(LlamaForCausalLM(config), lora)
    n = 10
    with FlopCounterMode(display=False) as counter:
        model(input_ids=torch.arange(n)[None]).logits.sum().backward()
    # Eager attention computes the masked pairs too.
    step = Step(tokens=n, label_tokens=n, pairs=n * n)
    assert counter.get_total_flops() == step_flops(TINY, step, 3)


@pytest.mark.parametrize(
    ("packing", "per_device", "expected"),
    [(None, 1, 16), (None, 4, 4), ("bfd", 1, 8), ("bfd", 4, 2), ("wrapped", 1, 8), (None, 64, 1)],
)
def test_a_step_of_a_peer_holds_the_batchs_examples(
    packing: str | None, per_device: int, expected: int
) -> None:
    setting = PeerSetting(name="any", per_device=per_device, packing=packing)
    # Two examples of 50 fill a row of 100.
    assert setting.accumulation(RECIPE, made_rows()) == expected


def test_rate_is_examples_of_the_whole_grid() -> None:
    two = replace(outcome(seconds=8.0), trained={8: trained(), 16: trained()})
    assert two.rate(32) == 8.0


def test_ratio_summary_is_median_and_spread() -> None:
    assert summary([3.0, 1.0, 2.0]) == {"median": 2.0, "min": 1.0, "max": 3.0, "pairs": [3, 1, 2]}


def test_equal_work_passes() -> None:
    setting = PeerSetting(name="any", per_device=1)
    assert differences(outcome(), outcome(first_loss=10.01), setting, made_rows()) == []


@pytest.mark.parametrize(
    ("changes", "packing", "said"),
    [
        ({"label_tokens": 399}, None, "399 labels of 400"),
        ({"label_tokens": 390}, "wrapped", "390 labels of 400"),
        ({"first_loss": 10.3}, None, "first loss 10.300"),
        ({"first_loss": 10.6}, "bfd", "first loss 10.600"),
        ({"last_loss": 8.0}, None, "last loss 8.000"),
    ],
)
def test_unequal_work_is_said(changes: dict[str, Any], packing: str | None, said: str) -> None:
    setting = PeerSetting(name="any", per_device=1, packing=packing)
    (found,) = differences(outcome(), outcome(**changes), setting, made_rows())
    assert said in found


def test_the_plain_loop_sees_our_label_tokens(
    shared_data: Path, model_directory: Callable[..., Path], tmp_path: Path
) -> None:
    from benchmarks.peers.padded_loop import read, tokenize
    from transformers import AutoTokenizer

    from maple.study import TrainingSettings

    base = model_directory("llama")
    recipe = replace(RECIPE, max_length=512)
    settings = TrainingSettings.model_validate(recipe.training())
    rows = draw_rows(shared_data, base, settings, tmp_path, seed=0)
    tokenizer = AutoTokenizer.from_pretrained(base)
    theirs = [tokenize(row, tokenizer, 512) for row in read(str(rows.text_file))]
    assert [len(ids) for ids, _ in theirs] == list(rows.lengths)
    labels = sum(label != -100 for _, labels in theirs for label in labels[1:])
    assert labels == rows.label_tokens
    assert sum(n > 0 for n in rows.languages.values()) == 5
