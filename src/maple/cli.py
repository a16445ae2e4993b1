"""The command line: arguments in, one call down, a clear line out."""

from __future__ import annotations

import errno
import json
import os
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from maple.errors import MapleError

if TYPE_CHECKING:
    from rich.console import Console

    from maple.files import Files
    from maple.run import StudyOutcome
    from maple.study.file import StudySpec

app = typer.Typer(
    name="maple",
    help="Which parameter-efficient fine-tuning, for which languages: one file, one command.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

atlas_app = typer.Typer(help="The embedded world: its files and its base models.")
app.add_typer(atlas_app, name="atlas", no_args_is_help=True)

StudyPath = Annotated[Path, typer.Argument(help="Study file (YAML).", show_default=False)]
DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar="MAPLE_DATA", help="Directory of upstream release files, instead of the Hub."
    ),
]
Out = Annotated[Path | None, typer.Option(help="Store; default: runs/<study name>.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Samples per task and language.")]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Requests per batch at most; default: a token budget.")
]
PromptForm = Annotated[
    Literal["completion", "lm-eval", "mega"], typer.Option(help="Prompt wording.")
]
Choices = Annotated[
    Literal["letter", "cloze"],
    typer.Option(help="Belebele ranks the letters of listed answers, or the answers."),
]
Workers = Annotated[
    int,
    typer.Option(
        min=0,
        envvar="MAPLE_WORKERS",
        help="Processes that do the runs, sharing the cores; 0: several where all bases are tiny "
        "and on the CPU, else 1.",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")]


_OF_THE_MACHINE = (errno.ENOSPC, errno.EDQUOT, errno.EACCES, errno.EROFS)
_WHOLE = "What is stored is whole; run the same command again to go on."


def main() -> NoReturn:
    """Runs the command line; errors of ours become one line and an exit code (1 or 2)."""
    # Read when torch is imported. Waiting threads that spin make a busy machine six times slower.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    # Deprecations between the libraries below us are not the user's to mend.
    warnings.simplefilter("ignore", FutureWarning)
    try:
        app()
    except MapleError as error:
        print(f"maple: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in _OF_THE_MACHINE:
            raise
        print(f"maple: {error.filename or 'a file'}: {error.strerror}. {_WHOLE}", file=sys.stderr)
        sys.exit(1)
    except (KeyboardInterrupt, SystemExit) as stop:
        # typer turns the interrupt into an exit of its own.
        if isinstance(stop, SystemExit) and stop.code != 130:
            raise
        print(f"maple: interrupted. {_WHOLE}", file=sys.stderr)
        sys.exit(1)
    sys.exit(0)


@app.command()
def quickstart(
    out: Annotated[Path, typer.Option(help="Store of the embedded study.")] = Path("quickstart"),
    languages: Annotated[
        str | None, typer.Option(help="Languages to score, comma-separated, or 'all'.")
    ] = None,
    limit: Limit = None,
    workers: Workers = 0,
) -> None:
    """Run the embedded study from start to report; needs no network."""
    from maple import atlas
    from maple.study.file import load_study

    study = load_study(Path(atlas.__file__).parent / "quickstart.yaml")
    if languages:
        chosen = "all" if languages == "all" else tuple(languages.split(","))
        evaluate = study.evaluate.model_copy(update={"languages": chosen})
        study = study.model_copy(update={"evaluate": evaluate})
    files = _files(study, None, None)
    _finish(_run(study, files, out, limit=limit, workers=workers))


@atlas_app.command("build")
def atlas_build(
    out: Annotated[Path, typer.Option(help="Directory to write; empty or new.")],
) -> None:
    """Write the files of the embedded world; the same bytes every time."""
    from maple import atlas
    from maple.errors import UsageError

    try:
        print(f"{atlas.build(out)}: world version {atlas.WORLD_VERSION}")
    except FileExistsError as error:
        raise UsageError(f"--out: {error}") from error


@atlas_app.command("train-base")
def atlas_train_base(
    out: Annotated[Path, typer.Option(help="Directory for weights, tokenizer, curve.jsonl.")],
    name: Annotated[str, typer.Option(help="Whose recipe: atlas-base or atlas-qwen.")] = "",
    minutes: Annotated[
        float | None, typer.Option(help="Length in minutes of one core at 100 steps each.")
    ] = None,
    steps: Annotated[int | None, typer.Option(help="Length in optimiser steps.")] = None,
    seed: Annotated[int | None, typer.Option(help="Documents and first weights.")] = None,
) -> None:
    """Train a base of the embedded world by its recipe, from the generator alone.

    The same length and seed give the same weights. The shipped bases are the recipes' full length.
    """
    from maple.atlas import BASES
    from maple.atlas.pretrain import chosen_recipe, train_base

    recipe = chosen_recipe(name or BASES[0], minutes=minutes, steps=steps, seed=seed)
    train_base(recipe, out, lambda row: print(json.dumps(row, ensure_ascii=False), flush=True))


@app.command()
def init(path: Annotated[Path, typer.Argument(help="File to write.")] = Path("study.yaml")) -> None:
    """Write a commented study file to start from."""
    from maple.errors import StudyError
    from maple.study.template import COMMENTED_STUDY

    if path.exists():
        raise StudyError(f"{path} exists already; name another file.")
    try:
        path.write_text(COMMENTED_STUDY, encoding="utf-8")
    except OSError as error:
        raise StudyError(f"{path} cannot be written ({error.strerror}).") from error
    print(f"wrote {path}. Next: maple plan {path}")


@app.command()
def schema() -> None:
    """Print the JSON Schema of study files, for editors."""
    from maple.study.file import StudySpec

    print(json.dumps(StudySpec.model_json_schema(), indent=2, ensure_ascii=False))


@app.command()
def plan(study: StudyPath, data_dir: DataDir = None, as_json: Json = False) -> None:
    """Show what a study will run, skip and need, before anything is paid for."""
    from maple.plan import make_plan
    from maple.plan.show import plan_table
    from maple.study.file import load_study

    with _naming(study):
        spec = load_study(study)
        made = make_plan(spec, _files(spec, study, data_dir))
    if as_json:
        print(json.dumps(made.as_json(), indent=2, ensure_ascii=False))
    else:
        for part in plan_table(made):
            _console().print(part)


@app.command()
def fetch(study: StudyPath, data_dir: DataDir = None) -> None:
    """Fetch everything a study needs, so that it runs offline; writes maple.lock."""
    from maple.run import Progress
    from maple.run.fetch import fetch_study
    from maple.study.file import load_study

    with _naming(study):
        spec = load_study(study)
        fetch_study(spec, _files(spec, study, data_dir), Progress(_console()))


@app.command()
def run(
    study: StudyPath,
    data_dir: DataDir = None,
    out: Out = None,
    limit: Limit = None,
    workers: Workers = 0,
) -> None:
    """Train and score every cell of a study; run it again to go on where it stopped."""
    from maple.study.file import load_study

    with _naming(study):
        spec = load_study(study)
        files = _files(spec, study, data_dir)
        outcome = _run(spec, files, out, limit=limit, workers=workers)
    _finish(outcome)


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
    template: Annotated[
        Literal["plain", "bactrian-x", "alpaca", "chat"],
        typer.Option(help="Wrapped around the prompt."),
    ] = "plain",
    instruction_language: Annotated[
        Literal["english", "native"], typer.Option(help="Of the mega wording.")
    ] = "english",
    choices: Choices = "letter",
    quantization: Annotated[
        str | None,
        typer.Option(help="Default: the adapter's own, else the checkpoint's precision."),
    ] = None,
    split: Annotated[str | None, typer.Option(help="Default: each task's own.")] = None,
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

    files = _data(str(data_dir) if data_dir else "hub", out)
    data = str(data_dir) if data_dir else "hub"
    request = EvaluationRequest(
        model=model,
        adapters=tuple(adapter or ()),
        quantization=quantization,
        evaluations=tuple(
            select_evaluations(tasks.split(","), languages, data=data, split=split, files=files)
        ),
        prompt=PromptSettings(
            form=prompt,
            template=template,
            instruction_language=instruction_language,
            choices=choices,
        ),
        split=split,
        limit=limit,
        batch_size=batch_size,
        allow_mismatch=allow_mismatch,
    )
    outcome = evaluate_models(request, files, out, progress=Progress(_console()))
    print(f"scores: {outcome.out}")
    _exit_on_failures(outcome)


@app.command()
def status(directory: Path) -> None:
    """Show what of a store is done, unfinished, failed and why."""
    from maple.report.status import status_table

    _console().print(status_table(directory))


@app.command()
def report(directory: Path) -> None:
    """Write report.html and tables from a store."""
    from maple.report import write_report

    print(f"report: {write_report(directory)}")


@app.command()
def export(
    directory: Path,
    to: Annotated[Literal["lm-eval"], typer.Option(help="Layout to write.")] = "lm-eval",
    out: Annotated[Path | None, typer.Option(help="Default: <store>/lm-eval.")] = None,
) -> None:
    """Write a store's results in another tool's layout."""
    from maple.evaluate.export import export_lm_eval

    for path in export_lm_eval(directory, out or directory / to):
        print(path)


@app.command("list")
def list_entries(
    kind: Annotated[
        Literal["methods", "tasks", "datasets", "quantization", "models", "languages"],
        typer.Argument(help="What to list."),
    ],
    as_json: Json = False,
) -> None:
    """List what a study may name."""
    from maple.plan.listing import list_rows, listing_table

    if as_json:
        print(json.dumps(list_rows(kind), indent=2, ensure_ascii=False))
    else:
        _console().print(listing_table(kind))


def _run(
    study: StudySpec, files: Files, out: Path | None, *, limit: int | None, workers: int
) -> StudyOutcome:
    from maple.run import Progress, run_study

    target = out or Path("runs") / study.name
    progress = Progress(_console())
    return run_study(study, files, target, limit=limit, workers=workers, progress=progress)


def _finish(outcome: StudyOutcome) -> None:
    from maple.report import write_report

    path = write_report(outcome.out)
    print(f"{outcome.n_done} runs done, {len(outcome.failures)} failed. report: {path}")
    _exit_on_failures(outcome)


def _exit_on_failures(outcome: StudyOutcome) -> None:
    for label, error in outcome.failures:
        print(f"failed: {label}: {error}", file=sys.stderr)
    if outcome.failures:
        raise typer.Exit(1)


@contextmanager
def _naming(study: Path) -> Iterator[None]:
    """Puts the study's file before what is wrong with the study, where it is not named yet."""
    from maple.errors import UsageError

    try:
        yield
    except UsageError as error:
        if str(error).startswith(str(study)):
            raise
        raise type(error)(f"{study}: {error}") from error


def _files(study: StudySpec, path: Path | None, data_dir: Path | None) -> Files:
    folder = path.parent if path else Path.cwd()
    return _data(str(data_dir) if data_dir else study.data, folder)


def _data(data: str, folder: Path) -> Files:
    """Where bytes come from: the Hub with the lock of ``folder``, Atlas, or a directory."""
    from maple import atlas
    from maple.files import Files, Hub, Lock, environment

    hub = Hub(Lock(folder / "maple.lock"))
    if data == "hub":
        return Files(hub=hub)
    if data == "atlas":
        return Files(directory=atlas.build(environment.home() / "maple" / "atlas"), hub=hub)
    return Files(directory=Path(data), hub=hub)


def _console() -> Console:
    from rich.console import Console

    return Console(soft_wrap=True)
