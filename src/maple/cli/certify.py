"""The command that checks benchmarks before anything is scored on them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from maple.cli.app import DataDir, Json, Split, console, data_files

if TYPE_CHECKING:
    from maple.certify import Certificate, TokenCounter
    from maple.files import Files

app = typer.Typer()


@app.command()
def certify(
    tasks: Annotated[
        list[str] | None, typer.Argument(help="Tasks to check.", show_default=False)
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Every task of the catalog.")] = False,
    data_dir: DataDir = None,
    languages: Annotated[str, typer.Option(help="Languages, comma-separated, or 'all'.")] = "all",
    split: Split = None,
    tokenizer: Annotated[
        str | None,
        typer.Option(
            help="Whose tokens: directory or Hub repository; default: atlas-base, as a stand-in."
        ),
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(min=2, help="Tokens that fit; default: the model's own length.")
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of the pages.")] = Path("certificates"),
    as_json: Json = False,
) -> None:
    """Check tasks in every language; write a certificate of each.

    Exit code 1 where a check is red.
    """
    from maple.certify import load_counter, summary_rows, write_pages
    from maple.errors import UsageError

    if bool(tasks) == every:
        raise UsageError("name tasks, or --all of them: `maple certify xnli xcopa`.")
    codes = _codes(languages)
    files = data_files(str(data_dir) if data_dir else "hub", Path.cwd())
    counter = load_counter(tokenizer, max_length)
    if every:
        certificates = _every(files, codes, split, counter)
    else:
        certificates = _named(tasks or [], files, codes, split, counter)
    page = write_pages(certificates, out)
    if as_json:
        print(json.dumps(summary_rows(certificates), indent=1, ensure_ascii=False))
    else:
        _print(certificates)
        print(f"certificates: {page}")
    if any(certificate.status == "red" for certificate in certificates):
        raise typer.Exit(1)


def _codes(languages: str) -> list[str] | None:
    from maple.languages import find

    if languages == "all":
        return None
    return list(dict.fromkeys(find(name).code for name in languages.split(",")))


def _named(
    tasks: list[str],
    files: Files,
    codes: list[str] | None,
    split: str | None,
    counter: TokenCounter,
) -> list[Certificate]:
    from maple.certify import certify as certify_task
    from maple.errors import SourceError

    found = []
    for task in dict.fromkeys(tasks):
        certificate = certify_task(task, files, wanted=codes, split=split, counter=counter)
        if not certificate.languages:
            raise SourceError(f"{task}: no files to certify. {certificate.reason}".strip())
        found.append(certificate)
    return found


def _every(
    files: Files, codes: list[str] | None, split: str | None, counter: TokenCounter
) -> list[Certificate]:
    from maple.catalog import entry_names, load_task
    from maple.certify import certify as certify_task
    from maple.certify import without_files
    from maple.errors import SourceError, UsageError

    found = []
    for task in entry_names("tasks"):
        try:
            load_task(task)
            found.append(certify_task(task, files, wanted=codes, split=split, counter=counter))
        except (SourceError, UsageError) as error:
            # No such split, or a task that is nothing without an argument.
            found.append(without_files(task, files, str(error)))
    if not any(certificate.languages for certificate in found):
        raise SourceError(f"no task has files to certify. {found[0].task}: {found[0].reason}")
    return found


def _print(certificates: list[Certificate]) -> None:
    from rich.markup import escape
    from rich.table import Table

    from maple.certify import worst_message

    table = Table("task", "split", "languages", "items", "status", "checks that are not green")
    for certificate in certificates:
        splits = sorted({language.split for language in certificate.languages})
        status = certificate.status if certificate.languages else "no files"
        table.add_row(
            certificate.task,
            ", ".join(splits),
            str(len(certificate.languages)),
            f"{certificate.items:,}",
            status,
            escape(_not_green(certificate)),
        )
    terminal = console()
    terminal.print(table)
    for certificate in certificates:
        for language in certificate.languages:
            if language.status == "red":
                where = f"{certificate.task} {language.language}"
                terminal.print(f"red: {where}: {escape(worst_message(language))}", highlight=False)


def _not_green(certificate: Certificate) -> str:
    counts: dict[str, int] = {}
    for language in certificate.languages:
        for check in language.findings:
            if check.status in ("yellow", "red"):
                counts[check.name] = counts.get(check.name, 0) + 1
    return ", ".join(f"{name} {count}" for name, count in counts.items())
