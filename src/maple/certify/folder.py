"""Certificates in a folder: a JSON file a task, written whole or not at all."""

from __future__ import annotations

import json
from pathlib import Path

from maple.certify.certificate import Certificate
from maple.errors import DataError
from maple.files import write


def file_stem(task: str) -> str:
    """A task's name as part of a file's: ``mlqa:en`` -> ``mlqa-en``."""
    return "".join(c if c.isalnum() or c in "._-" else "-" for c in task)


def write_certificate(certificate: Certificate, folder: Path, *, name: str | None = None) -> Path:
    """Writes ``<folder>/<task>.json``, or a file of another name, and returns its path.

    Raises:
        StoreError: the folder cannot be written.
    """
    text = json.dumps(certificate.as_json(), indent=1, ensure_ascii=False)
    return write_text(folder / (name or f"{file_stem(certificate.task)}.json"), f"{text}\n")


def read_certificates(folder: Path) -> list[Certificate]:
    """The certificates of a folder, sorted by task; none where there is no such folder.

    Raises:
        DataError: a file that is not a certificate.
    """
    found = [_read(path) for path in sorted(folder.glob("*.json"))]
    return sorted(found, key=lambda certificate: certificate.task)


def read_certificate(folder: Path, task: str) -> Certificate | None:
    """The certificate of a task; None where there is none that this Maple can read."""
    path = folder / f"{file_stem(task)}.json"
    try:
        return _read(path) if path.is_file() else None
    except DataError:
        return None


def write_text(path: Path, text: str) -> Path:
    """Writes UTF-8, replacing what stood there; makes the folder if need be.

    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    return write.write_text(path, text, advice="Name another folder, or make room.")


def _read(path: Path) -> Certificate:
    try:
        return Certificate.from_json(json.loads(path.read_text(encoding="utf-8")))
    except (ValueError, AttributeError) as error:
        raise DataError(f"{path}: not JSON ({error}). Run `maple certify` again.") from error
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
