"""Which languages and splits of a task there are files of."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from maple import atlas, languages
from maple.catalog.contracts import Task
from maple.errors import DataError, SourceError, UsageError
from maple.files import Files

_ATLAS_MARK = "ATLAS.json"
"""The file that the embedded world's directory is known by."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """The files of one language and split."""

    language: str
    split: str
    asked: str
    """The split that was looked for first."""
    paths: tuple[Path, ...] = ()
    broken: DataError | None = None
    """Why not even the files can be named: a task may look into one to find another."""


def is_atlas(files: Files) -> bool:
    """Whether the files are the embedded world's, which has counts of its own."""
    return files.directory is not None and (files.directory / _ATLAS_MARK).is_file()


def locate(
    name: str, task: Task, files: Files, *, wanted: Sequence[str] | None, split: str | None
) -> tuple[list[Place], list[str], str]:
    """Finds the files of a task.

    In a directory the benchmark's other splits are looked for where the default one is not there,
    and languages beyond the benchmark's own where a file is named as theirs would be.

    Args:
        name: the task's, as it was asked for.
        task: the benchmark.
        files: where bytes come from.
        wanted: canonical codes; None for every language that there are files of.
        split: None for the task's own.

    Returns:
        Places by language; the languages without files; and why the first of those has none.

    Raises:
        SourceError: the Hub cannot give the first language's files.
        UsageError: the task has no such split.
    """
    if wanted is None and not task.info.languages:
        return [], [], f"It stands for many tasks; name one: {name}:NAME."
    splits = [split] if split else [task.info.split]
    if split is None and files.directory is not None:
        splits += [name for name in task.info.samples if name != task.info.split]
    # The world names its own languages; one of XCOPA's shares a file name with another of its.
    has = atlas.task_languages(name) if is_atlas(files) else tuple(task.info.languages)
    own = [code for code in wanted or has if code in has]
    places: list[Place] = []
    missing: list[str] = []
    reason = ""
    for code in own:
        try:
            places.append(_find(task, files, code, splits))
        except SourceError as error:
            if files.directory is None and not places:
                raise
            missing.append(code)
            reason = reason or str(error)
    others = list(wanted or map(_code, languages.all_languages()))
    if not is_atlas(files):
        places += _beyond(task, files, splits, [code for code in others if code not in has])
    found = {place.language for place in places}
    missing += [code for code in wanted or () if code not in found and code not in missing]
    if not places:
        reason = reason or "The benchmark has none of these languages."
    return sorted(places, key=lambda place: place.language), missing, reason


def _beyond(
    task: Task, files: Files, splits: Sequence[str], codes: Sequence[str]
) -> Iterator[Place]:
    """Of languages that the benchmark does not have, those that this directory does."""
    if files.directory is None or not codes:
        return
    # One file may hold all languages, as XNLI-1.0's does; then it is none of these.
    claimed: set[Path] = set()
    for code in task.info.languages:
        with contextlib.suppress(SourceError):
            # The first file is the language's own; further ones may be another's, for its labels.
            claimed.update(_find(task, files, code, splits).paths[:1])
    for code in codes:
        try:
            place = _find(task, files, code, splits)
        except (SourceError, UsageError):
            continue
        if place.paths and place.paths[0] not in claimed:
            claimed.add(place.paths[0])
            yield place


def _code(language: languages.Language) -> str:
    return language.code


def _find(task: Task, files: Files, language: str, splits: Sequence[str]) -> Place:
    first: SourceError | None = None
    for split in splits:
        place = Place(language=language, split=split, asked=splits[0])
        try:
            return replace(place, paths=tuple(task.paths(files, language, split)))
        except SourceError as error:
            first = first or error
        except DataError as error:
            return replace(place, broken=error)
    assert first is not None
    raise first
