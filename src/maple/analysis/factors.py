"""What rank, bits, size and language change: slopes, one model of all, scaling laws, covariates.

    slopes          paired on items: what a doubling of rank, a bit, a tenfold size adds, by class
    mixed models    rank, bits, data, base, class and covariates together; with trainable
                    parameters in the place of rank and method a second time
    scaling         score and loss against parameters and tokens, series by series

What a study cannot say is listed with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from maple.analysis.configurations import Configuration, find_configurations
from maple.analysis.features import absent_features, language_features
from maple.analysis.groups import ENGLISH
from maple.analysis.mixed import MixedFit, NotFitted, fit_mixed
from maple.analysis.mixed_cells import Size
from maple.analysis.modes import Mode
from maple.analysis.panel import Panel
from maple.analysis.scaling_runs import RunScaling, find_scaling
from maple.analysis.slopes import Slope, SlopeFactor, find_slopes
from maple.store.read import Store, StoredRun


@dataclass(frozen=True, kw_only=True)
class Factors:
    """Everything about what the study's factors change."""

    slopes: tuple[Slope, ...] = ()
    models: tuple[MixedFit, ...] = ()
    """With rank and method, then with trainable parameters; those that could be fitted."""
    scaling: tuple[RunScaling, ...] = ()
    features: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    """Feature -> language -> value."""
    not_estimated: tuple[str, ...] = ()
    """What has no number, and why."""


def find_factors(
    store: Store,
    modes: Sequence[Mode],
    panels: Sequence[Panel],
    planned: Mapping[str, Sequence[str]],
    runs: Sequence[StoredRun],
) -> Factors:
    """Returns what the answers say of the study's factors.

    Args:
        store: where the rows are; a few are read for the features of languages.
        modes: what was asked.
        panels: the answers, a panel per task.
        planned: languages by the label of the task.
        runs: every run of the store.

    Raises:
        StoreError: a part of the store cannot be read.
    """
    answered = {run for panel in panels for run in panel.run_ids}
    configurations = find_configurations([r for r in runs if r.run_id in answered])
    if not configurations:
        return Factors(not_estimated=("slopes and models: no trained run has a finished answer",))
    codes = sorted({c for p in panels for c in p.languages if c != ENGLISH})
    trained = [run for c in configurations for run in c.runs]
    features = language_features(store, modes, trained, codes)
    slopes = find_slopes(panels, planned, configurations)
    sizes: tuple[Size, ...] = ("rank", "parameters")
    fits = [fit_mixed(panels, configurations, features, size=size) for size in sizes]
    # One reason for both is said once.
    whys = dict.fromkeys(fit.why for fit in fits if isinstance(fit, NotFitted))
    return Factors(
        slopes=tuple(slopes),
        models=tuple(fit for fit in fits if isinstance(fit, MixedFit)),
        scaling=tuple(find_scaling(panels, planned, configurations)),
        features=features,
        not_estimated=(
            *_without_slope(configurations, {s.factor for s in slopes}),
            *(f"mixed model: {why}" for why in whys),
            *absent_features(features),
        ),
    )


_LEVELS: Mapping[SlopeFactor, Callable[[Configuration, StoredRun], float | None]] = {
    "rank": lambda c, _: c.rank,
    "bits": lambda c, _: c.bits,
    "parameters": lambda _, run: run.train.trainable_parameters if run.train else None,
}
_NAMES: Mapping[SlopeFactor, str] = {
    "rank": "rank",
    "bits": "bits",
    "parameters": "trainable parameters",
}


def _without_slope(configurations: Sequence[Configuration], found: set[SlopeFactor]) -> list[str]:
    """Says of every factor without a slope what keeps it from having one."""
    reasons = []
    for factor in (f for f in _LEVELS if f not in found):
        known = [_LEVELS[factor](c, run) for c in configurations for run in c.runs]
        levels = {level for level in known if level is not None}
        why = "no two scored runs in the same languages differ in it and agree in all else"
        if len(levels) < 2:
            why = f"every trained run has {levels.pop():g}" if levels else "no trained run has any"
        reasons.append(f"slope on {_NAMES[factor]}: {why}")
    return reasons
