"""What scored, where it was not the reference engine, and what its audit found: one line."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

from maple.report.wording import plural
from maple.store.read import StoredEvaluation


def engines_line(evaluations: Iterable[StoredEvaluation]) -> str:
    """Returns the optional engines with the worst that their audits found; empty: there are none.

    Args:
        evaluations: those that the report shows.
    """
    audits: dict[tuple[str, bool], list[Mapping[str, Any]]] = defaultdict(list)
    for evaluation in evaluations:
        engine, audit = evaluation.spec.get("engine"), evaluation.spec.get("audit")
        if isinstance(engine, str):
            found = audit if isinstance(audit, dict) else {}
            audits[engine, found.get("is_parity") is True].append(found)
    return "; ".join(_worst(engine, is_parity, audits[engine, is_parity])
                     for engine, is_parity in sorted(audits))  # fmt: skip


def _worst(engine: str, is_parity: bool, audits: list[Mapping[str, Any]]) -> str:
    parts = [
        "held against the reference"
        if is_parity
        else "not audited against the reference, asked twice"
    ]
    if decisions := _numbers(audits, "equal_decisions"):
        parts.append(f"at least {min(decisions):.0%} equal decisions")
    if differences := _numbers(audits, "largest_difference"):
        parts.append(f"log-likelihoods per token at most {max(differences):.2g} apart")
    if texts := _numbers(audits, "equal_texts"):
        parts.append(f"at least {min(texts):.0%} equal texts")
    return f"{engine}: {', '.join(parts)} ({plural(len(audits), 'evaluation')})"


def _numbers(audits: list[Mapping[str, Any]], key: str) -> list[float]:
    return [float(a[key]) for a in audits if isinstance(a.get(key), int | float)]
