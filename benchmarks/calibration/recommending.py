"""Recommendations on simulated studies: right or tied with right, and silent on the null."""

from __future__ import annotations

import numpy as np

from benchmarks.calibration.tally import Study
from benchmarks.calibration.world import World
from maple.analysis.groups import ENGLISH
from maple.analysis.recommend import recommend
from maple.analysis.recommend_evidence import Evidence
from maple.analysis.recommend_request import Request

N_LANGUAGES = 4
"""Named in a request, drawn anew for each study."""


def check_recommendation(world: World, study: Study, rng: np.random.Generator) -> None:
    """Asks for some languages and compares the answer with the configuration that is best."""
    foreign = [code for code in world.languages if code != ENGLISH]
    codes = tuple(map(str, rng.choice(foreign, N_LANGUAGES, replace=False)))
    labels = tuple(panel.mode.label for panel in world.panels)
    evidence = Evidence(
        runs=world.runs,
        panels=world.panels,
        evaluated=dict.fromkeys(world.languages, labels),
    )
    found = recommend(evidence, Request(languages=codes))
    if world.settings.is_null:
        study.note("null: a configuration recommended", not found.is_refused)
        return
    study.note("power: a configuration is recommended at all", not found.is_refused)
    if found.recommended is None:
        return
    worth = _worth(world, codes)
    best = max(worth[run] for c in found.candidates for run in c.run_ids)
    named = {run for c in found.tied for run in c.run_ids}
    study.note("recommended, and the best one is among the tied", best in {worth[r] for r in named})
    behind = best - max(worth[run] for run in found.recommended.run_ids)
    limit = found.sureness.behind_at_most if found.sureness else 0.0
    study.note("recommended, and behind the best by no more than stated", behind <= limit + 1e-12)


def _worth(world: World, codes: tuple[str, ...]) -> dict[str, float]:
    """The expected score by run id, over all seeds that could have been drawn."""
    means = world.without_seed[:, :, world.columns(codes)].mean(axis=(1, 2))
    return {run.run_id: round(float(m), 12) for run, m in zip(world.runs, means, strict=True)}
