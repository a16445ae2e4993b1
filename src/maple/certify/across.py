"""Checks between the languages of a task: are they parallel, and is one a copy of another."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from maple.certify.certificate import Check
from maple.certify.reading import EXAMPLES, Reading, share

_PARALLEL = 0.9
"""Share of common ids from which two languages are taken to be parallel."""
_COPIED = 0.1
"""Share of items that read the same in two languages from which it is said."""
_FEWEST_TEXTS = 5
_ENGLISH = "eng_Latn"


@dataclass(frozen=True)
class Trace:
    """What of a reading is compared with other languages."""

    language: str
    split: str
    is_choice: bool
    gold: Mapping[str, tuple[str, ...]]
    """Gold by id."""
    contents: frozenset[int]
    """Hashes of the items' texts."""


def trace_of(reading: Reading) -> Trace:
    """Keeps of a reading what ``across_checks`` needs."""
    return Trace(
        language=reading.language.code,
        split=reading.split,
        is_choice=reading.is_choice,
        gold={sample.id: sample.gold for sample in reading.samples},
        contents=frozenset(hash(reading.texts(sample)) for sample in reading.samples),
    )


def across_checks(traces: Sequence[Trace]) -> dict[str, list[Check]]:
    """Compares every language with the others that have the same split.

    Returns:
        Checks by language: parallel and copied.
    """
    found = {}
    for trace in traces:
        peers = [t for t in traces if t.split == trace.split and t is not trace]
        found[trace.language] = [_parallel(trace, peers), _copied(trace, peers)]
    return found


def _parallel(trace: Trace, peers: Sequence[Trace]) -> Check:
    if not peers:
        message = "There is no other language to compare with."
        return Check(name="parallel", status="grey", figure="-", message=message)
    alike = [peer for peer in peers if _common(trace, peer) >= _PARALLEL]
    if not alike:
        best = max(_common(trace, peer) for peer in peers)
        message = f"The languages are not parallel: at most {100 * best:.0f}% of ids are shared."
        return Check(name="parallel", status="grey", figure=f"{100 * best:.0f}%", message=message)
    lacking = sorted(set().union(*(peer.gold for peer in alike)) - trace.gold.keys())
    differing = _differing(trace, alike) if trace.is_choice else []
    parts = [f"Ids of the other languages that are not there: {len(lacking):,}"] if lacking else []
    if differing:
        parts.append(f"Golds that differ from those of most languages: {len(differing):,}")
    same = "ids and golds are" if trace.is_choice else "ids are"
    return Check(
        name="parallel",
        status="yellow" if parts else "green",
        figure=f"{len(lacking) + len(differing):,} differ" if parts else f"{len(alike) + 1} alike",
        message=f"{'. '.join(parts)}."
        if parts
        else f"The {same} those of the other languages ({len(alike)}).",
        examples=(*lacking[:EXAMPLES], *differing[:EXAMPLES]),
    )


def _common(one: Trace, other: Trace) -> float:
    shared = len(one.gold.keys() & other.gold.keys())
    # Of the larger: all of MLQA's questions are in English, and half of English in none other.
    return shared / max(1, len(one.gold), len(other.gold))


def _differing(trace: Trace, peers: Sequence[Trace]) -> list[str]:
    """Ids whose gold is not the commonest; where two are as common, not English's."""
    english = next((t.gold for t in (trace, *peers) if t.language == _ENGLISH), {})
    found = []
    for name, gold in trace.gold.items():
        counts = Counter(peer.gold[name] for peer in (trace, *peers) if name in peer.gold)
        highest = max(counts.values())
        leaders = {value for value, count in counts.items() if count == highest}
        is_leader = gold in leaders and (len(leaders) == 1 or gold == english.get(name))
        if not is_leader:
            found.append(name)
    return found


def _copied(trace: Trace, peers: Sequence[Trace]) -> Check:
    shares = {
        peer.language: len(trace.contents & peer.contents) / max(1, len(trace.contents))
        for peer in peers
    }
    if not shares or len(trace.contents) < _FEWEST_TEXTS:
        message = "There is too little to compare."
        return Check(name="copied", status="grey", figure="-", message=message)
    nearest = max(shares, key=lambda code: (shares[code], code))
    n_same = round(shares[nearest] * len(trace.contents))
    is_copy = shares[nearest] >= _COPIED
    return Check(
        name="copied",
        status="yellow" if is_copy else "green",
        figure=share(n_same, len(trace.contents)),
        message=f"Items that read word for word as in {nearest}: {n_same:,}."
        if n_same
        else "No item reads as in another language.",
    )
