"""Between the loop and the store: checkpoints, progress, the record of what a run cost."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from maple.data import StepSchedule
from maple.errors import TrainingError
from maple.records import CurveRow, TrainRecord
from maple.run.progress import Progress
from maple.store.write import StoreWriter, sha256_of_directory
from maple.train import TrainResult


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


def train_record(
    run_id: str, result: TrainResult, schedule: StepSchedule, directory: Path
) -> TrainRecord:
    """Sums a run up: what it saw, what it took, what it left behind."""
    curve = result.curve
    weights = [f for f in directory.rglob("*.safetensors") if f.is_file()]
    return TrainRecord(
        run_id=run_id,
        steps=len(curve),
        examples=sum(len(schedule.examples(row.step)) for row in curve),
        tokens=sum(row.tokens for row in curve),
        label_tokens=sum(row.label_tokens for row in curve),
        train_seconds=sum(row.step_seconds for row in curve),
        final_loss=curve[-1].loss,
        trainable_parameters=result.trainable_parameters,
        total_parameters=result.total_parameters,
        adapter_bytes=sum(f.stat().st_size for f in weights),
        adapter_sha256=sha256_of_directory(directory),
        peak_memory_bytes=max(row.peak_memory_bytes for row in curve),
        truncated_examples=schedule.truncated_examples,
        dropped_examples=schedule.dropped_examples,
    )
