"""How large a configuration is, and in which order configurations are larger.

Memory within 5% of the smallest of its class counts as equal, because a measured peak moves by that
much from run to run. ``ORDER`` has the rule in words.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from pydantic import ValidationError

from maple.analysis.costs import run_costs
from maple.analysis.recommend_request import MemoryAt
from maple.errors import MapleError
from maple.store.read import StoredRun

_SAME_MEMORY = 1.05
"""Source: ours."""
ORDER = (
    "least memory (within 5% counts as equal), then smallest adapter file, fewest trained "
    "parameters, fewest bits, lowest rank, shortest training"
)
"""What "smaller" means, in words."""
MemorySource = Literal["measured", "planned", "unknown"]


@dataclass(frozen=True, kw_only=True)
class Size:
    """What a configuration takes; None where the store does not say."""

    memory_bytes: int | None
    memory_source: MemorySource
    """``measured``: the largest peak of its training runs. ``planned``: from sizes alone."""
    trainable_parameters: int | None
    adapter_bytes: int | None
    train_seconds: float | None
    """Mean over its runs."""
    bits: float | None
    rank: int | None


def find_size(runs: Sequence[StoredRun], at: MemoryAt) -> Size:
    """Returns the size of a configuration, or of an untouched base.

    Args:
        runs: its runs, one per seed.
        at: what the memory is for.
    """
    seconds = _known(runs, "train_seconds")
    memory, source = _memory(runs, at)
    return Size(
        memory_bytes=memory,
        memory_source=source,
        trainable_parameters=max(_known(runs, "trainable_parameters"), default=None),
        adapter_bytes=max(_known(runs, "adapter_bytes"), default=None),
        train_seconds=math.fsum(seconds) / len(seconds) if seconds else None,
        bits=_bits(runs[0]),
        rank=runs[0].cell.rank,
    )


def _known(runs: Sequence[StoredRun], cost: str) -> list[Any]:
    """A cost of the runs that have it."""
    return [value for c in run_costs(runs, ()) if (value := getattr(c, cost)) is not None]


def order_by_size(sizes: Sequence[Size]) -> list[int]:
    """Returns the positions of sizes from the smallest to the largest."""
    classes = _memory_classes(sizes)

    def key(i: int) -> tuple[float, ...]:
        size = sizes[i]
        rest = (
            size.adapter_bytes, size.trainable_parameters, size.bits, size.rank, size.train_seconds,
        )  # fmt: skip
        return (classes[i], *(math.inf if value is None else float(value) for value in rest), i)

    return sorted(range(len(sizes)), key=key)


def _memory_classes(sizes: Sequence[Size]) -> list[float]:
    classes = [math.inf] * len(sizes)
    known = [(size.memory_bytes, i) for i, size in enumerate(sizes) if size.memory_bytes]
    first = 0.0
    for memory, i in sorted(known):
        if memory > first * _SAME_MEMORY:
            first = float(memory)
        classes[i] = first
    return classes


def _memory(runs: Sequence[StoredRun], at: MemoryAt) -> tuple[int | None, MemorySource]:
    if runs[0].cell.is_base or at == "use":
        planned = _use_bytes(runs)
        return planned, "planned" if planned else "unknown"
    if measured := _known(runs, "peak_memory_bytes"):
        return max(measured), "measured"
    planned = _training_bytes(runs[0])
    return planned, "planned" if planned else "unknown"


def _use_bytes(runs: Sequence[StoredRun]) -> int | None:
    """The base at its bits, and the adapter: no activations, no cache of keys and values."""
    estimate = _planned(runs[0])
    total = next(iter(_known(runs, "total_parameters")), None)
    total = total or (estimate.total_parameters if estimate else None)
    bits = _bits(runs[0])
    if not total or bits is None:
        return None
    return int(total * bits / 8) + max(_known(runs, "adapter_bytes"), default=0)


def _bits(run: StoredRun) -> float | None:
    """Of the base's weights; a store without a study's plan has the quantizer's name alone."""
    from maple.catalog import load_quantizer

    if run.cell.bits is not None:
        return run.cell.bits
    try:
        return float(load_quantizer(run.cell.quantization).bits)
    except MapleError:
        return None


def _training_bytes(run: StoredRun) -> int | None:
    estimate = _planned(run)
    return estimate.memory_bytes if estimate else None


def _planned(run: StoredRun) -> Any:
    """The plan's estimate, of bases whose sizes the catalog knows; None of others."""
    from maple.catalog import family_for, load_family, load_method, load_quantizer
    from maple.plan.estimate import estimate
    from maple.study import RunSpec

    try:
        spec = RunSpec.model_validate({k: v for k, v in (run.spec or {}).items() if k != "id"})
        name = spec.model.family
        family = load_family(name) if name else family_for(model_name=spec.model.name)
        shape = family.known_shapes.get(spec.model.name)
        method = load_method(spec.method.name, spec.method.parameters)
        quantizer = load_quantizer(spec.quantization)
        return estimate(spec, shape, family=family, method=method, quantizer=quantizer)
    except (MapleError, ValidationError):
        # A store of another catalog or an older Maple: its sizes are not known here.
        return None
