"""The five contracts of the catalog: what an entry must say so that nothing else need change.

    ModelFamily   how one architecture names its parts and formats its chats
    Method        which parameters are trained, attached to a base
    Quantizer     how the frozen base is stored
    Dataset       instruction data -> conversations
    Task          a benchmark -> samples -> requests -> scores

An entry is one file in ``catalog/<kind>/``; its file name (``_`` read as ``-``) is its name in
study files and on the command line. Heavy imports live inside the functions that need them:
``maple plan`` loads entries where torch is not installed.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from pydantic import BaseModel, ConfigDict

from maple.catalog.requests import (
    Choice,
    GenerationRequest,
    GenerationResponse,
    RankingRequest,
    RankingResponse,
    Request,
    Response,
    Sample,
    Score,
)
from maple.errors import UsageError
from maple.files import Files
from maple.study import PromptSettings

__all__ = [
    "AttachContext",
    "Choice",
    "Conversation",
    "Dataset",
    "DatasetInfo",
    "GenerationRequest",
    "GenerationResponse",
    "Method",
    "ModelFamily",
    "Quantizer",
    "RankingRequest",
    "RankingResponse",
    "Request",
    "Response",
    "Sample",
    "Score",
    "Shape",
    "Task",
    "TaskInfo",
    "TrainingHooks",
    "describe",
]

if TYPE_CHECKING:
    import torch
    from torch import nn

# ---------------------------------------------------------------------------------- models


@dataclass(frozen=True, kw_only=True)
class Shape:
    """A causal language model's sizes, as its config states them (counts, not bytes)."""

    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate: int
    vocabulary: int
    head_dim: int | None = None
    tied_head: bool = False


class ModelFamily(ABC):
    """One architecture: where its linear layers are and how it talks."""

    model_types: ClassVar[tuple[str, ...]] = ()
    """Values of ``config.model_type`` that belong to this family."""
    attention: ClassVar[tuple[str, ...]] = ("q_proj", "k_proj", "v_proj", "o_proj")
    """Module names that ``targets: attention`` adapts, Bactrian-X's README set."""
    linear: ClassVar[tuple[str, ...]] = (
        "q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
    )  # fmt: skip
    """Module names that ``targets: all-linear`` adapts: every linear layer but the head."""
    known_shapes: ClassVar[Mapping[str, Shape]] = {}
    """Sizes of well-known checkpoints by Hub name, so that a plan needs no network."""

    @abstractmethod
    def chat(self, turns: Sequence[tuple[str, str]]) -> str:
        """Renders turns of (role, text), ending where the assistant's answer begins.

        Used only where the tokenizer carries no chat template of its own.
        """

    def linear_shapes(self, shape: Shape) -> dict[str, tuple[int, int]]:
        """Input and output width of each linear module of one block, by module name."""
        head_dim = shape.head_dim or shape.hidden // shape.heads
        query, key_value = head_dim * shape.heads, head_dim * shape.key_value_heads
        return {
            "q_proj": (shape.hidden, query),
            "k_proj": (shape.hidden, key_value),
            "v_proj": (shape.hidden, key_value),
            "o_proj": (query, shape.hidden),
            "gate_proj": (shape.hidden, shape.intermediate),
            "up_proj": (shape.hidden, shape.intermediate),
            "down_proj": (shape.intermediate, shape.hidden),
        }


# ------------------------------------------------------------------------------ quantizers


class Quantizer(ABC):
    """How the frozen base is held in memory, and what precision it computes in."""

    bits: ClassVar[int]
    """Nominal bits per weight of the linear layers: 4, 8, 16 or 32."""
    library: ClassVar[str] = "torch"
    """The package that holds the weights: a method that reads them must know how."""
    compute_dtype: ClassVar[Literal["bfloat16", "float16", "float32"]] = "bfloat16"

    @abstractmethod
    def load_kwargs(self, compute_dtype: torch.dtype) -> dict[str, Any]:
        """Arguments for ``AutoModelForCausalLM.from_pretrained``."""

    def prepare(self, model: nn.Module) -> nn.Module:
        """Readies a loaded base for training on top of it; frozen by the caller."""
        return model

    def bytes_per_weight(self) -> float:
        """Bytes one linear weight takes in memory, quantization constants included."""
        return self.bits / 8


# --------------------------------------------------------------------------------- methods


@dataclass(frozen=True, kw_only=True)
class AttachContext:
    """What a method may look at while it attaches itself to a base."""

    family: ModelFamily
    quantizer: Quantizer
    seed: int
    calibration: Callable[[], Iterator[Mapping[str, torch.Tensor]]] | None = None
    """A few training batches, for methods that initialise from data."""


class TrainingHooks:
    """What a method may do around the loop's steps; every default does nothing.

    A hook's own state (a redrawn mask, a rank schedule) goes through ``state_dict`` and
    ``load_state_dict``, so that a killed run continues as it would have.
    """

    def before_step(self, step: int) -> None:
        """Called before the forward passes of optimiser step ``step``, counted from 1."""

    def extra_loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor | None:
        """A scalar added to the mean loss of a micro-batch, or None."""
        return None

    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Called after the optimiser's step, gradients in place: ranks and masks move here."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must hold for the hooks to continue: tensors and scalars."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restores what ``state_dict`` returned."""


class Method(BaseModel, ABC):
    """A fine-tuning method; its fields are its hyper-parameters and *are* its schema."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    last_step_only: ClassVar[str | None] = None
    """Why the parameters after the last planned step alone make an adapter, and no earlier ones or
    means; None: any do."""
    shares_passes: ClassVar[bool] = False
    """Whether low-rank updates are all that it trains and nothing happens around a step, so that
    several runs can stand in one forward pass."""

    def conflict(self, quantizer: Quantizer, family: ModelFamily) -> str | None:
        """Why this method cannot live on that quantizer or family; None when it can."""
        return None

    def trainable_parameters(self, shape: Shape, family: ModelFamily) -> int | None:
        """Trainable parameters on a model of that shape; None where no closed form is known."""
        return None

    @abstractmethod
    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Returns the base with the adapter on it, adapter weights alone requiring gradients."""

    def hooks(self, model: nn.Module, total_steps: int) -> TrainingHooks:
        """What happens around each step of a run of ``total_steps``."""
        return TrainingHooks()

    def parameter_groups(self, model: nn.Module, learning_rate: float) -> list[dict[str, Any]]:
        """Optimiser groups over the trainable parameters; one group by default."""
        trainable = [p for p in model.parameters() if p.requires_grad]
        return [{"params": trainable, "lr": learning_rate}]

    def save(self, model: nn.Module, directory: Path) -> None:
        """Writes the adapter as a PEFT directory (safetensors), the same bytes every time."""
        model.save_pretrained(str(directory), safe_serialization=True)  # type: ignore[operator]
        path = directory / "adapter_config.json"
        config = json.loads(path.read_text(encoding="utf-8"))
        # peft holds the targets in a set, whose order changes with Python's hash seed.
        for key, value in config.items():
            if key in {"target_modules", "modules_to_save"} and isinstance(value, list):
                config[key] = sorted(value)
        path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        """Returns the base with the adapter of ``directory`` on it, ready to be evaluated.

        Raises:
            ValueError: the stored weights are not exactly the adapter's: peft would warn of what
                is missing, pass over what it does not know, and go on.
        """
        from peft import PeftModel, get_peft_model_state_dict
        from safetensors import safe_open

        loaded: Any = PeftModel.from_pretrained(model, str(directory))
        with safe_open(str(directory / "adapter_model.safetensors"), framework="pt") as stored:
            differing = set(stored.keys()) ^ set(get_peft_model_state_dict(loaded))
        if differing:
            loaded.unload()
            raise ValueError(
                f"its weights are not those of an adapter for this base: {len(differing)} tensors "
                f"are missing or unknown, {min(differing)} among them"
            )
        result: nn.Module = loaded
        return result


# -------------------------------------------------------------------------------- datasets


@dataclass(frozen=True, kw_only=True)
class Conversation:
    """One training example: a prompt and the response that is learnt."""

    id: str
    language: str
    instruction: str
    response: str
    input: str = ""
    turns: tuple[tuple[str, str], ...] = ()
    """Earlier turns of (role, text), for chat rows; empty for instruction rows."""


@dataclass(frozen=True, kw_only=True)
class DatasetInfo:
    """Where instruction data comes from and what may be done with it."""

    licence: str
    source: str
    languages: Mapping[str, str]
    """Canonical code -> the upstream's name of that language; empty: any (stated in a study)."""
    hub: str | None = None
    """Hub repository, whose resolved commit goes into maple.lock."""
    revision: str | None = None
    """A commit or tag, where one is known to be right."""


class Dataset(BaseModel, ABC):
    """Instruction data; its fields are the options a study may set for it."""

    model_config = ConfigDict(frozen=True, extra="forbid")
    info: ClassVar[DatasetInfo]

    @abstractmethod
    def conversations(self, files: Files, language: str) -> Iterator[Conversation]:
        """Yields the examples of one language in upstream order.

        Raises:
            DataError: a row is not what the format promises; names file, line and field.
            SourceError: the file cannot be had.
        """

    @abstractmethod
    def paths(self, files: Files, language: str) -> list[Path]:
        """The files that ``conversations`` reads, fetched if need be.

        Raises:
            SourceError: a file cannot be had.
        """


# ----------------------------------------------------------------------------------- tasks


@dataclass(frozen=True, kw_only=True)
class TaskInfo:
    """What a benchmark is: enough to cite it and to check that it is whole."""

    version: int
    """Raised when prompts, extraction or scoring change; part of an evaluation's identity."""
    licence: str
    citation: str
    chance_level: float | None
    """Headline score of a guess, in 0..1; None where there is none."""
    languages: Mapping[str, str]
    """Canonical code -> the upstream's name of that language."""
    headline: str
    """The metric that a sample's ``score`` repeats."""
    split: str
    """The split that is scored by default."""
    samples: Mapping[str, int | Mapping[str, int]]
    """Split -> items per language, as upstream declares; by canonical code where they differ."""
    hub: str | None = None
    revision: str | None = None
    shots_split: str | None = None
    """Split that examples in the prompt come from; None: the scored one, less the sample itself."""
    settings: frozenset[str] = frozenset()
    """Of ``choices`` and ``scoring``, the prompt settings that this task heeds."""
    is_judged: bool = False
    """Whether a judge scores the answers afterwards, so that ``score`` gives no number."""

    def declared(self, split: str, language: str) -> int | None:
        """Items that upstream declares for a split in a language; None where it declares none."""
        counts = self.samples.get(split)
        return counts.get(language) if isinstance(counts, Mapping) else counts


class Task(ABC):
    """A benchmark: samples in, requests to a model, scores out."""

    info: TaskInfo

    @classmethod
    def with_argument(cls, argument: str) -> Task:
        """The variant of a task that a study names ``task:argument``, as ``mlqa:en``.

        Raises:
            UsageError: the task has no variants, or none of that name.
        """
        raise UsageError(f"the task takes no argument, so {argument!r} after ':' means nothing.")

    @abstractmethod
    def paths(self, files: Files, language: str, split: str) -> list[Path]:
        """The files that ``samples`` reads, fetched if need be.

        Raises:
            SourceError: a file cannot be had.
        """

    @abstractmethod
    def samples(self, files: Files, language: str, split: str) -> Iterator[Sample]:
        """Yields the items of a split in upstream order.

        Raises:
            DataError: a row is not what the format promises; names file, line and field.
            SourceError: the file cannot be had.
        """

    @abstractmethod
    def request(self, sample: Sample, language: str, prompt: PromptSettings) -> Request:
        """Words the request for one sample.

        Raises:
            UsageError: the prompt form has no words for that language.
        """

    @abstractmethod
    def score(self, sample: Sample, request: Request, response: Response) -> Score:
        """Scores an answer against the sample's gold."""


def describe(entries: Iterable[type]) -> dict[str, str]:
    """First sentence of each class's docstring, by class name."""
    return {e.__name__: (e.__doc__ or "").strip().split("\n")[0] for e in entries}
