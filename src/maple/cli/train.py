"""``maple train``: one run, no study file."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maple.cli.app import DataDir, console, data_files

if TYPE_CHECKING:
    from maple.run.train_one import TrainedAdapter

app = typer.Typer()

Model = Annotated[str, typer.Option(help="Hub repository, directory, atlas-base, atlas-qwen.")]
Method = Annotated[str, typer.Option(help="Fine-tuning method; `maple list methods` names them.")]
Data = Annotated[str, typer.Option(help="File of instructions or chats, or a data set's name.")]
Out = Annotated[Path, typer.Option(help="The adapter's directory: new, or to go on in.")]
Bits = Annotated[
    str, typer.Option(help="Of the frozen base; `maple list quantization` names them.")
]
Languages = Annotated[
    str | None,
    typer.Option(
        "--languages",
        "--language",
        help="Comma-separated; default: those that the rows name, or that the data set has.",
    ),
]
Rank = Annotated[int | None, typer.Option(help="Of the method; default: its own.")]
Alpha = Annotated[float | None, typer.Option(help="Of the method; default: its own.")]
Dropout = Annotated[float | None, typer.Option(help="Of the method; default: its own.")]
Targets = Annotated[
    str | None,
    typer.Option(help="Layers adapted: attention, all-linear, or modules, comma-separated."),
]
Rate = Annotated[float | None, typer.Option(help="Highest of the schedule; default: 3e-4.")]
Epochs = Annotated[float | None, typer.Option(help="Passes over the data; default: 4.")]
MaxSteps = Annotated[
    int | None, typer.Option(help="Optimiser steps at most; default: what the epochs take.")
]
StepSize = Annotated[int | None, typer.Option(help="Examples an optimiser step; default: 128.")]
MaxLength = Annotated[int | None, typer.Option(help="Tokens of an example, at most; default: 768.")]
TemplateName = Annotated[
    str | None, typer.Option(help="Of an example: bactrian-x (default), alpaca, chat or plain.")
]
Scheduler = Annotated[
    str | None,
    typer.Option(help="Of the learning rate: cosine (default), linear, constant or wsd."),
]
Warmup = Annotated[int | None, typer.Option(help="Default: 200, a tenth of the steps at most.")]
Seed = Annotated[
    int, typer.Option(min=0, max=2**31 - 1, help="Of the data's order and the adapter's beginning.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Another parameter of the method, or training.KEY or dataset.KEY; repeat for more.",
    ),
]

_METHOD, _TRAINING, _DATASET = "method", "training", "dataset"


@app.command()
def train(
    model: Model,
    method: Method,
    dataset: Data,
    out: Out,
    quantization: Bits = "bf16",
    languages: Languages = None,
    rank: Rank = None,
    alpha: Alpha = None,
    dropout: Dropout = None,
    targets: Targets = None,
    learning_rate: Rate = None,
    epochs: Epochs = None,
    max_steps: MaxSteps = None,
    batch_size: StepSize = None,
    max_length: MaxLength = None,
    template: TemplateName = None,
    scheduler: Scheduler = None,
    warmup_steps: Warmup = None,
    seed: Seed = 0,
    settings: Settings = None,
    data_dir: DataDir = None,
) -> None:
    """Train one adapter into a directory, without a study.

    The same command goes on where it stopped.
    """
    given = dict(locals())  # before anything else has a name here
    from maple.run import Progress
    from maple.run.train_one import train_one
    from maple.run.train_request import TrainRequest
    from maple.study import TrainingSettings

    options: dict[str, dict[str, Any]] = {
        _METHOD: {k: given[k] for k in ("rank", "alpha", "dropout", "targets")},
        _TRAINING: {k: given[k] for k in TrainingSettings.model_fields if k in given},
        _DATASET: {},
    }
    groups = _stated(method, dataset, settings or [], options)
    request = TrainRequest(
        model=model,
        method=method,
        dataset=dataset,
        quantization=quantization,
        parameters=groups[_METHOD],
        training=groups[_TRAINING],
        options=groups[_DATASET],
        languages=tuple(languages.split(",")) if languages else (),
        seed=seed,
    )
    data = str(data_dir) if data_dir else "atlas" if dataset.startswith("atlas-") else "hub"
    _tell(train_one(request, data_files(data, out), out, progress=Progress(console())))


def _stated(
    method: str, dataset: str, settings: list[str], options: Mapping[str, Mapping[str, Any]]
) -> dict[str, dict[str, Any]]:
    """What was stated of the method, of training and of the data set, each in its own type."""
    from maple.catalog.load import entry_class
    from maple.errors import UsageError
    from maple.run.train_request import is_file_name
    from maple.study import TrainingSettings

    stated = {
        group: {key: value for key, value in of.items() if value is not None}
        for group, of in options.items()
    }
    for text in settings:
        path, equals, value = text.partition("=")
        first, dot, rest = path.partition(".")
        group, key = (first, rest) if dot else (_METHOD, path)
        if not equals or not key or group not in stated:
            raise UsageError(
                f"--set {text!r}: write KEY=VALUE for a parameter of {method}, training.KEY=VALUE "
                "or dataset.KEY=VALUE."
            )
        if key in stated[group]:
            raise UsageError(f"--set {text!r}: {path} is stated twice.")
        stated[group][key] = value
    schemas: dict[str, Any] = {_METHOD: entry_class("methods", method), _TRAINING: TrainingSettings}
    if stated[_DATASET]:
        entry = "jsonl" if is_file_name(dataset) else dataset
        schemas[_DATASET] = entry_class("datasets", entry)
    return {
        group: {key: _typed(schemas[group], key, value) for key, value in of.items()}
        for group, of in stated.items()
    }


def _typed(schema: Any, key: str, value: Any) -> Any:
    """A text as the type of the field it is for; left as it is where nothing fits."""
    import yaml
    from pydantic import TypeAdapter, ValidationError

    if not isinstance(value, str) or key not in schema.model_fields:
        return value
    adapter: TypeAdapter[Any] = TypeAdapter(schema.model_fields[key].annotation)
    # As text before YAML reads it: to YAML `yes` is a truth value, and pydantic makes 1 of that.
    for read in (str, lambda text: text.split(","), yaml.safe_load):
        try:
            return adapter.validate_python(read(value))
        except (ValidationError, yaml.YAMLError):
            continue
    return value


def _tell(trained: TrainedAdapter) -> None:
    from maple.run.loading import loading_lines, loading_notes

    if trained.failure is not None:
        label, error = trained.failure
        print(f"failed: {label}: {error}", file=sys.stderr)
        raise typer.Exit(1)
    print(f"adapter: {trained.out}")
    if trained.record and trained.losses:
        record, (first, last) = trained.record, trained.losses
        share = record.trainable_parameters / record.total_parameters
        print(f"loss: {first:.3f} -> {last:.3f} in {record.steps} steps")
        print(f"trained parameters: {record.trainable_parameters:,} ({share:.2%} of all)")
        print(f"training took {record.train_seconds:.1f} s")
    run = trained.run
    is_commit = not (run.model.revision or "sha256:").startswith("sha256:")
    print("load it:")
    for line in loading_lines(
        trained.out,
        base=trained.base,
        revision=run.model.revision if is_commit else None,
        quantization=run.quantization,
    ):
        print(f"  {line}")
    for note in loading_notes(trained.out, run.quantization):
        print(f"  # {note}")
