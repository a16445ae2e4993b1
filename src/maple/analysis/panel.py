"""The scores of one task: per language a matrix of runs by test items.

    scores["swh_Latn"]   item 0   item 1   item 2        items["swh_Latn"]
    run a                   1.0      0.0      1.0        number of each column over all
    run b                   1.0      NaN      0.0        languages: parallel items share one

NaN marks an item that a run has not answered. Only finished evaluations are here: unfinished ones
hold the batches that came first, which were sorted by length and are no random sample.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from maple.analysis.answers import Answers, read_answers
from maple.analysis.means import LanguageValues
from maple.analysis.modes import Mode
from maple.store.read import Store


@dataclass(frozen=True, kw_only=True)
class Panel:
    """Every finished answer to one mode of one task."""

    mode: Mode
    run_ids: tuple[str, ...]
    """Runs with at least one finished evaluation, in the order of the matrices' rows."""
    scores: Mapping[str, NDArray[np.float64]]
    """Language -> (runs, items of the language), in 0..1 or NaN."""
    items: Mapping[str, NDArray[np.int64]]
    """Language -> (items of the language,) number of the item within the task."""

    @property
    def languages(self) -> tuple[str, ...]:
        """The languages with at least one answer, sorted."""
        return tuple(self.scores)

    @cached_property
    def _whole(self) -> dict[str, set[str]]:
        """Language -> the runs that answered every item of it."""
        return {
            language: {
                run
                for run, n_missing in zip(self.run_ids, np.isnan(m).sum(axis=1), strict=True)
                if not n_missing
            }
            for language, m in self.scores.items()
        }

    def answered(self, languages: Iterable[str], runs: Collection[str]) -> set[str]:
        """Returns the languages in which all of the runs answered at least one same item.

        Args:
            languages: canonical codes.
            runs: run ids, or weights by run id.
        """
        asked = set(runs)
        return {
            code
            for code in languages
            if code in self.scores
            and (asked <= self._whole[code] or self.contrast(code, dict.fromkeys(asked, 1.0)))
        }

    def contrast(self, language: str, weights: Mapping[str, float]) -> LanguageValues | None:
        """Returns ``sum_r w_r score_r`` for each item that all those runs answered.

        Args:
            language: a canonical code.
            weights: run id -> weight; ``{run: 1, base: -1}`` pairs a run with its base.

        Returns:
            None where one of the runs has no answer, or they share no item.
        """
        matrix = self.scores.get(language)
        if matrix is None or not weights or not set(weights) <= set(self.run_ids):
            return None
        rows = [self.run_ids.index(run) for run in weights]
        values = np.fromiter(weights.values(), float) @ matrix[rows]
        is_shared = ~np.isnan(values)
        if not is_shared.any():
            return None
        return LanguageValues(
            language=language, items=self.items[language][is_shared], values=values[is_shared]
        )

    def contrasts(
        self, languages: Sequence[str], weights: Mapping[str, float]
    ) -> list[LanguageValues]:
        """Returns the contrast in each of the languages that has one."""
        found = [self.contrast(language, weights) for language in languages]
        return [values for values in found if values is not None]


class PanelBuilder:
    """Collects the answers to one mode, read in any order, into a panel."""

    def __init__(self, run_order: Sequence[str]) -> None:
        """Begins a panel without answers.

        Args:
            run_order: every run id, in the order that the panel's runs shall have.
        """
        self._row = {run: i for i, run in enumerate(run_order)}
        self._answered: set[str] = set()
        self._parts: dict[str, tuple[NDArray[np.float64], list[str]]] = {}

    def add(self, answers: Answers) -> None:
        """Takes in the answers of whole languages: 8 bytes per sample."""
        self._answered |= {e.run_id for e in answers.evaluations}
        languages = sorted({e.language for e in answers.evaluations})
        number = {language: i for i, language in enumerate(languages)}
        rows = np.array([self._row[e.run_id] for e in answers.evaluations], np.int64)
        spoken = np.array([number[e.language] for e in answers.evaluations], np.int16)
        language_of_row = spoken[answers.evaluation]
        for language in languages:
            chosen = np.flatnonzero(language_of_row == number[language])
            columns, column = _renumber(answers.sample[chosen], len(answers.sample_ids))
            matrix = np.full((len(self._row), columns.size), np.nan)
            matrix[rows[answers.evaluation[chosen]], column] = answers.score[chosen]
            self._parts[language] = matrix, [answers.sample_ids[i] for i in columns.tolist()]

    def take_over(self, other: PanelBuilder) -> None:
        """Takes in what another, of other languages and the same runs, has collected."""
        self._answered |= other._answered
        self._parts |= other._parts

    def panel(self, mode: Mode) -> Panel:
        """Returns the panel of all that was added; runs without an answer are not in it.

        Args:
            mode: what was asked.
        """
        names = sorted(set().union(*(samples for _, samples in self._parts.values())))
        number = {name: i for i, name in enumerate(names)}
        kept = np.array([run in self._answered for run in self._row], bool)
        return Panel(
            mode=mode,
            run_ids=tuple(run for run in self._row if run in self._answered),
            scores={
                language: self._parts[language][0] if kept.all() else self._parts[language][0][kept]
                for language in sorted(self._parts)
            },
            items=self._items(number),
        )

    def _items(self, number: Mapping[str, int]) -> dict[str, NDArray[np.int64]]:
        """Language -> the numbers of its items; parallel languages share one array."""
        seen: dict[tuple[str, ...], NDArray[np.int64]] = {}
        found = {}
        for language in sorted(self._parts):
            names = tuple(self._parts[language][1])
            if names not in seen:
                seen[names] = np.array([number[name] for name in names], np.int64)
            found[language] = seen[names]
        return found


def load_panel(store: Store, mode: Mode, run_order: Sequence[str]) -> Panel:
    """Reads the finished evaluations of a mode into memory: 8 bytes per sample.

    Args:
        store: where the rows are.
        mode: what was asked.
        run_order: every run id, in the order that the panel's runs shall have.

    Raises:
        StoreError: a part cannot be read, or a score is outside 0..1.
    """
    builder = PanelBuilder(run_order)
    for answers in read_answers(store, mode):
        builder.add(answers)
    return builder.panel(mode)


def _renumber(codes: NDArray[np.int64], size: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Returns the codes that occur, rising, and per code its position among them."""
    occurring = np.flatnonzero(np.bincount(codes, minlength=size))
    position = np.zeros(size, np.int64)
    position[occurring] = np.arange(occurring.size)
    return occurring, position[codes]
