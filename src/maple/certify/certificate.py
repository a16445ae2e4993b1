"""What a certificate says: plain values, to and from JSON, and a row of it for a table."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from maple.errors import DataError

FORMAT = 1
CHECKS_VERSION = 1
"""Raised when a check changes, so that a stored certificate is made anew."""

Status = Literal["green", "yellow", "red", "grey"]
_ORDER: tuple[Status, ...] = ("grey", "green", "yellow", "red")


@dataclass(frozen=True, kw_only=True)
class Check:
    """One thing that was looked at in one language."""

    name: str
    status: Status
    """Green: as it should be. Yellow: worth knowing. Red: wrong. Grey: nothing to look at."""
    figure: str
    """A few characters for a table's cell: ``5,010 of 5,010``."""
    message: str
    """One sentence."""
    examples: tuple[str, ...] = ()
    is_known: bool = False
    """Whether upstream's release is known to have exactly this, so that it is green."""


@dataclass(frozen=True, kw_only=True)
class PromptForm:
    """How one prompt form words every item of a language."""

    name: str
    status: Status
    rendered: int
    """Items that were worded."""
    digest: str
    """SHA-256 prefix over every worded item; empty where there are none."""
    message: str
    example: str = ""
    """The first item as a model is shown it, without a template."""
    options: tuple[str, ...] = ()
    """The continuations ranked after the example; empty where text is generated."""


@dataclass(frozen=True, kw_only=True)
class LanguageCertificate:
    """One split of a task in one language."""

    language: str
    """Canonical code."""
    split: str
    items: int
    declared: int | None
    data: str
    """Fingerprint of the files read."""
    files: tuple[str, ...]
    checks: tuple[Check, ...]
    prompts: tuple[PromptForm, ...] = ()

    @property
    def findings(self) -> list[Check | PromptForm]:
        """Its checks, then its prompt forms."""
        return [*self.checks, *self.prompts]

    @property
    def status(self) -> Status:
        """The worst of its checks and prompt forms."""
        return worst([found.status for found in self.findings])


@dataclass(frozen=True, kw_only=True)
class Deviation:
    """A known difference between this task and another account of it."""

    against: str
    """``paper``, ``upstream`` or a tool and its version."""
    what: str


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """What was found of one task, in every language that there were files of."""

    task: str
    title: str
    version: int
    headline: str
    chance_level: float | None
    licence: str
    citation: str
    hub: str | None
    revision: str | None
    split: str
    """The split asked for; a language may have had another one only."""
    source: str
    """``directory``, ``hub`` or ``atlas``."""
    tokenizer: str
    """Whose tokens were counted; empty where none were."""
    max_length: int | None
    maple: str
    """Version of Maple."""
    languages: tuple[LanguageCertificate, ...]
    missing: tuple[str, ...]
    """Languages of the benchmark that there were no files of."""
    deviations: tuple[Deviation, ...]
    reason: str = ""
    """Why there are no languages, where there are none."""
    checks_version: int = CHECKS_VERSION
    format: int = FORMAT

    @property
    def status(self) -> Status:
        """The worst of its languages; grey without any."""
        return worst([language.status for language in self.languages])

    @property
    def items(self) -> int:
        """Items in all languages."""
        return sum(language.items for language in self.languages)

    def as_json(self) -> dict[str, Any]:
        """Every field as JSON values, and the ``status`` of the task and of each language."""
        content = asdict(self)
        content["status"] = self.status
        for entry, language in zip(content["languages"], self.languages, strict=True):
            entry["status"] = language.status
        return content

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Certificate:
        """The certificate that ``as_json`` wrote.

        Raises:
            DataError: it is of another format, or has other fields.
        """
        if content.get("format") != FORMAT:
            raise DataError(
                f"a certificate of format {content.get('format')!r}; this Maple reads {FORMAT}. "
                "Run `maple certify` again."
            )
        fields = {key: value for key, value in content.items() if key != "status"}
        try:
            fields["languages"] = tuple(map(_language, fields["languages"]))
            fields["deviations"] = tuple(Deviation(**entry) for entry in fields["deviations"])
            fields["missing"] = tuple(fields["missing"])
            return cls(**fields)
        except (KeyError, TypeError) as error:
            raise DataError(f"not a certificate ({error}). Run `maple certify` again.") from error


def worst(statuses: Iterable[Status]) -> Status:
    """The gravest of several; grey where there are none."""
    return max(statuses, key=_ORDER.index, default="grey")


def worst_message(language: LanguageCertificate) -> str:
    """What stands in the way of green, in words; empty for a green language."""
    if language.status in ("green", "grey"):
        return ""
    found = [entry for entry in language.findings if entry.status == language.status]
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return f"{found[0].name}: {found[0].message}{more}"


def summary_rows(certificates: Iterable[Certificate]) -> list[dict[str, Any]]:
    """A row a task and language: task, language, split, items, declared, status, worst_message."""
    return [
        {
            "task": certificate.task,
            "language": language.language,
            "split": language.split,
            "items": language.items,
            "declared": language.declared,
            "status": language.status,
            "worst_message": worst_message(language),
        }
        for certificate in certificates
        for language in certificate.languages
    ]


def _language(content: Mapping[str, Any]) -> LanguageCertificate:
    fields = {key: value for key, value in content.items() if key != "status"}
    checks = tuple(
        Check(**{**entry, "examples": tuple(entry["examples"])}) for entry in fields.pop("checks")
    )
    prompts = tuple(
        PromptForm(**{**entry, "options": tuple(entry["options"])})
        for entry in fields.pop("prompts")
    )
    files = tuple(fields.pop("files"))
    return LanguageCertificate(**fields, files=files, checks=checks, prompts=prompts)
