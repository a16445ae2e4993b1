"""``maple compare``: two runs, or two stores, on the samples that both answered."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maple.cli.app import Json
from maple.cli.columns import WIDE, say, show_table, width

if TYPE_CHECKING:
    from maple.analysis.compare import Comparison, Comparisons, Difference
    from maple.analysis.compare_read import Side
    from maple.store.read import StoredRun

    _Pair = tuple[tuple[StoredRun, ...], tuple[StoredRun, ...]]

app = typer.Typer()

_MOST_ROWS = 40
"""Cells shown of several pairs; more are counted, and are in the JSON."""
_HEADINGS = ("task", "language", "n", "A", "B", "B minus A", "Holm", "verdict")
_MORE_HEADINGS = ("won by A, B", "p", "BH", "detectable")


@app.command()
def compare(
    what: Annotated[
        list[str],
        typer.Argument(
            metavar="[STORE] A B",
            help="Two runs of a store (STORE A B), by id, beginning of an id or label; a label "
            "without its seed names all seeds of a configuration. Or two stores, STORE:RUN or a "
            "folder STORE/runs/ID.",
            show_default=False,
        ),
    ],
    as_json: Json = False,
) -> None:
    """Compare two runs, configurations or stores, sample by sample.

    B minus A, paired on the samples that both answered.
    """
    from maple.analysis.compare import compare as answer

    found = answer(_sides(what))
    if as_json:
        print(json.dumps(found.as_json(), indent=2, ensure_ascii=False))
    elif len(found.pairs) == 1:
        _show_pair(found)
    else:
        _show_pairs(found)


def _sides(what: list[str]) -> list[tuple[Side, Side]]:
    from maple.analysis.compare_read import Opened, Side, find_runs, match_runs
    from maple.errors import UsageError
    from maple.store.read import open_store

    if len(what) == 3:
        store = Opened(open_store(Path(what[0])))
        a, b = (find_runs(store, name) for name in what[1:])
        if both := [run.run_id for run in a if run in b]:
            raise UsageError(f"{what[1]!r} and {what[2]!r} are the same run, {', '.join(both)}.")
        return [(Side(opened=store, runs=a), Side(opened=store, runs=b))]
    if len(what) != 2:
        raise UsageError(
            f"{len(what)} names given. Name a store and two of its runs, or two stores: "
            "maple compare runs/study A B; maple compare runs/one runs/two."
        )
    (path_a, run_a), (path_b, run_b) = (_located(text) for text in what)
    is_one = path_a.resolve() == path_b.resolve()
    one = Opened(open_store(path_a))
    two = one if is_one else Opened(open_store(path_b))
    if (run_a is None) != (run_b is None):
        raise UsageError("one of the two names a run, the other a store. Name a run of each.")
    if run_a is None or run_b is None:
        if is_one:
            text = f"{what[0]} is one store. Name two of its runs: maple compare {what[0]} A B."
            raise UsageError(text)
        pairs: list[_Pair] = [((a,), (b,)) for a, b in match_runs(one, two)]
    else:
        pairs = [(find_runs(one, run_a), find_runs(two, run_b))]
    names = ("", "") if is_one else (str(path_a), str(path_b))
    return [
        (
            Side(opened=one, runs=a, store_name=names[0]),
            Side(opened=two, runs=b, store_name=names[1]),
        )
        for a, b in pairs
    ]


def _located(text: str) -> tuple[Path, str | None]:
    """A store's path, and the run that is named with it."""
    path = Path(text)
    if path.is_dir() and path.parent.name == "runs" and (path / "spec.json").exists():
        return path.parent.parent, path.name
    head, separator, tail = text.rpartition(":")
    if separator and not path.exists() and Path(head).is_dir():
        return Path(head), tail
    return path, None


# ------------------------------------------------------------------------------------- words


def _show_pair(found: Comparisons) -> None:
    from maple.report.wording import plural, points

    pair = found.pairs[0]
    for name, store, label in (
        ("A", pair.store_a, pair.label_a),
        ("B", pair.store_b, pair.label_b),
    ):
        say(f"{name}: {store + ': ' if store else ''}{label}", hang=3)
    overall = pair.overall
    over = plural(len(pair.cells), "cell")
    say(
        f"B minus A over {over}: {_difference(overall)} points, p {_p(overall.p)}: "
        f"{overall.verdict}; {points(overall.detectable)} points would be seen in 4 of 5 studies"
    )
    # With one task the mean over tasks is that task's.
    means = pair.means if len(pair.means) > 2 else pair.means[:1]
    print()
    _table("scores in points, differences with 95% intervals each by itself", [*pair.cells, *means])
    print()
    _say_rest(found)


def _show_pairs(found: Comparisons) -> None:
    from maple.report.wording import plural, points

    rows = [
        (
            _both(pair),
            str(len(pair.cells)), points(pair.overall.score_a), points(pair.overall.score_b),
            _difference(pair.overall), _p(pair.overall.p_holm), pair.overall.verdict,
        )
        for pair in found.pairs
    ]  # fmt: skip
    print(f"A: {found.pairs[0].store_a}\nB: {found.pairs[0].store_b}\n")
    headings = ("run", "cells", "A", "B", "B minus A", "Holm", "verdict")
    show_table("means over tasks, in points", headings, rows, texts=(0, 6))
    told = [(n, row) for n, pair in enumerate(found.pairs) for row in pair.cells if row.is_told]
    n_cells = sum(len(pair.cells) for pair in found.pairs)
    print()
    say(f"{len(told)} of {plural(n_cells, 'cell')} differ after Holm's adjustment.")
    for number in dict.fromkeys(n for n, _ in told[:_MOST_ROWS]):
        _table(rows[number][0], [row for n, row in told[:_MOST_ROWS] if n == number])
    if len(told) > _MOST_ROWS:
        say(f"{len(told) - _MOST_ROWS} more: --json has all")
    print()
    _say_rest(found)


def _both(pair: Comparison) -> str:
    is_same = pair.run_a == pair.run_b or pair.label_a == pair.label_b
    return pair.label_a if is_same else f"{pair.label_a} | {pair.label_b}"


def _say_rest(found: Comparisons) -> None:
    pairs = found.pairs
    for line in dict.fromkeys(flag for pair in pairs for flag in _flags(pair)):
        say(line)
    say(f"{found.multiplicity}.")
    settings = [f"{s.source} {s.key}: {s.a} | {s.b}" for pair in pairs for s in pair.settings]
    print("settings that differ (A | B):" if settings else "settings: none differ")
    for line in dict.fromkeys(settings):
        say(line, indent=2)
    for name, cells in (
        ("A", dict.fromkeys(cell for pair in pairs for cell in pair.only_a)),
        ("B", dict.fromkeys(cell for pair in pairs for cell in pair.only_b)),
    ):
        if cells:
            say(f"only {name} has: {', '.join(cells)}")
    if found.without:
        say(f"no finished sample in common: {'; '.join(found.without)}")
    for note in dict.fromkeys(note for pair in pairs for note in pair.notes):
        say(f"note: {note}")


def _table(title: str, rows: list[Difference]) -> None:
    is_wide = width() >= WIDE
    headings = (*_HEADINGS, *(_MORE_HEADINGS if is_wide else ()))
    cells = [_row(row, is_wide=is_wide) for row in rows]
    show_table(title, headings, cells, texts=(0, 1, 7))


def _row(row: Difference, *, is_wide: bool) -> list[str]:
    from maple.report.wording import count, points

    flags = ("*" if row.mode_differences else "") + ("+" if row.same_prompts < 1 else "")
    more = [f"{row.wins_a}, {row.wins_b}", _p(row.p), _p(row.p_bh), points(row.detectable)]
    return [
        row.task + flags, row.language or f"mean of {row.n_languages}", count(row.n),
        points(row.score_a), points(row.score_b), _difference(row), _p(row.p_holm),
        row.verdict, *(more if is_wide else ()),
    ]  # fmt: skip


def _difference(row: Difference) -> str:
    from maple.report.wording import limits, signed

    return f"{signed(row.difference)} {limits(row.low, row.high)}"


def _p(value: float) -> str:
    return "<0.001" if value < 0.001 else f"{value:.3f}"


def _flags(pair: Comparison) -> list[str]:
    lines = []
    if any(row.mode_differences for row in pair.cells):
        lines.append("* asked differently, see below")
    if any(row.same_prompts < 1 for row in pair.cells):
        lines.append("+ some samples were shown with other words")
    return lines
