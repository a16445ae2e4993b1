"""What an early look compares in a study, and how many comparisons share its error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from maple.catalog import load_task
from maple.errors import StudyError
from maple.study import EarlyLook, RunSpec
from maple.study.early_look import BASE


def compared_runs(settings: EarlyLook, runs: Sequence[RunSpec]) -> dict[str, RunSpec]:
    """Returns by run id the run that each is compared with.

    Untouched bases are compared with none and scored wholly: every other delta of a study is taken
    against them.

    Args:
        settings: of the early look.
        runs: all of the study.

    Raises:
        StudyError: ``against`` is no run of the study.
    """
    trained = [run for run in runs if run.is_trained]
    if settings.against == BASE:
        bases = {_place(run): run for run in runs if not run.is_trained}
        return {run.id: bases[_place(run)] for run in trained if _place(run) in bases}
    named = {run.id: run for run in runs}.get(settings.against)
    if named is None:
        raise StudyError(
            f"evaluate.early_look.against is {settings.against!r}, which is no run of this "
            "study: write base, or a run id that `maple plan --json` lists."
        )
    return {run.id: named for run in trained if run.id != named.id}


def count_comparisons(runs: int, tasks: Iterable[str]) -> int:
    """Returns how many comparisons there are.

    Args:
        runs: that are compared with another.
        tasks: the task of each task-language; those that a judge scores are not looked at.
    """
    return runs * sum(not load_task(task).info.is_judged for task in tasks)


def notes_on_early_look(
    settings: EarlyLook | None, runs: Sequence[RunSpec], tasks: Iterable[str]
) -> list[str]:
    """Returns what a plan says of the error that is spent; nothing where nothing is looked at.

    Raises:
        StudyError: a rule that the study cannot have.
    """
    if settings is None:
        return []
    compared = len(compared_runs(settings, runs))
    return [statement(settings, count_comparisons(compared, tasks))]


def statement(settings: EarlyLook, comparisons: int) -> str:
    """Returns in words which error is spent on how many comparisons.

    Raises:
        StudyError: more comparisons than the error is shared among.
    """
    each, spent = settings.alpha_of_each(comparisons), f"two-sided error {settings.alpha:g}"
    if settings.divide == "none":
        return f"early looks: {spent} in each of {comparisons} comparisons"
    return f"early looks: {spent} in {comparisons} comparisons together, {each:.2g} each"


def _place(run: RunSpec) -> tuple[object, str]:
    return run.model, run.quantization
