"""What the runs of a cohort share: the loaded base, the data, the prepared tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from maple.base import LoadedBase
from maple.data import ExamplePool, StepSchedule, load_pools
from maple.data.schedule import TokenCache
from maple.evaluate import Engine, PreparedTask, probe_logits
from maple.evaluate.probe import largest_difference
from maple.files import Files
from maple.run.early_look import EarlyLooks
from maple.run.progress import Progress
from maple.store.write import StoreWriter
from maple.study import Mixture, TrainingSettings, content_id

if TYPE_CHECKING:
    import torch


class ScoresRuns(Protocol):
    """An optional engine as a cohort uses it: ``maple.run.engines``."""

    directories: dict[str, Path]
    """Adapters by run id, where they do not lie in the store."""

    def score_run(
        self, reference: Engine, run_id: str, adapter: str, context: CohortContext
    ) -> None:
        """Scores a run on the context's tasks, as far as the audit admits it."""

    def close(self) -> None:
        """Gives back what it holds."""


@dataclass
class CohortContext:
    """Filled as the first run needs each part."""

    base: LoadedBase
    files: Files
    store: StoreWriter
    progress: Progress
    prepared: Sequence[PreparedTask] = ()
    engine: ScoresRuns | None = None
    """What scores instead of the reference engine, where something does."""
    looks: EarlyLooks | None = None
    """Which tasks may be left off before their last sample; None: none."""
    pools: dict[str, list[ExamplePool]] = field(default_factory=dict)
    tokens: TokenCache = field(default_factory=dict)
    _untouched: tuple[list[torch.Tensor], float] | None = None

    def schedule(self, mixture: Mixture, settings: TrainingSettings, seed: int) -> StepSchedule:
        """The batches of one run; files are read and examples tokenized once for all runs."""
        return StepSchedule(
            self.read(mixture),
            settings,
            seed=seed,
            tokenizer=self.base.tokenizer,
            family=self.base.family,
            cache=self.tokens,
        )

    def read(self, mixture: Mixture) -> list[ExamplePool]:
        """The examples of a mixture, read at the first call.

        Raises:
            DataError: a file breaks its format, or the mixture is empty.
            SourceError: a file cannot be had.
        """
        key = content_id(mixture.model_dump(mode="json", exclude={"name"}))
        if key not in self.pools:
            self.pools[key] = load_pools(mixture, self.files)
        return self.pools[key]

    def untouched(self) -> tuple[list[torch.Tensor], float]:
        """Probe logits of the base alone and their repeat noise.

        The first call must come while no adapter is on the base.
        """
        if self._untouched is None:
            first = probe_logits(self.base.model, self.base)
            again = probe_logits(self.base.model, self.base)
            self._untouched = (first, largest_difference(first, again))
        return self._untouched
