"""Studies of known truth in memory: panels as a store would give them, without files."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri

from maple.analysis.modes import Mode
from maple.analysis.panel import Panel
from maple.analysis.recommend_evidence import Evidence
from maple.records import TrainRecord
from maple.store.read import Cell, StoredEvaluation, StoredRun

LANGUAGES = ("swh_Latn", "tha_Thai", "yor_Latn")
_SHARED = 0.7
"""Of an item's latent difficulty, the share of variance that all runs have in common."""


@dataclass(frozen=True, kw_only=True)
class Truth:
    """One configuration: its size and the probability that it answers right."""

    rank: int | None
    score: float
    bits: int = 16
    memory: int = 10**10
    english: float = 0.7

    @property
    def is_base(self) -> bool:
        return self.rank is None


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is drawn: configurations, and how much of everything."""

    truths: Sequence[Truth]
    n: int = 300
    seeds: int = 3
    seed_deviation: float = 0.005
    languages: Sequence[str] = LANGUAGES
    tasks: Sequence[str] = ("xnli", "belebele")
    chance: float = 0.25


def simulate(study: Study, seed: int) -> Evidence:
    """Draws one study."""
    draws = np.random.default_rng(seed)
    runs, truths = [], []
    for truth in study.truths:
        for number in range(1 if truth.is_base else study.seeds):
            runs.append(_run(truth, number))
            shift = 0.0 if truth.is_base else draws.normal(0, study.seed_deviation)
            truths.append((truth.score + shift, truth.english + shift))
    scores = np.array(truths)
    panels = tuple(_panel(study, task, runs, scores, draws) for task in study.tasks)
    codes = dict.fromkeys((*study.languages, "eng_Latn"), tuple(study.tasks))
    return Evidence(runs=tuple(runs), panels=panels, evaluated=codes)


def _panel(
    study: Study,
    task: str,
    runs: Sequence[StoredRun],
    truth: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    draws: np.random.Generator,
) -> Panel:
    codes = dict.fromkeys((*study.languages, "eng_Latn"))
    scores = {}
    for code in codes:
        p = truth[:, 1] if code == "eng_Latn" else truth[:, 0]
        shared = draws.standard_normal(study.n)
        own = draws.standard_normal((len(runs), study.n))
        latent = _SHARED**0.5 * shared + (1 - _SHARED) ** 0.5 * own
        scores[code] = (latent < ndtri(np.clip(p, 0.001, 0.999))[:, None]).astype(float)
    ids = tuple(run.run_id for run in runs)
    evaluations = {
        (run, code): _evaluation(run, task, code, study) for run in ids for code in codes
    }
    return Panel(
        mode=Mode(label=task, task=task, settings={}, evaluations=evaluations),
        run_ids=ids,
        scores=scores,
        items=dict.fromkeys(codes, np.arange(study.n)),
    )


def _evaluation(run: str, task: str, language: str, study: Study) -> StoredEvaluation:
    spec = {"chance_level": study.chance, "headline": "accuracy", "available": study.n}
    return StoredEvaluation(
        eval_id=f"{run}-{task}-{language}", run_id=run, task=task, language=language, spec=spec,
        is_done=True, n_samples=study.n,
    )  # fmt: skip


def _run(truth: Truth, seed: int) -> StoredRun:
    method = "none" if truth.is_base else "lora"
    name = f"{method}-{truth.rank}-{truth.bits}-{seed}"
    parameters: Mapping[str, int] = {} if truth.rank is None else {"rank": truth.rank}
    cell = Cell(
        label=name, model="tiny", method=method, parameters=parameters,
        quantization={16: "bf16", 4: "nf4"}[truth.bits], bits=truth.bits,
        mixture=None if truth.is_base else "native", seed=seed,
    )  # fmt: skip
    train = None if truth.rank is None else _record(name, truth.rank, truth.memory)
    return StoredRun(run_id=name, cell=cell, status="done", train=train)


def _record(run: str, rank: int, memory: int) -> TrainRecord:
    return TrainRecord(
        run_id=run, steps=10, examples=80, tokens=1000, label_tokens=500,
        train_seconds=60.0 + rank, final_loss=1.0, trainable_parameters=1000 * rank,
        total_parameters=1_000_000, adapter_bytes=4000 * rank, adapter_sha256=run,
        peak_memory_bytes=memory,
    )  # fmt: skip
