"""``maple watch``: a live page of a store, on this machine alone."""

from __future__ import annotations

from typing import Annotated

import typer

from maple.cli.app import StoreDirectory

app = typer.Typer()


@app.command()
def watch(
    directory: StoreDirectory,
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port; 0: any free one.")] = 0,
    is_opened: Annotated[bool, typer.Option("--open", help="Open it in the browser.")] = False,
) -> None:
    """Serve a live page of a store on 127.0.0.1.

    Progress, loss, scores so far with their intervals, failures.
    """
    from maple.watch import open_server

    with open_server(directory, port) as server:
        print(f"watching {directory}: {server.url} (Ctrl-C ends it)", flush=True)
        if is_opened:
            typer.launch(server.url)
        server.serve_forever()
