"""Where things lie in a store: the one place that spells its file names."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

FORMAT = 1
"""Version of the layout; ``docs/results_format.md`` describes it."""
TEMPORARY = ".tmp-"
"""Prefix of whatever is not finished; readers pass it by, the next run sweeps it."""


@dataclass(frozen=True)
class Layout:
    """Paths inside one store directory."""

    root: Path

    @property
    def study(self) -> Path:
        """What was asked."""
        return self.root / "study.json"

    @property
    def lock(self) -> Path:
        """Held by the process that writes."""
        return self.root / ".lock"

    def run(self, run_id: str) -> Path:
        """Folder of one run."""
        return self.root / "runs" / run_id

    def adapter(self, run_id: str) -> Path:
        """The trained adapter of one run, a PEFT directory."""
        return self.run(run_id) / "adapter"

    def checkpoint(self, run_id: str) -> Path:
        """State of an unfinished training run."""
        return self.run(run_id) / "checkpoint" / "state.safetensors"

    def evaluation(self, eval_id: str) -> Path:
        """Folder of one evaluation."""
        return self.root / "evals" / eval_id

    def prompts(self, prompts_id: str) -> Path:
        """Prompts of one task, language and wording, shared by all runs."""
        return self.root / "prompts" / f"{prompts_id}.parquet"
