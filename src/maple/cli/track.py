"""``maple track``: a store's runs in an experiment tracker."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer()


@app.command()
def track(
    directory: Annotated[Path, typer.Argument(help="Store of a study.", show_default=False)],
    to: Annotated[
        Literal["mlflow", "trackio", "wandb"], typer.Option(help="Tracker; an extra each.")
    ],
    project: Annotated[
        str | None, typer.Option(help="Experiment or project; default: the study's name.")
    ] = None,
    uri: Annotated[
        str | None, typer.Option(help="Server, or trackio's directory; default: the tracker's own.")
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(min=1, help="Look again after so many seconds, until the study is done."),
    ] = None,
) -> None:
    """Write a store to MLflow, trackio or W&B; run again, it writes what is new."""
    from maple.store.read import open_store
    from maple.trackers import Target, open_tracker, write_study

    name = project or str(open_store(directory).study.get("name") or directory.resolve().name)
    tracker = open_tracker(to, Target(project=name, uri=uri, directory=directory))
    while True:
        done = write_study(directory, tracker)
        report = ", and the report" if done.is_report_written else ""
        print(
            f"{to}: {tracker.place}: {done.written} runs written{report}, {done.unchanged} "
            f"unchanged, {done.waiting} not begun",
            flush=True,
        )
        if every is None or done.is_complete:
            return
        time.sleep(every)
