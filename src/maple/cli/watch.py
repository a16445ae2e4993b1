"""``maple watch``: a live page of a store, on this machine alone."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer()


@app.command()
def watch(
    directory: Annotated[Path, typer.Argument(help="Store of a study.", show_default=False)],
    port: Annotated[int, typer.Option(min=0, max=65535, help="0: any free one.")] = 0,
    is_opened: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Serve a live page of a store on 127.0.0.1: progress, loss, scores so far, failures."""
    from maple.watch import open_server

    with open_server(directory, port) as server:
        print(f"watching {directory}: {server.url} (Ctrl-C ends it)", flush=True)
        if is_opened:
            typer.launch(server.url)
        server.serve_forever()
