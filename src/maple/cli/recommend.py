"""``maple recommend``: the smallest configuration that cannot be told from the best one."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from maple.cli.app import Json
from maple.cli.columns import say, show_table

if TYPE_CHECKING:
    from maple.analysis.intervals import Interval
    from maple.analysis.recommend_request import Request
    from maple.analysis.recommend_result import Candidate, NextCell, Recommendation, Step
    from maple.store.read import Store

app = typer.Typer()

_CONFIDENCE = 0.95
_NAMED_LANGUAGES = 8
_NAMED = 4
"""Configurations named in a line; more are counted."""


@app.command()
def recommend(
    directory: Annotated[Path, typer.Argument(help="Store of a study.", show_default=False)],
    languages: Annotated[
        str, typer.Option(help="Languages that it is for, comma-separated, or 'all'.")
    ],
    memory: Annotated[
        str | None, typer.Option(help="What it may take: 24GiB, 24GB, 24000MB.")
    ] = None,
    memory_at: Annotated[
        Literal["training", "use"], typer.Option(help="What --memory limits.")
    ] = "training",
    keep_english: Annotated[
        float | None,
        typer.Option(
            help="Points English may lose; who loses more by its estimate is left out, and who has "
            "no English answers."
        ),
    ] = None,
    tasks: Annotated[
        str | None, typer.Option(help="Tasks to judge by, comma-separated; default: all.")
    ] = None,
    seed_deviation: Annotated[
        float,
        typer.Option(
            help="Points that seeds are taken to lie apart (standard deviation) where no "
            "configuration has two."
        ),
    ] = 1.0,
    as_json: Json = False,
) -> None:
    """Recommend a configuration for some languages.

    Or say why there is none, and what to run.
    """
    from maple.analysis.recommend import recommend as answer
    from maple.analysis.recommend_request import Request, parse_languages, parse_memory
    from maple.store.read import open_store

    store = open_store(directory)
    request = Request(
        languages=parse_languages(languages, _evaluated(store)),
        tasks=_tasks(tasks, store),
        memory_bytes=None if memory is None else parse_memory(memory),
        memory_at=memory_at,
        keep_english=keep_english,
        seed_deviation=seed_deviation / 100,
        confidence=_CONFIDENCE,
    )
    found = answer(store, request)
    if as_json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    else:
        _show(found)
    if found.is_refused:
        raise typer.Exit(1)


def _evaluated(store: Store) -> list[str]:
    planned = [str(e["language"]) for e in store.study.get("evaluations", ()) if "language" in e]
    return sorted({*planned, *(e.language for e in store.evaluations())})


def _tasks(text: str | None, store: Store) -> tuple[str, ...]:
    from maple.errors import UsageError, unknown_name

    if text is None:
        return ()
    known = sorted({e.task for e in store.evaluations()})
    names = [name.strip() for name in text.split(",") if name.strip()]
    for name in names:
        if name not in known:
            raise UsageError(unknown_name("evaluated task", name, known))
    if not names:
        raise UsageError(f"--tasks {text!r} names none. Leave it out for all: {', '.join(known)}.")
    return tuple(dict.fromkeys(names))


# ------------------------------------------------------------------------------------- words


def _show(found: Recommendation) -> None:
    from maple.analysis.groups import facts
    from maple.analysis.recommend_size import ORDER

    where = _counted([facts(code).name for code in found.request.languages], _NAMED_LANGUAGES)
    if found.recommended is None:
        print(f"no recommendation for {where}:")
        for reason in found.reasons:
            say(f"- {_worded(reason)}", indent=2)
    else:
        say(f"recommended for {where}: {found.recommended.label}")
        for name, text in _facts(found, found.recommended):
            say(f"{name:<10}{text}", indent=2, hang=10)
    if any(c.verdict != "not compared" for c in found.candidates):
        print()
        _table(found)
        say(f"smallest first: {ORDER}")
    for title, lines in _after(found):
        print(f"\n{title}")
        for line in lines:
            say(line, indent=2)


def _worded(text: str) -> str:
    """A sentence with the minus signs of the numbers beside it."""
    from maple.report.wording import MINUS

    return re.sub(r"(?<=[ \[])-(?=\d)", MINUS, text)


def _counted(names: Sequence[str], most: int) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _facts(found: Recommendation, chosen: Candidate) -> list[tuple[str, str]]:
    from maple.report.wording import limits, listed, signed

    gain = "not known: no untouched base with the same answers"
    if chosen.gain is not None:
        gain = (
            f"{signed(chosen.gain.value)} points {limits(chosen.gain.low, chosen.gain.high)} over "
            f"its untouched base, mean over {listed(found.tasks)}"
        )
    return [
        ("size", _size(chosen, found.request)),
        ("gain", gain),
        ("how sure", _sure(found)),
        ("in each", _in_each(found)),
        ("English", _english(chosen, found.request)),
    ]


def _size(chosen: Candidate, request: Request) -> str:
    from maple.report.wording import duration, parameters, size

    at, s = request.memory_at, chosen.size
    parts = [
        f"{size(s.memory_bytes)} at {at} ({s.memory_source})" if s.memory_bytes else "",
        f"{parameters(s.trainable_parameters)} trained parameters"
        if s.trainable_parameters
        else "",
        f"adapter {size(s.adapter_bytes)}" if s.adapter_bytes else "",
        f"trained in {duration(s.train_seconds)}" if s.train_seconds else "",
    ]
    return ", ".join(part for part in parts if part) or "not known"


def _sure(found: Recommendation) -> str:
    from maple.report.wording import plural, points

    sure = found.sureness
    if sure is None:
        return ""
    spread = f"{points(sure.seed_deviation)} points between seeds"
    seeds = plural(sure.n_seeds, "seed")
    if sure.is_seed_deviation_assumed:
        seeds, spread = "one seed each", f"{spread} assumed"
    more = f" by more than {points(sure.behind_at_most)} points" if sure.behind_at_most else ""
    left = sum(c.verdict == "not compared" for c in found.candidates)
    which = "nothing that fits" if not left else "nothing compared that fits"
    text = (
        f"with {sure.confidence:.0%} confidence {which} is better{more}; probability "
        f"{sure.probability_within_a_point:.2f} that it is within a point of the best. "
        f"{sure.n_samples:,} shared samples, {seeds}, {spread}"
    )
    if sure.detectable is None:
        return text
    return f"{text}; a lead of {points(sure.detectable)} points would be seen in 4 of 5 studies"


def _in_each(found: Recommendation) -> str:
    from maple.analysis.groups import facts
    from maple.report.wording import limits, signed

    gains = [(x.gain, facts(x.language).name) for x in found.by_language if x.gain is not None]
    if not gains:
        return "not known: no untouched base with the same answers"
    texts = [
        f"{name} {signed(gain.value)} {limits(gain.low, gain.high)}"
        for gain, name in sorted(gains, key=lambda entry: entry[0].value)
    ]
    return f"{_counted(texts, _NAMED_LANGUAGES)} over its base, the least first"


def _english(chosen: Candidate, request: Request) -> str:
    from maple.report.wording import limits, signed

    if chosen.english is None:
        return "not known: no English answers beside its untouched base's"
    change, allowed = chosen.english.change, request.keep_english
    text = f"{signed(change.value)} points {limits(change.low, change.high)} against its base"
    if chosen.english.status == "within":
        return f"{text}; it loses no more than --keep-english {allowed:g} allows"
    if chosen.english.status == "cannot tell":
        return f"{text}; by the estimate within --keep-english {allowed:g}, but not for sure"
    return text


def _table(found: Recommendation) -> None:
    from maple.report.wording import points, signed, size

    rows = []
    for c in found.candidates:
        behind = ""
        if c.behind is not None and c.behind_at_most is not None:
            behind = f"{points(c.behind)}, {points(c.behind_at_most)}"
        rows.append(
            (
                c.label, size(c.size.memory_bytes), points(c.score), _around(c.gain), behind,
                signed(c.english.change.value) if c.english else "", c.verdict,
            )
        )  # fmt: skip
    headings = ("configuration", "memory", "score", "over base", "behind", "English", "verdict")
    show_table("in points, limits of all configurations at once", headings, rows, texts=(0, 6))
    if any(c.behind is not None for c in found.candidates):
        say("behind: the best one that fits, by the estimate and at most", hang=8)
    by_reason: dict[str, list[str]] = {}
    for c in found.candidates:
        if c.reason:
            by_reason.setdefault(f"{c.verdict}, {c.reason}", []).append(c.label)
    for reason, labels in by_reason.items():
        say(f"{_counted(labels, _NAMED)}: {reason}")


def _around(gain: Interval | None) -> str:
    from maple.report.wording import points, signed

    return "" if gain is None else f"{signed(gain.value)} ±{points(gain.high - gain.value)}"


def _after(found: Recommendation) -> list[tuple[str, list[str]]]:
    parts = [
        ("larger ones, against it:", [_step(step) for step in found.steps]),
        ("what to run next:", [_cell(cell) for cell in found.next_cells]),
        ("notes:", [_worded(note) for note in found.notes]),
    ]
    return [(title, lines) for title, lines in parts if lines]


def _step(step: Step) -> str:
    from maple.report.wording import duration, limits, signed, size

    memory, seconds, adapter = step.memory_bytes, step.train_seconds, step.adapter_bytes
    costs = [
        f"memory {_more(memory, size)}" if memory is not None else "",
        f"training {_more(seconds, duration)}" if seconds is not None else "",
        f"adapter {_more(adapter, size)}" if adapter is not None else "",
    ]
    told = "" if step.is_told_apart else ", not told from 0"
    best = " (highest estimate)" if step.is_best else ""
    return (
        f"{step.label}{best}: {signed(step.gain.value)} points "
        f"{limits(step.gain.low, step.gain.high)}{told}; "
        f"costs {', '.join(cost for cost in costs if cost) or 'not known'}"
    )


def _more(value: float, worded: Callable[[float], str]) -> str:
    from maple.report.wording import MINUS

    return f"{MINUS if value < 0 else '+'}{worded(abs(value))}"


def _cell(cell: NextCell) -> str:
    from maple.report.wording import listed

    names = f"all {len(cell.labels)} configurations"
    if len(cell.labels) <= _NAMED:
        names = listed(cell.labels)
    parts = [
        f"{', '.join(cell.tasks) or 'any task'} in {_counted(cell.languages, _NAMED_LANGUAGES)}"
    ]
    if cell.samples is not None:
        parts.append(f"{cell.samples:,} samples each")
    if cell.seeds is not None:
        parts.append(f"{cell.seeds} seeds each")
    return f"- {names}: {'; '.join(parts)} ({cell.why})"
