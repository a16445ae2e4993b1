"""The harness's own tasks over local rows: each YAML includes the installed one.

Belebele with whole answers is no task of the harness: its YAML here words what Maple's mega form
with ``choices: cloze`` words, so both sides rank the same texts.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from benchmarks.evaluation.items import SENTENCES, Item, upstream

_SENTENCES: Mapping[str, Any] = {
    "output_type": "multiple_choice",
    "test_split": "test",
    "doc_to_text": ("Passage: {{flores_passage.strip()}}\nQuery: {{question.strip()}}\nAnswer:"),
    "doc_to_choice": (
        "{{[mc_answer1.strip(), mc_answer2.strip(), mc_answer3.strip(), mc_answer4.strip()]}}"
    ),
    "doc_to_target": "{{['1', '2', '3', '4'].index(correct_answer_num)}}",
    "target_delimiter": "\n",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
_SPLITS = ("training_split", "validation_split", "test_split", "fewshot_split")


def installed(item: Item) -> Path:
    """The harness's YAML of an item.

    Raises:
        SystemExit: the harness is not installed.
    """
    try:
        import lm_eval.tasks
    except ImportError as error:
        raise SystemExit(f"the peer is not here ({error}): pip install -e '.[dev]'") from error
    name = upstream(item.language, item.task)
    path = {
        "xnli": f"xnli/xnli_{name}.yaml",
        "xcopa": f"xcopa/default_{name}.yaml",
        "letters": f"belebele/belebele_{name}.yaml",
        "xquad": f"xquad/xquad_{name}.yaml",
        "mlqa": f"mlqa/mlqa_{name}_{name}.yaml",
    }[item.kind]
    return Path(lm_eval.tasks.__file__).parent / path


def task_content(item: Item, rows: Path) -> dict[str, Any]:
    """The YAML of an item over a file of rows."""
    from lm_eval.tasks._yaml_loader import load_yaml

    content: dict[str, Any]
    if item.kind == SENTENCES:
        content = dict(_SENTENCES)
        scored = "test"
    else:
        own = load_yaml(installed(item), resolve_func=False)
        scored = own.get("test_split") or own["validation_split"]
        # What is not scored has no rows here; null, because the included file names it.
        absent = {key: None for key in _SPLITS if own.get(key) not in (None, scored)}
        content = {"include": str(installed(item)), **absent}
    return {
        **content,
        "task": item.name,
        "dataset_path": "json",
        "dataset_name": None,
        "dataset_kwargs": {"data_files": {scored: str(rows.resolve())}},
        "metadata": {"version": 1.0, "language": item.language},
    }


def write_tasks(items: Sequence[Item], rows: Path, folder: Path) -> None:
    """A YAML an item, over its file of rows, for ``--include_path``."""
    folder.mkdir(parents=True, exist_ok=True)
    for item in items:
        content = task_content(item, rows / f"{item.name}.jsonl")
        text = yaml.safe_dump(content, allow_unicode=True)
        (folder / f"{item.name}.yaml").write_text(text, encoding="utf-8")


def write_made_task(name: str, rows: Path, folder: Path) -> None:
    """A ranking of rows that hold ``context`` and ``options``; the first option is the gold."""
    content = {
        "task": name,
        "dataset_path": "json",
        "dataset_kwargs": {"data_files": {"test": str(rows.resolve())}},
        "output_type": "multiple_choice",
        "test_split": "test",
        "doc_to_text": "{{context}}",
        "doc_to_choice": "options",
        "doc_to_target": 0,
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
        "metadata": {"version": 1.0, "language": "eng_Latn"},
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
