"""Commands that take a study: write one, plan, fetch and run it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maple.cli.app import (
    DataDir,
    Json,
    Limit,
    Out,
    StudyPath,
    Workers,
    console,
    exit_on_failures,
    naming,
    study_files,
)

if TYPE_CHECKING:
    from maple.files import Files
    from maple.run import StudyOutcome
    from maple.run.nursery import Nursery
    from maple.study.file import StudySpec

app = typer.Typer()


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
    with _nursery(workers) as nursery:
        from maple import atlas
        from maple.study.file import load_study

        study = load_study(Path(atlas.__file__).parent / "quickstart.yaml")
        if languages:
            chosen = "all" if languages == "all" else tuple(languages.split(","))
            evaluate = study.evaluate.model_copy(update={"languages": chosen})
            study = study.model_copy(update={"evaluate": evaluate})
        files = study_files(study, None, None)
        outcome = _run(study, files, out, limit=limit, workers=workers, nursery=nursery)
    _finish(outcome)


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
    """Show what a study will run, skip and need; runs nothing."""
    from maple.plan import make_plan
    from maple.plan.show import plan_table
    from maple.study.file import load_study

    with naming(study):
        spec = load_study(study)
        made = make_plan(spec, study_files(spec, study, data_dir))
    if as_json:
        print(json.dumps(made.as_json(), indent=2, ensure_ascii=False))
    else:
        for part in plan_table(made):
            console().print(part)


@app.command()
def fetch(study: StudyPath, data_dir: DataDir = None) -> None:
    """Fetch everything a study needs, so that it runs offline.

    Writes maple.lock beside the study: the commit of every model and data set.
    """
    from maple.run import Progress
    from maple.run.fetch import fetch_study
    from maple.study.file import load_study

    with naming(study):
        spec = load_study(study)
        fetch_study(spec, study_files(spec, study, data_dir), Progress(console()))


@app.command()
def run(
    study: StudyPath,
    data_dir: DataDir = None,
    out: Out = None,
    limit: Limit = None,
    workers: Workers = 0,
) -> None:
    """Train and score every cell of a study.

    Run it again to go on where it stopped.
    """
    with _nursery(workers) as nursery, naming(study):
        from maple.study.file import load_study

        spec = load_study(study)
        files = study_files(spec, study, data_dir)
        outcome = _run(spec, files, out, limit=limit, workers=workers, nursery=nursery)
    _finish(outcome)


@contextmanager
def _nursery(workers: int) -> Iterator[Nursery | None]:
    """Begins at once what imports the libraries of the workers, beside what comes first here."""
    from maple.run.nursery import open_nursery

    nursery = open_nursery(workers)
    try:
        yield nursery
    finally:
        if nursery is not None:
            nursery.close()


def _run(
    study: StudySpec,
    files: Files,
    out: Path | None,
    *,
    limit: int | None,
    workers: int,
    nursery: Nursery | None,
) -> StudyOutcome:
    from maple.run import Progress, run_study

    target = out or Path("runs") / study.name
    progress = Progress(console())
    return run_study(
        study, files, target, limit=limit, workers=workers, nursery=nursery, progress=progress
    )


def _finish(outcome: StudyOutcome) -> None:
    from maple.report import write_report

    path = write_report(outcome.out, has_drawings=False)
    print(f"{outcome.n_done} runs done, {len(outcome.failures)} failed. report: {path}")
    exit_on_failures(outcome)
