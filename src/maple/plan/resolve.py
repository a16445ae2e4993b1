"""Fills in what identity needs: commits of models and data sets, hashes of local files."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from maple import atlas, languages
from maple.catalog import entry_names, load_dataset
from maple.catalog.contracts import Dataset
from maple.catalog.load import entry_class
from maple.errors import CatalogError, SourceError, StudyError, unknown_name
from maple.files import Files, environment
from maple.study import Mixture, MixturePart, ModelRef
from maple.study.file import PartSettings

_SAMPLED_BYTES = 1 << 20


class Resolver:
    """Turns names into revisions without touching the network: from the lock or from files."""

    def __init__(self, files: Files) -> None:
        self.files = files
        self.lock = files.hub.lock
        self.notes: list[str] = []
        """What was left out, in words, for the plan to print."""

    def model(self, model: ModelRef) -> ModelRef:
        """The model with its commit (Hub), content hash (local, Atlas), or as it was."""
        path = self.model_directory(model)
        if path is not None:
            return model.model_copy(update={"revision": directory_fingerprint(path)})
        name = f"{model.name}@{model.revision}" if model.revision else model.name
        locked = self.lock.commit("models", name)
        return model.model_copy(update={"revision": locked or model.revision})

    def model_directory(self, model: ModelRef) -> Path | None:
        """The directory of a local model or of a shipped one; None for a Hub repository."""
        if model.name in atlas.BASES:
            return atlas.base_model_path(model.name)
        path = Path(model.name).expanduser()
        return path if (path / "config.json").is_file() else None

    def model_config(self, model: ModelRef) -> Mapping[str, Any] | None:
        """The model's ``config.json`` where it can be read without the network, else None."""
        path = self.model_directory(model)
        commit = self.lock.commit("models", model.name)
        if path is None and commit is not None:
            folder = f"models--{model.name.replace('/', '--')}"
            path = environment.cache() / folder / "snapshots" / commit
        if path is None or not (path / "config.json").is_file():
            return None
        try:
            config = json.loads((path / "config.json").read_text(encoding="utf-8"))
        except ValueError as error:
            raise SourceError(
                f"{path / 'config.json'}: not JSON ({error}). Copy it again."
            ) from error
        return config if isinstance(config, dict) else None

    def model_type(self, model: ModelRef) -> str | None:
        """The config's ``model_type`` where it is known offline."""
        config = self.model_config(model)
        return str(config["model_type"]) if config and "model_type" in config else None

    def mixture(self, name: str, parts: Mapping[str, PartSettings]) -> Mixture:
        """The mixture with canonical languages and revisions.

        Raises:
            CatalogError: no such data set.
            StudyError: a language that a data set does not have; a mixture without languages.
        """
        resolved = []
        for dataset_name, settings in parts.items():
            if dataset_name not in entry_names("datasets"):
                raise CatalogError(unknown_name("dataset", dataset_name, entry_names("datasets")))
            resolved.append(self._part(name, dataset_name, settings))
        return Mixture(name=name, parts=tuple(resolved))

    def _part(self, mixture: str, name: str, settings: PartSettings) -> MixturePart:
        known = [*PartSettings.model_fields, *entry_class("datasets", name).model_fields]
        for key in settings.options:
            if key not in known:
                problem = unknown_name("key", key, known)
                raise StudyError(f"mixture {mixture!r}: {name}: {problem}")
        dataset = load_dataset(name, settings.options)
        chosen = self._languages(mixture, name, dataset, settings)
        return MixturePart(
            dataset=name,
            weight=settings.weight,
            languages=chosen,
            options=settings.options,
            revision=self._revision(dataset, chosen),
        )

    def _languages(
        self, mixture: str, name: str, dataset: Dataset, settings: PartSettings
    ) -> tuple[str, ...]:
        known = dataset.info.languages
        if settings.languages:
            found = (languages.find(alias).code for alias in settings.languages)
            codes = tuple(dict.fromkeys(found))  # two names of one language are one
            absent = [c for c in codes if known and c not in known]
            if absent:
                raise StudyError(
                    f"mixture {mixture!r}: {name} has no {', '.join(absent)}. "
                    f"It has: {', '.join(sorted(known))}."
                )
            return codes
        if not known:
            raise StudyError(
                f"mixture {mixture!r}: {name} does not say its language; add 'languages: [xx]'."
            )
        return self._present(mixture, name, dataset)

    def _present(self, mixture: str, name: str, dataset: Dataset) -> tuple[str, ...]:
        """All the languages of a data set that its source holds; a directory may hold a few."""
        if self.files.directory is None:
            return tuple(sorted(dataset.info.languages))
        present = [c for c in sorted(dataset.info.languages) if self._has(dataset, c)]
        absent = sorted(set(dataset.info.languages) - set(present))
        if not present:
            raise SourceError(
                f"mixture {mixture!r}: {name} has no file in {self.files.directory}. "
                "Check --data-dir, or leave it out to read the Hub."
            )
        if absent:
            self.notes.append(f"{name} in {mixture!r}: no file for {', '.join(absent)}")
        return tuple(present)

    def _has(self, dataset: Dataset, language: str) -> bool:
        try:
            return bool(dataset.paths(self.files, language))
        except SourceError:
            return False

    def _revision(self, dataset: Dataset, codes: tuple[str, ...]) -> str | None:
        repo = dataset.info.hub
        if self.files.directory is None and repo is not None:
            pinned = dataset.info.revision
            name = f"{repo}@{pinned}" if pinned else repo
            return self.lock.commit("datasets", name) or pinned
        paths = sorted({p for code in codes for p in dataset.paths(self.files, code)})
        return self.files.fingerprint(paths)


@functools.cache
def directory_fingerprint(path: Path) -> str:
    """Content hash of a model directory: weights, config and tokenizer.

    A file above 64 MiB is sampled (its size and 64 blocks of 1 MiB, evenly spread), so that a
    7B checkpoint is identified in a second.
    """
    digest = hashlib.sha256()
    for file in sorted(path.glob("*")):
        if file.suffix in {".safetensors", ".json", ".model", ".txt"} and file.is_file():
            digest.update(f"{file.name}\0{file.stat().st_size}\0".encode())
            _hash_file(digest, file)
    return f"sha256:{digest.hexdigest()[:16]}"


def _hash_file(digest: hashlib._Hash, file: Path) -> None:
    size = file.stat().st_size
    with file.open("rb") as stream:
        if size <= 64 * _SAMPLED_BYTES:
            digest.update(stream.read())
            return
        for block in range(64):
            stream.seek(block * (size - _SAMPLED_BYTES) // 63)
            digest.update(stream.read(_SAMPLED_BYTES))
