"""Checks of the items themselves: how many, named once, whole, with a gold, not twice."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

from maple.certify.certificate import Check
from maple.certify.reading import (
    EXAMPLES,
    Reading,
    gold_index,
    n_options,
    option_texts,
    shown,
)


def item_checks(reading: Reading, declared: int | None) -> Iterator[Check]:
    """Yields count, ids, fields, white space, gold, duplicates and options."""
    yield _count(len(reading.samples), declared)
    yield _ids(reading)
    yield _fields(reading)
    yield _white_space(reading)
    yield _gold(reading)
    yield _duplicates(reading)
    yield _options(reading)


def _count(found: int, declared: int | None) -> Check:
    if declared is None:
        message = f"{found:,} items are there; none are declared for these files."
        return Check(name="count", status="yellow", figure=f"{found:,}", message=message)
    is_whole = found == declared
    return Check(
        name="count",
        status="green" if is_whole else "red",
        figure=f"{found:,}" if is_whole else f"{found:,} of {declared:,}",
        message=f"{found:,} items are there and {declared:,} are declared.",
    )


def _ids(reading: Reading) -> Check:
    counts = Counter(sample.id for sample in reading.samples)
    twice = [name for name, count in counts.items() if count > 1]
    return Check(
        name="ids",
        status="red" if twice else "green",
        figure=f"{len(twice):,} twice" if twice else "unique",
        message=f"Ids that name more than one item: {len(twice):,}."
        if twice
        else "Every item has an id of its own.",
        examples=tuple(twice[:EXAMPLES]),
    )


def _fields(reading: Reading) -> Check:
    empty = [
        f"{sample.id}: {name}"
        for sample in reading.samples
        for name, text in sample.fields.items()
        if not text.strip()
    ]
    names = ", ".join(reading.samples[0].fields)
    return Check(
        name="fields",
        # A task that needs a field refuses the row; PAWS-X keeps rows that nobody translated.
        status="yellow" if empty else "green",
        figure=f"{len(empty):,} empty" if empty else "filled",
        message=f"Empty fields: {len(empty):,}." if empty else f"No field is empty: {names}.",
        examples=tuple(empty[:EXAMPLES]),
    )


def _white_space(reading: Reading) -> Check:
    outer = [
        sample.id
        for sample in reading.samples
        if any(text != text.strip() for text in sample.fields.values())
    ]
    return Check(
        name="white space",
        status="yellow" if outer else "green",
        figure=f"{len(outer):,} outer" if outer else "none outer",
        message=f"Items with a field that begins or ends with white space: {len(outer):,}."
        if outer
        else "No field begins or ends with white space.",
        examples=tuple(outer[:EXAMPLES]),
    )


def _gold(reading: Reading) -> Check:
    if reading.task.info.is_judged:
        message = "A judge compares the answers, so no gold is needed."
        return Check(name="gold", status="grey", figure="judged", message=message)
    if reading.is_choice:
        return _gold_of_choices(reading)
    absent = [s.id for s in reading.samples if not s.gold or not all(g.strip() for g in s.gold)]
    n_references = sum(len(sample.gold) for sample in reading.samples) / len(reading.samples)
    return Check(
        name="gold",
        status="red" if absent else "green",
        figure=f"{len(absent):,} absent" if absent else f"{n_references:.3g} each",
        message=f"Items with an empty answer or none: {len(absent):,}."
        if absent
        else f"Every item has an accepted answer, {n_references:.3g} on average.",
        examples=tuple(absent[:EXAMPLES]),
    )


def _gold_of_choices(reading: Reading) -> Check:
    assert reading.main is not None
    outside = []
    for sample, request in zip(reading.samples, reading.main.requests, strict=True):
        index = gold_index(sample)
        if index is None or index >= n_options(request):
            outside.append(f"{sample.id}: {', '.join(sample.gold) or 'none'}")
    return Check(
        name="gold",
        status="red" if outside else "green",
        figure=f"{len(outside):,} outside" if outside else "in range",
        message=f"Items whose gold is none of their options: {len(outside):,}."
        if outside
        else "Every gold is the index of one of its item's options.",
        examples=tuple(outside[:EXAMPLES]),
    )


def _duplicates(reading: Reading) -> Check:
    groups = defaultdict(list)
    for sample in reading.samples:
        groups[reading.content(sample)].append(sample)
    repeated = [group for group in groups.values() if len(group) > 1]
    n_more = sum(len(group) - 1 for group in repeated)
    differing = sum(len({sample.gold for sample in group}) > 1 for group in repeated)
    message = "No two items say the same."
    if repeated:
        message = f"Items that say the same as another, under an id of their own: {n_more:,}"
        message += f"; of the repeated ones, with more than one gold: {differing:,}."
    return Check(
        name="duplicates",
        status="yellow" if repeated else "green",
        figure=f"{n_more:,}" if repeated else "none",
        message=message,
        examples=tuple(
            f"{' = '.join(s.id for s in group[:EXAMPLES])}: {shown(' | '.join(group[0].gold))}"
            for group in repeated[:EXAMPLES]
        ),
    )


def _options(reading: Reading) -> Check:
    if not reading.is_choice:
        message = "An answer is free text, so there are no options."
        return Check(name="options", status="grey", figure="-", message=message)
    same: dict[str, str] = {}
    for worded in reading.worded.values():
        for sample, request in zip(reading.samples, worded.requests, strict=True):
            texts = [text.strip() for text in option_texts(request)]
            if len(set(texts)) < len(texts):
                twice = next(text for text in texts if texts.count(text) > 1)
                same.setdefault(sample.id, f"{sample.id}: {shown(twice)}")
    return Check(
        name="options",
        status="yellow" if same else "green",
        figure=f"{len(same):,} alike" if same else "distinct",
        message=f"Items that offer the same option twice: {len(same):,}."
        if same
        else "No item offers the same option twice.",
        examples=tuple(list(same.values())[:EXAMPLES]),
    )
