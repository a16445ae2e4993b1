"""Draws studies of known truth: sample-level outcomes of every run, task and language.

    z = √.3 item + √.3 item in the language + √.4 own            (item is one of all languages in
    score = 1 where Φ(z) < p(run, task, language)                 tasks with parallel items)

    p = base(task, language) + bits + tuned + slope(language) · (log2 rank - 4) + seed effects

So the expected score is ``p`` itself, and every truth is a sum of the parameters drawn: no
formula of the analysis is used. Two of six tasks give half scores, as F1 does.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtri

from maple.analysis.groups import ENGLISH, LOW_RESOURCE
from maple.analysis.modes import Mode
from maple.analysis.panel import Panel
from maple.languages import all_languages
from maple.records import TrainRecord
from maple.store.read import Cell, StoredRun

Values = NDArray[np.float64]
HALF_SCORES = 0.4
"""Share of right answers that are right by half, in a task of graded scores."""
REFERENCE_AHEAD = 0.12
"""How far the reference is above the base everywhere; a share of that in graded scores."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """The size of a study, and what is true in it."""

    ranks: tuple[int, ...] = (4, 8, 16, 32, 64)
    bits: tuple[int, ...] = (16, 8, 4)
    n_seeds: int = 2
    n_tasks: int = 6
    n_languages: int = 24
    n_samples: int = 100
    is_null: bool = False
    """Every run, the untouched base included, answers with the same probability."""
    half_null: bool = False
    """Tuning changes nothing in half of the languages of each task; no seed effects."""
    seed_deviation: float = 0.008
    """Of an adapter, on all tasks alike; half of it again for each task and each language."""
    language_deviation: float = 0.004
    """Of the languages' slopes on log2 rank, and on log2 bits."""
    has_reference: bool = False
    """Whether another, untouched model is the last run, some way above the base."""


@dataclass(frozen=True, kw_only=True)
class World:
    """One simulated study: what the analysis sees, and the truth."""

    settings: Settings
    languages: tuple[str, ...]
    runs: tuple[StoredRun, ...]
    panels: tuple[Panel, ...]
    planned: Mapping[str, Sequence[str]]
    expected: Values
    """(runs, tasks, languages) expected score, of this very adapter."""
    without_seed: Values
    """The same as the mean over all seeds that could have been drawn."""
    rank_slopes: Values
    """(tasks, languages) expected score per doubling of the rank."""
    bit_slopes: Values
    """(tasks, languages) expected score per doubling of the bits."""
    typical_slopes: Values
    """(2, tasks, languages) rank and bits: expected over languages of the resource class."""

    @cached_property
    def _rows(self) -> dict[str, int]:
        return {run.run_id: i for i, run in enumerate(self.runs)}

    @cached_property
    def _columns(self) -> dict[str, int]:
        return {code: i for i, code in enumerate(self.languages)}

    def position(self, run_id: str) -> int:
        """Returns the row of a run in the truth."""
        return self._rows[run_id]

    def columns(self, codes: Sequence[str]) -> list[int]:
        """Returns the columns of languages in the truth."""
        return [self._columns[code] for code in codes]


def draw_world(settings: Settings, rng: np.random.Generator) -> World:
    """Draws the truth, then every answer."""
    languages = _languages(settings.n_languages, rng)
    runs = _runs(settings)
    shape = (settings.n_tasks, len(languages))
    scale = np.where(np.arange(settings.n_tasks) % 3 == 2, 1 - HALF_SCORES / 2, 1.0)[:, None]
    rank, bits, typical = _slopes(settings, languages, rng)
    tuned = rng.normal(0.02, 0.02, shape)
    if settings.half_null:
        # Large, so that there are true findings among which the false ones can be counted.
        tuned = 0.12 * rng.permuted(np.arange(shape[1]) % 2 * np.ones(shape), axis=1)
    base = 0.5 + rng.normal(0, 0.05, (1, shape[1])) + rng.normal(0, 0.05, (shape[0], 1))
    base = np.clip(base + rng.normal(0, 0.04, shape), 0.3, 0.7)
    without = np.stack([_probability(r, base, tuned, rank, bits, settings) for r in runs])
    p = np.clip(without + _seed_effects(runs, settings, shape, rng), 0.01, 0.99)
    panels = [
        _panel(t, languages, runs, p[:, t], is_graded=bool(scale[t, 0] < 1), rng=rng, s=settings)
        for t in range(settings.n_tasks)
    ]
    return World(
        settings=settings,
        languages=languages,
        runs=runs,
        panels=tuple(panels),
        planned={panel.mode.label: languages for panel in panels},
        expected=p * scale,
        without_seed=without * scale,
        rank_slopes=rank * scale,
        bit_slopes=bits * scale,
        typical_slopes=typical * scale,
    )


def _languages(n: int, rng: np.random.Generator) -> tuple[str, ...]:
    known = [x.code for x in all_languages() if x.resource_class is not None]
    low = [c for c in known if _is_low(c)]
    high = [c for c in known if not _is_low(c) and c != ENGLISH]
    n_low = n // 2
    chosen = [
        *rng.choice(low, n_low, replace=False),
        *rng.choice(high, n - n_low - 1, replace=False),
    ]
    return tuple(sorted([ENGLISH, *map(str, chosen)]))


def _is_low(code: str) -> bool:
    return _classes()[code] in LOW_RESOURCE


def _classes() -> dict[str, int]:
    return {x.code: x.resource_class for x in all_languages() if x.resource_class is not None}


def _runs(settings: Settings) -> tuple[StoredRun, ...]:
    bases = [_run("none", None, bits, 0) for bits in settings.bits]
    tuned = [
        _run("lora", rank, bits, seed)
        for rank in settings.ranks
        for bits in settings.bits
        for seed in range(settings.n_seeds)
    ]
    others = [_run("none", None, 16, 0, model="larger")] if settings.has_reference else []
    return (*bases, *tuned, *others)


def _run(method: str, rank: int | None, bits: int, seed: int, model: str = "m") -> StoredRun:
    run_id = f"{model}-{method}-{rank or 0}-{bits}-{seed}"
    parameters = {} if rank is None else {"rank": rank}
    cell = Cell(
        label=run_id,
        model=model,
        method=method,
        parameters=parameters,
        quantization=f"q{bits}",
        bits=float(bits),
        mixture=None if rank is None else "data",
        seed=seed,
    )
    spec = {"model": {"name": model, "revision": "a"}, "mixture": None, "training": None}
    return StoredRun(run_id=run_id, cell=cell, status="done", spec=spec, train=_train(run_id, rank))


def _train(run_id: str, rank: int | None) -> TrainRecord | None:
    if rank is None:
        return None
    return TrainRecord(
        run_id=run_id,
        steps=100,
        examples=800,
        tokens=50_000,
        label_tokens=20_000,
        train_seconds=60.0,
        final_loss=2.0,
        trainable_parameters=10_000 * rank,
        total_parameters=10**7,
        adapter_bytes=40_000 * rank,
        adapter_sha256=run_id,
        peak_memory_bytes=10**9 + 10**6 * rank,
    )


def _slopes(
    settings: Settings, languages: Sequence[str], rng: np.random.Generator
) -> tuple[Values, Values, Values]:
    shape = (settings.n_tasks, len(languages))
    if settings.is_null or settings.half_null:
        return np.zeros(shape), np.zeros(shape), np.zeros((2, *shape))
    is_low = np.array([_is_low(code) for code in languages])
    typical = np.stack(
        [
            np.where(is_low, rng.normal(0.004, 0.004), rng.normal(0.0, 0.004)) * np.ones(shape),
            np.where(is_low, rng.normal(0.006, 0.004), rng.normal(0.0, 0.004)) * np.ones(shape),
        ]
    )
    # A language's own slope is the same on every task; tasks add a little of their own.
    own = rng.normal(0, settings.language_deviation, (2, 1, shape[1]))
    per_task = rng.normal(0, settings.language_deviation / 2, (2, *shape))
    found = typical + own + per_task
    return found[0], found[1], typical


def _probability(
    run: StoredRun, base: Values, tuned: Values, rank: Values, bits: Values, settings: Settings
) -> Values:
    if settings.is_null:
        return base
    if run.cell.model != "m":
        return base + REFERENCE_AHEAD
    p = base + bits * (math.log2(run.cell.bits or 1) - 3)
    if run.cell.rank is not None:
        p = p + tuned + rank * (math.log2(run.cell.rank) - 4)
    return np.asarray(p)


def _seed_effects(
    runs: Sequence[StoredRun], settings: Settings, shape: tuple[int, int], rng: np.random.Generator
) -> Values:
    trained = np.array([not run.cell.is_base for run in runs], float)[:, None, None]
    if settings.is_null or settings.half_null:
        return np.zeros((len(runs), *shape))
    sizes = [(len(runs), 1, 1), (len(runs), shape[0], 1), (len(runs), *shape)]
    scales = np.array([1.0, 0.5, 0.5]) * settings.seed_deviation
    effects = sum(rng.normal(0, s, size) for s, size in zip(scales, sizes, strict=True))
    return np.asarray(effects * trained)


def _panel(
    task: int,
    languages: Sequence[str],
    runs: Sequence[StoredRun],
    p: Values,
    *,
    is_graded: bool,
    rng: np.random.Generator,
    s: Settings,
) -> Panel:
    """Draws one task; those of even number have parallel items."""
    n, is_parallel = s.n_samples, task % 2 == 0
    common = rng.standard_normal(n, dtype=np.float32)
    scores, items = {}, {}
    for number, language in enumerate(languages):
        if not is_parallel:
            common = rng.standard_normal(n, dtype=np.float32)
        shared = math.sqrt(0.3) * (common + rng.standard_normal(n, dtype=np.float32))
        own = rng.standard_normal((len(runs), n), dtype=np.float32)
        hits = (math.sqrt(0.4) * own + shared) < ndtri(p[:, number])[:, None]
        matrix = hits.astype(np.float64)
        if is_graded:
            matrix[rng.random(matrix.shape, dtype=np.float32) < HALF_SCORES] *= 0.5
        scores[language] = matrix
        items[language] = np.arange(n) + (0 if is_parallel else number * n)
    label = f"task {task}"
    mode = Mode(label=label, task=label, settings={}, evaluations={})
    ids = tuple(run.run_id for run in runs)
    return Panel(mode=mode, run_ids=ids, scores=scores, items=items)
