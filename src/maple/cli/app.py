"""What the commands share: the program, its options, where files come from, how it ends."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from maple.files import Files
    from maple.run import StudyOutcome
    from maple.study.file import StudySpec

app = typer.Typer(
    name="maple",
    help="Which parameter-efficient fine-tuning, for which languages: one file, one command.",
    epilog="Begin with `maple quickstart`. `maple COMMAND --help` lists a command's options.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

StudyPath = Annotated[Path, typer.Argument(help="Study file (YAML).", show_default=False)]
StoreDirectory = Annotated[Path, typer.Argument(help="Store of a study.", show_default=False)]
DataDir = Annotated[
    Path | None,
    typer.Option(
        envvar="MAPLE_DATA",
        help="Directory of upstream release files, or 'atlas', instead of the Hub.",
    ),
]
Out = Annotated[Path | None, typer.Option(help="Store; default: runs/<study name>.")]
Limit = Annotated[int | None, typer.Option(min=1, help="Samples per task and language, at most.")]
BatchSize = Annotated[
    int | None, typer.Option(min=1, help="Requests per batch at most; default: a token budget.")
]
PromptForm = Annotated[
    Literal["completion", "lm-eval", "mega"], typer.Option(help="Prompt wording.")
]
Choices = Annotated[
    Literal["letter", "cloze"],
    typer.Option(help="Of Belebele: rank letters of listed answers, or the answers themselves."),
]
Template = Annotated[
    Literal["plain", "bactrian-x", "alpaca", "chat"],
    typer.Option(help="What is wrapped around the prompt; plain: nothing."),
]
InstructionLanguage = Annotated[
    Literal["english", "native"],
    typer.Option(help="Of the words around a sample; the lm-eval wording has one of its own."),
]
Split = Annotated[str | None, typer.Option(help="Split to read; default: each task's own.")]
Scoring = Annotated[
    Literal["ranking", "generation"],
    typer.Option(help="A choice: rank its options, or generate and extract the one named."),
]
Unconditional = Annotated[
    bool,
    typer.Option(help="Also score options with nothing before them, for accuracy_pmi."),
]
Shots = Annotated[int, typer.Option(min=0, help="Answered examples before each question.")]
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


@contextmanager
def naming(study: Path) -> Iterator[None]:
    """Puts the study's file before what is wrong with the study, where it is not named yet."""
    from maple.errors import UsageError

    try:
        yield
    except UsageError as error:
        if str(error).startswith(str(study)):
            raise
        raise type(error)(f"{study}: {error}") from error


def study_files(study: StudySpec, path: Path | None, data_dir: Path | None) -> Files:
    """Where a study's bytes come from; a lock lies beside the study's file."""
    folder = path.parent if path else Path.cwd()
    return data_files(str(data_dir) if data_dir else study.data, folder)


def data_files(data: str, folder: Path) -> Files:
    """Where bytes come from: the Hub with the lock of ``folder``, Atlas, or a directory."""
    from maple import atlas
    from maple.files import Files, Hub, Lock, environment

    hub = Hub(Lock(folder / "maple.lock"))
    if data == "hub":
        return Files(hub=hub)
    if data == "atlas":
        return Files(directory=atlas.build(environment.home() / "maple" / "atlas"), hub=hub)
    return Files(directory=Path(data), hub=hub)


def exit_on_failures(outcome: StudyOutcome) -> None:
    """Prints each failed run and exits with 1 where there is any."""
    for label, error in outcome.failures:
        print(f"failed: {label}: {error}", file=sys.stderr)
    if outcome.failures:
        raise typer.Exit(1)


def console() -> Console:
    """The terminal: a line is never broken."""
    from rich.console import Console

    return Console(soft_wrap=True)
