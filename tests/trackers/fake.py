"""A tracker in memory that refuses what a real one would keep twice."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from maple.errors import TrackerError
from maple.trackers import Held, TrackedRun


@dataclass
class FakeRun:
    digest: str = ""
    steps: list[int] = field(default_factory=list)
    run: TrackedRun | None = None


@dataclass
class FakeTracker:
    """Keeps what it is told; ``breaks_after`` steps of a writing it fails, as a network does."""

    runs: dict[str, FakeRun] = field(default_factory=dict)
    reports: list[str] = field(default_factory=list)
    breaks_after: int | None = None
    place: str = "memory"

    def held(self, run_id: str) -> Held | None:
        there = self.runs.get(run_id)
        if there is None:
            return None
        return Held(digest=there.digest, step=max(there.steps, default=0))

    def write(self, run: TrackedRun, *, after_step: int) -> None:
        there = self.runs.setdefault(run.run_id, FakeRun())
        there.digest = ""
        for n, point in enumerate(p for p in run.curve if p.step > after_step):
            if n == self.breaks_after:
                raise TrackerError("the network is gone")
            assert point.step not in there.steps, "a step is there twice"
            there.steps.append(point.step)
        there.run, there.digest = run, run.digest

    def attach(self, report: Path, digest: str) -> bool:
        if digest in self.reports:
            return False
        self.reports.append(digest)
        return True

    def close(self) -> None:
        pass
