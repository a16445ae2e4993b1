"""Certifies a task: every language that there are files of, read whole and looked at.

certify ── locate ──> places ── per language: read, word, check ──> traces ── across ──┐
   └────────────────────────────────────────────────────────────> Certificate <────────┘
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from maple import __version__, languages
from maple.catalog import load_task
from maple.catalog.contracts import Sample, Task
from maple.certify.across import Trace, across_checks, trace_of
from maple.certify.answers import answer_checks
from maple.certify.certificate import CHECKS_VERSION, Certificate, Check, LanguageCertificate
from maple.certify.characters import character_checks
from maple.certify.deviations import deviations_of, mark_known
from maple.certify.folder import read_certificate, write_certificate
from maple.certify.identify import language_check
from maple.certify.items import item_checks
from maple.certify.labels import label_checks
from maple.certify.lengths import TokenCounter, length_checks
from maple.certify.locate import Place, is_atlas, locate
from maple.certify.prompts import word_all
from maple.certify.reading import Reading
from maple.certify.spans import span_check
from maple.errors import DataError, SourceError, UsageError
from maple.files import Files


def certify(
    task_name: str,
    files: Files,
    *,
    wanted: Sequence[str] | None = None,
    split: str | None = None,
    counter: TokenCounter | None = None,
) -> Certificate:
    """Checks a task in every language that there are files of.

    Args:
        task_name: catalog name, with ``:argument`` for a variant.
        files: where the benchmark's bytes come from.
        wanted: canonical codes; None for all.
        split: None for the task's own or, in a directory without it, another one.
        counter: counts tokens; None: lengths are not looked at.

    Returns:
        The certificate; without any language, and with the reason, where there are no files.

    Raises:
        CatalogError: no task has that name.
        SourceError: the Hub cannot be reached.
        UsageError: the task has no such split or variant.
    """
    task = load_task(task_name)
    places, missing, reason = locate(task_name, task, files, wanted=wanted, split=split)
    certified = [_certify_language(task_name, task, files, place, counter) for place in places]
    across = across_checks([trace for _, trace in certified if trace is not None])
    blank = _blank(task_name, task, files)
    return replace(
        blank,
        split=split or task.info.split,
        tokenizer=counter.name if counter else "",
        max_length=counter.max_length if counter else None,
        languages=tuple(
            replace(one, checks=(*one.checks, *across.get(one.language, ())))
            for one, _ in certified
        ),
        missing=tuple(missing),
        reason="" if places else reason,
    )


def without_files(task_name: str, files: Files, reason: str) -> Certificate:
    """The certificate of a task that could not be looked at, and why."""
    try:
        task = load_task(task_name)
    except UsageError:
        task = None
    return replace(_blank(task_name, task, files), reason=reason)


def certify_study(
    evaluations: Iterable[tuple[str, str]],
    files: Files,
    folder: Path,
    *,
    split: str | None = None,
    counter: TokenCounter | None = None,
) -> list[Certificate]:
    """Certifies what a study was scored on and keeps each task's certificate in a folder.

    A certificate that is there already, of the same files and checks, is not made again.

    Args:
        evaluations: (task, language) of every evaluation.
        files: where the benchmarks' bytes come from.
        folder: ``<store>/certificates``.
        split: the study's; None for each task's own.
        counter: counts tokens as the study's base does.

    Raises:
        StoreError: the folder cannot be written.
    """
    chosen: dict[str, list[str]] = {}
    for task, language in evaluations:
        chosen.setdefault(task, []).append(language)
    found = []
    for task, codes in chosen.items():
        wanted = list(dict.fromkeys(codes))
        stored = read_certificate(folder, task)
        if stored is None or not _is_current(stored, files, wanted, split, counter):
            stored = certify(task, files, wanted=wanted, split=split, counter=counter)
            write_certificate(stored, folder)
        found.append(stored)
    return found


def _blank(task_name: str, task: Task | None, files: Files) -> Certificate:
    info = task.info if task else None
    return Certificate(
        task=task_name,
        title=(type(task).__doc__ or "").strip().split("\n")[0].replace("``", "") if task else "",
        version=info.version if info else 0,
        headline=info.headline if info else "",
        chance_level=info.chance_level if info else None,
        licence=info.licence if info else "",
        citation=info.citation if info else "",
        hub=info.hub if info else None,
        revision=info.revision if info else None,
        split=info.split if info else "",
        source="atlas" if is_atlas(files) else files.label,
        tokenizer="",
        max_length=None,
        maple=__version__,
        languages=(),
        missing=(),
        deviations=deviations_of(task_name),
    )


def _is_current(
    stored: Certificate,
    files: Files,
    wanted: Sequence[str],
    split: str | None,
    counter: TokenCounter | None,
) -> bool:
    """Whether certifying again would say the same."""
    task = load_task(stored.task)
    made_by = (CHECKS_VERSION, __version__, task.info.version, split or task.info.split)
    counted = (counter.name, counter.max_length) if counter else ("", None)
    if (stored.checks_version, stored.maple, stored.version, stored.split) != made_by:
        return False
    if (stored.tokenizer, stored.max_length) != counted:
        return False
    try:
        now = {
            code: files.fingerprint(task.paths(files, code, split or task.info.split))
            for code in wanted
        }
    except (DataError, SourceError):
        return False
    return now == {language.language: language.data for language in stored.languages}


def _certify_language(
    name: str, task: Task, files: Files, place: Place, counter: TokenCounter | None
) -> tuple[LanguageCertificate, Trace | None]:
    declared = None if is_atlas(files) else task.info.declared(place.split, place.language)
    shared = LanguageCertificate(
        language=place.language,
        split=place.split,
        items=0,
        declared=declared,
        data=files.fingerprint(place.paths) if place.paths else "",
        files=tuple(_file_name(path, files) for path in place.paths),
        checks=(),
    )
    try:
        samples = _read(task, files, place)
    except (DataError, SourceError) as error:
        return replace(shared, checks=(_unreadable(error),)), None
    reading = Reading(
        name=name,
        task=task,
        language=languages.find(place.language),
        split=place.split,
        samples=samples,
        paths=place.paths,
    )
    prompts = tuple(word_all(reading))
    found = (_readable(place), *_checks(reading, declared, counter))
    checks = mark_known(name, place.split, place.language, found)
    done = replace(shared, items=len(samples), checks=checks, prompts=prompts)
    return done, trace_of(reading)


def _read(task: Task, files: Files, place: Place) -> tuple[Sample, ...]:
    if place.broken is not None:
        raise place.broken
    samples = tuple(task.samples(files, place.language, place.split))
    if not samples:
        raise DataError(f"{place.paths[0]}: holds no items. Fetch it again, or remove it.")
    return samples


def _checks(reading: Reading, declared: int | None, counter: TokenCounter | None) -> list[Check]:
    # The prompts are worded before: options and requests are what several of these look at.
    return [
        *item_checks(reading, declared),
        *label_checks(reading),
        span_check(reading),
        *character_checks(reading),
        language_check(reading),
        *length_checks(reading, counter),
        *answer_checks(reading),
    ]


def _readable(place: Place) -> Check:
    if place.split == place.asked:
        message = f"The {place.split} split is read whole."
        return Check(name="files", status="green", figure=place.split, message=message)
    return Check(
        name="files",
        status="yellow",
        figure=place.split,
        message=f"The {place.asked} split is not there; {place.split} is certified.",
    )


def _unreadable(error: Exception) -> Check:
    return Check(name="files", status="red", figure="broken", message=str(error))


def _file_name(path: Path, files: Files) -> str:
    if files.directory is not None and path.is_relative_to(files.directory):
        return path.relative_to(files.directory).as_posix()
    return path.name
