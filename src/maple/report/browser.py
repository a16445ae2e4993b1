"""Picks the samples that a reader can search: what was asked, what each run answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from maple.analysis.groups import facts
from maple.analysis.modes import Mode
from maple.analysis.summary import Summary
from maple.errors import StoreError
from maple.report.embed import cut, cut_middle, packed_json
from maple.report.headline import main_group
from maple.store.read import Store, StoredEvaluation

MOST_BYTES = 1_500_000
"""Of all samples in the page together, packed."""
MOST_RUNS = 6
MOST_SAMPLES = 20
"""Per task and language."""
PROMPT_CHARACTERS = (900, 600)
"""Kept at the start and at the end of a prompt."""
ANSWER_CHARACTERS = 500

_SHOWN = ["sample_id", "context", "continuations"]

_QUERY = """
    SELECT * FROM (
        SELECT eval_id, language, sample_id, gold, score,
            left(prediction, {limit}) AS prediction, length(prediction) AS n_prediction,
            left(text, {limit}) AS text, length(text) AS n_text,
            dense_rank() OVER (PARTITION BY language ORDER BY md5(sample_id), sample_id) AS place
        FROM samples
    )
    WHERE place <= {most}
    ORDER BY language, place, eval_id
"""


def pick_samples(store: Store, summary: Summary) -> dict[str, Any]:
    """Returns samples per task and language, drawn by the hash of their id, the same for all runs.

    As many as fit ``MOST_BYTES``; prompts and answers are cut, with a mark. A group is columns:
    ``ids``, ``prompts`` and ``gold`` have an entry per sample, and so has each of a run's
    ``answers`` (null: not answered), ``scores`` and ``texts`` (null: the answer is the text).

    Raises:
        StoreError: a part or the prompts cannot be read.
    """
    runs = _pick_runs(summary)
    groups = [g for mode in summary.modes for g in _groups(store, mode, runs)]
    for n_samples, n_runs in _SIZES:
        groups = [_cut_group(group, n_samples, n_runs) for group in groups]
        if len(packed_json(groups)) <= MOST_BYTES:
            break
    return {"runs": [summary.labels[run] for run in runs], "groups": groups}


_SIZES = (
    (MOST_SAMPLES, MOST_RUNS),
    (12, 6),
    (8, 6),
    (5, 6),
    (3, 6),
    (2, 6),
    (1, 6),
    (1, 3),
    (1, 2),
)
"""Samples per group and runs per sample to try, until they fit; the last is taken as it is."""


def _cut_group(group: dict[str, Any], n_samples: int, n_runs: int) -> dict[str, Any]:
    columns = {key: group[key][:n_samples] for key in ("ids", "prompts", "gold")}
    by_run = [
        {key: value if key == "run" else value[:n_samples] for key, value in answers.items()}
        for answers in group["by_run"]
        if answers["run"] < n_runs
    ]
    return {**group, **columns, "by_run": by_run}


def _pick_runs(summary: Summary) -> list[str]:
    """The best tuned run and its base first, then bases and runs in the plan's order."""
    group = main_group(summary)
    ranked = sorted(
        (d for d in summary.estimates.run_effects if d.group == group), key=lambda d: -d.delta
    )
    scored = {score.run_id for score in summary.estimates.scores}
    first = [run for d in ranked[:1] for run in (d.base_run_id, d.run_id)]
    plan = sorted(summary.runs, key=lambda run: not run.cell.is_base)
    order = dict.fromkeys([*first, *(run.run_id for run in plan)])
    return [run for run in order if run in scored][:MOST_RUNS]


def _groups(store: Store, mode: Mode, runs: Sequence[str]) -> list[dict[str, Any]]:
    shown = {e.eval_id: e for (run, _), e in mode.evaluations.items() if run in runs and e.is_done}
    if not shown:
        return []
    sql = _QUERY.format(limit=ANSWER_CHARACTERS, most=MOST_SAMPLES)
    by_language: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in store.query(sql, eval_ids=set(shown)).to_pylist():
        by_language[row["language"]].append(row)
    return [
        _group(store, mode, language, rows, shown, runs) for language, rows in by_language.items()
    ]


def _group(
    store: Store,
    mode: Mode,
    language: str,
    rows: Sequence[Mapping[str, Any]],
    shown: Mapping[str, StoredEvaluation],
    runs: Sequence[str],
) -> dict[str, Any]:
    known = facts(language)
    ids = list(dict.fromkeys(row["sample_id"] for row in rows))
    prompts = _prompts(store, [shown[row["eval_id"]] for row in rows], ids)
    options = {sample: prompts.get(sample, {}).get("continuations") or [] for sample in ids}
    gold = {row["sample_id"]: row["gold"] or [] for row in rows}
    contexts = [prompts.get(sample, {}).get("context") or "(not stored)" for sample in ids]
    by_run: dict[int, dict[str, Mapping[str, Any]]] = defaultdict(dict)
    for row in rows:
        by_run[runs.index(shown[row["eval_id"]].run_id)][row["sample_id"]] = row
    return {
        "task": mode.label,
        "language": language,
        "name": known.name,
        "tag": known.tag,
        "ids": ids,
        "prompts": [cut_middle(context, *PROMPT_CHARACTERS) for context in contexts],
        "gold": [[_option(g, options[sample]) for g in gold[sample]] for sample in ids],
        "by_run": [_answers(run, ids, by_run[run], options) for run in sorted(by_run)],
    }


def _prompts(
    store: Store, evaluations: Sequence[StoredEvaluation], ids: Sequence[str]
) -> dict[str, Mapping[str, Any]]:
    """What was shown for these samples alone: a file may hold thousands of long passages."""
    names = sorted({str(e.spec["prompts"]) for e in evaluations if e.spec.get("prompts")})
    wanted = pa.array(ids, pa.string())
    found: dict[str, Mapping[str, Any]] = {}
    for name in names:
        stored = store.prompts(name)
        if lacking := [column for column in _SHOWN if column not in stored.column_names]:
            raise StoreError(
                f"prompts/{name}.parquet lacks the column(s) {', '.join(lacking)} "
                "(docs/results_format.md)."
            )
        table = stored.select(_SHOWN)
        kept = table.filter(pc.is_in(table["sample_id"].cast(pa.string()), value_set=wanted))
        found |= {row["sample_id"]: row for row in kept.to_pylist()}
    return found


def _answers(
    run: int,
    ids: Sequence[str],
    rows: Mapping[str, Mapping[str, Any]],
    options: Mapping[str, Sequence[str]],
) -> dict[str, Any]:
    return {
        "run": run,
        "answers": [_answer(rows.get(sample), options[sample]) for sample in ids],
        "scores": [rows[sample]["score"] if sample in rows else None for sample in ids],
        "texts": [_text(rows.get(sample)) for sample in ids],
    }


def _answer(row: Mapping[str, Any] | None, options: Sequence[str]) -> str | None:
    return None if row is None else _option(row["prediction"] or "", options, row["n_prediction"])


def _text(row: Mapping[str, Any] | None) -> str | None:
    """What the model wrote, where an answer was taken out of it."""
    if row is None or row["text"] is None or row["text"] == row["prediction"]:
        return None
    return cut(row["text"], ANSWER_CHARACTERS, row["n_text"])


def _option(value: str, options: Sequence[str], length: int | None = None) -> str:
    """The text of an option that is named by its index; any other answer as it is."""
    if options and value.isdecimal() and int(value) < len(options):
        return cut(f"{int(value) + 1}. {options[int(value)].strip()}", ANSWER_CHARACTERS)
    return cut(value, ANSWER_CHARACTERS, length)
