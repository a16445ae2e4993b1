"""Which examples each optimiser step sees: a pure function of mixture, settings and seed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from maple.catalog.contracts import Conversation, ModelFamily
from maple.data.mixture import ExamplePool, draw_epoch, hold_out
from maple.data.pack import MicroBatch, to_micro_batches
from maple.data.render import render_conversation
from maple.data.tokenize import Example, tokenize_example
from maple.errors import DataError
from maple.study import TrainingSettings
from maple.study.spec import number_of_steps

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

TokenCache = dict[tuple[str, Conversation, str, int], Example]
"""(pool key, row, template, max_length) -> Example; shared by the runs of a cohort.

The row itself and not its number: two mixtures may read two files of one data set.
"""


class StepSchedule:
    """Random access to the steps of a run, so that a killed run finds its place at once."""

    def __init__(
        self,
        pools: Sequence[ExamplePool],
        settings: TrainingSettings,
        *,
        seed: int,
        tokenizer: PreTrainedTokenizerBase,
        family: ModelFamily,
        cache: TokenCache | None = None,
    ) -> None:
        """Draws the epoch and tokenizes its examples, validation's held out before.

        Raises:
            DataError: no example has a response token within ``max_length``, or too few examples
                are there to hold some out.
        """
        self.pools, self.held_out = pools, list[ExamplePool]()
        if (held := settings.validation) is not None:
            self.pools, self.held_out = hold_out(pools, held.languages, held.examples)
        self.settings = settings
        self.seed = seed
        self._tokenizer = tokenizer
        self._family = family
        self._cache: TokenCache = {} if cache is None else cache
        drawn = draw_epoch(self.pools, examples=settings.examples, seed=seed)
        kept = [(p, r) for p, r in drawn if self.example(p, r).n_labels > 0]
        self.dropped_examples = len(drawn) - len(kept)
        """Examples whose prompt alone fills ``max_length``: they carry no loss."""
        self._kept = frozenset(kept)
        self.n_examples = len(kept)
        self.truncated_examples = sum(self.example(p, r).was_truncated for p, r in kept)
        if not kept:
            raise DataError(
                f"none of the {len(drawn)} drawn examples has a response token within "
                f"max_length {settings.max_length}. Raise training.max_length."
            )
        self.total_steps = number_of_steps(settings, self.n_examples)
        self._epoch: tuple[int, list[tuple[int, int]]] = (-1, [])

    def examples(self, step: int) -> list[Example]:
        """The examples of optimiser step ``step`` (from 1), in drawn order."""
        per_epoch = -(-self.n_examples // self.settings.batch_size)
        epoch, place = divmod(step - 1, per_epoch)
        if self._epoch[0] != epoch:
            drawn = draw_epoch(
                self.pools, examples=self.settings.examples, seed=self.seed, epoch=epoch
            )
            self._epoch = (epoch, [pair for pair in drawn if pair in self._kept])
        size = self.settings.batch_size
        chosen = self._epoch[1][place * size : (place + 1) * size]
        return [self.example(p, r) for p, r in chosen]

    def micro_batches(self, step: int) -> list[MicroBatch]:
        """The forward passes of optimiser step ``step``, packed."""
        return self._packed(self.examples(step))

    def validation_batches(self) -> dict[str, list[MicroBatch]]:
        """The forward passes over the held-out examples of each language, packed.

        Raises:
            DataError: none of a language's has a response token within ``max_length``.
        """
        found = {}
        for pool in self.held_out:
            examples = [self._example(pool, row) for row in pool.conversations]
            labelled = [e for e in examples if e.n_labels > 0]
            if not labelled:
                raise DataError(
                    f"none of the {len(examples)} held-out examples of {pool.language} has a "
                    f"response token within max_length {self.settings.max_length}. Raise "
                    "training.max_length or training.validation.examples."
                )
            found[pool.language] = self._packed(labelled)
        return found

    def _packed(self, examples: Sequence[Example]) -> list[MicroBatch]:
        pad = self._tokenizer.pad_token_id
        return to_micro_batches(
            examples,
            max_length=self.settings.max_length,
            micro_batch_tokens=self.settings.micro_batch_tokens,
            pad_id=int(pad if pad is not None else self._tokenizer.eos_token_id or 0),
        )

    def example(self, pool: int, row: int) -> Example:
        """The tokenized example of a pool's row; tokenized once per cohort."""
        source = self.pools[pool]
        return self._example(source, source.conversations[row])

    def _example(self, source: ExamplePool, conversation: Conversation) -> Example:
        key = (source.key, conversation, self.settings.template, self.settings.max_length)
        if key not in self._cache:
            self._cache[key] = self._tokenize(source, conversation)
        return self._cache[key]

    def _tokenize(self, source: ExamplePool, conversation: Conversation) -> Example:
        prompt, response = render_conversation(
            conversation, self.settings.template, self._tokenizer, self._family
        )
        return tokenize_example(
            prompt,
            response,
            tokenizer=self._tokenizer,
            max_length=self.settings.max_length,
            language=source.language,
            dataset=source.dataset,
        )
