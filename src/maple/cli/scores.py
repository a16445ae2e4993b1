"""Commands that score without a study."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from maple.cli import decoding, early_look, engines
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
    Unconditional,
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
        list[Path] | None, typer.Option(help="Directory of a PEFT adapter; repeat for more.")
    ] = None,
    data_dir: DataDir = None,
    out: Annotated[Path, typer.Option(help="Store of the scores.")] = Path("runs/eval"),
    prompt: PromptForm = "mega",
    template: Template = "plain",
    instruction_language: InstructionLanguage = "english",
    choices: Choices = "letter",
    scoring: Scoring = "ranking",
    unconditional: Unconditional = True,
    shots: Shots = 0,
    quantization: Annotated[
        str | None,
        typer.Option(help="Of the base; default: the adapter's own, else the checkpoint's."),
    ] = None,
    split: Split = None,
    limit: Limit = None,
    batch_size: BatchSize = None,
    allow_mismatch: Annotated[
        bool, typer.Option(help="Score an adapter on another base or bits; labelled.")
    ] = False,
    share_passes: Annotated[
        bool | None,
        typer.Option(
            help="Low-rank adapters rank in shared passes; default: on a CPU in small tasks, where "
            "it is faster and changes no score."
        ),
    ] = None,
    max_new_tokens: decoding.MaxNewTokens = None,
    temperature: decoding.Temperature = 0.0,
    top_p: decoding.TopP = 1.0,
    top_k: decoding.TopK = None,
    seed: decoding.Seed = 0,
    engine: engines.Engine = "reference",
    endpoint: engines.Url = None,
    engine_model: engines.EngineModel = None,
    engine_api: engines.EngineApi = "tokens",
    concurrency: engines.Concurrency = 8,
    requests_per_minute: engines.Pace = None,
    audit_samples: engines.AuditSamples = 32,
    reference: engines.Reference = True,
    tokenizer: engines.Tokenizer = None,
    early_looks: early_look.Asked = False,
    early_look_alpha: early_look.Alpha = 0.05,
    early_look_divide: early_look.Divide = "grid",
    early_look_futility: early_look.Futility = None,
    early_look_against: early_look.Against = "base",
) -> None:
    """Score any model, or adapters on it, on any task and language."""
    _score(dict(locals()))


def _score(given: dict[str, Any]) -> None:
    from maple.plan.evaluations import select_evaluations
    from maple.run import Progress, evaluate_models
    from maple.run.endpoint_only import evaluate_endpoint
    from maple.run.evaluate import EvaluationRequest
    from maple.study import PromptSettings

    settings = engines.engine_settings(given)
    out, split = given["out"], given["split"]
    data = str(given["data_dir"]) if given["data_dir"] else "hub"
    files = data_files(data, out)
    tasks = given["tasks"].split(",")
    chosen = select_evaluations(tasks, given["languages"], data=data, split=split, files=files)
    wording = ("template", "instruction_language", "choices", "scoring", "unconditional", "shots")
    request = EvaluationRequest(
        model=given["model"],
        adapters=tuple(given["adapter"] or ()),
        quantization=given["quantization"],
        evaluations=tuple(chosen),
        prompt=PromptSettings(form=given["prompt"], **{key: given[key] for key in wording}),
        split=split,
        limit=given["limit"],
        batch_size=given["batch_size"],
        allow_mismatch=given["allow_mismatch"],
        share_passes=given["share_passes"],
        decoding=decoding.decoding_settings(given),
        engine=settings,
        tokenizer=given["tokenizer"],
        early_look=early_look.early_look_settings(given),
    )
    score = evaluate_models if given["reference"] else evaluate_endpoint
    outcome = score(request, files, out, progress=Progress(console()))
    print(f"scores: {outcome.out}")
    exit_on_failures(outcome)
