"""Which evaluations were left off before their last sample, by an early look."""

from __future__ import annotations

from collections.abc import Container, Iterable

from maple.store.read import StoredEvaluation

REST = "another language of this run and task was stopped at an early look"
"""Why a run's whole evaluations are set aside with its parts: what went to the end did so because
its difference was small, so that a mean over it would be too small."""


def is_part(evaluation: StoredEvaluation) -> bool:
    """Whether an early look stopped the evaluation before its last sample."""
    looks = evaluation.spec.get("looks")
    return evaluation.is_done and isinstance(looks, dict) and bool(looks.get("is_part"))


def part_reason(evaluation: StoredEvaluation) -> str:
    """Says at which look a part was stopped, and by what rule."""
    looks = evaluation.spec.get("looks") or {}
    return (
        f"stopped at early look {looks.get('look')} of {len(looks.get('counts') or ())}, "
        f"{looks.get('samples')} of {looks.get('planned')} samples: never averaged with whole "
        "evaluations; its estimate is among the early looks"
    )


def notes_on_parts(
    name: str, evaluations: Iterable[StoredEvaluation], *, whole: Container[tuple[str, str]]
) -> list[str]:
    """Says what of a run is left out of a comparison because of early looks; nothing where none is.

    Args:
        name: the run's.
        evaluations: all of the run.
        whole: task and language of those that are compared.
    """
    parts = {(e.task, e.language) for e in evaluations if is_part(e)}
    left_out = [" ".join(cell) for cell in sorted(parts) if cell not in whole]
    if not left_out:
        return []
    return [
        f"{name}: {', '.join(left_out)} stopped at an early look: these parts, and the run's other "
        "languages of the tasks, are not compared; `maple report` shows their estimates"
    ]
