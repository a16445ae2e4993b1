"""Certificates as pages: one self-contained HTML file a task, and an index of them."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import PackageLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup

from maple import languages
from maple.certify.certificate import (
    Certificate,
    Check,
    LanguageCertificate,
    Status,
    worst,
    worst_message,
)
from maple.certify.folder import file_stem, write_certificate, write_text
from maple.errors import CatalogError

_PROMPTS = "prompts"
_SYMBOLS = {"green": "✓", "yellow": "!", "red": "✗", "grey": "–"}
_WORDS = {"green": "passes", "yellow": "passes, with notes", "red": "fails", "grey": "not checked"}


def write_pages(certificates: Sequence[Certificate], folder: Path) -> Path:
    """Writes ``certificate-<task>.html`` and ``.json`` for each, and ``index.html``.

    Returns:
        The path of ``index.html``.

    Raises:
        StoreError: the folder cannot be written.
    """
    for certificate in certificates:
        stem = f"certificate-{file_stem(certificate.task)}"
        write_text(folder / f"{stem}.html", certificate_page(certificate))
        write_certificate(certificate, folder, name=f"{stem}.json")
    return write_text(folder / "index.html", index_page(certificates))


def certificate_page(certificate: Certificate) -> str:
    """A task's certificate as an HTML page that fetches nothing."""
    environment = _environment()
    return environment.get_template("certificate.html.j2").render(
        style=_style(),
        certificate=certificate,
        columns=_columns(certificate),
        cells={entry.language: _cells(entry) for entry in certificate.languages},
        known=[
            (entry, check)
            for entry in certificate.languages
            for check in entry.checks
            if check.is_known
        ],
        not_green=[entry for entry in certificate.languages if entry.status in ("yellow", "red")],
    )


def index_page(certificates: Sequence[Certificate]) -> str:
    """The list of several certificates, each linked by the name ``write_pages`` gives it."""
    environment = _environment()
    codes = sorted({one.language for c in certificates for one in c.languages})
    return environment.get_template("index.html.j2").render(
        style=_style(),
        certificates=certificates,
        codes=codes,
        cells={
            (certificate.task, one.language): one
            for certificate in certificates
            for one in certificate.languages
        },
        status=worst([certificate.status for certificate in certificates]),
    )


def _columns(certificate: Certificate) -> list[str]:
    """Names of the checks that say something in any language, in the order they were made."""
    names: dict[str, bool] = {}
    for language in certificate.languages:
        for name, cell in _cells(language).items():
            names[name] = names.get(name, False) or cell.status != "grey"
    return [name for name, says in names.items() if says]


def _cells(language: LanguageCertificate) -> dict[str, Check]:
    cells = {check.name: check for check in language.checks}
    if language.prompts:
        worded = [form for form in language.prompts if form.status != "grey"]
        status: Status = worst([form.status for form in worded])
        told = "; ".join(f"{form.name}: {form.message}" for form in language.prompts)
        figure = f"{len(worded)} of {len(language.prompts)}"
        cells[_PROMPTS] = Check(name=_PROMPTS, status=status, figure=figure, message=told)
    return cells


def _tells(check: Check) -> bool:
    """Whether a cell needs its figure: a green one without a number says no more than its mark."""
    return check.status != "green" or any(character.isdigit() for character in check.figure)


def _environment() -> SandboxedEnvironment:
    environment = SandboxedEnvironment(
        loader=PackageLoader("maple.certify"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        count=lambda number: f"{number:,}",
        stem=file_stem,
        symbol=_SYMBOLS.__getitem__,
        tells=_tells,
        said=_WORDS.__getitem__,
        name=_language_name,
        direction=_direction,
        tag=_language_tag,
        worst_message=worst_message,
    )
    return environment


def _style() -> Markup:
    file = resources.files("maple.certify") / "templates" / "certificate.css"
    return Markup(file.read_text(encoding="utf-8"))


def _known(code: str) -> Any:
    try:
        return languages.find(code)
    except CatalogError:
        return None


def _language_name(code: str) -> str:
    language = _known(code)
    return language.name if language else code


def _direction(code: str) -> str:
    language = _known(code)
    return "rtl" if language and language.is_right_to_left else "ltr"


def _language_tag(code: str) -> str:
    language = _known(code)
    return language.tag if language else ""
