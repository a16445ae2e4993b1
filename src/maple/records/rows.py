"""Rows that runs leave behind: one per sample, one per training step, one per run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import pyarrow as pa

SAMPLE_SCHEMA = pa.schema(
    [
        ("eval_id", pa.string()),
        ("run_id", pa.string()),
        ("task", pa.string()),
        ("language", pa.string()),
        ("sample_id", pa.string()),
        ("prompt_hash", pa.string()),
        ("gold", pa.list_(pa.string())),
        ("prediction", pa.string()),
        ("score", pa.float64()),
        ("metrics", pa.map_(pa.string(), pa.float64())),
        ("loglikelihoods", pa.list_(pa.float64())),
        ("is_greedy", pa.list_(pa.bool_())),
        ("n_tokens", pa.list_(pa.int32())),
        ("text", pa.string()),
        ("finish", pa.string()),
        ("unconditional", pa.list_(pa.float64())),
        ("checks", pa.map_(pa.string(), pa.bool_())),
    ]
)

PROMPT_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("prompt_hash", pa.string()),
        ("context", pa.string()),
        ("continuations", pa.list_(pa.string())),
        ("gold", pa.list_(pa.string())),
        ("stop", pa.list_(pa.string())),
        ("max_new_tokens", pa.int32()),
    ]
)

CURVE_SCHEMA = pa.schema(
    [
        ("step", pa.int64()),
        ("loss", pa.float64()),
        ("learning_rate", pa.float64()),
        ("grad_norm", pa.float64()),
        ("tokens", pa.int64()),
        ("label_tokens", pa.int64()),
        ("step_seconds", pa.float64()),
        ("tokens_per_second", pa.float64()),
        ("peak_memory_bytes", pa.int64()),
        ("validation_loss", pa.float64()),
        ("validation_losses", pa.map_(pa.string(), pa.float64())),
    ]
)


@dataclass(frozen=True, kw_only=True)
class SampleRecord:
    """One test item answered by one run: the row that every estimate is computed from."""

    eval_id: str
    run_id: str
    task: str
    language: str
    sample_id: str
    prompt_hash: str
    gold: tuple[str, ...]
    """Reference answers: the right option's index as text, or every accepted answer."""
    prediction: str
    """The chosen option's index as text, or the extracted answer."""
    score: float
    """The task's headline score of this sample, in 0..1."""
    metrics: Mapping[str, float] = field(default_factory=dict)
    """Every score of this sample by metric name, the headline one included."""
    loglikelihoods: tuple[float, ...] = ()
    """Natural-log likelihood of each option, summed over its tokens; empty for generation."""
    is_greedy: tuple[bool, ...] = ()
    """Whether greedy decoding would have produced each option."""
    n_tokens: tuple[int, ...] = ()
    """Tokens of each option, or of the generated text (one number)."""
    text: str | None = None
    """The generated text as decoded; None for ranking."""
    finish: str | None = None
    """Why generation ended: ``stop`` or ``length``; None for ranking."""
    unconditional: tuple[float, ...] = ()
    """Log-likelihood of each option with no context before it, for PMI; empty: not computed."""
    checks: Mapping[str, bool] = field(default_factory=dict)
    """What was found wrong with a generated text, by check; empty for ranking."""


@dataclass(frozen=True, kw_only=True)
class PromptRecord:
    """What a model was shown for one sample; stored once and shared by every run."""

    sample_id: str
    prompt_hash: str
    context: str
    continuations: tuple[str, ...] = ()
    gold: tuple[str, ...] = ()
    stop: tuple[str, ...] | None = None
    """Texts that end a generated answer; None for a ranking."""
    max_new_tokens: int | None = None
    """Limit of a generated answer; None for a ranking."""


@dataclass(frozen=True, kw_only=True)
class CurveRow:
    """One optimiser step of a run."""

    step: int
    """Counted from 1."""
    loss: float
    """Mean cross-entropy over the step's label tokens, in nats, float32."""
    learning_rate: float
    grad_norm: float
    """L2 norm of the gradient before clipping."""
    tokens: int
    """Real tokens of the step, padding not counted."""
    label_tokens: int
    step_seconds: float
    tokens_per_second: float
    peak_memory_bytes: int
    """Peak so far: allocated on the accelerator, else the process's resident set."""
    validation_loss: float | None = None
    """Mean of ``validation_losses``; None after a step that was not validated."""
    validation_losses: Mapping[str, float] | None = None
    """Language -> mean cross-entropy of its held-out examples after the step, in nats."""


@dataclass(frozen=True, kw_only=True)
class TrainRecord:
    """What training one run cost and left behind."""

    run_id: str
    steps: int
    examples: int
    tokens: int
    label_tokens: int
    train_seconds: float
    final_loss: float
    trainable_parameters: int
    total_parameters: int
    adapter_bytes: int
    adapter_sha256: str
    peak_memory_bytes: int
    truncated_examples: int = 0
    dropped_examples: int = 0
    stopped_early: bool = False
    """Whether the validation loss ended training before its last planned step."""
    kept_step: int | None = None
    """The step of lowest validation loss, whose parameters are saved; None: not chosen by it."""
    stored_parameters: int | None = None
    """Numbers in the saved safetensors files; other than the trained ones where a method stores
    its beginning too, or less than it trained."""
    tokens_per_second: float | None = None
    flops: float | None = None
    """Floating-point operations of the training, by closed form (docs/results_format.md)."""
    flops_per_second: float | None = None
    peak_flops_per_second: float | None = None
    """What this machine reached in a dense product of the compute dtype, measured."""
    utilization: float | None = None
    """``flops_per_second`` over ``peak_flops_per_second``."""
    energy_joules: float | None = None
    """What the machine's own counters say; None where it has none, or the run was resumed."""
