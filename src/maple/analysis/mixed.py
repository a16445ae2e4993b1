"""A mixed model of every cell's score: run by task by language.

    score = rank + bits + method + data + base + class + class x each of them + covariates  (fixed)
            + language + task + benchmark (task x language) + run                           (random)
            + rest

Rank enters as log2, bits as they are; class is 1 in a low-resource language and 0 in another, and
English, the retention check, is left out. A run is one seed of its configuration, so its
intercept is the seed's. Where a component lies at zero (a singular fit), it is dropped and the rest
fitted again; where the fit does not converge, the components go one by one in the order of
``COMPONENTS``; the answer says which model it is and why.

The fixed effects' intervals are not the model's own. Random intercepts know of no language that
has a slope of its own and of no two runs on the same items; ``mixed_errors`` has errors that do.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from maple.analysis.configurations import Configuration
from maple.analysis.intervals import Interval, student_interval, student_p
from maple.analysis.mixed_cells import Cells, Size, make_cells
from maple.analysis.mixed_errors import robust_effects
from maple.analysis.mixed_reml import find_components
from maple.analysis.panel import Panel

COMPONENTS = ("language", "task", "run", "benchmark")
"""Random intercepts of the whole model, the first to be given up first."""
LEAST_SQUARES = "least squares with an intercept per task and language"


@dataclass(frozen=True, kw_only=True)
class Term:
    """One fixed effect."""

    name: str
    """Such as ``rank (per doubling)`` or ``rank (per doubling) x low-resource``."""
    interval: Interval
    """In score, -1..1, per unit of the term."""
    p: float
    df: float
    """Degrees of freedom: of the clusters of runs and languages that the term rests on."""


@dataclass(frozen=True, kw_only=True)
class MixedFit:
    """The model that could be fitted, and what was given up for it."""

    size: Size
    """What stands for an adapter's size: its rank, or its trainable parameters."""
    model: str
    """Its random intercepts, or ``LEAST_SQUARES``."""
    notes: tuple[str, ...]
    """Why each richer model was left; empty where the whole one converged."""
    is_singular: bool
    """Whether a component of a richer model came out as zero, and was dropped."""
    terms: tuple[Term, ...]
    left_out: tuple[str, ...]
    """Factors and covariates that are not in the model, each with the reason."""
    deviations: Mapping[str, float]
    """Standard deviation, in score, of each random intercept and of the ``rest``."""
    n_cells: int
    n_runs: int
    n_tasks: int
    n_languages: int


@dataclass(frozen=True, kw_only=True)
class NotFitted:
    """That there is no model, and why."""

    size: Size
    why: str


def fit_mixed(
    panels: Sequence[Panel],
    configurations: Sequence[Configuration],
    covariates: Mapping[str, Mapping[str, float]] | None = None,
    *,
    size: Size = "rank",
) -> MixedFit | NotFitted:
    """Fits the richest model that converges with every component above zero.

    Args:
        panels: the answers, a panel per task.
        configurations: the trained configurations that have answers.
        covariates: name -> language -> value; each is centred and scaled to a deviation of one.
            A covariate that lacks a language is left out.
        size: ``rank``, with the method beside it, or ``parameters`` in the place of both.

    Returns:
        A reason, of fewer than three languages or runs, or where no factor or no score varies.
    """
    cells = make_cells(panels, configurations, covariates or {}, size)
    if isinstance(cells, str):
        return NotFitted(size=size, why=cells)
    labels = cells.labels
    components = [c for c in COMPONENTS if labels[c].max() > 0]
    notes = [f"no intercept of {c}: there is one" for c in COMPONENTS if c not in components]
    is_singular = False
    while components:
        random = [labels[c] for c in components]
        found = find_components(cells.score, cells.design, random)
        zero = [c for c, r in zip(components, found.ratios, strict=True) if r == 0]
        if found.has_converged and not zero:
            pairs = [(c, r**2) for c, r in zip(random, found.ratios, strict=True)]
            rest = math.sqrt(found.scale)
            own = {c: r * rest for c, r in zip(components, found.ratios, strict=True)}
            fit = _answer(cells, " + ".join(components), pairs, own | {"rest": rest})
            break
        name = " + ".join(components)
        if found.has_converged:
            is_singular = True
            notes.append(f"{name}: singular, no variance is left for {', '.join(zero)}")
        else:
            notes.append(f"{name}: the fit did not converge")
        components = [c for c in components if c not in (zero or components[:1])]
    else:
        fit = _answer(cells, LEAST_SQUARES, [(labels["benchmark"], math.inf)], {})
    return dataclasses.replace(fit, size=size, notes=tuple(notes), is_singular=is_singular)


def _answer(
    cells: Cells,
    model: str,
    random: Sequence[tuple[NDArray[np.int64], float]],
    deviations: Mapping[str, float],
) -> MixedFit:
    fixed = robust_effects(cells.score, cells.design, random, (cells.run, cells.language))
    terms = [
        Term(
            name=cells.names[i],
            interval=student_interval(e.value, e.variance, e.df),
            p=student_p(e.value, e.variance, e.df),
            df=e.df,
        )
        for i, e in fixed.effects.items()
        if i > 0
    ]
    gone = [
        f"{name}: follows from the other terms"
        for i, name in enumerate(cells.names)
        if i not in fixed.effects
    ]
    return MixedFit(
        size="rank",
        model=model,
        notes=(),
        is_singular=False,
        terms=tuple(terms),
        left_out=(*cells.left_out, *gone),
        deviations=deviations or {"rest": math.sqrt(fixed.scale)},
        n_cells=cells.score.size,
        n_runs=len(np.unique(cells.run)),
        n_tasks=len(np.unique(cells.task)),
        n_languages=len(np.unique(cells.language)),
    )
