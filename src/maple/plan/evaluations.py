"""Which task is scored in which language, and which is not, with the reason."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from maple import atlas, languages
from maple.catalog import load_task
from maple.catalog.contracts import Task
from maple.errors import SourceError, StudyError
from maple.files import Files
from maple.study.file import EvaluateSettings, StudySpec

ENGLISH = "eng_Latn"


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """One task in one language, that every cell is scored on."""

    task: str
    language: str
    english_only: bool = False


@dataclass(frozen=True, kw_only=True)
class Missing:
    """A task and language that is not scored, and why."""

    task: str
    language: str
    reason: str


def choose_evaluations(study: StudySpec, files: Files) -> tuple[list[Evaluation], list[Missing]]:
    """Returns what every cell of the study is scored on, and what is left out.

    Raises:
        CatalogError: a task or a language that does not exist.
        StudyError: a language that none of the study's tasks has.
    """
    chosen: list[Evaluation] = []
    missing: list[Missing] = []
    settings = study.evaluate
    for name in dict.fromkeys(settings.tasks):
        task = load_task(name)
        if not task.info.languages:
            raise StudyError(f"evaluate.tasks: {name} alone names no benchmark: write {name}:TASK.")
        for code in _wanted(settings, name, task, study.data):
            reason = _why_not(name, code, study, files)
            if reason is None:
                chosen.append(Evaluation(task=name, language=code))
            else:
                missing.append(Missing(task=name, language=code, reason=reason))
    chosen += _english(study, files, chosen, missing)
    _check_languages(settings, chosen, missing)
    return chosen, missing


def task_languages(name: str, task: Task, data: str) -> tuple[str, ...]:
    """Canonical codes a task has: upstream's, or those of the embedded world."""
    return atlas.task_languages(name) if data == "atlas" else tuple(task.info.languages)


def _wanted(settings: EvaluateSettings, name: str, task: Task, data: str) -> Iterable[str]:
    if settings.languages == "all":
        return task_languages(name, task, data)
    # Two aliases may name one language.
    return dict.fromkeys(languages.find(alias).code for alias in settings.languages)


def _why_not(name: str, code: str, study: StudySpec, files: Files) -> str | None:
    task = load_task(name)
    if code not in task_languages(name, task, study.data):
        return "the benchmark has no such language"
    if files.directory is None:
        return None
    try:
        task.paths(files, code, study.evaluate.split or task.info.split)
    except SourceError:
        return "no file in the data directory"
    return None


def _english(
    study: StudySpec, files: Files, chosen: list[Evaluation], missing: list[Missing]
) -> list[Evaluation]:
    added = []
    for name in dict.fromkeys(study.evaluate.english):
        if any(e.task == name and e.language == ENGLISH for e in chosen):
            continue
        reason = _why_not(name, ENGLISH, study, files)
        if reason is None:
            added.append(Evaluation(task=name, language=ENGLISH, english_only=True))
        else:
            missing.append(Missing(task=name, language=ENGLISH, reason=reason))
    return added


def _check_languages(
    settings: EvaluateSettings, chosen: list[Evaluation], missing: list[Missing]
) -> None:
    """A language asked for by name that no task has is a mistake, not a gap."""
    if settings.languages == "all" or not settings.tasks:
        return
    for alias in settings.languages:
        code = languages.find(alias).code
        if not any(e.language == code for e in chosen):
            reasons = sorted({f"{m.task}: {m.reason}" for m in missing if m.language == code})
            raise StudyError(
                f"evaluate.languages: no task of the study has {alias!r} ({code}): "
                f"{'; '.join(reasons)}. `maple list languages` shows what each task has."
            )


def select_evaluations(
    tasks: list[str], chosen: str, *, data: str, split: str | None, files: Files
) -> list[Evaluation]:
    """Tasks x languages as asked for on the command line.

    Args:
        tasks: catalog names.
        chosen: ``all``, or languages separated by commas.
        data: ``hub``, ``atlas`` or a directory.
        split: None for each task's own.
        files: where the bytes come from; a directory may hold a few languages only.

    Raises:
        CatalogError: no such task or language.
        StudyError: a language that a task does not have, or nothing to score.
    """
    names = "all" if chosen == "all" else tuple(chosen.split(","))
    study = StudySpec.model_validate(
        {
            "name": "eval",
            "data": data,
            "models": ["any"],
            "methods": ["none"],
            "evaluate": {"tasks": [t.strip() for t in tasks], "languages": names, "split": split},
        }
    )
    found, missing = choose_evaluations(study, files)
    if not found:
        reasons = sorted({f"{m.task}: {m.reason}" for m in missing})
        raise StudyError(f"nothing to score: {'; '.join(reasons)}. Check --data-dir.")
    return found
