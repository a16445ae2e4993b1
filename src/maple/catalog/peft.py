"""What the methods over ``peft`` share: target modules, closed forms, attaching, saving.

An entry says its hyper-parameters, the ``peft`` config they make, and the size of one adapted
module; everything else is the same for all of them.
"""

from __future__ import annotations

import json
import warnings
from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from maple.catalog.contracts import AttachContext, Method, ModelFamily, Quantizer, Shape
from maple.errors import TrainingError

if TYPE_CHECKING:
    import torch
    from torch import nn

Targets = Literal["attention", "all-linear"] | tuple[str, ...]
"""Which linear layers are adapted: a set of the family's, or module names."""

Positive = Annotated[int, Field(gt=0)]
Dropout = Annotated[float, Field(ge=0, lt=1)]


def target_modules(targets: Targets, family: ModelFamily) -> tuple[str, ...]:
    """The module names that receive an adapter in that family."""
    if targets == "attention":
        return family.attention
    return family.linear if targets == "all-linear" else tuple(targets)


def wrap(model: nn.Module, config: Any, name: str) -> nn.Module:
    """Puts a ``peft`` config's adapter on a base.

    Args:
        model: the base; its own weights stay frozen.
        config: of ``peft``; its ``target_modules`` are names or a pattern.
        name: the method, for the error.

    Raises:
        TrainingError: no module of the base has one of the target names, or its size does not suit.
    """
    from peft import get_peft_model

    try:
        with warnings.catch_warnings():
            # Of adapters that cannot be merged, and of extensions that are not compiled here.
            warnings.simplefilter("ignore")
            wrapped: nn.Module = get_peft_model(model, config)
    except ValueError as error:
        if "not found" not in str(error):
            raise TrainingError(
                f"{name} does not fit the base's layers: {str(error).rstrip('.')}. Set it to suit "
                "their widths, or name other targets."
            ) from error
        raise TrainingError(_no_module(model, config.target_modules, name)) from error
    return wrapped


def check_names(model: nn.Module, targets: Iterable[str], name: str) -> None:
    """Every module that a user names is there: ``peft`` passes over those that are not.

    Raises:
        TrainingError: one is not.
    """
    modules = [module for module, _ in model.named_modules()]
    absent = [t for t in targets if not any(m == t or m.endswith(f".{t}") for m in modules)]
    if absent:
        raise TrainingError(_no_module(model, absent, name))


def _no_module(model: nn.Module, targets: Iterable[str], name: str) -> str:
    leaves = {n.rsplit(".", 1)[-1] for n, m in model.named_modules() if not list(m.children())}
    named = targets if isinstance(targets, str) else ", ".join(sorted(map(repr, targets)))
    return (
        f"{name} found no module named {named} in the base. Its modules: {sorted(leaves)}. "
        "Set targets to a list of names."
    )


def needs_float_weights(quantizer: Quantizer, why: str) -> str | None:
    """``why`` where the linear weights are integer codes, None where they are numbers."""
    return (
        f"{why}, and {quantizer.bits}-bit codes are not that weight"
        if quantizer.bits < 16
        else None
    )


def packed_shape(quantizer: Quantizer) -> str | None:
    """Why an update that takes its shape from the stored weight cannot live on 4 bits."""
    if quantizer.bits < 8:
        return "its update takes the shape of the stored weight, and two 4-bit codes share a byte"
    return None


class PeftMethod(Method):
    """A method that wraps named linear layers; ``attention`` is LoRA's default set too."""

    step_0: ClassVar[str | None] = None
    """Why the logits before the first step are not the base's; None: they are."""

    targets: Targets = "attention"

    @abstractmethod
    def config(self, targets: list[str], context: AttachContext) -> Any:
        """The ``peft`` config for those target modules."""

    @abstractmethod
    def module_parameters(self, inputs: int, outputs: int) -> int:
        """Trainable parameters of one adapted module of that input and output width."""

    @classmethod
    def entry_name(cls) -> str:
        """The name in study files, from the file's."""
        return cls.__module__.rsplit(".", 1)[-1].replace("_", "-")

    def target_modules(self, family: ModelFamily) -> tuple[str, ...]:
        """The module names that receive an adapter in that family."""
        return target_modules(self.targets, family)

    def trainable_parameters(self, shape: Shape, family: ModelFamily) -> int | None:
        """The size of one module, summed over the adapted modules of every block."""
        widths = family.linear_shapes(shape)
        names = self.target_modules(family)
        if any(name not in widths for name in names):
            return None
        return shape.layers * sum(self.module_parameters(*widths[name]) for name in names)

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Wraps the target modules with ``peft``.

        Raises:
            TrainingError: no module of the base has one of the target names.
        """
        targets = list(self.target_modules(context.family))
        if isinstance(self.targets, tuple):
            check_names(model, targets, self.entry_name())
        return wrap(model, self.config(targets, context), self.entry_name())

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        """Returns the base with the stored adapter on it.

        Raises:
            ValueError: the stored weights are not exactly the adapter's.
        """
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in ``wrap``
            return super().load(model, directory)


class LoraMethod(PeftMethod):
    """LoRA and what differs from it in its beginning, its optimiser or one more vector.

    Source of defaults: as the entry ``lora``, so that two of them differ in one thing.
    """

    shares_passes: ClassVar[bool] = True

    rank: Positive = 64
    alpha: Annotated[float, Field(gt=0)] = 16.0
    dropout: Dropout = 0.05
    rslora: bool = False

    def config(self, targets: list[str], context: AttachContext) -> Any:
        """A ``LoraConfig`` with what the entry adds to it."""
        from peft import LoraConfig

        return LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules=targets,
            use_rslora=self.rslora,
            task_type="CAUSAL_LM",
            **self.extra_config(),
        )

    def extra_config(self) -> dict[str, Any]:
        """Further arguments of the ``LoraConfig``."""
        return {}

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """A (r, in) and B (out, r)."""
        return self.rank * (inputs + outputs)


def train_copies(model: nn.Module, targets: list[str], name: str) -> nn.Module:
    """Puts trained float32 copies in the places of whole modules, through ``peft``'s norm tuning.

    Raises:
        TrainingError: no module of the base has one of the target names.
    """
    from peft import LNTuningConfig

    check_names(model, targets, name)
    wrapped = wrap(model, LNTuningConfig(target_modules=targets, task_type="CAUSAL_LM"), name)
    return _in_float32(wrapped)


def load_copies(model: nn.Module, directory: Path) -> nn.Module:
    """Loads copies again in float32: ``peft`` rounds them to the base's precision."""
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    stored = load_file(str(directory / "adapter_model.safetensors"))
    set_peft_model_state_dict(_in_float32(model), stored)
    return model


def _in_float32(model: nn.Module) -> nn.Module:
    from peft.tuners.ln_tuning.layer import LNTuningLayer

    for layer in model.modules():
        if isinstance(layer, LNTuningLayer):
            for copied in layer.ln_tuning_layers.values():
                # A float32 norm would lift the rest of a bfloat16 block with it.
                copied.float().register_forward_hook(_like_input)
    return model


def _like_input(_: nn.Module, inputs: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor:
    return output.to(inputs[0].dtype)


def check_rank(rank: int, weight: torch.Tensor, name: str) -> None:
    """A weight has no more singular directions than its smaller side.

    Raises:
        TrainingError: more are asked for.
    """
    if rank > min(weight.shape):
        raise TrainingError(
            f"{name} begins in {rank} directions of each weight, and one of {tuple(weight.shape)} "
            f"has {min(weight.shape)}. Set rank to that at most, or name other targets."
        )


def sort_config(directory: Path) -> None:
    """Rewrites ``adapter_config.json`` in one order: ``peft``'s follows Python's hash seed."""
    path = directory / "adapter_config.json"
    config = json.loads(path.read_text(encoding="utf-8"))
    config = {k: sorted(v) if k == "target_modules" else v for k, v in config.items()}
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def calibration_batches(context: AttachContext, name: str) -> Iterator[Mapping[str, torch.Tensor]]:
    """The run's training rows, for a method that begins from them.

    Raises:
        TrainingError: there is no training data where the method is attached.
    """
    if context.calibration is None:
        raise TrainingError(
            f"{name} begins from training data, and none is at hand here. Use it in a study or "
            "with `maple train`."
        )
    return context.calibration()
