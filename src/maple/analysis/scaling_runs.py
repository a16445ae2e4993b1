"""The scaling fits that a study's runs allow, for each set of runs that differ in size alone."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from maple.analysis.configurations import Configuration
from maple.analysis.groups import ENGLISH
from maple.analysis.panel import Panel
from maple.analysis.run_means import Answered, run_means
from maple.analysis.scaling import Against, ScalingFit, fit_scaling
from maple.store.read import StoredRun

Quantity = Literal["score", "final loss"]


@dataclass(frozen=True, kw_only=True)
class RunScaling:
    """How a quantity of runs goes with their size, all else but rank and seed equal."""

    quantity: Quantity
    """``score``: mean over tasks and languages other than English, in 0..1."""
    series: str
    quantization: str
    fit: ScalingFit


def find_scaling(
    panels: Sequence[Panel],
    planned: Mapping[str, Sequence[str]],
    configurations: Sequence[Configuration],
) -> list[RunScaling]:
    """Returns the fits of score and final loss against trainable parameters and tokens.

    Runs of one series and quantization are fitted together. Too few sizes get a fit that says why
    there is none.
    """
    scores = _scores(panels, planned, configurations)
    groups: dict[tuple[str, str], list[StoredRun]] = defaultdict(list)
    for configuration in configurations:
        groups[configuration.series, configuration.quantization] += configuration.runs
    found = []
    for (series, quantization), runs in groups.items():
        for against in ("trainable parameters", "training tokens"):
            for quantity in ("score", "final loss"):
                points = [
                    (size, value)
                    for run in runs
                    if (size := _size(run, against)) is not None
                    and (value := _value(run, quantity, scores)) is not None
                ]
                sizes, values = [p[0] for p in points], [p[1] for p in points]
                is_loss = quantity == "final loss"
                fit = fit_scaling(sizes, values, against, is_loss=is_loss)
                found.append(
                    RunScaling(quantity=quantity, series=series, quantization=quantization, fit=fit)
                )
    return found


def _size(run: StoredRun, against: Against) -> float | None:
    if run.train is None:
        return None
    is_parameters = against == "trainable parameters"
    # 0 where a store of another program did not take it down.
    return float(run.train.trainable_parameters if is_parameters else run.train.tokens) or None


def _value(run: StoredRun, quantity: Quantity, scores: Mapping[str, float]) -> float | None:
    if quantity == "score":
        return scores.get(run.run_id)
    loss = run.train.final_loss if run.train else math.nan
    return loss if math.isfinite(loss) else None


def _scores(
    panels: Sequence[Panel],
    planned: Mapping[str, Sequence[str]],
    configurations: Sequence[Configuration],
) -> dict[str, float]:
    """The mean over tasks and languages of every run that has all that is usual."""
    runs = [run.run_id for c in configurations for run in c.runs]
    answered = Answered(panels)
    cells = []
    for panel in panels:
        usual = answered.usual(panel, planned[panel.mode.label], runs)
        codes = [code for code in usual if code != ENGLISH]
        if codes:
            cells.append((panel, dict.fromkeys(codes, 1 / len(codes))))
            runs = answered.runs(panel, codes, runs)
    tasks = [m for panel, weights in cells if (m := run_means(panel, weights, runs)) is not None]
    if not tasks:
        return {}
    means = np.mean([task.values for task in tasks], axis=0)
    return dict(zip(runs, map(float, means), strict=True))
