"""The table that the mixed model is fitted to: a row per run, task and language, and its design."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from maple.analysis.configurations import Configuration
from maple.analysis.groups import ENGLISH, LOW_RESOURCE, facts
from maple.analysis.panel import Panel
from maple.store.read import StoredRun

Values = NDArray[np.float64]
Size = Literal["rank", "parameters"]
CLASS = "low-resource"
LANGUAGES_PER_COVARIATE = 4
"""Languages that there have to be for each term of languages: the class and every covariate."""
_Trained = tuple[Configuration, StoredRun]


@dataclass(frozen=True, kw_only=True)
class Cells:
    """A table of scores: one row for each run, task and language."""

    run: NDArray[np.int64]
    task: NDArray[np.int64]
    language: NDArray[np.int64]
    score: Values
    names: tuple[str, ...]
    """Of the columns of ``design``."""
    design: Values
    """(rows, fixed effects), an intercept first."""
    left_out: tuple[str, ...]
    """Factors and covariates that have no column, each with the reason."""

    @property
    def labels(self) -> Mapping[str, NDArray[np.int64]]:
        """The level of every random intercept, by row."""
        benchmark = self.task * (int(self.language.max()) + 1) + self.language
        levels = {"language": self.language, "task": self.task, "run": self.run}
        return levels | {"benchmark": np.unique(benchmark, return_inverse=True)[1]}


def make_cells(
    panels: Sequence[Panel],
    configurations: Sequence[Configuration],
    covariates: Mapping[str, Mapping[str, float]],
    size: Size,
) -> Cells | str:
    """Returns the cells of trained runs in languages other than English; else why there are none.

    Args:
        panels: the answers, a panel per task.
        configurations: the trained configurations that have answers.
        covariates: name -> language -> value.
        size: what stands for an adapter's size.
    """
    trained = {r.run_id: (c, r) for c in configurations for r in c.runs}
    rows = [
        (run, number, language, score)
        for number, panel in enumerate(panels)
        for language, matrix in panel.scores.items()
        if language != ENGLISH and facts(language).resource_class is not None
        for run, score in zip(panel.run_ids, _means(matrix), strict=True)
        if run in trained and not math.isnan(score)
    ]
    runs, run = np.unique([r[0] for r in rows], return_inverse=True)
    _, task = np.unique([r[1] for r in rows], return_inverse=True)
    languages, language = np.unique([r[2] for r in rows], return_inverse=True)
    if len(runs) < 3 or len(languages) < 3:
        return (
            f"trained runs: {len(runs)}, languages of a known class other than English: "
            f"{len(languages)}; the model needs three of each"
        )
    score = np.array([r[3] for r in rows])
    if float(np.ptp(score)) < 1e-9:
        return "every run has the same score on every task and language"
    factors, left_out = _factors([trained[str(r)] for r in runs], size)
    if not factors:
        return "the trained runs differ by their seed alone"
    features, lacking = _covariates(covariates, [str(code) for code in languages])
    names, columns = ["intercept"], [np.ones(len(rows))]
    for name, values in factors.items():
        names.append(name)
        columns.append((values - values.mean())[run])
    is_low = np.array([facts(str(c)).resource_class in LOW_RESOURCE for c in languages], float)
    if 0 < is_low.sum() < is_low.size:
        names += [CLASS, *(f"{name} x {CLASS}" for name in factors)]
        columns += [is_low[language], *(c * is_low[language] for c in columns[1:])]
    else:
        lacking.append(f"{CLASS}: every language is of the same class, low or high")
    return Cells(
        run=run,
        task=task,
        language=language,
        score=score,
        names=(*names, *features),
        design=np.stack([*columns, *(v[language] for v in features.values())], axis=1),
        left_out=(*left_out, *lacking),
    )


def _means(scores: Values) -> list[float]:
    """The mean of each run; NaN where it has no answer."""
    known = ~np.isnan(scores)
    n = known.sum(axis=1)
    total = np.where(known, scores, 0.0).sum(axis=1)
    return list(map(float, np.where(n > 0, total / np.maximum(n, 1), math.nan)))


def _factors(runs: Sequence[_Trained], size: Size) -> tuple[dict[str, Values], list[str]]:
    """Returns the columns of what varies between runs, and what has none."""
    found: dict[str, Values] = {}
    left_out: list[str] = []

    def add(name: str, values: Sequence[float | None], log: float | None = None) -> None:
        if any(v is None or v <= 0 for v in values):
            if any(values):
                left_out.append(f"{name}: not every run has one")
        elif len(set(values)) > 1:
            column = np.array(values, float)
            found[name] = column if log is None else np.log(column) / math.log(log)

    if size == "rank":
        add("rank (per doubling)", [c.rank for c, _ in runs], 2)
    else:
        numbers = [r.train.trainable_parameters if r.train else None for _, r in runs]
        add("trainable parameters (per tenfold)", numbers, 10)
    add("bits (per bit)", [c.bits for c, _ in runs])
    kinds = {
        "data": [r.cell.mixture or "none" for _, r in runs],
        "base": [r.cell.model for _, r in runs],
    }
    if size == "rank":
        kinds["method"] = [r.cell.method for _, r in runs]
    for word, names in kinds.items():
        first, *others = dict.fromkeys(names)
        for other in others:
            found[f"{word} {other} (- {first})"] = np.array([n == other for n in names], float)
    return found, left_out


def _covariates(
    covariates: Mapping[str, Mapping[str, float]], languages: Sequence[str]
) -> tuple[dict[str, Values], list[str]]:
    """Returns a value per language of each covariate that can enter, and why others do not."""
    found: dict[str, Values] = {}
    left_out = []
    most = len(languages) // LANGUAGES_PER_COVARIATE - 1
    for name, known in covariates.items():
        values = np.array([known.get(code, math.nan) for code in languages])
        lacking = int(np.isnan(values).sum())
        if lacking:
            left_out.append(f"{name}: not known of {lacking} of {len(languages)} languages")
        elif values.std() < 1e-12:
            left_out.append(f"{name}: the same in every language")
        elif len(found) >= most:
            left_out.append(f"{name}: {len(languages)} languages are too few for so many terms")
        else:
            found[f"{name} (per deviation)"] = (values - values.mean()) / values.std()
    return found, left_out
