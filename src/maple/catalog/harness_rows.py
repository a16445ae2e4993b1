"""Snapshots of lm-evaluation-harness's tasks: documents with whole prompts, as JSON Lines.

    {"id": "0", "task": "xnli_sw", "context": "...", "options": ["A", "B"], "delimiter": " ",
     "gold": ["1"], "doc": {...}}                                    a choice
    {"id": "0", "task": "gsm8k", "context": "...", "stop": ["\\n"], "max_new_tokens": 256,
     "gold": ["42"], "doc": {...}}                                   a generated answer

A snapshot is what is scored: its bytes are the data's identity, so an upstream that moves is a new
benchmark and not another result of the old one. It is read without the harness or the network.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import numbers
import os
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

from maple.catalog.harness import MEANS, Benchmark, Json, Leaf, harness_version
from maple.errors import DataError, SourceError, UsageError

_FORMAT = 1
_FEWSHOT_SEED = 1234
"""Of the examples drawn for a prompt. Source: ``fewshot_random_seed`` of ``simple_evaluate``."""
_MAX_NEW_TOKENS = 256
_LIMITS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")


def snapshot_name(benchmark: Benchmark) -> str:
    """A file name that changes with the harness, the YAML, its functions and local data files.

    Nothing of this machine is in it, so the same benchmark has the same name anywhere.
    """
    content = {
        "format": _FORMAT,
        "harness": harness_version(),
        "shots": benchmark.shots,
        "tasks": {leaf.name: _portable(leaf.config) for leaf in benchmark.leaves},
    }
    text = json.dumps(content, sort_keys=True, default=str)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return f"{re.sub(r'[^A-Za-z0-9_.-]', '_', benchmark.name)}-{digest}.jsonl"


def _portable(value: Any) -> Any:
    """A config without this machine's paths: a file is its name and a hash of its content."""
    if isinstance(value, Mapping):
        return {str(k): _portable(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_portable(v) for v in value]
    if not isinstance(value, str) or len(value) > 1024 or "\n" in value:
        return value
    module, _, function = value.rpartition(".")
    for path, name in ((Path(value), ""), (Path(f"{module}.py"), function)):
        if value and path.is_file():
            return [path.name, name, hashlib.sha256(path.read_bytes()).hexdigest()]
    return value


def write_snapshot(benchmark: Benchmark, path: Path) -> None:
    """Reads the documents through the harness, words every prompt and writes both.

    Raises:
        SourceError: the documents cannot be had, or the file cannot be written.
        DataError: a document that is not text and numbers.
        UsageError: the task needs a package that is not here.
    """
    rows: list[Json] = []
    with _seeded():
        tasks = [(leaf, harness_task(leaf)) for leaf in benchmark.leaves]
        for leaf, task in tasks:
            prefix = f"{leaf.name}/" if len(tasks) > 1 else ""
            rows += _rows(leaf, task, prefix, benchmark.shots)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("w", encoding="utf-8") as file:
            file.writelines(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
        temporary.replace(path)
    except TypeError as error:
        temporary.unlink(missing_ok=True)
        raise DataError(
            f"{benchmark.name}: a document holds what is neither text nor number ({error}). Run it "
            f"by `lm_eval --model maple --tasks {benchmark.name}` instead."
        ) from error
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise SourceError(
            f"{path} cannot be written ({error.strerror}). Free space there."
        ) from error


def read_rows(path: Path) -> Iterator[Json]:
    """The rows of a snapshot.

    Raises:
        DataError: the file is not whole.
    """
    with path.open(encoding="utf-8") as file:
        for number, line in enumerate(file, start=1):
            try:
                row: Json = json.loads(line)
            except ValueError as error:
                raise DataError(
                    f"{path}:{number}: not JSON ({error}). Delete the file; it is made again."
                ) from error
            yield row


def _rows(leaf: Leaf, task: Any, prefix: str, shots: int | None) -> Iterator[Json]:
    if shots is not None:
        task.set_config(key="num_fewshot", value=shots)
    n_shots = task.config.num_fewshot or 0
    task.set_fewshot_seed(_FEWSHOT_SEED)
    if task.multiple_input:
        raise UsageError(
            f"{leaf.name}: each option has a context of its own. Run it by "
            f"`lm_eval --model maple --tasks {leaf.name}` instead."
        )
    for number, doc in enumerate(task.eval_docs):
        context = task.fewshot_context(doc, n_shots, gen_prefix=task.doc_to_prefix(doc))
        yield {
            "id": f"{prefix}{number}",
            "task": leaf.name,
            "context": context,
            **_asked(task, doc),
            "doc": dict(doc),
        }


def _asked(task: Any, doc: Json) -> Json:
    target = task.doc_to_target(doc)
    if task.OUTPUT_TYPE == "loglikelihood":
        return {"options": [target], "delimiter": "", "gold": ["0"]}
    choices = task.doc_to_choice(doc) if task.config.doc_to_choice is not None else []
    if task.OUTPUT_TYPE == "multiple_choice":
        delimiter = task.config.target_delimiter
        return {"options": choices, "delimiter": delimiter, "gold": _indices(target, choices)}
    if choices and isinstance(target, int):
        target = choices[target]
    settings = dict(task.config.generation_kwargs or {})
    until = settings.get("until") or []
    limits = [settings[name] for name in _LIMITS if settings.get(name) is not None]
    return {
        "stop": [until] if isinstance(until, str) else list(until),
        "max_new_tokens": int(limits[0]) if limits else _MAX_NEW_TOKENS,
        "gold": [str(t) for t in target] if isinstance(target, list) else [str(target)],
    }


def _indices(target: Any, choices: Sequence[str]) -> list[str]:
    targets = target if isinstance(target, list) else [target]
    return [str(choices.index(t) if isinstance(t, str) and t in choices else t) for t in targets]


@contextlib.contextmanager
def _seeded() -> Iterator[None]:
    """The state that ``simple_evaluate`` begins with, for tasks that shuffle; ours comes back."""
    import numpy as np

    before, numpy_before = random.getstate(), np.random.get_state()
    random.seed(0)
    np.random.seed(_FEWSHOT_SEED)
    try:
        yield
    finally:
        random.setstate(before)
        np.random.set_state(numpy_before)


def harness_task(leaf: Leaf, doc: Json | None = None) -> Any:
    """The harness's own object of a task.

    Args:
        leaf: the task.
        doc: a document of its snapshot, to score by it; None to read its own data.

    Raises:
        SourceError: its data cannot be had.
        UsageError: it needs a package that is not here.
    """
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    import datasets  # type: ignore[import-untyped]

    logging.getLogger("lm_eval").setLevel(logging.ERROR)
    datasets.disable_progress_bars()
    try:
        loaded = load_yaml(leaf.file) if leaf.file else leaf.config
        config = {**deepcopy(loaded), **deepcopy(leaf.overrides), "task": leaf.name}
        config = {k: v for k, v in config.items() if k not in ("tag", "group")}
        metadata = config.get("metadata")
        config["metadata"] = metadata if isinstance(metadata, dict) else {}
        if doc is not None:
            config |= _over(config, doc)
        return ConfigurableTask(config=config)
    except ImportError as error:
        raise UsageError(
            f"{leaf.name} needs the Python package {error.name!r}, which is not here."
        ) from error
    except (OSError, ValueError, RuntimeError) as error:
        source = " ".join(str(leaf.config.get(k) or "") for k in ("dataset_path", "dataset_name"))
        raise SourceError(
            f"{leaf.name}: its data ({source.strip()}) cannot be had: {error}. Connect to the Hub "
            "once, with HF_HUB_OFFLINE unset; afterwards the task works offline."
        ) from error


def _over(config: Json, doc: Json) -> Json:
    import datasets

    split = config.get("test_split") or config.get("validation_split")
    rows = {split: datasets.Dataset.from_list([dict(doc)])}
    absent = ("process_docs", "training_split", "fewshot_split", "fewshot_config", "num_fewshot")
    # The documents are processed already; the harness passes metadata as keyword arguments.
    return {"custom_dataset": lambda **_: rows, **dict.fromkeys(absent)}


def sample_metrics(
    task: Any, row: Json, responses: Sequence[Any]
) -> tuple[dict[str, float], list[Any]]:
    """One sample's metrics by the harness, and what its first filter made of the responses.

    Metrics of a further filter are named ``exact_match,flexible-extract``; what is no number, or
    is not averaged over samples, is left out.

    Args:
        task: ``harness_task(leaf, doc)``.
        row: of a snapshot.
        responses: a text, or (log-likelihood, is greedy) per option.
    """
    from lm_eval.api.instance import Instance

    options = row.get("options") or [""]
    kind = "generate_until" if task.OUTPUT_TYPE == "generate_until" else "loglikelihood"
    instances = [
        Instance(kind, row["doc"], (row["context"], options[n % len(options)]), n, (None, 0, 1))
        for n in range(len(responses))
    ]
    for instance, response in zip(instances, responses, strict=True):
        instance.resps.append(response)
    metrics: dict[str, float] = {}
    first: list[Any] = []
    for number, ensemble in enumerate(task._filters):
        ensemble.apply(instances)
        filtered = [instance.filtered_resps[ensemble.name] for instance in instances]
        suffix = f",{ensemble.name}" if number else ""
        first = first or filtered
        for name, value in task.process_results(row["doc"], filtered).items():
            if _is_averaged(task, name) and isinstance(value, numbers.Real):
                metrics[f"{name}{suffix}"] = float(value)
    return metrics, first


def _is_averaged(task: Any, metric: str) -> bool:
    aggregation = task.aggregation().get(metric)
    return aggregation is None or getattr(aggregation, "__name__", "") in MEANS
