"""Merges an adapter into 16- or 32-bit weights, and measures what that does to the logits.

base, as trained on ── adapter ──▶ logits          what was trained, and scored
checkpoint in float32 ── adapter ──▶ logits        compared before and after the merge:
checkpoint in float32, merged ──▶ logits           one function, or the merge is refused
  └─ rounded once, saved, loaded ──▶ logits        compared with the first: the effect
"""

from __future__ import annotations

import gc
import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import yaml

from maple.catalog import load_quantizer
from maple.errors import MismatchError, SourceError, UsageError
from maple.evaluate.probe import PROBES, largest_difference
from maple.files import Files
from maple.plan import Resolver
from maple.run.cohort import load_model
from maple.run.export import (
    Adapter,
    adapted_logits,
    largest_value,
    plain_logits,
    refuse_existing,
    writing,
)
from maple.run.progress import Progress

if TYPE_CHECKING:
    import torch

Dtype = Literal["bf16", "fp32"]
_DTYPES = {"bf16": "bfloat16", "fp32": "float32"}
EXACT = 1e-4
"""Largest difference that a merge may make in float32, as a share of the largest logit."""


@dataclass(frozen=True, kw_only=True)
class MergeEffect:
    """Merged weights against the adapter on the base it was trained on, on the probe prompts."""

    largest_difference: float
    """Of two logits of one token."""
    mean_difference: float
    mean_kl: float
    """From the adapter's next-token distribution to the merged one's, in nats."""
    argmax_changed: float
    """Share of tokens after which another token is the likeliest."""
    adapter_moves: float
    """Largest difference that the adapter itself makes to its base: the scale of the others."""
    merge_in_float32: float
    """Largest difference that the merge itself makes before weights are rounded."""
    tokens: int
    """Of the probe prompts."""


def export_merged(
    adapter: Adapter,
    files: Files,
    out: Path,
    *,
    dtype: Dtype = "bf16",
    onto_16bit: bool = False,
    progress: Progress,
) -> Path:
    """Writes a whole model with the adapter merged into its weights, and its tokenizer.

    Args:
        adapter: as ``find_adapter`` found it.
        files: where its base comes from.
        out: a new directory.
        dtype: what the merged weights are stored in.
        onto_16bit: merge an adapter of quantized weights into those of the checkpoint.
        progress: where to say what the merge does to the logits.

    Raises:
        MismatchError: the adapter was trained on quantized weights, and ``onto_16bit`` is not set.
        UsageError: the method cannot be merged; says why.
        StoreError: ``out`` is there already, or cannot be written.
        SourceError: the base or the adapter cannot be had.
    """
    refuse_existing(out)
    _refuse_quantized(adapter, onto_16bit)
    with writing(out) as temporary:
        adapted, moved = _as_trained(adapter, files)
        exactness, tokenizer = _write_merged(adapter, files, temporary, dtype)
        merged = _loaded_again(temporary, adapter, tokenizer)
        effect = measure_effect(adapted, merged, moved=moved, exactness=exactness)
        for line in effect_lines(effect, adapter, dtype):
            progress.say(line)
        text = model_card(adapter, effect, dtype)
        (temporary / "README.md").write_text(text, encoding="utf-8")
    return out


def _refuse_quantized(adapter: Adapter, onto_16bit: bool) -> None:
    if adapter.is_quantized and not onto_16bit:
        raise MismatchError(
            f"{adapter.directory} was trained on {adapter.quantization} weights, and made up for "
            "their rounding; merging needs 16-bit weights, which it has never seen, and rounding "
            "the sum to those bits again would undo part of what was learnt. Use it unmerged, or "
            "pass --onto-16bit: then it is merged into the 16-bit base, and the figures say how "
            f"far that model is from the adapter on {adapter.quantization}."
        )


def _as_trained(adapter: Adapter, files: Files) -> tuple[list[torch.Tensor], float]:
    base = load_model(adapter.model, adapter.quantization, files)
    found = adapted_logits(adapter, base)
    # Two models at once may not fit; peft's cycles hold this one until they are collected.
    del base
    gc.collect()
    return found


def _write_merged(
    adapter: Adapter, files: Files, directory: Path, dtype: Dtype
) -> tuple[float, Any]:
    """Merges in float32 and saves in ``dtype``; returns the merge's own error and the tokenizer."""
    import torch
    from transformers import AutoTokenizer

    source = str(
        Resolver(files).model_directory(adapter.model)
        or files.hub.snapshot(adapter.model.name, adapter.model.revision)
    )
    tokenizer = AutoTokenizer.from_pretrained(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        base = _exact_base(source, adapter, dtype)
        base.name_or_path = adapter.model.name
        whole, exactness = merge_weights(adapter, base, tokenizer)
    target = getattr(torch, _DTYPES[dtype])
    # Not Module.to(): it would round buffers too, and angles of positions are never stored.
    for parameter in whole.parameters():
        parameter.data = parameter.data.to(target)
    whole.config.dtype = target
    whole.config.use_cache = True
    whole.save_pretrained(str(directory))
    tokenizer.save_pretrained(str(directory))
    return exactness, tokenizer


def _exact_base(source: str, adapter: Adapter, dtype: Dtype) -> Any:
    """The weights that the adapter is merged into, as float32.

    They are those it was trained on where these are numbers, rounded as they were then.

    Raises:
        UsageError: the checkpoint holds no such weights.
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    if getattr(AutoConfig.from_pretrained(source), "quantization_config", None):
        raise UsageError(
            f"the checkpoint {source} itself is stored in few bits: there are no 16-bit weights "
            "to merge into."
        )
    trained = "float32" if dtype == "fp32" else "bfloat16"
    if not adapter.is_quantized:
        trained = load_quantizer(adapter.quantization).compute_dtype
    model: Any = AutoModelForCausalLM.from_pretrained(
        source, dtype=getattr(torch, trained), use_safetensors=True
    )
    for parameter in model.parameters():
        parameter.data = parameter.data.float()
    return model


def merge_weights(adapter: Adapter, base: Any, tokenizer: Any) -> tuple[Any, float]:
    """Merges an adapter into a base in float32.

    Returns:
        The base with the adapter in its weights, and the largest difference that made to a logit
        of the probe prompts.

    Raises:
        UsageError: the method cannot be merged; says why.
    """
    name = adapter.card["method"]["name"]
    model: Any = adapter.method.load(base, adapter.directory).eval()
    if (adapter.directory / "config.json").is_file():
        return model, 0.0  # every weight was trained: there is nothing to merge
    merge = getattr(model, "merge_and_unload", None)
    config = getattr(model, "active_peft_config", None)
    if config is None:
        raise UsageError(
            f"{name} cannot be merged: it is a network of its own with a non-linear step inside, "
            "and no weight of the base computes that."
        )
    if config.is_prompt_learning or merge is None:
        raise UsageError(
            f"{name} cannot be merged: it is made of vectors that stand before the text, and no "
            "weight of the base holds them."
        )
    before = plain_logits(model, tokenizer)
    try:
        whole = merge(safe_merge=True)
    except (ValueError, TypeError, NotImplementedError) as error:
        raise UsageError(f"{name} cannot be merged into this base: {error}.") from error
    difference = largest_difference(before, plain_logits(whole, tokenizer))
    if not difference <= EXACT * max(1.0, largest_value(before)):
        raise UsageError(
            f"{name} cannot be merged: in float32 the merged weights give logits {difference:g} "
            "from the adapter's, which is another function and not rounding."
        )
    return whole, difference


def _loaded_again(directory: Path, adapter: Adapter, tokenizer: Any) -> list[torch.Tensor]:
    """Probe logits of what was written, as one plain call of ``transformers`` loads it."""
    from transformers import AutoModelForCausalLM

    loaded: Any = AutoModelForCausalLM.from_pretrained(
        str(directory), dtype="auto", output_loading_info=True
    )
    model, told = loaded
    differing = {key: sorted(map(str, value)) for key, value in told.items() if value}
    if differing:
        raise SourceError(
            f"{adapter.directory}: the merged weights do not load as this architecture: "
            f"{differing}. Nothing is written; use the adapter unmerged."
        )
    return plain_logits(model, tokenizer)


def measure_effect(
    adapted: list[torch.Tensor], merged: list[torch.Tensor], *, moved: float, exactness: float
) -> MergeEffect:
    """Compares two sets of probe logits, each (tokens, vocabulary)."""
    import torch

    ours, theirs = torch.cat(adapted).double(), torch.cat(merged).double()
    difference = (ours - theirs).abs()
    one, other = ours.log_softmax(-1), theirs.log_softmax(-1)
    return MergeEffect(
        largest_difference=float(difference.max()),
        mean_difference=float(difference.mean()),
        mean_kl=float((one.exp() * (one - other)).sum(-1).mean()),
        argmax_changed=float((ours.argmax(-1) != theirs.argmax(-1)).double().mean()),
        adapter_moves=moved,
        merge_in_float32=exactness,
        tokens=len(ours),
    )


def effect_lines(effect: MergeEffect, adapter: Adapter, dtype: Dtype) -> list[str]:
    """The effect in words: what is compared with what, and by how much they differ."""
    return [
        f"merged weights in {dtype} against the adapter on {adapter.quantization}, on "
        f"{len(PROBES)} probe prompts ({effect.tokens} tokens):",
        f"  logits differ by {effect.largest_difference:.3g} at most and "
        f"{effect.mean_difference:.3g} in the mean; the adapter moves its base's by "
        f"{effect.adapter_moves:.3g}",
        f"  KL divergence {effect.mean_kl:.3g} nats in the mean; another likeliest token after "
        f"{effect.argmax_changed:.1%} of the tokens",
        f"  before rounding, in float32, the merge itself changes them by "
        f"{effect.merge_in_float32:.2g}",
    ]


def model_card(adapter: Adapter, effect: MergeEffect, dtype: Dtype) -> str:
    """The README of a merged model: what it was made from, and what merging changed."""
    card = adapter.card
    head = {
        "base_model": adapter.model.name,
        "library_name": "transformers",
        "maple": {
            "base_revision": card.get("base_revision"),
            "run_id": card.get("run_id"),
            "method": card["method"],
            "trained_on": adapter.quantization,
            "merged_as": dtype,
            "effect": asdict(effect),
        },
    }
    front = yaml.safe_dump(head, sort_keys=False, allow_unicode=True)
    lines = "\n".join(effect_lines(effect, adapter, dtype))
    onto = (
        f"The adapter was trained on {adapter.quantization} weights and merged into those of the "
        "checkpoint, which it had not seen: this is another model than the one that was trained."
        if adapter.is_quantized
        else "The adapter was merged into the weights it was trained on."
    )
    return f"""---
{front}---

# {Path(adapter.model.name).name} with {card["method"]["name"]}, merged

{onto}

```
{lines}
```

The probe prompts are a few short sentences in several scripts: they tell a broken merge from a
whole one, and are no benchmark.
"""
