"""What ``maple judge`` is to judge: outputs in AlpacaEval's JSON, or a store's answers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from maple.files import Files
    from maple.judge import Output

_TASK = "alpaca-eval"


def is_store(path: Path) -> bool:
    """Whether a path is a results directory."""
    return path.is_dir() and any((path / name).exists() for name in ("study.json", "runs", "evals"))


def file_outputs(path: Path) -> dict[str, list[Output]]:
    """Reads one model's outputs, under a name for its folder.

    Raises:
        DataError: a row that is none of AlpacaEval's.
        UsageError: there is no such file.
    """
    from maple.errors import UsageError
    from maple.judge import read_outputs

    if not path.exists() or (path.is_dir() and not (path / "model_outputs.json").exists()):
        raise UsageError(
            f"{path} is neither a model_outputs.json nor a store. Name the JSON that AlpacaEval "
            "reads, or the --out directory of a `maple run` with the task alpaca-eval."
        )
    outputs = read_outputs(path)
    return {slug(outputs[0].generator): outputs}


def store_outputs(path: Path, folder: Path, files: Files) -> dict[str, list[Output]]:
    """Exports each run's finished answers to ``<folder>/<run id>/model_outputs.json``.

    Raises:
        DataError: the data at hand has other instructions than the store was made from.
        StoreError: the store cannot be read, or has no finished answers.
    """
    from maple.errors import StoreError
    from maple.judge import write_outputs
    from maple.store.read import open_store

    store = open_store(path)
    found = [e for e in store.evaluations() if e.task == _TASK]
    finished = [e for e in found if e.is_done]
    if not finished:
        raise StoreError(
            f"{path} holds no finished evaluation of {_TASK} ({len(found)} begun). Put it under "
            "evaluate: english: in the study and run it, then judge again."
        )
    labels = {run.run_id: run.cell.label for run in store.runs()}
    runs = [e.run_id for e in finished]
    sets = {}
    for evaluation in finished:
        run = evaluation.run_id
        name = run if runs.count(run) == 1 else f"{run}-{evaluation.eval_id}"
        answers = store.query(
            "SELECT sample_id, prediction FROM samples", eval_ids={evaluation.eval_id}
        ).to_pylist()
        prompts = store.prompts(str(evaluation.spec.get("prompts"))).to_pylist()
        shown = {row["sample_id"]: row["context"] for row in prompts}
        texts = {row["sample_id"]: row["prediction"] for row in answers}
        sets[name] = _outputs(texts, shown, labels.get(run, run), files)
        write_outputs(folder / name / "model_outputs.json", sets[name])
    return sets


def _outputs(
    texts: dict[str, str], shown: dict[str, str], generator: str, files: Files
) -> list[Output]:
    """Puts answers under their instructions, which a store holds only as prompts."""
    from maple.catalog import load_task
    from maple.errors import DataError
    from maple.judge import Output

    task = load_task(_TASK)
    samples = {s.id: s for s in task.samples(files, "eng_Latn", task.info.split)}
    for sample_id in texts:
        sample, prompt = samples.get(sample_id), shown.get(sample_id)
        if sample is None or (prompt and sample.fields["instruction"].strip() not in prompt):
            raise DataError(
                f"sample {sample_id} of {generator} was not asked the instruction that the data "
                "has under that number. Name the --data-dir that the store was made from."
            )
    return [
        Output(
            instruction=sample.fields["instruction"],
            output=texts[sample.id],
            generator=generator,
            dataset=sample.fields["dataset"],
        )
        for sample in samples.values()
        if sample.id in texts
    ]


def slug(name: str) -> str:
    """A model's or judge's name as the name of a folder."""
    return re.sub(r"[^\w.-]+", "-", name).strip("-.") or "model"
