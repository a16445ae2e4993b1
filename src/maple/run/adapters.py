"""Adapters on a shared base: put on from stored bytes, proven alive, matched, taken off."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maple.base import LoadedBase
from maple.catalog.contracts import Method
from maple.errors import MapleError, MismatchError, SourceError
from maple.evaluate import prove_alive
from maple.run.context import CohortContext
from maple.store.write import StoreWriter, sha256_of_directory
from maple.study import ModelRef, RunSpec

if TYPE_CHECKING:
    import torch
    from torch import nn


def adapter_hash(run: RunSpec, store: StoreWriter) -> str:
    """SHA-256 of a run's stored adapter; ``none`` for the untouched base."""
    return sha256_of_directory(store.layout.adapter(run.id)) if run.is_trained else "none"


def adapter_card(run: RunSpec, base: LoadedBase) -> dict[str, object]:
    """What PEFT has no key for: the base, its bits, and our ids, as kept in ``maple.json``."""
    return {
        "format": 1,
        "run_id": run.id,
        "base": run.model.name,
        "base_revision": run.model.revision,
        "quantization": run.quantization,
        "bits": base.quantizer.bits,
        "method": run.method.model_dump(mode="json"),
        "seed": run.seed,
    }


def load_alive(method: Method, directory: Path, what: str, context: CohortContext) -> nn.Module:
    """Puts a stored adapter on the base and proves that it changes the logits.

    Raises:
        DeadAdapterError: the logits are the base's own.
        SourceError: the directory holds no adapter that fits the base.
    """
    untouched, noise = context.untouched()
    biases = _written_biases(directory, context.base)
    try:
        model = method.load(context.base.model, directory).eval()
    except Exception as error:
        strip(context.base)
        _put_back(biases, context.base)
        raise SourceError(
            f"the adapter {directory} does not load on this base: {error}. Copy it again, or train "
            "it again."
        ) from error
    vars(model)[_BIASES] = biases
    try:
        prove_alive(model, context.base, untouched, noise=noise, what=what)
    except MapleError:
        detach(model, context.base)
        raise
    return model


def detach(model: nn.Module, base: LoadedBase) -> None:
    """Takes an adapter off, leaving the base's own modules and weights as they were."""
    from peft import PeftModel

    if not isinstance(model, PeftModel):
        if model is base.model:  # ``full`` trains a copy
            strip(base)
        return
    # Not peft's unload(): of some methods it refuses on 4 and 8 bits, though nothing is merged.
    strip(base)
    _put_back(vars(model).get(_BIASES, {}), base)


_BIASES = "_biases_before_the_adapter"


def _written_biases(directory: Path, base: LoadedBase) -> dict[str, torch.Tensor]:
    """The base's biases, where an adapter of another program overwrites them as it is loaded."""
    path = directory / "adapter_config.json"
    config = _read_object(path) if path.is_file() else {}
    if config.get("bias", "none") == "none":
        return {}
    named = base.model.named_parameters()
    return {name: p.detach().clone() for name, p in named if name.endswith(".bias")}


def _put_back(biases: dict[str, torch.Tensor], base: LoadedBase) -> None:
    import torch

    with torch.no_grad():
        for name, values in biases.items():
            base.model.get_parameter(name).copy_(values)


def strip(base: LoadedBase) -> None:
    """Takes off what is on the base: peft's layers, and modules that have a ``take_off()``."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    for name, module in list(base.model.named_modules()):
        if isinstance(module, BaseTunerLayer):
            parent, _, own = name.rpartition(".")
            setattr(base.model.get_submodule(parent), own, module.get_base_layer())
        elif callable(take_off := getattr(module, "take_off", None)):
            take_off()
    _forget(base)


def _forget(base: LoadedBase) -> None:
    base.model.requires_grad_(False)
    # peft marks the model it wrapped, and would take the next adapter for a second one.
    for attribute in ("peft_config", "_hf_peft_config_loaded"):
        vars(base.model).pop(attribute, None)


def read_card(directory: Path) -> dict[str, Any]:
    """``maple.json`` of an adapter directory, or what ``adapter_config.json`` says instead.

    Raises:
        SourceError: the directory is no adapter.
    """
    for name in ("maple.json", "adapter_config.json"):
        path = directory / name
        if path.is_file():
            content = _read_object(path)
            if name == "maple.json":
                return content
            peft_type = str(content.get("peft_type", "unknown")).lower()
            return {
                "base": content.get("base_model_name_or_path"),
                "method": {"name": peft_type, "parameters": {"rank": content.get("r")}},
            }
    raise SourceError(
        f"{directory} is no adapter: it has neither maple.json nor adapter_config.json. Name a "
        "directory that PEFT or Maple has written, for example runs/<id>/adapter of a store."
    )


def _read_object(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise SourceError(f"{path}: not valid JSON: {error}. Copy the adapter again.") from error
    if not isinstance(content, dict) or (path.name == "maple.json" and "method" not in content):
        raise SourceError(f"{path}: not what Maple writes there. Copy the adapter again.")
    return content


def check_match(card: dict[str, Any], model: ModelRef, quantization: str) -> str | None:
    """Compares an adapter's origin with the base it is asked to run on.

    Returns:
        None when they match as far as is recorded, else how they differ: "trained on ...".
    """
    base, revision = card.get("base"), card.get("base_revision")
    if revision is not None and model.revision is not None:
        if revision != model.revision:
            return f"trained on {base} at {revision}, not on {model.name} at {model.revision}"
    elif base and Path(str(base)).name != Path(model.name).name:
        return f"trained on {base}, not on {model.name}"
    trained_bits = card.get("quantization")
    if trained_bits is not None and trained_bits != quantization:
        return f"trained on {trained_bits}, not on {quantization}"
    return None


def refuse(directory: Path, mismatch: str) -> MismatchError:
    """Words the refusal of a mismatch."""
    return MismatchError(
        f"adapter {directory} was {mismatch}. Scores of another pair would not be this adapter's. "
        "Name the right model or --quantization, or pass --allow-mismatch to score it all "
        "the same; the result is labelled."
    )
