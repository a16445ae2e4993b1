"""Commands that score without a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from maple.cli.app import (
    BatchSize,
    Choices,
    DataDir,
    InstructionLanguage,
    Limit,
    PromptForm,
    Scoring,
    Shots,
    Split,
    Template,
    console,
    data_files,
    exit_on_failures,
)

app = typer.Typer()


@app.command("eval")
def evaluate(
    model: Annotated[
        str, typer.Argument(help="Hub repository, directory, atlas-base or atlas-qwen.")
    ],
    tasks: Annotated[str, typer.Option(help="Tasks, comma-separated.")],
    languages: Annotated[str, typer.Option(help="Languages, comma-separated, or 'all'.")] = "all",
    adapter: Annotated[
        list[Path] | None, typer.Option(help="PEFT adapter; repeat for more.")
    ] = None,
    data_dir: DataDir = None,
    out: Annotated[Path, typer.Option(help="Store of the scores.")] = Path("runs/eval"),
    prompt: PromptForm = "mega",
    template: Template = "plain",
    instruction_language: InstructionLanguage = "english",
    choices: Choices = "letter",
    scoring: Scoring = "ranking",
    shots: Shots = 0,
    quantization: Annotated[
        str | None,
        typer.Option(help="Default: the adapter's own, else the checkpoint's precision."),
    ] = None,
    split: Split = None,
    limit: Limit = None,
    batch_size: BatchSize = None,
    allow_mismatch: Annotated[
        bool, typer.Option(help="Score an adapter on another base or bits; labelled.")
    ] = False,
) -> None:
    """Score any model, or adapters on it, on any task and language."""
    from maple.plan.evaluations import select_evaluations
    from maple.run import Progress, evaluate_models
    from maple.run.evaluate import EvaluationRequest
    from maple.study import PromptSettings

    data = str(data_dir) if data_dir else "hub"
    files = data_files(data, out)
    chosen = select_evaluations(tasks.split(","), languages, data=data, split=split, files=files)
    request = EvaluationRequest(
        model=model,
        adapters=tuple(adapter or ()),
        quantization=quantization,
        evaluations=tuple(chosen),
        prompt=PromptSettings(
            form=prompt,
            template=template,
            instruction_language=instruction_language,
            choices=choices,
            scoring=scoring,
            shots=shots,
        ),
        split=split,
        limit=limit,
        batch_size=batch_size,
        allow_mismatch=allow_mismatch,
    )
    outcome = evaluate_models(request, files, out, progress=Progress(console()))
    print(f"scores: {outcome.out}")
    exit_on_failures(outcome)
