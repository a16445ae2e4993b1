"""The loop: its loss is the mean over label tokens, however they were laid out."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any

import pytest
import torch
from tests.tiny_models import batch_loss, make_pools, settings, train_on

from maple.base import LoadedBase
from maple.catalog import load_method
from maple.catalog.contracts import AttachContext, Method, TrainingHooks
from maple.data import StepSchedule
from maple.errors import TrainingError
from maple.records import CurveRow

Bases = Callable[..., LoadedBase]

LORA = {"rank": 4, "alpha": 4, "dropout": 0.0, "targets": "all-linear"}


@pytest.fixture
def lora() -> Method:
    return load_method("lora", LORA)


def adapted(base: LoadedBase, method: Method) -> Any:
    """An adapter whose B is not zero, so that every matrix has a gradient."""
    torch.manual_seed(0)
    context = AttachContext(family=base.family, quantizer=base.quantizer, seed=0)
    model = method.attach(base.model, context)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.05)
    return model.train()


def schedule_of(base: LoadedBase, **changes: Any) -> StepSchedule:
    return StepSchedule(
        make_pools(), settings(**changes), seed=0, tokenizer=base.tokenizer, family=base.family
    )


def gradients(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


# ---------------------------------------------------------------------------------- the loss


@pytest.mark.parametrize("family", ["llama", "mistral", "qwen2", "gemma2"])
def test_loss_and_gradients_equal_the_plain_forward_with_labels(
    fresh_base: Bases, lora: Method, family: str
) -> None:
    base = fresh_base(family)
    model, schedule = adapted(base, lora), schedule_of(base)
    ours = torch.zeros(())
    for batch in schedule.micro_batches(1):
        loss = batch_loss(model, base, batch)
        loss.backward()
        ours += loss.detach()
    packed = gradients(model)
    theirs = torch.zeros(())
    for example in schedule.examples(1):
        ids = torch.tensor([example.ids])
        labels = ids.clone()
        labels[:, : example.label_start] = -100
        loss = model(input_ids=ids, labels=labels, use_cache=False).loss * example.n_labels
        loss.backward()
        theirs += loss.detach()
    plain = gradients(model)
    assert ours.item() == pytest.approx(theirs.item(), rel=1e-6)
    assert packed.keys() == plain.keys()
    for name in plain:
        # float32 sums over 400 label tokens, in another order.
        torch.testing.assert_close(packed[name], plain[name], rtol=1e-4, atol=1e-4)


def test_gradients_with_labels_one_late_differ(fresh_base: Bases, lora: Method) -> None:
    # The control: the comparison above can fail.
    base = fresh_base()
    model, schedule = adapted(base, lora), schedule_of(base)
    (batch,) = schedule_of(base, micro_batch_tokens=4096).micro_batches(1)
    batch_loss(model, base, batch).backward()
    ours = gradients(model)
    for example in schedule.examples(1):
        ids = torch.tensor([example.ids])
        labels = ids.clone()
        labels[:, : example.label_start + 1] = -100
        (model(input_ids=ids, labels=labels).loss * (example.n_labels - 1)).backward()
    late = gradients(model)
    assert any(not torch.allclose(ours[n], late[n], rtol=1e-2) for n in ours)


@pytest.mark.parametrize("quantization", ["bf16", "nf4", "int8"])
def test_loss_is_float32_on_a_16_bit_base(
    fresh_base: Bases, lora: Method, quantization: str
) -> None:
    base = fresh_base("llama", quantization)
    model, schedule = adapted(base, lora), schedule_of(base)
    batch = schedule.micro_batches(1)[0]
    loss = batch_loss(model, base, batch)
    assert loss.dtype == torch.float32
    # A sum of 8-bit mantissas would be a multiple of 1 at this size.
    assert loss.item() % 0.125 != 0.0


def test_the_head_sees_label_positions_only(fresh_base: Bases, lora: Method) -> None:
    base = fresh_base()
    model, schedule = adapted(base, lora), schedule_of(base)
    shapes: list[tuple[torch.Size, torch.Size]] = []
    head = base.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda _, i, o: shapes.append((i[0].shape, o.shape)))
    try:
        batches = schedule.micro_batches(1)
        for batch in batches:
            batch_loss(model, base, batch)
    finally:
        handle.remove()
    expected = [len(batch.targets) for batch in batches]
    # The passes are tried out on two tokens first, every time they are made.
    shapes = shapes[1::2]
    assert [tuple(i) for i, _ in shapes] == [(n, 64) for n in expected]
    assert [tuple(o) for _, o in shapes] == [(n, base.model.config.vocab_size) for n in expected]
    assert all(len(b.targets) < b.ids.numel() for b in batches)
    assert not head._forward_pre_hooks


@pytest.mark.parametrize(
    "change",
    [{"micro_batch_tokens": 96}, {"micro_batch_tokens": 100_000}, {"gradient_checkpointing": True}],
)
def test_memory_settings_do_not_change_the_losses(
    fresh_base: Bases, lora: Method, change: dict[str, Any]
) -> None:
    curves = []
    for settings_of in ({}, change):
        _, result = train_on(fresh_base(), lora, settings(max_steps=4, **settings_of))
        curves.append(result.curve)
    for plain, other in zip(*curves, strict=True):
        assert other.loss == pytest.approx(plain.loss, rel=1e-5)
        assert other.grad_norm == pytest.approx(plain.grad_norm, rel=1e-4)
        assert other.tokens == plain.tokens


@pytest.mark.parametrize("quantization", ["fp32", "nf4"])
def test_gradient_checkpointing_with_dropout_gives_the_same_adapter(
    fresh_base: Bases, quantization: str
) -> None:
    found = []
    for is_on in (False, True):
        base = fresh_base("llama", quantization)
        method = load_method("lora", LORA | {"dropout": 0.2})
        model, result = train_on(base, method, settings(gradient_checkpointing=is_on))
        assert not any(getattr(m, "gradient_checkpointing", False) for m in model.modules())
        found.append((result.curve, gradientless(model)))
    (plain, weights), (checkpointed, other) = found
    assert [r.loss for r in checkpointed] == [r.loss for r in plain]
    assert all(torch.equal(weights[name], other[name]) for name in weights)


def gradientless(model: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


# -------------------------------------------------------------------------------- the curve


def test_a_row_tells_what_the_step_cost(fresh_base: Bases, lora: Method) -> None:
    base = fresh_base()
    schedule = schedule_of(base)
    told: list[tuple[CurveRow, int]] = []
    _, result = train_on(base, lora, settings(), on_step=lambda row, of: told.append((row, of)))
    assert told == [(row, 3) for row in result.curve]
    for row in result.curve:
        examples = schedule.examples(row.step)
        assert row.tokens == sum(len(e.ids) for e in examples)
        assert row.label_tokens == sum(e.n_labels for e in examples)
        assert row.learning_rate == 1e-2
        assert row.tokens_per_second == pytest.approx(row.tokens / row.step_seconds)
        assert row.peak_memory_bytes > 0
        numbers = asdict(row)
        assert (numbers.pop("validation_loss"), numbers.pop("validation_losses")) == (None, None)
        assert all(math.isfinite(v) for v in numbers.values())


def test_the_model_is_left_in_evaluation_mode(fresh_base: Bases, lora: Method) -> None:
    model, _ = train_on(fresh_base(), lora, settings())
    assert not any(module.training for module in model.modules())


def test_counts_are_those_of_the_model(fresh_base: Bases, lora: Method) -> None:
    base = fresh_base()
    n_base = sum(p.numel() for p in base.model.parameters())
    _, result = train_on(base, lora, settings())
    assert result.total_parameters == n_base + result.trainable_parameters


def test_gradients_are_clipped_to_the_norm(fresh_base: Bases, lora: Method) -> None:
    # AdamW is blind to a gradient's scale, so clipping shows where one step's differs.
    tight, loose = (
        train_on(fresh_base(), lora, settings(max_grad_norm=norm))[1].curve for norm in (1e-3, 1e9)
    )
    assert tight[0].grad_norm == loose[0].grad_norm > 1e-3
    assert tight[2].loss != loose[2].loss


# ------------------------------------------------------------------------------- what stops it


def test_a_loss_that_is_not_finite_stops_the_run(fresh_base: Bases, lora: Method) -> None:
    with pytest.raises(TrainingError, match=r"step 2: the loss is nan.*learning_rate"):
        train_on(fresh_base(), lora, settings(learning_rate=1e30))


def test_what_gives_no_number_before_any_step_is_not_put_on_the_learning_rate(
    fresh_base: Bases, lora: Method
) -> None:
    base = fresh_base()
    base.model.model.layers[0].self_attn.q_proj.weight.data[0, 0] = math.nan
    with pytest.raises(TrainingError, match=r"step 1: the loss is nan.*Nothing was trained yet"):
        train_on(base, lora, settings())


def test_a_method_that_trains_nothing_is_refused(fresh_base: Bases) -> None:
    with pytest.raises(TrainingError, match="nothing to train"):
        train_on(fresh_base(), load_method("none"), settings())


def test_lora_without_its_modules_names_those_there_are(fresh_base: Bases) -> None:
    for targets in (("query_key_value",), ("v_proj", "query_key_value")):
        method = load_method("lora", {"targets": targets})
        with pytest.raises(TrainingError, match=r"no module named 'query_key_value' .*q_proj"):
            train_on(fresh_base(), method, settings())


# ------------------------------------------------------------------------------------- hooks


class Watching(TrainingHooks):
    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.extra = 0.0

    def before_step(self, step: int) -> None:
        self.calls.append(("before", step))

    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        self.calls.append(("after", step))

    def extra_loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        return torch.tensor(self.extra) if self.extra else None


@pytest.fixture
def watched() -> tuple[Method, Watching]:
    watching = Watching()

    class WatchedLora(type(load_method("lora"))):  # type: ignore[misc]
        def hooks(self, model: torch.nn.Module, total_steps: int) -> TrainingHooks:
            return watching

    return WatchedLora(**LORA), watching


def test_hooks_are_called_around_every_step(
    fresh_base: Bases, watched: tuple[Method, Watching]
) -> None:
    method, watching = watched
    train_on(fresh_base(), method, settings())
    assert watching.calls == [(when, step) for step in (1, 2, 3) for when in ("before", "after")]


def test_an_extra_loss_is_added_to_the_mean_whatever_the_micro_batches(
    fresh_base: Bases, watched: tuple[Method, Watching]
) -> None:
    method, watching = watched
    _, plain = train_on(fresh_base(), method, settings(max_steps=1))
    watching.extra = 2.0
    for tokens in (96, 4096):
        _, other = train_on(fresh_base(), method, settings(max_steps=1, micro_batch_tokens=tokens))
        assert other.curve[0].loss == pytest.approx(plain.curve[0].loss + 2.0, rel=1e-5)
