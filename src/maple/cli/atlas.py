"""``maple atlas``: the embedded world's files and its base models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

app = typer.Typer(help="The embedded world: its files and its base models.")


@app.command("build")
def atlas_build(
    out: Annotated[Path, typer.Option(help="Directory to write; empty or new.")],
) -> None:
    """Write the files of the embedded world; the same bytes every time."""
    from maple import atlas
    from maple.errors import UsageError

    try:
        print(f"{atlas.build(out)}: world version {atlas.world_version()}")
    except FileExistsError as error:
        raise UsageError(f"--out: {error}") from error


@app.command("train-base")
def atlas_train_base(
    out: Annotated[Path, typer.Option(help="Directory for weights, tokenizer, curve.jsonl.")],
    name: Annotated[
        str, typer.Option(help="Whose recipe: atlas-base (default) or atlas-qwen.")
    ] = "",
    minutes: Annotated[
        float | None, typer.Option(help="Length, at 100 steps a minute; default: the recipe's.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Length in optimiser steps; default: the recipe's.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Of documents and first weights; default: the recipe's.")
    ] = None,
) -> None:
    """Train a base of the embedded world by its recipe, from the generator alone.

    The same length and seed give the same weights. The shipped bases are the recipes' full length.
    """
    from maple.atlas import BASES
    from maple.atlas.pretrain import chosen_recipe, train_base

    recipe = chosen_recipe(name or BASES[0], minutes=minutes, steps=steps, seed=seed)
    train_base(recipe, out, lambda row: print(json.dumps(row, ensure_ascii=False), flush=True))
