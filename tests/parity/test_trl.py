"""Our loop against ``peft`` and TRL's ``SFTTrainer``: the same batches, seed and optimiser.

TRL pads each example to the longest of its micro-batch and computes its loss through a fused
head; we pack and compute logits at label positions only. In float32 the two must agree.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tests.tiny_models import make_pools, settings, train_on

from maple.base import LoadedBase
from maple.catalog import load_method
from maple.data import Example, ExamplePool, StepSchedule, load_pools
from maple.evaluate import probe_logits
from maple.evaluate.probe import largest_difference
from maple.files import Files
from maple.run.adapters import detach
from maple.study import Mixture, MixturePart, TrainingSettings

pytest.importorskip("trl")

N_STEPS = 50
SETTINGS = settings(
    learning_rate=5e-3,
    max_steps=N_STEPS,
    batch_size=8,
    max_length=160,
    warmup_steps=5,
    scheduler="cosine",
    weight_decay=0.01,
    epochs=1000,
)
LORA = {"rank": 8, "alpha": 16, "dropout": 0.0, "targets": "attention"}


@dataclass(frozen=True)
class Trained:
    """A loss per step, and logits on the probe prompts at the end."""

    losses: list[float]
    logits: list[torch.Tensor]


@pytest.fixture(scope="module")
def synthetic() -> list[ExamplePool]:
    return make_pools(rows=5)


@pytest.fixture(scope="module")
def real(shared_data: Path) -> list[ExamplePool]:
    """The first rows of MultiAlpaca in two scripts."""
    codes = tuple(
        code
        for code, name in (("spa_Latn", "es"), ("jpn_Jpan", "ja"), ("por_Latn", "pt"))
        if (shared_data / "multialpaca" / f"{name}.jsonl").is_file()
    )
    if not codes:
        pytest.skip(f"no MultiAlpaca file in {shared_data}")
    mixture = Mixture(name="m", parts=(MixturePart(dataset="multialpaca", languages=codes),))
    pools = load_pools(mixture, Files(directory=shared_data))
    return [replace(pool, conversations=pool.conversations[:200]) for pool in pools]


def train_ours(base: LoadedBase, pools: list[ExamplePool], wanted: TrainingSettings) -> Trained:
    model, result = train_on(base, load_method("lora", LORA), wanted, pools=pools)
    trained = Trained([row.loss for row in result.curve], probe_logits(model, base))
    detach(model, base)
    return trained


def train_with_trl(
    base: LoadedBase,
    pools: list[ExamplePool],
    wanted: TrainingSettings,
    directory: Path,
    *,
    accumulation: int = 1,
    as_row: Callable[[Example], dict[str, list[int]]] | None = None,
) -> Trained:
    """The examples of our schedule, in its order, through TRL's trainer and optimiser."""
    import peft
    import trl

    import datasets

    schedule = StepSchedule(pools, wanted, seed=0, tokenizer=base.tokenizer, family=base.family)
    examples = [e for step in range(1, N_STEPS + 1) for e in schedule.examples(step)]
    assert len(examples) == N_STEPS * wanted.batch_size
    torch.manual_seed(0)
    config = peft.LoraConfig(
        r=8,
        lora_alpha=16,
        lora_dropout=0.0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj"],
        task_type="CAUSAL_LM",
    )
    losses: list[float] = []

    class Trainer(trl.SFTTrainer):  # type: ignore[misc]
        def training_step(self, *arguments: Any, **named: Any) -> torch.Tensor:
            loss: torch.Tensor = super().training_step(*arguments, **named)
            losses.append(float(loss))
            return loss

    trainer = Trainer(
        model=peft.get_peft_model(base.model, config),
        args=trl.SFTConfig(
            output_dir=str(directory),
            max_steps=N_STEPS,
            per_device_train_batch_size=wanted.batch_size // accumulation,
            gradient_accumulation_steps=accumulation,
            learning_rate=wanted.learning_rate,
            lr_scheduler_type=wanted.scheduler,
            warmup_steps=wanted.warmup_steps,
            weight_decay=wanted.weight_decay,
            max_grad_norm=wanted.max_grad_norm,
            max_length=wanted.max_length,
            train_sampling_strategy="sequential",
            packing=False,
            completion_only_loss=True,
            activation_checkpointing=False,
            bf16=False,
            use_cpu=True,
            report_to=[],
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        ),
        train_dataset=datasets.Dataset.from_list([(as_row or row_of)(e) for e in examples]),
        processing_class=base.tokenizer,
    )
    trainer.train()
    steps = [sum(losses[n : n + accumulation]) for n in range(0, len(losses), accumulation)]
    trained = Trained(steps, probe_logits(trainer.model, base))
    detach(trainer.model, base)
    return trained


def row_of(example: Example) -> dict[str, list[int]]:
    mask = [int(place >= example.label_start) for place in range(len(example.ids))]
    return {"input_ids": list(example.ids), "completion_mask": mask}


def shifted_row_of(example: Example) -> dict[str, list[int]]:
    """The control: the mask begins one token late."""
    mask = [int(place > example.label_start) for place in range(len(example.ids))]
    return {"input_ids": list(example.ids), "completion_mask": mask}


def largest_relative_difference(ours: Trained, theirs: Trained) -> float:
    assert len(ours.losses) == len(theirs.losses) == N_STEPS
    pairs = zip(ours.losses, theirs.losses, strict=True)
    return max(abs(a - b) / abs(b) for a, b in pairs)


@pytest.mark.parametrize(
    ("rows", "accumulation"), [("synthetic", 1), ("synthetic", 4), ("real", 1)]
)
def test_losses_and_adapter_agree_with_trl_over_50_steps(
    fresh_base: Callable[..., LoadedBase],
    request: pytest.FixtureRequest,
    tmp_path: Path,
    rows: str,
    accumulation: int,
) -> None:
    pools = request.getfixturevalue(rows)
    # Four micro-batches of ours too where TRL accumulates.
    wanted = SETTINGS.model_copy(update={"micro_batch_tokens": 4096 if accumulation == 1 else 160})
    ours = train_ours(fresh_base(), pools, wanted)
    theirs = train_with_trl(fresh_base(), pools, wanted, tmp_path, accumulation=accumulation)
    assert ours.losses[-1] < ours.losses[0] / 1.2
    # float32 sums in another order, carried through 50 steps.
    worst, moved = (
        largest_relative_difference(ours, theirs),
        largest_difference(ours.logits, theirs.logits),
    )
    print(f"TRL {rows} x{accumulation}: losses {worst:.1e} relative, logits {moved:.1e}")
    assert worst < 1e-4
    assert moved < 1e-3


def test_labels_one_token_late_do_not_agree_with_ours(
    fresh_base: Callable[..., LoadedBase], synthetic: list[ExamplePool], tmp_path: Path
) -> None:
    ours = train_ours(fresh_base(), synthetic, SETTINGS)
    theirs = train_with_trl(fresh_base(), synthetic, SETTINGS, tmp_path, as_row=shifted_row_of)
    assert largest_relative_difference(ours, theirs) > 1e-2
    assert largest_difference(ours.logits, theirs.logits) > 1e-2
