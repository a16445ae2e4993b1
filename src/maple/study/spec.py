"""What one run and one evaluation are, and the content hash that is their identity.

Identity is content: ``sha256(canonical JSON)[:16]``. A name (of a study or a mixture) is for
reading and is never hashed; nor is what only changes how fast the same numbers are computed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from maple import languages as language_table
from maple.errors import CatalogError
from maple.study.content import Frozen as Frozen
from maple.study.content import Scalar as Scalar
from maple.study.content import canonical_json as canonical_json
from maple.study.content import content_id as content_id
from maple.study.early_look import EarlyLookRule

LOOP_VERSION = 3
"""Raised whenever the training loop's numbers change; a golden-curve test forces it."""


class ModelRef(Frozen):
    """A base model: a Hub repository, a local directory, ``atlas-base`` or ``atlas-qwen``."""

    name: str = Field(
        min_length=1, description="Hub repository, local path, atlas-base or atlas-qwen."
    )
    revision: str | None = Field(None, description="Commit or tag; else resolved into maple.lock.")
    family: str | None = Field(None, description="Catalog entry; else read from the config.")


class MethodRef(Frozen):
    """A fine-tuning method with every hyper-parameter, defaults filled in."""

    name: str
    parameters: dict[str, Any] = Field(default_factory=dict)

    @property
    def label(self) -> str:
        """A short text for tables, for example ``lora rank=8``."""
        # A stored adapter is told from others by its hash; a mismatch must be seen everywhere.
        keys = ("rank", "adapter", "mismatch")
        shown = [f"{k}={self.parameters[k]}" for k in keys if k in self.parameters]
        return " ".join([self.name, *shown])


class MixturePart(Frozen):
    """One data set of a mixture, its weight and the languages taken from it."""

    dataset: str
    weight: float = Field(1.0, gt=0)
    languages: tuple[str, ...] = ()
    options: dict[str, Scalar] = Field(default_factory=dict)
    revision: str | None = Field(None, description="Resolved commit or content hash.")


class Mixture(Frozen):
    """Instruction data: weighted data sets. The name is a label and not part of identity."""

    name: str
    parts: tuple[MixturePart, ...] = Field(min_length=1)


Scheduler = Literal["cosine", "linear", "constant", "wsd"]
Optimizer = Literal[
    "adamw", "adamw-8bit", "paged-adamw", "paged-adamw-8bit", "adafactor", "sgd"
]  # fmt: skip
Template = Literal["bactrian-x", "alpaca", "chat", "plain"]
Choices = Literal["letter", "cloze"]
Scoring = Literal["ranking", "generation"]


Count = Annotated[int, Field(gt=0)]
Beta = Annotated[float, Field(ge=0, lt=1)]

_BENCHMARK_KEYS = frozenset({"task", "tasks", "benchmark", "benchmarks", "split"})


class ValidationSettings(Frozen):
    """Examples of the mixture, in stated languages, that are held out to watch a run by.

    There is no key for a benchmark: a checkpoint chosen by a task's test items is chosen to do
    well on them, and its score then says nothing of new ones.
    """

    languages: tuple[str, ...] = Field(min_length=1)
    examples: Count = Field(100, description="Held out per language.")
    every: Count = Field(50, description="Optimiser steps from one validation to the next.")
    patience: Count | None = Field(
        None, description="End training after so many validations without a new lowest loss."
    )
    keep: Literal["best", "last"] = Field(
        "best", description="Save the parameters of the lowest loss, or of the last step."
    )

    @model_validator(mode="before")
    @classmethod
    def _never_by_a_benchmark(cls, value: Any) -> Any:
        named = value if isinstance(value, str) else None
        if isinstance(value, Mapping):
            named = next((f"{k}: {v}" for k, v in value.items() if k in _BENCHMARK_KEYS), None)
        if named is not None:
            raise ValueError(
                f"{named!r} would choose checkpoints by a benchmark's data, which is a leak: the "
                "score would be of parameters picked for it. Name languages; examples of the "
                "mixture are then held out of training"
            )
        return value

    @field_validator("languages", mode="before")
    @classmethod
    def _canonical(cls, value: Any) -> Any:
        names = [value] if isinstance(value, str) else value
        if not isinstance(names, list | tuple) or not all(isinstance(n, str) for n in names):
            return value
        try:
            # Sorted: their order changes no number, so it must not change an identity.
            return sorted({language_table.find(name).code for name in names})
        except CatalogError as error:
            raise ValueError(str(error).rstrip(".")) from None


class TrainingSettings(Frozen):
    """How a run is trained. Defaults are Bactrian-X's recipe; the MAPLE paper states none.

    Source: mbzuai-nlp/bactrian-x README (lr 3e-4, warm-up 200, batch 128, 4 epochs, length 768).
    ``docs/training.md`` has the source of every other default.
    """

    learning_rate: Annotated[float, Field(gt=0)] = 3e-4
    epochs: Annotated[float, Field(gt=0)] = 4.0
    max_steps: Annotated[int, Field(gt=0)] | None = None
    batch_size: Annotated[int, Field(gt=0)] = 128
    max_length: Annotated[int, Field(gt=1)] = 768
    examples: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Draw at most this many examples from the mixture."
    )
    template: Template = "bactrian-x"
    warmup_steps: Annotated[int, Field(ge=0)] = 200
    scheduler: Scheduler = "cosine"
    decay_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.2, description="Of wsd: the last share of the steps, over which the rate decays."
    )
    optimizer: Optimizer = "adamw"
    adam_betas: tuple[Beta, Beta] = (0.9, 0.999)
    adam_eps: Annotated[float, Field(gt=0)] = 1e-8
    momentum: Beta = Field(0.9, description="Of sgd.")
    weight_decay: Annotated[float, Field(ge=0)] = 0.0
    max_grad_norm: Annotated[float, Field(gt=0)] = 1.0
    validation: ValidationSettings | None = None
    average_last: Annotated[int, Field(gt=1)] | None = Field(
        None, description="Save the mean of the parameters after each of so many last steps."
    )
    gradient_checkpointing: bool | Literal["auto"] = Field(
        "auto", description="auto: recompute activations only where they would not fit."
    )
    micro_batch_tokens: Annotated[int, Field(gt=0)] = 4096

    @model_validator(mode="after")
    def _every_key_has_an_effect(self) -> TrainingSettings:
        for key, owner, owners in (
            ("adam_betas", self.optimizer, _ADAM),
            ("adam_eps", self.optimizer, _ADAM),
            ("momentum", self.optimizer, ("sgd",)),
            ("decay_share", self.scheduler, ("wsd",)),
        ):
            if not self._is_default(key) and owner not in owners:
                raise ValueError(
                    f"{key} means nothing to {owner}; it is a setting of {', '.join(owners)}"
                )
        return self

    @model_validator(mode="after")
    def _saves_one_thing(self) -> TrainingSettings:
        if self.average_last is None:
            return self
        if self.max_steps is not None and self.average_last > self.max_steps:
            raise ValueError(
                f"average_last is {self.average_last}, and max_steps ends the run after "
                f"{self.max_steps}: no run has that many last steps"
            )
        if self.validation is not None and self.validation.patience is not None:
            raise ValueError(
                "average_last is a mean over the last steps, and with validation.patience it is "
                "not known which those are: leave one of the two out"
            )
        if self.validation is not None and self.validation.keep == "best":
            raise ValueError(
                "average_last and validation.keep: best both say what is saved: set "
                "validation.keep: last, or leave average_last out"
            )
        return self

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Written only where they say something: runs stored before they were there keep their
        # identity.
        content: dict[str, Any] = handler(self)
        return {k: v for k, v in content.items() if k not in _ADDED or not self._is_default(k)}

    def _is_default(self, key: str) -> bool:
        return bool(getattr(self, key) == type(self).model_fields[key].default)

    @property
    def earlier_parameters(self) -> str | None:
        """The setting by which other parameters than the planned last step's may be saved."""
        if self.average_last is not None:
            return "average_last"
        if self.validation is not None and self.validation.keep == "best":
            return "validation.keep: best"
        if self.validation is not None and self.validation.patience is not None:
            return "validation.patience"
        return None

    def identity(self) -> dict[str, Any]:
        """The settings that change the numbers; memory and speed knobs are left out."""
        return self.model_dump(
            mode="json", exclude={"gradient_checkpointing", "micro_batch_tokens"}
        )


_ADAM = ("adamw", "adamw-8bit", "paged-adamw", "paged-adamw-8bit")
_ADDED = frozenset(
    ("optimizer", "adam_betas", "adam_eps", "momentum", "decay_share", "validation", "average_last")
)


class RunSpec(Frozen):
    """One trained cell of a study. ``mixture`` and ``training`` are None for the untouched base."""

    model: ModelRef
    method: MethodRef
    quantization: str
    mixture: Mixture | None = None
    training: TrainingSettings | None = None
    seed: int = Field(0, ge=0, lt=2**31)
    loop_version: int = LOOP_VERSION

    @property
    def id(self) -> str:
        """The run's identity: 16 hexadecimal digits over everything that changes its numbers."""
        content = self.model_dump(mode="json", exclude={"training": True, "mixture": {"name"}})
        content["training"] = self.training.identity() if self.training else None
        if (self.model.revision or "").startswith("sha256:"):
            # The bytes of a local model say what it is; its folder may be called anything.
            content["model"].pop("name")
        return content_id(content)

    @property
    def is_trained(self) -> bool:
        """Whether there is anything to train: False for the untouched base."""
        return self.training is not None

    @property
    def label(self) -> str:
        """A text for tables and logs, for example ``atlas-base · lora rank=8 · nf4 · native``."""
        parts = [self.model.name, self.method.label, self.quantization]
        if self.mixture is not None:
            parts += [self.mixture.name, f"seed {self.seed}"]
        return " · ".join(parts)


class PromptSettings(Frozen):
    """How a task's sample becomes text."""

    form: Literal["completion", "lm-eval", "mega"] = "mega"
    instruction_language: Literal["english", "native"] = "english"
    template: Template = "plain"
    shots: Annotated[int, Field(ge=0)] = 0
    choices: Choices = Field(
        "letter",
        description="Mega form of multiple choice: list the options and rank their letters, or "
        "(cloze) list none and rank their texts.",
    )

    scoring: Scoring = Field(
        "ranking",
        description="Of a choice: rank the options by log-likelihood, or generate an answer and "
        "extract the option it names.",
    )
    unconditional: bool = Field(
        True,
        description="Of a ranking: also score the options with nothing before them, for "
        "accuracy_pmi.",
    )

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Written only where they say something: evaluations stored before they were there keep
        # their identity, and are in one mode with later ones.
        content: dict[str, Any] = handler(self)
        added = (("choices", "letter"), ("scoring", "ranking"), ("unconditional", True))
        for name, default in added:
            if content.get(name) == default:
                content.pop(name)
        return content


class DecodingSettings(Frozen):
    """How text is generated: up to a number of new tokens, greedily or drawn at random."""

    max_new_tokens: Annotated[int, Field(gt=0)] | None = Field(
        None, description="None: the task's own limit."
    )
    temperature: Annotated[float, Field(ge=0)] = Field(
        0.0, description="0: the most likely token; above, tokens are drawn, evener the higher."
    )
    top_p: Annotated[float, Field(gt=0, le=1)] = Field(
        1.0, description="Draw from the fewest tokens that hold this share of the probability."
    )
    top_k: Count | None = Field(None, description="Draw from so many most likely tokens.")
    seed: int = Field(0, ge=0, lt=2**31, description="Of the draws; each sample has its own.")

    @property
    def is_drawn(self) -> bool:
        """Whether tokens are drawn at random."""
        return self.temperature > 0

    @model_validator(mode="after")
    def _every_key_has_an_effect(self) -> DecodingSettings:
        if self.is_drawn:
            return self
        for key in ("top_p", "top_k", "seed"):
            if getattr(self, key) != type(self).model_fields[key].default:
                raise ValueError(
                    f"{key} means nothing where temperature is 0 and the most likely token is "
                    "taken: set a temperature, or leave it out"
                )
        return self

    @model_serializer(mode="wrap")
    def _leave_out_defaults(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # Written only where they say something: evaluations stored before they were there keep
        # their identity.
        content: dict[str, Any] = handler(self)
        fields = type(self).model_fields
        always = "max_new_tokens"
        return {k: v for k, v in content.items() if k == always or v != fields[k].default}


class EvalSpec(Frozen):
    """One adapter (or base) on one task in one language: what its sample rows answer."""

    run_id: str
    adapter: str = Field(description="SHA-256 of the adapter's bytes, or 'none'.")
    task: str
    task_version: int
    language: str
    data: str = Field(description="Source and content: a commit or a hash of the files read.")
    split: str
    prompt: PromptSettings = PromptSettings()
    decoding: DecodingSettings = DecodingSettings()
    engine: str | None = Field(None, description="None: the reference engine.")
    early_look: EarlyLookRule | None = Field(None, description="None: every sample is scored.")

    @model_serializer(mode="wrap")
    def _leave_out_reference(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        content: dict[str, Any] = handler(self)
        optional = ("engine", "early_look")
        return {k: v for k, v in content.items() if k not in optional or v is not None}

    @field_validator("run_id", "adapter", "task", "language", "data")
    @classmethod
    def _not_empty(cls, value: str) -> str:
        if not value:
            raise ValueError("must not be empty")
        return value

    @property
    def id(self) -> str:
        """The evaluation's identity, 16 hexadecimal digits; names its folder in the store."""
        return content_id(self)


def number_of_steps(training: TrainingSettings, n_examples: int) -> int:
    """Optimiser steps of a run: epochs over the examples, cut at ``max_steps``.

    Args:
        training: the run's settings.
        n_examples: examples in one epoch.

    Returns:
        At least one step when there is at least one example.
    """
    steps = math.ceil(training.epochs * math.ceil(n_examples / training.batch_size))
    return min(steps, training.max_steps) if training.max_steps else steps
