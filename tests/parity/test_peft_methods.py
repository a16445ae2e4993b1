"""Every method over ``peft`` against plain ``peft``: the same gradients, the same 50 steps.

The other side is written as ``peft``'s documentation has it: a config, ``get_peft_model``, padded
batches with labels through the model's own loss, ``torch.optim.AdamW``. It shares with ours the
base, the examples and the seed. Of methods that ``peft`` does not have, the other side's model is
``transformers``' own (``full``) or ours (bottlenecks, whose formula test_bottleneck.py has); the
loop is still a plain one.
"""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import peft
import pytest
import torch
from peft.optimizers import create_loraplus_optimizer
from peft.tuners.lora.config import CordaConfig
from peft.tuners.lora.corda import preprocess_corda
from peft.tuners.lora.eva import initialize_lora_eva_weights
from tests.contract.method_lives import Bases, attach_and_train, context_of
from tests.tiny_models import make_pools, settings

from maple.base import LoadedBase
from maple.catalog import entry_names, load_method
from maple.data import Example, StepSchedule
from maple.run.adapters import detach
from maple.study import TrainingSettings

N_STEPS = 50
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
LINEAR = [*ATTENTION, "gate_proj", "up_proj", "down_proj"]
LORA: dict[str, Any] = {"r": 8, "lora_alpha": 16, "target_modules": ATTENTION}
OURS: dict[str, Any] = {"rank": 8, "dropout": 0.0}
NARROW: dict[str, Any] = {"width": 8}


def attach_with(config: Any) -> Callable[..., Any]:
    return lambda base, rows: peft.get_peft_model(base.model, config)


def attention(kind: Any, **arguments: Any) -> Callable[..., Any]:
    return attach_with(kind(target_modules=ATTENTION, **arguments))


def attach_corda(base: LoadedBase, rows: list[dict[str, torch.Tensor]]) -> Any:
    config = peft.LoraConfig(
        **LORA, init_lora_weights="corda", corda_config=CordaConfig(corda_method="ipm")
    )
    preprocess_corda(base.model, config, run_model=lambda: [base.model(**r) for r in rows])
    return peft.get_peft_model(base.model, config)


def attach_eva(base: LoadedBase, rows: list[dict[str, torch.Tensor]]) -> Any:
    config = peft.LoraConfig(
        **LORA, init_lora_weights="eva", eva_config=peft.EvaConfig(rho=1.0), task_type="CAUSAL_LM"
    )
    model = peft.get_peft_model(base.model, config)
    initialize_lora_eva_weights(model, rows, show_progress_bar=False)
    return model


def attach_kasa(base: LoadedBase, rows: list[dict[str, torch.Tensor]]) -> Any:
    # peft draws a layer's values between two layers' A, and ours after them all.
    ours = load_method("kasa", OURS).attach(copy.deepcopy(base.model), context_of(base))
    drawn = {n: p.detach() for n, p in ours.named_parameters() if p.requires_grad}
    model = peft.get_peft_model(base.model, peft.LoraConfig(**LORA, kasa_config=peft.KasaConfig()))
    assert not model.load_state_dict(drawn, strict=False).unexpected_keys
    return model


def attach_lora_fa(base: LoadedBase, rows: list[dict[str, torch.Tensor]]) -> Any:
    model = peft.get_peft_model(base.model, peft.LoraConfig(**LORA))
    for name, parameter in model.named_parameters():
        parameter.requires_grad_("lora_B" in name)
    return model


def train_last_layer(base: LoadedBase, rows: list[dict[str, torch.Tensor]]) -> Any:
    model = copy.deepcopy(base.model)
    model.model.layers[-1].requires_grad_(True)
    return model


def train_all(base: LoadedBase, rows: list[dict[str, torch.Tensor]]) -> Any:
    return copy.deepcopy(base.model).requires_grad_(True)


def bottleneck(name: str) -> Callable[..., Any]:
    return lambda base, rows: load_method(name, NARROW).attach(base.model, context_of(base))


def loraplus(model: Any, rate: float) -> torch.optim.Optimizer:
    return create_loraplus_optimizer(
        model, torch.optim.AdamW, lr=rate, loraplus_lr_ratio=16, loraplus_weight_decay=0.01
    )


@dataclass(frozen=True)
class Pair:
    """One method, as ours and as ``peft``'s documentation would write it."""

    parameters: dict[str, Any]
    attach: Callable[..., Any]
    rate: float = 5e-3
    optimizer: Callable[[Any, float], torch.optim.Optimizer] = field(
        default=lambda model, rate: torch.optim.AdamW(
            [p for p in model.parameters() if p.requires_grad], lr=rate, weight_decay=0.01
        )
    )
    after_step: Callable[[Any, int], None] = lambda model, step: None
    extra_loss: Callable[[Any], Any] = lambda model: 0.0


def prompts(kind: Any, **arguments: Any) -> Callable[..., Any]:
    return attach_with(kind(num_virtual_tokens=6, task_type="CAUSAL_LM", **arguments))


PAIRS: dict[str, Pair] = {
    "lora": Pair(OURS | {"rslora": True}, attach_with(peft.LoraConfig(**LORA, use_rslora=True))),
    "dora": Pair(OURS, attach_with(peft.LoraConfig(**LORA, use_dora=True))),
    "lora-plus": Pair(OURS, attach_with(peft.LoraConfig(**LORA)), 5e-4, loraplus),
    "lora-fa": Pair(OURS, attach_lora_fa),
    "pissa": Pair(OURS, attach_with(peft.LoraConfig(**LORA, init_lora_weights="pissa")), 2e-3),
    "olora": Pair(OURS, attach_with(peft.LoraConfig(**LORA, init_lora_weights="olora")), 2e-3),
    "corda": Pair(OURS | {"calibration_rows": 3}, attach_corda, 1e-3),
    "kasa": Pair(OURS, attach_kasa, extra_loss=lambda model: model.base_model._get_kasa_loss()),
    "eva": Pair(OURS | {"calibration_rows": 3}, attach_eva, 2e-3),
    "adalora": Pair(
        {"rank": 4, "initial_rank": 6, "warmup_share": 0.1, "final_share": 0.2, "interval": 5},
        attach_with(
            peft.AdaLoraConfig(
                init_r=6, target_r=4, lora_alpha=8, tinit=5, tfinal=10, deltaT=5,
                total_step=N_STEPS, target_modules=ATTENTION, task_type="CAUSAL_LM",
            )
        ),
        after_step=lambda model, step: model.base_model.update_and_allocate(step),
    ),
    "ia3": Pair(
        {},
        attach_with(
            peft.IA3Config(
                target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]
            )
        ),
    ),
    "loha": Pair({"rank": 4}, attention(peft.LoHaConfig, r=4)),
    "lokr": Pair({"rank": 4}, attention(peft.LoKrConfig, r=4)),
    "oft": Pair({"block_size": 8}, attention(peft.OFTConfig, oft_block_size=8)),
    "boft": Pair({"block_size": 4}, attention(peft.BOFTConfig, boft_block_size=4)),
    "vera": Pair({"rank": 16}, attention(peft.VeraConfig, r=16)),
    "randlora": Pair(
        {"rank": 8, "alpha": 160},
        attention(peft.RandLoraConfig, r=8, randlora_alpha=160),
        5e-4,
    ),
    "fourierft": Pair(
        {"frequencies": 200},
        attention(peft.FourierFTConfig, n_frequency=200, random_loc_seed=0, init_weights=True),
    ),
    "vblora": Pair(
        {"vectors": 32, "vector_length": 16},
        attention(peft.VBLoRAConfig, num_vectors=32, vector_length=16),
    ),
    "hra": Pair({"rank": 4}, attention(peft.HRAConfig, r=4)),
    "miss": Pair({"rank": 8}, attention(peft.MissConfig, r=8)),
    "road": Pair({"group_size": 16}, attention(peft.RoadConfig, group_size=16)),
    "shira": Pair({"rank": 4}, attention(peft.ShiraConfig, r=4, random_seed=0)),
    "c3a": Pair(
        {"block_size": 16},
        attention(peft.C3AConfig, block_size=16, init_weights=True),
    ),
    "bitfit": Pair({}, attach_with(peft.BeftConfig(target_modules=LINEAR))),
    "ln-tuning": Pair(
        {},
        attach_with(
            peft.LNTuningConfig(
                target_modules=["input_layernorm", "post_attention_layernorm", "norm"]
            )
        ),
    ),
    "last-k-layers": Pair({"layers": 1}, train_last_layer, 1e-3),
    "trainable-tokens": Pair(
        {"tokens": (0, 5, 7, 40)},
        attach_with(peft.TrainableTokensConfig(token_indices=[0, 5, 7, 40])),
    ),
    "prompt-tuning": Pair(
        {"tokens": 6}, prompts(peft.PromptTuningConfig, prompt_tuning_init="SAMPLE_VOCAB"), 2e-2
    ),
    "p-tuning": Pair(
        {"tokens": 6, "width": 32}, prompts(peft.PromptEncoderConfig, encoder_hidden_size=32), 1e-3
    ),
    "prefix-tuning": Pair({"tokens": 6}, prompts(peft.PrefixTuningConfig), 2e-2),
    "full": Pair({}, train_all, 1e-3),
    "houlsby": Pair(NARROW, bottleneck("houlsby")),
    "pfeiffer": Pair(NARROW, bottleneck("pfeiffer")),
    "parallel-adapter": Pair(NARROW, bottleneck("parallel-adapter")),
}  # fmt: skip

NOT_COMPARED = {
    "none",
    # A plain LoRA once begun. It begins on a rounded base alone, where 1e-4 is below the rounding,
    # and peft's beginning needs a GPU; tests/contract/test_methods.py has its formula.
    "loftq",
}


def test_every_method_is_compared() -> None:
    assert set(PAIRS) == set(entry_names("methods")) - NOT_COMPARED


@dataclass(frozen=True)
class Trained:
    """Loss and gradient norm of every step, and the first step's gradients by parameter."""

    losses: list[float]
    norms: list[float]
    first_gradients: dict[str, torch.Tensor]


def wanted(pair: Pair) -> TrainingSettings:
    return settings(
        learning_rate=pair.rate, max_steps=N_STEPS, batch_size=2, epochs=1000, weight_decay=0.01
    )


def schedule_of(base: LoadedBase, pair: Pair) -> StepSchedule:
    pools = make_pools(("eng_Latn", "tha_Thai"))
    return StepSchedule(pools, wanted(pair), seed=0, tokenizer=base.tokenizer, family=base.family)


def packed_rows(schedule: StepSchedule) -> Iterator[dict[str, torch.Tensor]]:
    """The first examples, end to end, as calibration has them."""
    for step in (1, 2, 3):
        batch = schedule.micro_batches(step)[0]
        yield {"input_ids": batch.ids[:1], "position_ids": batch.positions[:1]}


def padded(examples: list[Example]) -> dict[str, torch.Tensor]:
    width = max(len(e.ids) for e in examples)
    ids = torch.full((len(examples), width), 2)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for row, e in enumerate(examples):
        ids[row, : len(e.ids)] = torch.tensor(e.ids)
        mask[row, : len(e.ids)] = 1
        labels[row, e.label_start : len(e.ids)] = torch.tensor(e.ids[e.label_start :])
    return {"input_ids": ids, "attention_mask": mask, "labels": labels}


def train_with_peft(base: LoadedBase, pair: Pair) -> Trained:
    schedule = schedule_of(base, pair)
    torch.manual_seed(0)
    model = pair.attach(base, list(packed_rows(schedule)))
    optimizer = pair.optimizer(model, pair.rate)
    model.train()
    losses, norms, gradients = [], [], {}
    for step in range(1, N_STEPS + 1):
        loss = model(**padded(schedule.examples(step))).loss + pair.extra_loss(model)
        loss.backward()
        if step == 1:
            gradients = gradients_of(model)
        trained = [p for p in model.parameters() if p.requires_grad]
        norms.append(float(torch.nn.utils.clip_grad_norm_(trained, 1.0)))
        optimizer.step()
        pair.after_step(model, step)
        optimizer.zero_grad()
        losses.append(float(loss))
    return Trained(losses, norms, gradients)


def gradients_of(model: Any) -> dict[str, torch.Tensor]:
    """By name, that of a whole module's copy being the module's."""
    return {
        n.removeprefix("base_model.model.").replace(".ln_tuning_layers.default", ""): p.grad.clone()
        for n, p in model.named_parameters()
        if p.requires_grad and p.grad is not None
    }


def train_ours(base: LoadedBase, name: str, pair: Pair, monkeypatch: Any) -> Trained:
    gradients: list[dict[str, torch.Tensor]] = []
    clip = torch.nn.utils.clip_grad_norm_
    model: Any = None

    def watch(parameters: Any, norm: float) -> torch.Tensor:
        if not gradients:
            gradients.append(gradients_of(model))
        return clip(parameters, norm)

    def remember(attached: Any) -> None:
        nonlocal model
        model = attached

    monkeypatch.setattr(torch.nn.utils, "clip_grad_norm_", watch)
    method = load_method(name, pair.parameters)
    trained, result = attach_and_train(base, method, wanted(pair), at_step_0=remember)
    monkeypatch.undo()
    detach(trained, base)
    return Trained(
        [row.loss for row in result.curve], [row.grad_norm for row in result.curve], gradients[0]
    )


@pytest.mark.parametrize("name", PAIRS)
def test_gradients_and_50_steps_are_pefts(
    fresh_base: Bases, shared_base: Bases, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = PAIRS[name]
    ours = train_ours(shared_base(), name, pair, monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = train_with_peft(fresh_base(), pair)
    assert ours.first_gradients.keys() == theirs.first_gradients.keys()
    pairs = list(zip(ours.losses, theirs.losses, strict=True))
    worst = max(abs(a - b) / abs(b) for a, b in pairs)
    norms = abs(ours.norms[0] - theirs.norms[0]) / theirs.norms[0]
    gradient = max(
        relative(gradient, theirs.first_gradients[n])
        for n, gradient in ours.first_gradients.items()
    )
    moved = f"{ours.losses[0]:.2f} -> {ours.losses[-1]:.2f}"
    print(f"{name}: {moved}, worst {worst:.1e}, norm {norms:.1e}, gradient {gradient:.1e}")
    assert ours.losses[-1] < ours.losses[0]
    assert worst < 1e-4
    assert norms < 1e-4
    assert gradient < 1e-4


def relative(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).norm() / theirs.norm().clamp_min(1e-12))
