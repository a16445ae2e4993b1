"""The rows of a store, read once: a panel per mode, the means of its metrics, its checks' rates."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from maple.analysis.answers import language_blocks, read_block
from maple.analysis.checks import CheckRate, check_rates
from maple.analysis.metrics import MetricMean, metric_means
from maple.analysis.modes import Mode
from maple.analysis.panel import Panel, PanelBuilder
from maple.analysis.processes import Processes
from maple.store.read import Store, StoredEvaluation


@dataclass(frozen=True, kw_only=True)
class Read:
    """What one scan over the rows of a mode gives."""

    panel: Panel
    metrics: list[MetricMean]
    checks: list[CheckRate]


def read_modes(
    store: Store, modes: Sequence[Mode], run_order: Sequence[str], processes: Processes
) -> Iterator[Read]:
    """Yields what the rows of each mode hold, in the order of the modes.

    Args:
        store: where the rows are.
        modes: what was asked.
        run_order: every run id, in the order that the panels' runs shall have.
        processes: read blocks of languages, several at once.

    Raises:
        StoreError: a part cannot be read, or a score is outside 0..1.
    """
    bare = Store(store.directory, {})
    submitted = [
        [
            processes.submit(_read, bare, _bare(mode, ()), [_light(e) for e in block], run_order)
            for block in language_blocks(mode)
        ]
        for mode in modes
    ]
    for mode, blocks in zip(modes, submitted, strict=True):
        builder = PanelBuilder(run_order)
        metrics: list[MetricMean] = []
        checks: list[CheckRate] = []
        for block in blocks:
            found, its_metrics, its_checks = block.result()
            builder.take_over(found)
            metrics += its_metrics
            checks += its_checks
        yield Read(panel=builder.panel(mode), metrics=metrics, checks=checks)


def light_panel(panel: Panel) -> Panel:
    """Returns the panel without the thousands of evaluations of its mode: to be sent elsewhere.

    Its mode has one for each chance level and headline metric, which it tells from them.
    """
    alike = {(e.chance_level, e.headline): key for key, e in panel.mode.evaluations.items()}
    return dataclasses.replace(panel, mode=_bare(panel.mode, alike.values()))


def _bare(mode: Mode, kept: Iterable[tuple[str, str]]) -> Mode:
    return dataclasses.replace(mode, evaluations={key: mode.evaluations[key] for key in kept})


def _light(evaluation: StoredEvaluation) -> StoredEvaluation:
    return dataclasses.replace(evaluation, spec={})


def _read(
    store: Store, mode: Mode, evaluations: Sequence[StoredEvaluation], run_order: Sequence[str]
) -> tuple[PanelBuilder, list[MetricMean], list[CheckRate]]:
    answers = read_block(store, mode, evaluations)
    builder = PanelBuilder(run_order)
    builder.add(answers)
    return builder, metric_means(answers), check_rates(answers)
