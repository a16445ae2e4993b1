"""What a cohort will need: parameters, memory and disk, from sizes alone."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from maple.catalog.contracts import Method, ModelFamily, Quantizer, Shape
from maple.study import RunSpec, TrainingSettings

_TRAINED_BYTES = 8
"""Per trainable parameter: float32 weight and gradient."""
_STATE_BYTES = {
    "adamw": 8,
    "adamw-8bit": 2,
    "paged-adamw": 8,
    "paged-adamw-8bit": 2,
    "adafactor": 0,
    "sgd": 4,
}
"""Per trainable parameter, what the optimiser remembers; Adafactor a row and a column a matrix.

Of the 8-bit ones small tensors stay in 32 bits, and paged state may go to the host.
"""
_MEAN_BYTES = 4
"""Per trainable parameter: ``average_last``'s running mean."""
_SCORED_LENGTH = 256
"""Tokens of an example up to which attention on a CPU keeps its scores; a GPU keeps none."""
_SPARSE_DROPOUT = 0.125
"""As in ``base/fused/low_rank.py``."""
_HEAD_VALUES = 3 << 24
"""Float32 values of the logits' blocks while the loss is taken: a block, its softmax, a spare."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Bytes and counts a run is expected to need; None where the base's sizes are not known."""

    total_parameters: int | None
    trainable_parameters: int | None
    memory_bytes: int | None
    """Base, adapter with optimiser, activations of one micro-batch."""
    adapter_bytes: int | None
    max_train_tokens: int | None
    """Upper bound: every example at full length; None when it depends on the data."""


def shape_from_config(config: Mapping[str, Any]) -> Shape | None:
    """Reads a config.json's sizes; None when it is no Llama-like decoder."""
    try:
        heads = int(config["num_attention_heads"])
        return Shape(
            hidden=int(config["hidden_size"]),
            layers=int(config["num_hidden_layers"]),
            heads=heads,
            key_value_heads=int(config.get("num_key_value_heads") or heads),
            intermediate=int(config["intermediate_size"]),
            vocabulary=int(config["vocab_size"]),
            head_dim=config.get("head_dim"),
            tied_head=bool(config.get("tie_word_embeddings", False)),
        )
    except (KeyError, TypeError):
        return None


def total_parameters(shape: Shape, family: ModelFamily) -> int:
    """Parameters of a Llama-like decoder: blocks, norms, embedding and (unless tied) head."""
    block = sum(i * o for i, o in family.linear_shapes(shape).values()) + 2 * shape.hidden
    tables = 1 if shape.tied_head else 2
    return shape.layers * block + shape.hidden + tables * shape.vocabulary * shape.hidden


def estimate(
    run: RunSpec, shape: Shape | None, *, family: ModelFamily, method: Method, quantizer: Quantizer
) -> Estimate:
    """Estimates one run from its base's sizes."""
    tokens = _max_tokens(run.training)
    if shape is None:
        return Estimate(
            total_parameters=None, trainable_parameters=None, memory_bytes=None,
            adapter_bytes=None, max_train_tokens=tokens,
        )  # fmt: skip
    trainable = method.trainable_parameters(shape, family)
    linear = shape.layers * sum(i * o for i, o in family.linear_shapes(shape).values())
    total = total_parameters(shape, family)
    other_bytes = 4 if quantizer.bits == 32 else 2
    base = linear * quantizer.bytes_per_weight() + (total - linear) * other_bytes
    activations = 0
    if run.training is not None:
        kept, recomputed = activation_bytes(
            run.training, shape, method=method, family=family, value_bytes=other_bytes
        )
        activations = recomputed if run.training.gradient_checkpointing is True else kept
    trained = _trained_bytes(run.training)
    memory = None if trainable is None else int(base + trainable * trained + activations)
    return Estimate(
        total_parameters=total,
        trainable_parameters=trainable,
        memory_bytes=memory,
        adapter_bytes=None if trainable is None else 4 * trainable,
        max_train_tokens=tokens,
    )


def activation_bytes(
    training: TrainingSettings,
    shape: Shape,
    *,
    method: Method | None = None,
    family: ModelFamily | None = None,
    value_bytes: int = 2,
    on_cpu: bool = False,
) -> tuple[int, int]:
    """Bytes of one forward pass's activations: all of them, and where blocks run again.

    The second is every block's input, and all of one block. Both hold one block's gradients, and
    the logits of a part of the labels.

    Args:
        training: how many tokens a pass has.
        shape: the base's sizes.
        method: what is trained; None: low-rank updates of every linear layer, with dropout.
        family: which of its targets are the attention's; None: a decoder like Llama.
        value_bytes: of a number in the compute type.
        on_cpu: where little is dropped a processor keeps the dropped places alone; without it a
            plan holds on both.
    """
    most = training.batch_size * training.max_length
    tokens = max(training.max_length, min(training.micro_batch_tokens, most))
    scores = shape.heads * min(training.max_length, _SCORED_LENGTH)
    values = _values_per_token(shape, method, family, on_cpu=on_cpu)
    block = int(tokens * (values + scores) * value_bytes)
    head = 4 * min(3 * tokens * shape.vocabulary, _HEAD_VALUES)
    inputs = tokens * shape.hidden * value_bytes * shape.layers
    # One block more: the gradients of the one that the backward pass is in.
    return block * (shape.layers + 1) + head, inputs + 2 * block + head


def _values_per_token(
    shape: Shape, method: Method | None, family: ModelFamily | None, *, on_cpu: bool
) -> float:
    """Numbers that a block keeps of a token for its backward pass, attention's scores left out.

    What two norms read, queries, keys, values and answers are six times the hidden size, gate and
    up twice the intermediate one. An adapted layer keeps its input, once for those that share it,
    and with dropout a word for each value of it, or where few are dropped a long word for each.
    """
    hidden, wide = shape.hidden, shape.intermediate
    targets = getattr(method, "targets", "all-linear")
    # What trains the weights themselves keeps as much as updates of every layer with dropout.
    dropout = getattr(method, "dropout", 0.0 if hasattr(method, "targets") else 1.0)
    named = set(family.attention if family else ModelFamily.attention)
    whole = targets == "all-linear"
    has_attention = whole or targets == "attention" or bool(named & set(targets))
    has_unit = whole or (targets != "attention" and bool(set(targets) - named))
    rank = int(getattr(method, "rank", 0)) if hasattr(method, "alpha") else 0
    mask = 4 * dropout if on_cpu and dropout <= _SPARSE_DROPOUT else float(dropout > 0)
    values: float = 6 * hidden + 2 * wide
    if has_attention:
        values += hidden * (2 + 4 * mask) + 4 * rank
    if has_unit:
        values += hidden * (1 + 2 * mask) + wide * (1 + mask) + 3 * rank
    return values


def _trained_bytes(training: TrainingSettings | None) -> int:
    """Bytes a trainable parameter takes with its gradient and what is remembered of it."""
    settings = training or TrainingSettings()
    mean = _MEAN_BYTES if settings.average_last else 0
    return _TRAINED_BYTES + _STATE_BYTES[settings.optimizer] + mean


def _max_tokens(training: TrainingSettings | None) -> int | None:
    if training is None:
        return 0
    if training.max_steps is not None:
        return training.max_steps * training.batch_size * training.max_length
    if training.examples is not None:
        return int(training.epochs * training.examples * training.max_length)
    return None
