"""What ``lm_eval --model maple`` may be asked: its arguments, the model they name, its decoding."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, ValidationError

from maple.base import LoadedBase
from maple.errors import SourceError, UsageError, unknown_name
from maple.evaluate import check_alive, probe_logits
from maple.evaluate.probe import largest_difference
from maple.files import Files, Hub, Lock
from maple.run.adapters import check_match, read_card, refuse
from maple.run.cohort import load_model
from maple.run.evaluate import (
    EvaluationRequest,
    adapter_method,
    chosen_quantization,
    resolve_model,
)
from maple.store.write import sha256_of_directory
from maple.study import ModelRef
from maple.study.spec import Frozen

if TYPE_CHECKING:
    import torch
    from torch import nn

MAX_NEW_TOKENS = 256
"""Of a request that states no limit. Source: ``max_gen_toks`` of the harness's ``hf`` model."""
_DTYPES = {"auto": None, "float32": "fp32", "bfloat16": "bf16"}
_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_WITHOUT_EFFECT = {"do_sample", "temperature", "top_p", "top_k", "min_p", "use_cache", "until"}
"""What says nothing more once decoding is greedy."""


class ModelArguments(Frozen):
    """What ``--model_args`` may hold, and what the harness adds of its own options."""

    pretrained: str = Field(min_length=1)
    """Hub repository, directory, ``atlas-base`` or ``atlas-qwen``."""
    revision: str | None = None
    peft: Path | None = None
    """A PEFT directory, for example ``runs/<id>/adapter`` of a store."""
    quantization: str | None = None
    """Catalog name; None: what the adapter was trained on, else the checkpoint's precision."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """The harness's word for ``quantization: fp32`` and ``bf16``."""
    device: str | None = None
    batch_size: int | str = "auto"
    """Requests of one forward pass at most; ``auto``: as many as a token budget holds."""
    max_batch_size: int | None = None
    max_length: int | None = Field(None, gt=1)
    allow_mismatch: bool = False
    """Score an adapter on another base or other bits than it was trained on."""

    def bits(self) -> str | None:
        """The quantizer's name as far as it is stated.

        Raises:
            UsageError: ``dtype`` and ``quantization`` say two things.
        """
        named = _DTYPES[self.dtype]
        if named and self.quantization not in (None, named):
            raise UsageError(
                f"dtype={self.dtype} and quantization={self.quantization} name two precisions. "
                "Leave dtype out."
            )
        return self.quantization or named

    def max_requests(self) -> int | None:
        """Requests of one forward pass at most; None: no limit but the token budget.

        Raises:
            UsageError: a batch size that is neither ``auto`` nor a number.
        """
        said = str(self.batch_size)
        if said.split(":")[0] == "auto":
            return self.max_batch_size
        if not said.isdecimal() or int(said) < 1:
            raise UsageError(f"batch_size={said}: name a number from 1, or auto.")
        return int(said)


def greedy_settings(settings: Mapping[str, Any]) -> tuple[tuple[str, ...], int]:
    """Stop strings and the limit of new tokens of a generation request.

    Raises:
        UsageError: the request is not to be decoded greedily.
    """
    samples = settings.get("do_sample")
    if samples or (samples is None and float(settings.get("temperature") or 0) > 0):
        raise UsageError(
            f"the task asks for text drawn at random ({dict(settings)}), and Maple decodes "
            "greedily. Add --gen_kwargs do_sample=False,temperature=0, or use --model hf."
        )
    unknown = set(settings) - _WITHOUT_EFFECT - set(_LIMITS)
    for name, value in ((n, settings[n]) for n in sorted(unknown)):
        if (name, value) not in {("num_beams", 1), ("repetition_penalty", 1.0)}:
            raise UsageError(
                f"generation argument {name}={value!r}: Maple's engine has no such thing. Known: "
                f"until, do_sample=False, {', '.join(_LIMITS)}. Leave it out, or use --model hf."
            )
    until = settings.get("until") or []
    stop = (until,) if isinstance(until, str) else tuple(until)
    limits = [settings[name] for name in _LIMITS if settings.get(name) is not None]
    return stop, int(limits[0]) if limits else MAX_NEW_TOKENS


def checked_arguments(arguments: Mapping[str, Any]) -> ModelArguments:
    """The arguments, where each exists and can be.

    Raises:
        UsageError: one does not exist or cannot be; or several processes were started.
    """
    for name in arguments:
        if name not in ModelArguments.model_fields:
            raise UsageError(
                "--model_args: " + unknown_name("argument", name, ModelArguments.model_fields)
            )
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError(
            "--model maple runs in one process; start it without accelerate launch or torchrun."
        )
    try:
        return ModelArguments(**arguments)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise UsageError(
            f"--model_args: {key} = {first.get('input')!r}: {first['msg']}."
        ) from error


def open_model(wanted: ModelArguments) -> tuple[LoadedBase, nn.Module, dict[str, Any]]:
    """The base, the model to ask (the base, or the adapter on it), and what tells it apart.

    Raises:
        DeadAdapterError: an adapter that does not change the base's logits.
        MismatchError: an adapter of another base or other bits, unless allowed.
        SourceError: a model or adapter that cannot be had.
    """
    files = Files(hub=Hub(Lock()))
    model = resolve_model(ModelRef(name=wanted.pretrained, revision=wanted.revision), files)
    card = read_card(wanted.peft) if wanted.peft else None
    request = EvaluationRequest(model=wanted.pretrained, quantization=wanted.bits())
    bits = chosen_quantization(request, [card] if card else [], model, files)
    mismatch = check_match(card, model, bits) if card else None
    if mismatch and wanted.peft and not wanted.allow_mismatch:
        raise refuse(wanted.peft, mismatch)
    base = load_model(model, bits, files, device=_device(wanted.device))
    info = {
        "model_num_parameters": base.model.num_parameters(),
        "model_dtype": str(base.dtype),
        "model_revision": model.revision or "",
        "quantization": bits,
        "adapter_sha256": sha256_of_directory(wanted.peft) if wanted.peft else None,
        "mismatch": mismatch,
    }
    if wanted.peft is None or card is None:
        return base, base.model, info
    return base, _adapted(base, card, wanted.peft), info


def _adapted(base: LoadedBase, card: dict[str, Any], path: Path) -> nn.Module:
    untouched = probe_logits(base.model, base)
    noise = largest_difference(untouched, probe_logits(base.model, base))
    try:
        model = adapter_method(card).load(base.model, path).eval()
    except Exception as error:
        raise SourceError(
            f"the adapter {path} does not load on this base: {error}. Copy it again, or train it "
            "again."
        ) from error
    check_alive(probe_logits(model, base), untouched, noise=noise, what=str(path))
    return model


def _device(name: str | None) -> torch.device | None:
    """The device asked for; None where Maple is to choose.

    The harness asks for ``cuda:0`` where nobody has, also on a machine that has none.
    """
    import torch

    if name is None or "MAPLE_DEVICE" in os.environ:
        return None
    if name.startswith("cuda") and not torch.cuda.is_available():
        return None
    return torch.device(name)
