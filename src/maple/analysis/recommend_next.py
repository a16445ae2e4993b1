"""What to measure next, so that a question that is open now would be decided.

A difference ``D`` is seen in four studies of five where ``(q + 0.84) se <= |D|``, with ``q`` the
critical value. The variance has a part that more samples divide and a part that only more seeds
divide; whichever must shrink is asked for.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.special import ndtri

from maple import languages as table
from maple.analysis.groups import facts
from maple.analysis.recommend_evidence import Evidence, Field
from maple.analysis.recommend_gates import EnglishCheck
from maple.analysis.recommend_joint import Configured, simultaneous
from maple.analysis.recommend_result import NextCell

POWER = 0.8
WORTH = 0.01
"""The smallest difference worth deciding, a point. Source: ours."""
MANY_SEEDS = 10
"""More are not asked for: the difference is then called too small to decide."""


def detectable(configured: Configured, name: str, confidence: float) -> float | None:
    """Returns the smallest true lead of another name that is seen in four studies of five.

    Args:
        configured: the means of those that are compared.
        name: whom the others are held against; of their leads the median is returned.
        confidence: of the comparison with the best.

    Returns:
        None where there is no other.
    """
    others = [other for other in configured.names if other != name]
    if not others:
        return None
    ahead = simultaneous(configured, configured.difference(name, others), confidence)
    return (ahead.one_sided + float(ndtri(POWER))) * float(np.median(ahead.errors))


def deciding_cell(
    field: Field,
    configured: Configured,
    names: tuple[str, str],
    critical: float,
    *,
    why: str,
    limit: float = 0.0,
) -> NextCell:
    """Returns what would tell a difference from a limit, at the distance seen or ``WORTH``.

    Args:
        field: the cells in use.
        configured: their means.
        names: the pair; the first is what the second is held against.
        critical: the critical value a difference has to pass.
        why: what would be decided.
        limit: what the difference is to be told from, in scores.
    """
    weights = configured.difference(names[0], [names[1]])
    estimate, covariance, _ = configured.contrast(weights)
    goal = max(abs(float(estimate[0]) - limit), WORTH)
    allowed = (goal / (critical + float(ndtri(POWER)))) ** 2
    over_seeds = float(((weights**2) @ configured.seed_weight)[0]) * configured.seeds.variance
    over_items = float(covariance[0, 0]) - over_seeds
    per_cell, available = _sizes(field)
    seeds = _seeds(field, names, over_seeds, allowed)
    now = min(len(field.members[name]) for name in names if name in field.candidates)
    left = allowed - over_seeds * (now / seeds if seeds else 1.0)
    samples = None if left <= 0 else math.ceil(per_cell * over_items / left)
    return NextCell(
        labels=tuple(field.labels[name] for name in names),
        run_ids=tuple(run.run_id for name in names for run in field.members[name]),
        tasks=tuple(panel.mode.label for panel, _ in field.cells),
        languages=tuple(field.languages),
        samples=samples if samples is None or samples > per_cell else None,
        available=available,
        seeds=seeds,
        why=f"{why}, at {100 * goal:.1f} points"
        + _short(samples, available, per_cell)
        + _many(seeds),
    )


def _seeds(field: Field, names: Sequence[str], over_seeds: float, allowed: float) -> int | None:
    """Seeds that bring their part of the variance below half of what is allowed."""
    now = min(len(field.members[name]) for name in names if name in field.candidates)
    needed = math.ceil(now * over_seeds / (allowed / 2)) if over_seeds else now
    if now == 1:
        needed = max(needed, 2)  # with one, the spread between seeds is not known at all
    return min(needed, MANY_SEEDS) if needed > now else None


def _many(seeds: int | None) -> str:
    if seeds is None or seeds < MANY_SEEDS:
        return ""
    return f"; even {MANY_SEEDS} seeds may not do: the difference is small beside their spread"


def _short(samples: int | None, available: int | None, per_cell: int) -> str:
    if samples is None or available is None or samples <= max(available, per_cell):
        return ""
    return (
        f"; the splits end at {available:,} samples, where {samples:,} would be needed: add "
        "seeds, or tasks in these languages"
    )


def _sizes(field: Field) -> tuple[int, int | None]:
    """Shared samples of the smallest cell, and what the smallest split has."""
    answered, available = [], []
    for panel, codes in field.cells:
        for code in codes:
            rows = [panel.run_ids.index(run) for run in field.run_ids]
            answered.append(int((~np.isnan(panel.scores[code][rows])).all(axis=0).sum()))
        found = [e.available for (_, c), e in panel.mode.evaluations.items() if c in codes]
        available += [n for n in found if n is not None]
    return min(answered), min(available, default=None)


def english_cell(check: EnglishCheck, name: str, allowed: float) -> NextCell:
    """Returns what would tell whether a configuration loses more English than allowed.

    Args:
        check: with a change of that configuration.
        name: the configuration.
        allowed: the loss that is allowed, in scores.
    """
    assert check.configured is not None
    assert check.gains.family is not None
    return deciding_cell(
        check.field,
        check.configured,
        (check.bases[name], name),
        check.gains.family.two_sided,
        why="would tell whether it loses more English than allowed",
        limit=-allowed,
    )


def unfinished_cells(field: Field) -> list[NextCell]:
    """Returns what configurations and seeds that were left out lack."""
    found = []
    for names, why in (
        (field.partial, "some of these answers are there: with the rest it could be compared"),
        (field.unscored, "planned, without any of these answers: the best may be among these"),
    ):
        if names:
            runs = [name.removeprefix("configuration ") for name in names]
            found.append(_cell(field, [field.labels[name] for name in names], runs, why))
    if field.other_seeds:
        why = "further seeds of what was compared: they would be averaged in"
        seeds = field.other_seeds
        found.append(_cell(field, list(seeds.values()), list(seeds), why))
    return found


def scarce_cell(field: Field, languages: tuple[str, ...], samples: int) -> NextCell:
    """Returns what languages with too few shared samples lack."""
    labels = [field.labels[name] for name in field.members]
    why = "too few samples to estimate how far scores vary"
    cell = _cell(field, labels, field.run_ids, why)
    return dataclasses.replace(cell, languages=languages, samples=samples)


def base_cell(field: Field) -> NextCell:
    """Returns the measurement that a study without an untouched base lacks."""
    label = "the untouched base (method none)"
    return _cell(field, [label], [], "would tell whether tuning helps at all")


def _cell(field: Field, labels: Sequence[str], run_ids: Sequence[str], why: str) -> NextCell:
    """All that a field is judged by, of some runs."""
    return NextCell(
        labels=tuple(labels),
        run_ids=tuple(run_ids),
        tasks=tuple(panel.mode.label for panel, _ in field.cells),
        languages=tuple(field.languages),
        samples=None,
        available=None,
        seeds=None,
        why=why,
    )


def missing_cell(
    evidence: Evidence,
    languages: Sequence[str],
    labels: Mapping[str, Sequence[str]],
    *,
    tasks: Sequence[str] = (),
) -> NextCell:
    """Returns the measurement that languages without answers lack.

    Args:
        evidence: what is there.
        languages: the codes that nobody answered.
        labels: label -> run ids of every trained configuration.
        tasks: those asked for; empty: all.
    """
    chosen = dict.fromkeys(tasks or [panel.mode.task for panel in evidence.panels])
    chosen = chosen or dict.fromkeys(t for found in evidence.evaluated.values() for t in found)
    return NextCell(
        labels=tuple(labels),
        run_ids=tuple(run for runs in labels.values() for run in runs),
        tasks=tuple(chosen),
        languages=tuple(languages),
        samples=None,
        available=None,
        seeds=None,
        why="with their untouched bases; where a task lacks the language, choose another: maple "
        "list languages --tasks all",
    )


def near_languages(code: str, evaluated: Sequence[str], most: int = 3) -> list[str]:
    """Returns evaluated languages that are near one, the nearest first.

    Near means the same family, then the same script, region and resource class; English is near
    to nothing, because what holds for it is least likely to hold elsewhere.
    """
    known = {language.code: language for language in table.all_languages()}
    wanted = known.get(code)
    if wanted is None:
        return []

    def nearness(other: str) -> int:
        found = known.get(other)
        if found is None or other == "eng_Latn":
            return 0
        return (
            4 * (found.family == wanted.family)
            + 2 * (found.region == wanted.region)
            + (found.script == wanted.script)
            + (facts(other).resource_class == wanted.resource_class)
        )

    ranked = sorted(evaluated, key=lambda other: (-nearness(other), other))
    return [other for other in ranked if other != code and nearness(other) >= 3][:most]
