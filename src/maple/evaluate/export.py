"""Writes a store's finished evaluations in lm-evaluation-harness 0.4.13's layout.

    OUT/<run id>/results_<time>.json             aggregates, configurations, versions
    OUT/<run id>/samples_<task>_<time>.jsonl     a line per sample, in upstream order

Whatever reads the harness's logs reads these: the same keys, the same nesting, log-likelihoods
as text. Evaluations of one run in another prompt form, split or decoding get another time.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from maple.catalog import load_task
from maple.catalog.tasks import subset
from maple.errors import StoreError, UsageError
from maple.languages import find

Json = dict[str, Any]

# The harness's acc_norm divides by characters and its acc_bytes by bytes; both leave out the
# delimiter, as ours do.
_METRICS = {
    "accuracy": "acc",
    "accuracy_per_character": "acc_norm",
    "accuracy_per_byte": "acc_bytes",
    "accuracy_pmi": "acc_mutual_info",
}
_FILTER = "none"
_MAX_NEW_TOKENS = 256
"""What the harness takes a limit left out for."""


@dataclass
class _Batch:
    """Evaluations of one run that go into one results file: a task's name occurs once."""

    run_id: str
    key: str
    evaluations: dict[str, tuple[Json, list[Json]]] = field(default_factory=dict)
    """Task name -> the evaluation's spec.json and its lines."""


def export_lm_eval(store_directory: Path, output: Path) -> list[Path]:
    """Writes the finished evaluations of a store as lm-evaluation-harness would have logged them.

    Args:
        store_directory: a store, see ``docs/results_format.md``.
        output: where to write; a directory per run id is made in it.

    Returns:
        Every file written, the results file of a batch before its samples.

    Raises:
        StoreError: no finished evaluation, a part of one is missing, or a file cannot be written.
    """
    specs = sorted(store_directory.glob("evals/*/spec.json"))
    finished = [path.parent for path in specs if (path.parent / "done").is_file()]
    if not finished:
        raise StoreError(
            f"{store_directory} holds no finished evaluation ({len(specs)} begun). "
            "Finish the study with `maple run`, then export again."
        )
    start, written = datetime.now(), []
    for number, batch in enumerate(_batches(store_directory, finished)):
        # A microsecond apart: the time is what tells two batches of a run from each other.
        stamp = (start + timedelta(microseconds=number)).isoformat(timespec="microseconds")
        written += _write(batch, store_directory, output / batch.run_id, stamp.replace(":", "-"))
    return written


def _batches(store: Path, folders: Sequence[Path]) -> list[_Batch]:
    batches: list[_Batch] = []
    for folder in folders:
        spec = _load(folder / "spec.json")
        name = _task_name(spec["task"], spec["language"])
        key = json.dumps([spec["prompt"], spec["decoding"], spec["split"]], sort_keys=True)
        batch = _batch_for(batches, spec["run_id"], key, name)
        batch.evaluations[name] = (spec, _sample_lines(store, folder, spec))
    return batches


def _batch_for(batches: list[_Batch], run_id: str, key: str, name: str) -> _Batch:
    for batch in batches:
        if (batch.run_id, batch.key) == (run_id, key) and name not in batch.evaluations:
            return batch
    batches.append(_Batch(run_id, key))
    return batches[-1]


def _task_name(task: str, language: str) -> str:
    """The harness's name: ``xnli_sw``; English COPA is a task of its own there, ``copa``."""
    entry, _, argument = task.partition(":")
    if entry == "lm-eval" and argument:
        return argument.partition("@")[0]
    try:
        name = subset(load_task(task).info, language)
    except UsageError:  # an entry that is not here any more, or not on this machine
        name = find(language).tag
    if (task, name) == ("xcopa", "en"):
        return "copa"
    # The harness names MLQA's pairs context first, as mlqa:en in German: mlqa_en_de.
    argument = argument or (name if entry == "mlqa" else "")
    entry = {"pawsx": "paws"}.get(entry, entry.replace("-", "_"))
    return "_".join(filter(None, (entry, argument, name)))


def _sample_lines(store: Path, folder: Path, spec: Json) -> list[Json]:
    prompts = _prompts(store / "prompts" / f"{spec['prompts']}.parquet")
    lines, seen = [], set()
    for row in _rows(folder):
        if row["sample_id"] in seen:
            continue
        seen.add(row["sample_id"])
        if row["sample_id"] not in prompts:
            raise StoreError(
                f"{folder}: sample {row['sample_id']!r} has no prompt in prompts/"
                f"{spec['prompts']}.parquet. The store was edited; run the evaluation again."
            )
        lines.append(_sample_line(row, *prompts[row["sample_id"]], spec))
    return sorted(lines, key=lambda line: line["doc_id"])


def _prompts(path: Path) -> dict[str, tuple[int, Json]]:
    """Sample id -> (doc_id, prompt row); doc_id is the row in upstream's file, from 0.

    Ids that are numbers are that row already; else the prompts stand in upstream order.
    """
    rows = _read(path)
    are_numbers = all(row["sample_id"].isdecimal() for row in rows)
    return {
        row["sample_id"]: (int(row["sample_id"]) if are_numbers else place, row)
        for place, row in enumerate(rows)
    }


def _sample_line(row: Json, doc_id: int, prompt: Json, spec: Json) -> Json:
    doc = {"id": row["sample_id"], "gold": row["gold"]}
    target = row["gold"][0]
    responses: list[Any] = [row["text"]]
    filtered = responses
    metrics = {_METRICS.get(name, name): value for name, value in dict(row["metrics"]).items()}
    if row["text"] is None:
        pairs = zip(row["loglikelihoods"], row["is_greedy"], strict=True)
        filtered = responses = [[str(value), str(is_greedy)] for value, is_greedy in pairs]
    elif "acc" in metrics:
        # A choice that was generated: the harness calls its accuracy exact_match, after a filter
        # that finds the choice in the text.
        metrics["exact_match"] = metrics["acc"]
        filtered = [row["prediction"]]
    arguments = _arguments(prompt, spec)
    return {
        "doc_id": doc_id,
        "doc": doc,
        "target": target,
        "arguments": {
            f"gen_args_{n}": {"arg_0": first, "arg_1": second}
            for n, (first, second) in enumerate(arguments)
        },
        "resps": [[response] for response in responses],
        "filtered_resps": filtered,
        "filter": _FILTER,
        "metrics": list(metrics),
        "doc_hash": _sha256(json.dumps(doc, indent=2, ensure_ascii=False)),
        "prompt_hash": _sha256(prompt["context"]),
        "target_hash": _sha256(target),
        **metrics,
    }


def _arguments(prompt: Json, spec: Json) -> list[tuple[str, Any]]:
    if prompt["continuations"]:
        return [(prompt["context"], continuation) for continuation in prompt["continuations"]]
    # Stores from before stop strings were kept say nothing of them; a line's end was the rule.
    stop = prompt.get("stop")
    decoding = spec["decoding"]
    temperature = decoding.get("temperature", 0.0)
    settings: Json = {"until": ["\n"] if stop is None else stop, "do_sample": temperature > 0}
    settings["temperature"] = temperature
    settings |= {key: decoding[key] for key in ("top_p", "top_k") if key in decoding}
    limit = decoding["max_new_tokens"] or prompt.get("max_new_tokens")
    if limit and limit != _MAX_NEW_TOKENS:
        settings["max_gen_toks"] = limit
    return [(prompt["context"], settings)]


def _write(batch: _Batch, store: Path, folder: Path, stamp: str) -> list[Path]:
    results = folder / f"results_{stamp}.json"
    files = {results: json.dumps(_results(batch, store), indent=2, ensure_ascii=False)}
    for name, (_, lines) in batch.evaluations.items():
        texts = (json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
        files[folder / f"samples_{name}_{stamp}.jsonl"] = "".join(texts)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{folder} cannot be written ({error.strerror}).") from error
    return list(files)


def _results(batch: _Batch, store: Path) -> Json:
    run = _load(store / "runs" / batch.run_id / "spec.json", optional=True)
    model = run.get("model", {}).get("name", batch.run_id)
    tasks = {name: _task_results(name, *e) for name, e in sorted(batch.evaluations.items())}
    first = next(iter(batch.evaluations.values()))[0]
    hashes = {
        name: _sha256("".join(s["doc_hash"] + s["prompt_hash"] + s["target_hash"] for s in lines))
        for name, (_, lines) in batch.evaluations.items()
    }
    return {
        **{
            part: {name: t[part] for name, t in tasks.items()}
            for part in next(iter(tasks.values()))
        },
        "group_subtasks": {},
        "config": {
            "model": "maple",
            "model_args": {"pretrained": model, "run_id": batch.run_id},
            "model_dtype": run.get("quantization"),
            "gen_kwargs": first["decoding"],
            "maple_run": run,
        },
        "date": datetime.now().timestamp(),
        "task_hashes": hashes,
        "model_source": "maple",
        "model_name": model,
        "model_name_sanitized": batch.run_id,
        "system_instruction": None,
        "system_instruction_sha": None,
        "fewshot_as_multiturn": False,
        "chat_template": None,
        "chat_template_sha": None,
        "total_evaluation_time_seconds": None,
    }


def _task_results(name: str, spec: Json, lines: list[Json]) -> Json:
    prompt = spec["prompt"]
    form = " ".join([prompt["form"], prompt["instruction_language"], prompt["template"]])
    form += "".join(f" {prompt[key]}" for key in ("choices", "scoring") if key in prompt)
    names = dict.fromkeys(metric for line in lines for metric in line["metrics"])
    # A metric that only some samples have is averaged over those.
    metrics = {name: [line[name] for line in lines if name in line] for name in names}
    scores: Json = {"name": name, "alias": f"{name} ({form})", "sample_len": len(lines)}
    for metric, values in metrics.items():
        name, _, other = metric.partition(",")
        scores[f"{name},{other or _FILTER}"] = sum(values) / len(values)
        scores[f"{name}_stderr,{other or _FILTER}"] = _standard_error(values)
    is_generated = isinstance(lines[0]["arguments"]["gen_args_0"]["arg_1"], dict)
    return {
        "results": scores,
        "configs": {
            "task": name,
            "output_type": "generate_until" if is_generated else "multiple_choice",
            "num_fewshot": prompt["shots"],
            "metadata": {"version": spec["task_version"], "maple": spec},
        },
        "versions": spec["task_version"],
        "n-shot": prompt["shots"],
        "higher_is_better": {metric.partition(",")[0]: True for metric in metrics},
        "n-samples": {"original": spec.get("available"), "effective": len(lines)},
    }


def _standard_error(values: Sequence[float]) -> float | str:
    """Of the mean, with n - 1; the harness's word where there is but one value."""
    n, mean = len(values), sum(values) / len(values)
    if n < 2:
        return "N/A"
    return math.sqrt(sum((v - mean) ** 2 for v in values) / (n - 1)) / math.sqrt(n)


def _rows(folder: Path) -> Iterator[Json]:
    parts = sorted(folder.glob("part-*.parquet"))
    if not parts:
        raise StoreError(f"{folder} is marked done and has no part. Run the evaluation again.")
    for part in parts:
        yield from _read(part)


def _read(path: Path) -> list[Json]:
    try:
        rows: list[Json] = pq.read_table(path).to_pylist()
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}). Run the evaluation again.") from error
    return rows


def _load(path: Path, *, optional: bool = False) -> Json:
    if optional and not path.is_file():
        return {}
    try:
        content: Json = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path} cannot be read ({error}). Run the evaluation again.") from error
    return content


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
