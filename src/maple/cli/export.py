"""``maple export``: results or adapters in the layout of another tool."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from maple.cli.app import console

app = typer.Typer()

Source = Annotated[
    Path,
    typer.Argument(help="A store, runs/ID of one, or a directory that `maple train` made."),
]
Layout = Annotated[Literal["lm-eval", "peft", "merged"], typer.Option(help="Layout to write.")]
Out = Annotated[
    Path | None, typer.Option(help="New directory; only lm-eval has a default, <store>/lm-eval.")
]
Run = Annotated[str | None, typer.Option(help="Of a store: the run whose adapter is meant.")]
Dtype = Annotated[Literal["bf16", "fp32"], typer.Option(help="Of merged weights.")]
Onto16Bit = Annotated[
    bool,
    typer.Option(
        "--onto-16bit", help="Merge an adapter of an 8- or 4-bit base into the 16-bit base."
    ),
]
Base = Annotated[
    str | None, typer.Option("--model", help="Where the base is now; default: where it was.")
]


@app.command()
def export(
    source: Source,
    to: Layout = "lm-eval",
    out: Out = None,
    run: Run = None,
    dtype: Dtype = "bf16",
    onto_16bit: Onto16Bit = False,
    model: Base = None,
) -> None:
    """Write results, or a trained adapter, for another tool.

    lm-eval: the harness's result files. peft: an adapter, checked and copied. merged: base and
    adapter in one model.
    """
    from maple.errors import UsageError

    if to == "lm-eval":
        from maple.evaluate.export import export_lm_eval

        for path in export_lm_eval(source, out or source / to):
            print(path)
        return
    if out is None:
        raise UsageError(f"--to {to} writes a new directory: name it with --out.")
    from maple.files import Files
    from maple.run import Progress
    from maple.run.export import export_peft, find_adapter
    from maple.run.merge import export_merged

    progress = Progress(console())
    files = Files()
    adapter = find_adapter(source, files, run=run, model=model)
    if to == "peft":
        written = export_peft(adapter, files, out, progress=progress)
    else:
        written = export_merged(
            adapter, files, out, dtype=dtype, onto_16bit=onto_16bit, progress=progress
        )
    print(f"{to}: {written}")
