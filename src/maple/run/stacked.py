"""Runs of a cohort trained in shared passes: attached one by one, taken off, trained together.

    attach run 0 ── take off ─┐                                   ┌─ put back ── save ── take off
    attach run 1 ── take off ─┼─ the base alone, all runs' rows ──┼─ put back ── save ── take off
    attach run 2 ── take off ─┘                                   └─ ...

Each run keeps its own optimiser, random numbers, curve and checkpoint, in the form they have when
it trains alone: a stack that was killed goes on in turn, and the other way round.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from maple.base import LoadedBase, count_parameters
from maple.base.load import let_autocast_choose
from maple.catalog import load_method
from maple.catalog.contracts import AttachContext, Method
from maple.data import StepSchedule
from maple.plan.estimate import activation_bytes, shape_from_config
from maple.plan.stacking import LEAST_GAIN, groups_to_stack, keep_gain, read_gain, stack_key
from maple.records import CurveRow
from maple.run.adapters import adapter_card, strip
from maple.run.context import CohortContext
from maple.run.record import RunCheckpoints, RunMeter, show_steps, train_record
from maple.study import RunSpec
from maple.train import Trainee, calibration_rows, train_together
from maple.train.activations import USABLE_SHARE, free_bytes
from maple.train.passes import passes

if TYPE_CHECKING:
    import torch
    from torch import nn

    from maple.base.fused import Updates

_PAIRS = 3
"""Timed pairs, stacked and in turn, after one that is not counted."""
_WORTH = 40
"""A stack is measured where it has this many times more passes to make than a pair of the
measurement: that is where measuring takes less than a fifteenth of the training."""


class NamedParameters:
    """Stands for a model whose layers are taken off: its trained parameters under their names."""

    def __init__(self, model: nn.Module) -> None:
        """Takes the names while the layers are on the base."""
        self._named = {n: p for n, p in model.named_parameters() if p.requires_grad}

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]:
        """As ``nn.Module`` has it."""
        return iter(self._named.items())

    def parameters(self) -> Iterator[nn.Parameter]:
        """As ``nn.Module`` has it."""
        return iter(self._named.values())


@dataclass
class Detached:
    """An attached run, taken off the base again; its parameters live on."""

    run: RunSpec
    method: Method
    schedule: StepSchedule
    model: nn.Module
    """What the method made, and saves."""
    parameters: NamedParameters
    places: list[tuple[nn.Module, str, nn.Module]]
    """Where each of its layers belongs: parent, name, layer."""
    updates: Updates
    """By the base's own layers."""
    generator: torch.Generator
    """Where its dropout draws from, in the state that attaching left behind."""
    meter: RunMeter
    sizes: tuple[int, int]


def train_stacks(runs: Sequence[RunSpec], context: CohortContext) -> None:
    """Trains those of a cohort's runs that gain by sharing passes; leaves the others alone.

    Args:
        runs: none of them trained yet; each began in the store.
        context: their base.

    Raises:
        MapleError: a stack broke. What its runs reached is in their checkpoints, and they can go
            on in turn.
    """
    for group in groups_to_stack(runs):
        if not _may_pay(group, context):
            continue
        taken = (_take(run, context, is_shown=run is group[0]) for run in group)
        detached = [d for d in taken if d is not None]
        if len(detached) > 1 and _pays(detached, context):
            _train(detached, context)


def _take(run: RunSpec, context: CohortContext, *, is_shown: bool) -> Detached | None:
    """Attaches a run as it is attached alone, and takes it off; None where it cannot be stacked.

    One run of a stack is shown for all of them.
    """
    import torch

    from maple.base.fused import peft_updates

    assert run.training is not None
    assert run.mixture is not None
    base = context.base
    method = load_method(run.method.name, run.method.parameters)
    schedule = context.schedule(run.mixture, run.training, run.seed)
    show = show_steps(context.progress, schedule.total_steps) if is_shown else _unseen
    torch.manual_seed(run.seed)
    attach = AttachContext(
        family=base.family,
        quantizer=base.quantizer,
        seed=run.seed,
        calibration=lambda: calibration_rows(schedule, base),
    )
    try:
        model = method.attach(base.model, attach)
        found = peft_updates(model)
        if not _is_low_rank_alone(model, method, found, schedule.total_steps):
            return None
        let_autocast_choose(model, base)
        return Detached(
            run=run,
            method=method,
            schedule=schedule,
            model=model,
            parameters=NamedParameters(model),
            places=_places(base, found),
            updates={layer.get_base_layer(): updates for layer, updates in found.items()},  # type: ignore[operator]
            generator=_generator(base),
            meter=RunMeter(model, base, show, is_stacked=True),
            sizes=count_parameters(model),
        )
    finally:
        strip(base)


def _unseen(_: CurveRow, __: int) -> None:
    return


def _is_low_rank_alone(model: nn.Module, method: Method, found: Updates, total_steps: int) -> bool:
    """Whether low-rank updates are all that the method trains, and nothing happens around steps."""
    from maple.catalog.contracts import TrainingHooks

    factors = {id(p) for updates in found.values() for u in updates for p in (u.a, u.b)}
    trained = [p for p in model.parameters() if p.requires_grad]
    plain = type(method.hooks(model, total_steps)) is TrainingHooks
    return plain and bool(trained) and all(id(p) in factors for p in trained)


def _places(base: LoadedBase, found: Updates) -> list[tuple[nn.Module, str, nn.Module]]:
    places = []
    for name, module in base.model.named_modules():
        if module in found:
            parent, _, own = name.rpartition(".")
            places.append((base.model.get_submodule(parent), own, module))
    return places


def _generator(base: LoadedBase) -> torch.Generator:
    import torch

    generator = torch.Generator(base.device)
    cuda = base.device.type == "cuda"
    generator.set_state(torch.cuda.get_rng_state(base.device) if cuda else torch.get_rng_state())
    return generator


@contextmanager
def _put_back(detached: Detached, base: LoadedBase) -> Iterator[nn.Module]:
    for parent, name, layer in detached.places:
        setattr(parent, name, layer)
    try:
        yield detached.model
    finally:
        strip(base)


def _train(stack: Sequence[Detached], context: CohortContext) -> None:
    base = context.base
    context.progress.say(f"  {len(stack)} runs in shared passes")
    runs = [(_trainee(d, context), d.updates) for d in stack]
    results = train_together(base.model, base, runs)
    for detached, result in zip(stack, results, strict=True):
        run = detached.run
        with _put_back(detached, base) as model:
            card = adapter_card(run, base)
            save = partial(detached.method.save, model)
            directory = context.store.save_adapter(run.id, save, card)
        record = train_record(run.id, result, detached.schedule, directory, meter=detached.meter)
        context.store.finish_run(run.id, record, result.curve)
        context.progress.end(f"loss {result.curve[0].loss:.3f} -> {record.final_loss:.3f}")


def _trainee(detached: Detached, context: CohortContext) -> Trainee:
    run = detached.run
    assert run.training is not None
    return Trainee(
        detached.parameters,  # type: ignore[arg-type]
        context.base,
        detached.method,
        detached.schedule,
        settings=run.training,
        sizes=detached.sizes,
        checkpoints=RunCheckpoints(context.store, run.id),
        on_step=detached.meter,
        generator=detached.generator,
    )


def _may_pay(group: Sequence[RunSpec], context: CohortContext) -> bool:
    """Whether to look at these runs together at all: told before any of them is attached."""
    config = context.base.model.config.to_dict()
    if not _fits(group, config, free_bytes(context.base.device)):
        context.progress.say(f"  {len(group)} runs: in turn (activations do not fit together)")
        return False
    gain = read_gain(stack_key(group, config))
    if gain is None:
        return _passes(group, context) >= _WORTH * _PAIRS * len(group)
    return gain >= LEAST_GAIN


def _pays(stack: Sequence[Detached], context: CohortContext) -> bool:
    """Whether these runs finish sooner together than in turn, as measured here, now or before."""
    key = stack_key([d.run for d in stack], context.base.model.config.to_dict())
    gain = read_gain(key)
    if gain is None:
        gain = measure_gain(stack, context.base)
        keep_gain(key, gain)
    better = gain >= LEAST_GAIN
    chosen = "shared passes" if better else "in turn"
    context.progress.say(f"  {len(stack)} runs: {chosen} (stacked is {gain:.2f}x as fast)")
    return better


def _passes(group: Sequence[RunSpec], context: CohortContext) -> int:
    """Forward passes of all runs, from those of their first steps."""
    schedules = [
        context.schedule(run.mixture, run.training, run.seed)
        for run in group
        if run.mixture and run.training
    ]
    return sum(s.total_steps * len(s.micro_batches(1)) for s in schedules)


def _fits(group: Sequence[RunSpec], config: Mapping[str, Any], free: int) -> bool:
    shape = shape_from_config(config)
    settings = [run.training for run in group if run.training]
    if shape is None:
        return True
    return sum(activation_bytes(s, shape)[0] for s in settings) <= USABLE_SHARE * free


def measure_gain(stack: Sequence[Detached], base: LoadedBase) -> float:
    """Time of one pass per run in turn over that of one shared pass, forward and backward.

    The median of interleaved pairs, on the first batches of the runs; no parameter moves, and no
    run's random numbers do.
    """
    first = [d.schedule.micro_batches(1)[0] for d in stack]
    states = [d.generator.get_state() for d in stack]
    model: Any = base.model
    model.train()
    alone = [_timed_pass([d], [b], base) for d, b in zip(stack, first, strict=True)]
    _timed_pass(stack, first, base)
    ratios = []
    for _ in range(_PAIRS):
        alone = [_timed_pass([d], [b], base) for d, b in zip(stack, first, strict=True)]
        ratios.append(sum(alone) / _timed_pass(stack, first, base))
    model.eval()
    for detached, state in zip(stack, states, strict=True):
        detached.generator.set_state(state)
        for parameter in detached.parameters.parameters():
            parameter.grad = None
    return statistics.median(ratios)


def _timed_pass(stack: Sequence[Detached], batches: Sequence[Any], base: LoadedBase) -> float:
    import torch

    updates, generators = [d.updates for d in stack], [d.generator for d in stack]
    with passes(base.model, base, updates, generators) as forward:
        began = time.monotonic()
        total: Any = forward.losses(batches, [len(b.targets) for b in batches])[0]
        total.backward()
        if base.device.type == "cuda":
            torch.cuda.synchronize(base.device)
        return time.monotonic() - began
