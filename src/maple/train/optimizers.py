"""The optimisers a study may name, each as its own library makes it.

    adamw               torch, fused            8 bytes of state per parameter
    adamw-8bit          bitsandbytes            2: blocks of 256 share a scale
    paged-adamw[-8bit]  bitsandbytes, CUDA      8 or 2, moved to the host when memory is short
    adafactor           transformers            about 0: a row and a column per matrix
    sgd                 torch                   4: the momentum

Adafactor is transformers' and not torch's: torch multiplies every step by the parameter's own
size, at least 1e-3, so that a factor that begins at zero (LoRA's B) learns a thousand times slower
than the study's rate says. With ``scale_parameter`` and ``relative_step`` off the rate and its
schedule are the study's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from maple.errors import TrainingError
from maple.study import TrainingSettings

if TYPE_CHECKING:
    import torch
    from torch import nn

Groups = list[dict[str, Any]]


def make_optimizer(
    groups: Groups, settings: TrainingSettings, device: torch.device
) -> torch.optim.Optimizer:
    """Builds the optimiser that the settings name.

    Args:
        groups: parameters with their learning rates, from ``Method.parameter_groups``; each
            group's rate is kept as ``initial_lr`` for the schedule.
        settings: which optimiser, and its constants.
        device: where the parameters are.

    Raises:
        TrainingError: no parameter requires a gradient, or the optimiser does not run there.
    """
    if not any(p.requires_grad for g in groups for p in g["params"]):
        raise TrainingError("the method left nothing to train: no parameter requires a gradient.")
    optimizer = _MAKERS[settings.optimizer](groups, settings, device)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    return optimizer


def optimizer_state(
    optimizer: torch.optim.Optimizer, names: Mapping[nn.Parameter, str]
) -> Iterator[tuple[str, str, Any]]:
    """Yields (parameter's name, key, value) of everything an optimiser remembers.

    Values are tensors, or numbers where the library counts its steps in Python.
    """
    for parameter, name in names.items():
        for key, value in optimizer.state.get(parameter, {}).items():
            if value is not None:
                yield name, key, value


def restore_optimizer_state(
    optimizer: torch.optim.Optimizer, state: Mapping[nn.Parameter, Mapping[str, Any]]
) -> None:
    """Puts back what ``optimizer_state`` gave, onto the devices it was on."""
    for g, group in enumerate(optimizer.param_groups):
        for p, parameter in enumerate(group["params"]):
            if not (stored := state.get(parameter)):
                continue
            made = getattr(optimizer, "init_state", None)
            if made is None:
                optimizer.state[parameter] = {k: _on(v, parameter) for k, v in stored.items()}
                continue
            # bitsandbytes: its own buffers are filled, since paged memory comes from it alone.
            made(group, parameter, g, p)
            own = optimizer.state[parameter]
            for key, value in stored.items():
                if hasattr(value, "shape"):
                    own[key].copy_(value)
                else:
                    own[key] = value


def _on(value: Any, parameter: nn.Parameter) -> Any:
    return value.to(parameter.device) if hasattr(value, "to") else value


def _adamw(groups: Groups, settings: TrainingSettings, _: torch.device) -> torch.optim.Optimizer:
    import torch

    return torch.optim.AdamW(groups, fused=True, **_adam_constants(settings))


def _bitsandbytes(
    groups: Groups, settings: TrainingSettings, device: torch.device
) -> torch.optim.Optimizer:
    name = settings.optimizer
    if name.startswith("paged") and device.type not in ("cuda", "xpu"):
        raise TrainingError(
            f"{name} keeps its state in memory that a GPU and its host share, and this run is on "
            f"{device.type}: bitsandbytes would quietly train without pages. Set "
            f"training.optimizer to {name.removeprefix('paged-')}, or run where there is a GPU."
        )
    try:
        from bitsandbytes.optim import adamw
    except ImportError as error:
        raise TrainingError(
            f"{name} is bitsandbytes', which cannot be imported: {error}. Run "
            "`pip install bitsandbytes`, or set training.optimizer to adamw."
        ) from error
    made: dict[str, Callable[..., torch.optim.Optimizer]] = {
        "adamw-8bit": adamw.AdamW8bit,
        "paged-adamw": adamw.PagedAdamW32bit,
        "paged-adamw-8bit": adamw.PagedAdamW8bit,
    }
    return made[name](groups, **_adam_constants(settings))


def _adafactor(
    groups: Groups, settings: TrainingSettings, _: torch.device
) -> torch.optim.Optimizer:
    from transformers.optimization import Adafactor

    return Adafactor(
        groups,
        lr=settings.learning_rate,
        weight_decay=settings.weight_decay,
        scale_parameter=False,
        relative_step=False,
    )


def _sgd(groups: Groups, settings: TrainingSettings, _: torch.device) -> torch.optim.Optimizer:
    import torch

    return torch.optim.SGD(
        groups,
        lr=settings.learning_rate,
        momentum=settings.momentum,
        weight_decay=settings.weight_decay,
    )


def _adam_constants(settings: TrainingSettings) -> dict[str, Any]:
    return {
        "lr": settings.learning_rate,
        "betas": settings.adam_betas,
        "eps": settings.adam_eps,
        "weight_decay": settings.weight_decay,
    }


_MAKERS: dict[str, Callable[[Groups, TrainingSettings, Any], torch.optim.Optimizer]] = {
    "adamw": _adamw,
    "adamw-8bit": _bitsandbytes,
    "paged-adamw": _bitsandbytes,
    "paged-adamw-8bit": _bitsandbytes,
    "adafactor": _adafactor,
    "sgd": _sgd,
}
