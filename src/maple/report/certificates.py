"""Whether the benchmarks were whole and read as declared: their certificates, per task."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from maple.analysis.groups import facts
from maple.certify import Certificate, read_certificates, summary_rows
from maple.errors import DataError
from maple.report.wording import count

STATUS_NAMES = {
    "green": "whole",
    "yellow": "with notes",
    "red": "not whole",
    "grey": "not looked at",
}


def certificate_section(folder: Path) -> dict[str, Any]:
    """Returns per task its languages by status, what stands in the way, and known deviations.

    Args:
        folder: ``<store>/certificates``; without one there is nothing to show.
    """
    try:
        certificates = read_certificates(folder)
    except DataError as error:
        return {"tasks": [], "problem": str(error)}
    return {"tasks": [_task(c) for c in certificates], "problem": ""}


def _task(certificate: Certificate) -> dict[str, Any]:
    rows = summary_rows([certificate])
    by_status = {status: sum(row["status"] == status for row in rows) for status in STATUS_NAMES}
    return {
        "task": certificate.task,
        "status": STATUS_NAMES[certificate.status],
        "split": certificate.split,
        "items": count(certificate.items),
        "languages": len(rows),
        "counts": [f"{n} {STATUS_NAMES[s]}" for s, n in by_status.items() if n],
        "findings": _findings(rows),
        "deviations": [f"{d.against}: {d.what}" for d in certificate.deviations],
    }


def _findings(rows: list[dict[str, Any]]) -> list[tuple[str, str]]:
    """Each message once, the gravest first, with the languages that it holds of."""
    found: dict[tuple[bool, str], list[str]] = {}
    for row in rows:
        if row["worst_message"]:
            key = (row["status"] != "red", row["worst_message"])
            found.setdefault(key, []).append(facts(row["language"]).name)
    return [
        (", ".join(names) if len(names) <= 6 else f"{len(names)} languages", message)
        for (_, message), names in sorted(found.items())
    ]
