"""``maple track``: a store's runs in an experiment tracker."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import typer

from maple.cli.app import StoreDirectory

app = typer.Typer()


@app.command()
def track(
    directory: StoreDirectory,
    to: Annotated[
        Literal["mlflow", "trackio", "wandb"],
        typer.Option(help="Tracker; each needs its library: pip install 'maple-peft[mlflow]'."),
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
    """Write a store to MLflow, trackio or W&B.

    Run again, it writes what is new.
    """
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
