"""What the runs of a cohort share: the loaded base, the data, the prepared tasks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from maple.base import LoadedBase
from maple.data import ExamplePool, StepSchedule, load_pools
from maple.data.schedule import TokenCache
from maple.evaluate import PreparedTask, probe_logits
from maple.evaluate.probe import largest_difference
from maple.files import Files
from maple.run.progress import Progress
from maple.store.write import StoreWriter
from maple.study import Mixture, TrainingSettings, content_id

if TYPE_CHECKING:
    import torch


@dataclass
class CohortContext:
    """Filled as the first run needs each part."""

    base: LoadedBase
    files: Files
    store: StoreWriter
    progress: Progress
    prepared: Sequence[PreparedTask] = ()
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
