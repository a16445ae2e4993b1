"""lm-evaluation-harness 0.4.13 as an oracle: its own requests and its own numbers, offline.

    lm_eval_requests(task, language, docs) -> what its task makes of documents in the Hub's columns
    lm_eval_responses(model, tokenizer, requests) -> what its engine answers to them

Nothing is fetched: the harness's YAML is loaded as it is installed, and its data set is replaced
by the documents given.
"""

from __future__ import annotations

import collections
import re
import string
import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

Document = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class OracleSample:
    """One document as the harness asks it: requests in order of the options."""

    doc_id: int
    target: Any
    requests: list[Any]
    """``lm_eval.api.instance.Instance``; ``.args`` is (context, continuation | settings)."""

    @property
    def arguments(self) -> list[tuple[Any, ...]]:
        return [request.args for request in self.requests]


def task_name(task: str, language: str) -> str:
    """The harness's name of a task of ours: ``xnli_sw``, ``mlqa_hi_hi``, and ``copa``."""
    if (task, language) == ("xcopa", "en"):
        return "copa"
    if task == "mlqa":
        return f"mlqa_{language}_{language}"
    if task.startswith("mlqa:"):
        return f"mlqa_{task[5:]}_{language}"
    theirs = {"pawsx": "paws", "tydiqa-goldp": "tydiqa_goldp"}.get(task, task)
    return f"{theirs}_{language}"


def lm_eval_task(task: str, language: str, docs: Sequence[Document]) -> Any:
    """The harness's own task object over ``docs`` instead of its Hub repository.

    Args:
        task: xnli, xcopa, xquad, belebele, mlqa, mlqa:CONTEXT, xstorycloze, pawsx or tydiqa-goldp.
        language: upstream's name of the language, as in the harness's file names.
        docs: rows with the columns of the Hub's data files.
    """
    restore_squad_metrics()
    import lm_eval.tasks
    from lm_eval.api.task import ConfigurableTask
    from lm_eval.tasks._yaml_loader import load_yaml

    import datasets

    root = Path(lm_eval.tasks.__file__).parent
    name = task_name(task, language)
    path = {
        "xnli": root / "xnli" / f"xnli_{language}.yaml",
        "xcopa": root / "xcopa" / f"default_{language}.yaml",
        "xquad": root / "xquad" / f"xquad_{language}.yaml",
        "belebele": root / "belebele" / f"belebele_{language}.yaml",
        "mlqa": root / "mlqa" / f"{name}.yaml",
        "xstorycloze": root / "xstorycloze" / f"default_{language}.yaml",
        "pawsx": root / "paws-x" / f"{name}.yaml",
        "tydiqa-goldp": root / "tydiqa" / f"{name}.yaml",
    }[task.partition(":")[0]]
    config = load_yaml(root / "super_glue/copa/default.yaml" if name == "copa" else path)
    rows = datasets.Dataset.from_list([dict(doc) for doc in docs])
    splits = {config.get(f"{s}_split"): rows for s in ("training", "validation", "test")}
    # The harness would pass metadata to the function as keyword arguments.
    config["custom_dataset"] = lambda **_: splits
    config["metadata"] = dict(config["metadata"])
    made = ConfigurableTask(config=config)
    assert made.task_name == name
    return made


def lm_eval_requests(task: str, language: str, docs: Sequence[Document]) -> list[OracleSample]:
    """What the harness asks a model for each document, zero-shot and without a chat template."""
    made = lm_eval_task(task, language, docs)
    made.set_config(key="num_fewshot", value=0)
    made.set_fewshot_seed(0)
    made.build_all_requests(limit=None, rank=0, world_size=1)
    grouped = collections.defaultdict(list)
    for instance in made.instances:
        grouped[instance.doc_id].append(instance)
    return [
        OracleSample(
            doc_id=doc_id,
            target=made.doc_to_target(requests[0].doc),
            requests=sorted(requests, key=lambda r: r.idx),
        )
        for doc_id, requests in sorted(grouped.items())
    ]


def lm_eval_responses(
    model: Any,
    tokenizer: Any,
    samples: Sequence[OracleSample],
    *,
    dtype: str = "float32",
    batch_size: int = 4,
    max_length: int | None = None,
) -> list[list[Any]]:
    """Runs the harness's Hugging Face engine on its own requests.

    Args:
        model: a loaded causal model, or the path of one.
        tokenizer: its tokenizer, or the path of one; None with a path: the model's own.
        samples: what ``lm_eval_requests`` returned; all of one request type.
        dtype: the model's weights; the log-softmax is always float32.
        batch_size: sequences per forward pass.
        max_length: context length in tokens; None: the model's own.

    Returns:
        Per sample, an entry per request: ``(log-likelihood, is greedy)`` or the generated text.
    """
    from lm_eval.models.huggingface import HFLM

    engine = HFLM(
        pretrained=model if isinstance(model, str) else model.to(_torch_dtype(dtype)),
        tokenizer=tokenizer,
        dtype=dtype,
        softmax_dtype="float32",
        device="cpu",
        batch_size=batch_size,
        max_length=max_length,
    )
    flat = [request for sample in samples for request in sample.requests]
    kinds = {request.request_type for request in flat}
    assert len(kinds) == 1, f"one request type at a time, not {kinds}"
    answers = iter(getattr(engine, kinds.pop())(flat, disable_tqdm=True))
    return [[next(answers) for _ in sample.requests] for sample in samples]


def restore_squad_metrics() -> None:
    """Gives the harness's xquad the module transformers 5 removed: SQuAD v1.1, as it was there."""
    name = "transformers.data.metrics.squad_metrics"
    if name in sys.modules:
        return
    module = types.ModuleType(name)
    module.compute_f1 = _compute_f1  # type: ignore[attr-defined]
    module.compute_exact = _compute_exact  # type: ignore[attr-defined]
    parent = types.ModuleType("transformers.data.metrics")
    parent.squad_metrics = module  # type: ignore[attr-defined]
    sys.modules["transformers.data.metrics"] = parent
    sys.modules[name] = module


def squad_normalise(text: str) -> str:
    """SQuAD v1.1: lower, drop ASCII punctuation, drop a / an / the, join on single spaces."""
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def _compute_exact(gold: str, predicted: str) -> int:
    return int(squad_normalise(gold) == squad_normalise(predicted))


def _compute_f1(gold: str, predicted: str) -> float:
    gold_tokens = squad_normalise(gold).split()
    predicted_tokens = squad_normalise(predicted).split()
    common = collections.Counter(gold_tokens) & collections.Counter(predicted_tokens)
    same = sum(common.values())
    if not gold_tokens or not predicted_tokens:
        return int(gold_tokens == predicted_tokens)
    if same == 0:
        return 0
    precision, recall = same / len(predicted_tokens), same / len(gold_tokens)
    return 2 * precision * recall / (precision + recall)


def _torch_dtype(name: str) -> Any:
    import torch

    return getattr(torch, name)
