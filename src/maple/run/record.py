"""Between the loop and the store: checkpoints, progress, the record of what a run cost."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from maple.base import LoadedBase, peak_flops_per_second
from maple.base.energy import EnergyMeter, energy_counters
from maple.base.work import training_work
from maple.data import StepSchedule
from maple.errors import TrainingError
from maple.records import CurveRow, TrainRecord
from maple.run.progress import Progress
from maple.store.write import StoreWriter, sha256_of_directory
from maple.train import TrainResult

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class RunCheckpoints:
    """The store's checkpoint of one run, as the loop sees it."""

    store: StoreWriter
    run_id: str

    def load(self) -> bytes | None:
        """The last checkpoint, or None.

        Raises:
            TrainingError: the file is truncated or no checkpoint.
        """
        state = self.store.load_checkpoint(self.run_id)
        if state is not None and not _is_whole(state):
            path = self.store.layout.checkpoint(self.run_id)
            raise TrainingError(
                f"{path} is broken: it is no whole checkpoint. Delete it and run the same command "
                "again; this run then starts from its first step."
            )
        return state

    def save(self, state: bytes) -> None:
        """Replaces the checkpoint in one step."""
        self.store.save_checkpoint(self.run_id, state)


def _is_whole(state: bytes) -> bool:
    """Whether a safetensors blob is as long as its header says."""
    start = 8 + int.from_bytes(state[:8], "little")
    try:
        header = json.loads(state[8:start])
        ends = [entry["data_offsets"][1] for name, entry in header.items() if name[0] != "_"]
        return "maple" in header["__metadata__"] and start + max(ends) == len(state)
    except (ValueError, KeyError, TypeError, IndexError, AttributeError):
        return False


def show_steps(progress: Progress, total_steps: int) -> Callable[[CurveRow, int], None]:
    """A callback that shows each training step; the first call tells where the run resumed."""
    has_begun = False

    def show(row: CurveRow, _: int) -> None:
        nonlocal has_begun
        if not has_begun:
            progress.begin("train", total_steps, "steps", done=row.step - 1)
            has_begun = True
        progress.advance(1, f"loss {row.loss:.3f} · {row.tokens_per_second:,.0f} tokens/s")

    return show


class RunMeter:
    """What one run takes beside time: operations by closed form, energy by the machine's counters.

    Made when the adapter is attached and nothing else is put on the model; called after each step.
    """

    def __init__(
        self,
        model: nn.Module,
        base: LoadedBase,
        show: Callable[[CurveRow, int], None],
        *,
        is_stacked: bool = False,
    ) -> None:
        """Counts the work of a token, and reads the counters for the first time.

        Args:
            model: the base with the adapter attached.
            base: what it stands on.
            show: called with each finished step's row and the number of steps.
            is_stacked: whether the run's passes are other runs' too: no counter tells its part.
        """
        self._base = base
        self._work = training_work(model, base)
        self._energy = EnergyMeter([] if is_stacked else energy_counters(base.device))
        self._show = show
        self._first_step: int | None = None

    def __call__(self, row: CurveRow, total_steps: int) -> None:
        """Takes note of a finished step, and shows it."""
        self._first_step = self._first_step or row.step
        self._energy.update()
        self._show(row, total_steps)

    def flops(self, schedule: StepSchedule, curve: Sequence[CurveRow]) -> float:
        """Operations of all steps, those before a kill among them."""
        return sum(
            self._work.flops([len(e.ids) for e in schedule.examples(row.step)], row.label_tokens)
            for row in curve
        )

    def peak_flops_per_second(self) -> float:
        """What the device reaches in dense products of the base's compute dtype."""
        return peak_flops_per_second(self._base.device, self._base.dtype)

    @property
    def joules(self) -> float | None:
        """Energy of the training; None where nothing counts it, or not all of it was watched."""
        return self._energy.joules if self._first_step == 1 else None


def train_record(
    run_id: str,
    result: TrainResult,
    schedule: StepSchedule,
    directory: Path,
    *,
    meter: RunMeter | None = None,
) -> TrainRecord:
    """Sums a run up: what it saw, what it took, what it left behind.

    Args:
        run_id: whose record it is.
        result: the curve, and sizes.
        schedule: what each step saw.
        directory: where the adapter was saved.
        meter: what watched the training; None: operations and energy are not recorded.
    """
    curve = result.curve
    weights = sorted(f for f in directory.rglob("*.safetensors") if f.is_file())
    tokens = sum(row.tokens for row in curve)
    seconds = sum(row.step_seconds for row in curve)
    flops = meter.flops(schedule, curve) if meter else None
    peak = meter.peak_flops_per_second() if meter else None
    return TrainRecord(
        run_id=run_id,
        steps=len(curve),
        examples=sum(len(schedule.examples(row.step)) for row in curve),
        tokens=tokens,
        label_tokens=sum(row.label_tokens for row in curve),
        train_seconds=seconds,
        final_loss=curve[-1].loss,
        trainable_parameters=result.trainable_parameters,
        total_parameters=result.total_parameters,
        adapter_bytes=sum(f.stat().st_size for f in weights),
        adapter_sha256=sha256_of_directory(directory),
        peak_memory_bytes=max(row.peak_memory_bytes for row in curve),
        truncated_examples=schedule.truncated_examples,
        dropped_examples=schedule.dropped_examples,
        stopped_early=result.stopped_early,
        kept_step=result.kept_step,
        stored_parameters=sum(map(stored_parameters, weights)),
        tokens_per_second=_ratio(tokens, seconds),
        flops=flops,
        flops_per_second=_ratio(flops, seconds),
        peak_flops_per_second=peak,
        utilization=_ratio(_ratio(flops, seconds), peak),
        energy_joules=meter.joules if meter else None,
    )


def stored_parameters(path: Path) -> int:
    """How many numbers a safetensors file holds, as its header says."""
    with path.open("rb") as file:
        header = json.loads(file.read(int.from_bytes(file.read(8), "little")))
    return sum(math.prod(e["shape"]) for name, e in header.items() if name != "__metadata__")


def _ratio(amount: float | None, by: float | None) -> float | None:
    return None if amount is None or not by else amount / by
