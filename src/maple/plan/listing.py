"""What a study may name, as rows: entries of the catalog and languages."""

from __future__ import annotations

from typing import Any

from rich.table import Table

from maple import languages
from maple.catalog import entry_names, load_quantizer, load_task
from maple.catalog.load import entry_class


def list_rows(kind: str) -> list[dict[str, Any]]:
    """Rows of one kind of entry, or of ``languages``, as plain JSON values."""
    if kind == "languages":
        return _languages()
    return [{"name": n, "description": _first_sentence(kind, n), **_more(kind, n)}
            for n in entry_names(kind)]  # fmt: skip


def listing_table(kind: str) -> Table:
    """The same rows as a table for the terminal."""
    rows = list_rows(kind)
    table = Table(title=f"{len(rows)} {kind}")
    for column in rows[0] if rows else ():
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in rows:
        table.add_row(*(_shown(v) for v in row.values()))
    return table


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


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(str(v) for v in value)
    if isinstance(value, dict):
        return ", ".join(f"{k}={v}" for k, v in value.items())
    if isinstance(value, float):
        return f"{value:.3g}"
    return "" if value is None else str(value)
