"""What a study may name, as rows: entries of the catalog, languages, tasks by languages."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich import box
from rich.table import Table

from maple import languages
from maple.catalog import entry_names, load_quantizer, load_task
from maple.catalog.load import entry_class
from maple.errors import UsageError

PAPER_TASKS = ("xnli", "xcopa", "belebele", "mlqa", "xquad", "xlsum")
"""The MAPLE paper's tasks; the sixth is inferred."""
_SHOWN_LANGUAGES = 6
"""Codes that a table names of a list of languages; JSON has them all."""


def list_rows(kind: str) -> list[dict[str, Any]]:
    """Rows of one kind of entry, or of ``languages``, as plain JSON values."""
    if kind == "languages":
        return _languages()
    return [{"name": n, "description": _first_sentence(kind, n), **_more(kind, n)}
            for n in entry_names(kind)]  # fmt: skip


def listing_table(kind: str) -> Table:
    """The same rows as a table for the terminal, long lists of languages cut."""
    rows = list_rows(kind)
    table = Table(title=f"{len(rows)} {kind}")
    for column in rows[0] if rows else ():
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_cell(column, value) for column, value in row.items()))
    return table


def task_matrix(tasks: Sequence[str]) -> dict[str, Any]:
    """Every language that any of the tasks has, by resource class, and what each task has in it.

    Args:
        tasks: catalog names, ``mlqa:de`` among them; ``all`` alone means the whole catalog.

    Returns:
        ``languages``: a row per language, whose ``tasks`` maps the tasks that have it to the items
        of their default split, None where upstream declares no number. ``tasks``: split and number
        of languages by task. ``n_languages``: of all tasks together.

    Raises:
        CatalogError: no such task.
        UsageError: no task is named.
    """
    wanted = [task.strip() for task in tasks if task.strip()]
    names = entry_names("tasks") if wanted == ["all"] else list(dict.fromkeys(wanted))
    if not names:
        raise UsageError("--tasks names no task. Write --tasks xnli,xcopa or --tasks all.")
    infos = {name: load_task(name).info for name in names}
    codes = {code for info in infos.values() for code in info.languages}
    entries = sorted((languages.find(code) for code in codes), key=_by_class)
    rows = [
        {
            "code": entry.code,
            "tag": entry.tag,
            "name": entry.name,
            "resource_class": entry.resource_class,
            "tasks": {
                name: info.declared(info.split, entry.code)
                for name, info in infos.items()
                if entry.code in info.languages
            },
        }
        for entry in entries
    ]
    counts = {n: {"split": i.split, "n_languages": len(i.languages)} for n, i in infos.items()}
    return {"languages": rows, "tasks": counts, "n_languages": len(rows)}


def matrix_table(matrix: dict[str, Any]) -> Table:
    """The matrix for the terminal: a dot and the items of the default split, where it has any."""
    names = list(matrix["tasks"])
    what = "the paper's six tasks" if set(names) == set(PAPER_TASKS) else _listed_tasks(names)
    total = f"{what}: {matrix['n_languages']} languages"
    table = Table(caption=total, caption_justify="left", show_footer=True, box=box.SIMPLE_HEAD)
    for column in ("code", "tag", "name", "class"):
        table.add_column(column, no_wrap=True)
    table.columns[0].footer = "languages"
    for name in names:
        n = matrix["tasks"][name]["n_languages"]
        table.add_column(name, footer=str(n), justify="right", no_wrap=True)
    for row in matrix["languages"]:
        facts = (row["code"], row["tag"], row["name"], _shown(row["resource_class"]))
        table.add_row(*facts, *(_mark(row["tasks"], name) for name in names))
    return table


def _by_class(entry: languages.Language) -> tuple[int, str]:
    # Languages that the taxonomy does not list stand last.
    return 6 if entry.resource_class is None else entry.resource_class, entry.code


def _mark(counts: dict[str, int | None], task: str) -> str:
    if task not in counts:
        return ""
    n = counts[task]
    return "●" if n is None else f"● {n:,}"


def _listed_tasks(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} tasks"


def _languages() -> list[dict[str, Any]]:
    tasks = {name: load_task(name).info.languages for name in entry_names("tasks")}
    return [
        {
            "code": entry.code,
            "tag": entry.tag,
            "name": entry.name,
            "script": entry.script,
            "family": entry.family,
            "region": entry.region,
            "resource_class": entry.resource_class,
            "tasks": [name for name, known in tasks.items() if entry.code in known],
        }
        for entry in languages.all_languages()
    ]


def _first_sentence(kind: str, name: str) -> str:
    return (entry_class(kind, name).__doc__ or "").strip().split("\n")[0]


def _more(kind: str, name: str) -> dict[str, Any]:
    entry = entry_class(kind, name)
    if kind == "methods":
        fields = entry.model_fields.items()
        return {"parameters": {k: f.get_default() for k, f in fields if not f.is_required()}}
    if kind == "quantization":
        quantizer = load_quantizer(name)
        return {"bits": quantizer.bits, "bytes_per_weight": quantizer.bytes_per_weight()}
    if kind == "models":
        return {"model_types": list(entry.model_types), "checkpoints": list(entry.known_shapes)}
    info = entry.info
    more = {"licence": info.licence, "hub": info.hub, "languages": sorted(info.languages)}
    if kind == "tasks":
        more |= {"headline": info.headline, "chance_level": info.chance_level, "split": info.split}
    return more


def _cell(column: str, value: Any) -> str:
    if column == "languages" and len(value) > _SHOWN_LANGUAGES:
        return f"{len(value)}: {' '.join(value[:_SHOWN_LANGUAGES])} …"
    return _shown(value)


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(str(v) for v in value)
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items())
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else str(value)
