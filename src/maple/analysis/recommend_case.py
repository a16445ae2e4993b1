"""A request on its way through the gates: who is compared, what ruled whom out, what is known.

The verdict on every candidate is kept with its reason, so that a refusal shows as much as a
recommendation does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from maple.analysis.recommend_evidence import Evidence, Field, find_field
from maple.analysis.recommend_gates import EnglishCheck, Gains
from maple.analysis.recommend_joint import AgainstBest, Configured, probability_within
from maple.analysis.recommend_next import detectable
from maple.analysis.recommend_request import Request
from maple.analysis.recommend_result import (
    Candidate,
    English,
    InLanguage,
    NextCell,
    Recommendation,
    Step,
    Sureness,
    Verdict,
)
from maple.analysis.recommend_size import Size, find_size, order_by_size

POINT = 0.01
"""The margin of ``probability_within_a_point``."""


@dataclass(kw_only=True, eq=False)
class Case:
    """A request, and what the steps so far found; ``open_case`` begins one."""

    request: Request
    evidence: Evidence
    found: Field
    sizes: dict[str, Size]
    order: list[str]
    """Candidates by rising size, left-out ones too."""
    verdicts: dict[str, tuple[Verdict, str]] = field(default_factory=dict)
    """What ruled a candidate out, or chose it, and the reason in words."""
    english_check: EnglishCheck | None = None
    """What changes in English; None before it is looked at."""
    bases: dict[str, str] = field(default_factory=dict)
    configured: Configured | None = None
    """Means of all members; None before they are measured, as are the next two."""
    gains: Gains = field(default_factory=lambda: Gains(names=(), family=None))
    against: dict[str, AgainstBest] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)

    @property
    def eligible(self) -> list[str]:
        """Compared candidates that nothing has ruled out yet, by rising size."""
        return [n for n in self.order if n in self.found.members and n not in self.verdicts]

    @property
    def english(self) -> Mapping[str, English]:
        """The changes in English of the candidates that have one."""
        return self.english_check.changes if self.english_check else {}

    @property
    def measured(self) -> Configured:
        """The means, once they are there."""
        assert self.configured is not None
        return self.configured


def open_case(evidence: Evidence, request: Request) -> Case:
    """Returns a request with its candidates in order, and those that cannot be compared out."""
    found = find_field(evidence, request.languages)
    by_id = {run.run_id: run for run in evidence.runs}
    groups = {name: list(runs) for name, runs in found.members.items()}
    for name in found.left_out:
        first = by_id[name.removeprefix("configuration ")]
        groups[name] = [first]
    sizes = {name: find_size(runs, request.memory_at) for name, runs in groups.items()}
    trained = [n for n, runs in groups.items() if not runs[0].cell.is_base]
    order = [trained[i] for i in order_by_size([sizes[n] for n in trained])]
    case = Case(request=request, evidence=evidence, found=found, sizes=sizes, order=order)
    case.notes += evidence.notes
    for name, reason in found.left_out.items():
        if name in order:
            case.verdicts[name] = ("not compared", reason)
        elif order:
            case.notes.append(f"{found.labels[name]} is not compared: {reason}")
    return case


def finish(
    case: Case,
    chosen: str | None,
    *,
    reasons: tuple[str, ...] = (),
    steps: tuple[Step, ...] = (),
    next_cells: tuple[NextCell, ...] = (),
    by_language: tuple[InLanguage, ...] = (),
) -> Recommendation:
    """Returns what is known of a case as a recommendation, or as a refusal with its reasons.

    Args:
        case: with a verdict on every candidate.
        chosen: the recommended name; None refuses.
        reasons: of a refusal.
        steps: the next sizes up.
        next_cells: what to measure next.
        by_language: what is recommended, language by language.
    """
    candidates = {name: _candidate(case, name) for name in case.order}
    return Recommendation(
        request=case.request,
        recommended=candidates[chosen] if chosen else None,
        reasons=reasons,
        candidates=tuple(candidates.values()),
        steps=steps,
        sureness=_sureness(case, chosen) if chosen else None,
        next_cells=next_cells,
        tasks=tuple(panel.mode.label for panel, _ in case.found.cells),
        notes=tuple(case.notes),
        by_language=by_language,
    )


def _candidate(case: Case, name: str) -> Candidate:
    runs = case.found.members.get(name)
    verdict, reason = case.verdicts.get(name, ("not compared", "the question was refused before"))
    score = None
    if case.configured is not None and name in case.configured.names:
        score = float(case.configured.values[case.configured.names.index(name)])
    gain = case.gains.of(name)
    against = case.against.get(name)
    return Candidate(
        label=case.found.labels[name],
        run_ids=tuple(run.run_id for run in runs or ()),
        size=case.sizes[name],
        verdict=verdict,
        reason=reason,
        score=score,
        gain=gain[0] if gain else None,
        gain_p=gain[1] if gain else None,
        behind=against.behind if against else None,
        behind_at_most=against.behind_at_most if against else None,
        english=case.english.get(name),
    )


def _sureness(case: Case, chosen: str) -> Sureness:
    configured, compared = case.measured, list(case.against)
    tied = [name for name in compared if case.against[name].is_tied]
    among = configured.subset(compared)
    languages = {code for _, codes in case.found.cells for code in codes}
    return Sureness(
        confidence=case.request.confidence,
        behind_at_most=case.against[chosen].behind_at_most,
        probability_within_a_point=probability_within(among, chosen, POINT),
        n_tied=len(tied),
        n_samples=configured.n_samples,
        n_languages=len(languages),
        n_tasks=len(case.found.cells),
        n_seeds=len(case.found.members[chosen]),
        seed_deviation=configured.seeds.variance**0.5,
        is_seed_deviation_assumed=configured.seeds.df == 0,
        detectable=detectable(among, chosen, case.request.confidence),
    )
