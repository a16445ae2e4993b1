"""Is the adapter alive? Its logits must differ from the base's by more than repeat noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from maple.base import LoadedBase, compute_context, label_logits
from maple.errors import DeadAdapterError

if TYPE_CHECKING:
    import torch
    from torch import nn

PROBES = (
    "The capital of Kenya is",
    "La capitale de la France est",
    "东京是日本的",
    "عاصمة مصر هي",
    "Столица России —",
    "Mji mkuu wa Tanzania ni",
)
"""Short prompts in several scripts; what they say does not matter."""


def probe_logits(
    model: nn.Module, base: LoadedBase, prompts: Sequence[str] = PROBES
) -> list[torch.Tensor]:
    """Float32 logits (tokens, vocabulary) of each probe prompt, on the CPU."""
    import torch

    found = []
    model.eval()
    for text in prompts:
        ids = torch.tensor([base.tokenizer(text)["input_ids"]], device=base.device)
        positions = torch.arange(ids.shape[1], device=base.device)[None]
        with torch.inference_mode(), compute_context(base):
            logits = label_logits(
                model,
                input_ids=ids,
                positions=positions,
                selected=torch.ones_like(ids, dtype=torch.bool),
                use_cache=False,
            )
        found.append(logits.float().cpu())
    return found


def largest_difference(first: list[torch.Tensor], second: list[torch.Tensor]) -> float:
    """Largest absolute difference between two sets of probe logits."""
    import torch

    # torch's max, unlike Python's, is NaN wherever one of them is.
    largest = [(a - b).abs().max() for a, b in zip(first, second, strict=True)]
    return float(torch.stack(largest).max())


def prove_alive(
    model: nn.Module,
    base: LoadedBase,
    untouched: Sequence[torch.Tensor],
    *,
    noise: float,
    what: str,
) -> None:
    """Checks that an adapter moves the logits, on no more probe prompts than it takes.

    Args:
        model: the base with the adapter on it.
        base: its tokenizer, device and dtype.
        untouched: probe logits of the base alone.
        noise: difference between two passes of the base alone.
        what: names the adapter in the error.

    Raises:
        DeadAdapterError: the logits move beyond the noise on no prompt, or are no numbers.
    """
    found: list[torch.Tensor] = []
    for text, own in zip(PROBES, untouched, strict=True):
        found += probe_logits(model, base, [text])
        moved = largest_difference(found[-1:], [own])
        if moved > 10 * noise:
            return
        if math.isnan(moved):
            break
    check_alive(found, list(untouched[: len(found)]), noise=noise, what=what)


def check_alive(
    adapted: list[torch.Tensor], untouched: list[torch.Tensor], *, noise: float, what: str
) -> float:
    """Returns how far an adapter moves the probe logits.

    Args:
        adapted: probe logits with the adapter.
        untouched: probe logits of the base alone.
        noise: difference between two passes of the base alone: 0 where it is deterministic.
        what: names the adapter in the error.

    Raises:
        DeadAdapterError: the logits do not move beyond the noise: the adapter was not applied.
    """
    moved = largest_difference(adapted, untouched)
    # Negated, so that a difference that is no number fails too.
    if not moved > 10 * noise:
        raise DeadAdapterError(
            f"{what} does not change the base: the largest logit difference on {len(PROBES)} "
            f"probe prompts is {moved:g} (noise {noise:g}). The adapter was not applied, or was "
            "trained with a learning rate of zero."
        )
    return moved
