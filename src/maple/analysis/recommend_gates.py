"""What a configuration must pass: above chance, above its base, not too much lost in English."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from maple.analysis.deltas import find_bases
from maple.analysis.groups import ENGLISH
from maple.analysis.intervals import Interval
from maple.analysis.recommend_evidence import Evidence, Field, find_field
from maple.analysis.recommend_joint import (
    Configured,
    Family,
    configure,
    joint_means,
    seed_variance,
    simultaneous,
)
from maple.analysis.recommend_request import Request
from maple.analysis.recommend_result import English, EnglishStatus


def configured_means(field: Field, request: Request) -> Configured:
    """Returns the joint means of every member of a field, seeds pooled over all of them."""
    joint = joint_means(field.cells, field.run_ids)
    members = {name: [r.run_id for r in runs] for name, runs in field.members.items()}
    trained = [members[name] for name in field.candidates]
    seeds = seed_variance(joint, trained, assumed=request.seed_deviation)
    return configure(joint, members, seeds)


def base_names(field: Field) -> dict[str, str]:
    """Returns the untouched base of every candidate that has one among the members."""
    # Among the members alone: where the base at the same bits was not scored, another stands in.
    bases = find_bases([run for runs in field.members.values() for run in runs])
    found = {name: bases.get(field.members[name][0].run_id) for name in field.candidates}
    return {name: base.run_id for name, base in found.items() if base}


@dataclass(frozen=True, kw_only=True, eq=False)
class Gains:
    """Every candidate against its base, stated together."""

    names: tuple[str, ...]
    family: Family | None
    """None where no candidate has a base."""

    def of(self, name: str) -> tuple[Interval, float] | None:
        """Returns a candidate's gain with simultaneous limits, and its adjusted p."""
        if self.family is None or name not in self.names:
            return None
        i, f = self.names.index(name), self.family
        interval = Interval(float(f.estimates[i]), float(f.low[i]), float(f.high[i]))
        return interval, float(f.p[i])

    def is_above(self, name: str) -> bool | None:
        """Whether a candidate's simultaneous interval lies above 0; None where it has no base."""
        if self.family is None or name not in self.names:
            return None
        return bool(self.family.low[self.names.index(name)] > 0)


def gains_over_base(
    configured: Configured, bases: Mapping[str, str], names: Sequence[str], confidence: float
) -> Gains:
    """Returns the gains of some candidates over their bases."""
    with_base = tuple(name for name in names if name in bases)
    if not with_base:
        return Gains(names=(), family=None)
    weights = np.vstack([configured.difference(bases[name], [name]) for name in with_base])
    return Gains(names=with_base, family=simultaneous(configured, weights, confidence))


def informative_languages(field: Field, request: Request) -> tuple[list[str], list[str]]:
    """Splits the languages into those in which something is above chance, and the others.

    The tests of one language hold together over the runs; a task without a chance level counts as
    above it as soon as any answer scores.
    """
    languages = field.languages
    above = [code for code in languages if _is_informative(field, request, [code])]
    return above, [code for code in languages if code not in above]


def is_above_chance(field: Field, request: Request) -> bool:
    """Whether any configuration, or base, is told from guessing over all the languages."""
    return _is_informative(field, request, field.languages)


def _is_informative(field: Field, request: Request, languages: Sequence[str]) -> bool:
    cells = field.within(languages).cells
    with_chance = [cell for cell in cells if cell[0].mode.chance_level is not None]
    others = [cell for cell in cells if cell[0].mode.chance_level is None]
    if others and joint_means(others, field.run_ids).values.max() > 0:
        return True
    if not with_chance:
        return False
    part = dataclasses.replace(field, cells=tuple(with_chance))
    chance = float(np.mean([panel.mode.chance_level for panel, _ in with_chance]))
    configured = configured_means(part, request)
    family = simultaneous(configured, np.eye(len(configured.names)), request.confidence)
    # Half of the pseudo-pair stands for a whole one here, so the limit is a little short of
    # Wilson's; a gain over the base is asked for besides.
    z = (family.estimates - chance) / family.errors
    return bool((z > family.one_sided).any())


@dataclass(frozen=True, kw_only=True, eq=False)
class EnglishCheck:
    """What candidates change in English, and the means that this rests on."""

    field: Field
    configured: Configured | None
    """None where nobody has English answers."""
    bases: Mapping[str, str]
    gains: Gains
    changes: Mapping[str, English]
    """Of the candidates that have English answers beside their base's."""


def check_english(evidence: Evidence, request: Request, candidates: Sequence[str]) -> EnglishCheck:
    """Returns what candidates change in English, of those that have a base with English answers.

    Args:
        evidence: runs and answers, English ones among them.
        request: how many points may be lost.
        candidates: the names asked about.
    """
    field = find_field(evidence, [ENGLISH])
    configured, bases, gains = None, {}, Gains(names=(), family=None)
    if field.cells and field.members:
        configured, bases = configured_means(field, request), base_names(field)
        names = [name for name in candidates if name in field.members]
        gains = gains_over_base(configured, bases, names, request.confidence)
    found = {name: gain[0] for name in gains.names if (gain := gains.of(name))}
    return EnglishCheck(
        field=field,
        configured=configured,
        bases=bases,
        gains=gains,
        changes={n: English(change=c, status=_status(request, c)) for n, c in found.items()},
    )


def _status(request: Request, change: Interval) -> EnglishStatus:
    if request.keep_english is None:
        return "reported"
    allowed = request.keep_english / 100
    if change.value < -allowed:
        return "out"
    return "within" if change.low >= -allowed else "cannot tell"
