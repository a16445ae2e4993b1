"""Picks the samples that a reader can page through: what was asked, what each run answered."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from maple.analysis.groups import facts
from maple.analysis.modes import Mode
from maple.analysis.summary import Summary
from maple.report.embed import cut, cut_middle, script_json
from maple.report.headline import main_group
from maple.store.read import Store, StoredEvaluation

MOST_BYTES = 500_000
"""Of all samples in the page together."""
MOST_RUNS = 6
MOST_SAMPLES = 10
"""Per task and language."""
PROMPT_CHARACTERS = (900, 600)
"""Kept at the start and at the end of a prompt."""
ANSWER_CHARACTERS = 500

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

    As many as fit ``MOST_BYTES``; prompts and answers are cut, with a mark.

    Raises:
        StoreError: a part or the prompts cannot be read.
    """
    runs = _pick_runs(summary)
    groups = [g for mode in summary.modes for g in _groups(store, mode, runs)]
    for n_samples, n_runs in _SIZES:
        groups = [_cut_group(group, n_samples, n_runs) for group in groups]
        if len(script_json(groups).encode()) <= MOST_BYTES:
            break
    return {"runs": [summary.labels[run] for run in runs], "groups": groups}


_SIZES = ((MOST_SAMPLES, MOST_RUNS), (5, 6), (3, 6), (2, 6), (1, 6), (1, 3), (1, 2))
"""Samples per group and runs per sample to try, until they fit; the last is taken as it is."""


def _cut_group(group: dict[str, Any], n_samples: int, n_runs: int) -> dict[str, Any]:
    samples = [
        {**sample, "answers": [a for a in sample["answers"] if a["run"] < n_runs]}
        for sample in group["samples"][:n_samples]
    ]
    return {**group, "samples": samples}


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
    prompts = _prompts(store, [shown[row["eval_id"]] for row in rows])
    samples: dict[str, dict[str, Any]] = {}
    for row in rows:
        sample = row["sample_id"]
        prompt = prompts.get(sample, {})
        options = prompt.get("continuations") or []
        entry = samples.setdefault(
            sample,
            {
                "id": sample,
                "prompt": cut_middle(prompt.get("context") or "(not stored)", *PROMPT_CHARACTERS),
                "gold": [_option(gold, options) for gold in row["gold"] or []],
                "answers": [],
            },
        )
        entry["answers"].append(_answer(row, options, runs.index(shown[row["eval_id"]].run_id)))
    for entry in samples.values():
        entry["answers"].sort(key=lambda answer: answer["run"])
    return {
        "task": mode.label,
        "language": language,
        "name": known.name,
        "tag": known.tag,
        "samples": list(samples.values()),
    }


def _prompts(store: Store, evaluations: Sequence[StoredEvaluation]) -> dict[str, Mapping[str, Any]]:
    ids = {str(e.spec["prompts"]) for e in evaluations if e.spec.get("prompts")}
    return {row["sample_id"]: row for i in sorted(ids) for row in store.prompts(i).to_pylist()}


def _answer(row: Mapping[str, Any], options: Sequence[str], run: int) -> dict[str, Any]:
    prediction = _option(row["prediction"] or "", options, row["n_prediction"])
    answer = {"run": run, "answer": prediction, "score": row["score"]}
    if row["text"] is not None and row["text"] != row["prediction"]:
        answer["text"] = cut(row["text"], ANSWER_CHARACTERS, row["n_text"])
    return answer


def _option(value: str, options: Sequence[str], length: int | None = None) -> str:
    """The text of an option that is named by its index; any other answer as it is."""
    if options and value.isdecimal() and int(value) < len(options):
        return cut(f"{int(value) + 1}. {options[int(value)].strip()}", ANSWER_CHARACTERS)
    return cut(value, ANSWER_CHARACTERS, length)
