"""Finds and loads a catalog entry by its file name; there is no registry to fill.

Folders named in ``MAPLE_CATALOG`` (separated like ``PATH``) are searched after the package's
own: a method of one's own is one file in ``<folder>/methods/``.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from pydantic import BaseModel, ValidationError

from maple.catalog.contracts import Dataset, Method, ModelFamily, Quantizer, Task
from maple.errors import CatalogError, StudyError, UsageError, unknown_name

KINDS: Mapping[str, type] = {
    "models": ModelFamily,
    "methods": Method,
    "quantization": Quantizer,
    "datasets": Dataset,
    "tasks": Task,
}
"""Folder of the catalog -> the contract its entries fulfil."""


_PACKAGES = {"torchao": "'maple-peft[quantization]'"}
"""What to install for a library that is no dependency, where that is not its own name."""


def entry_names(kind: str) -> list[str]:
    """Names of every entry of a kind, sorted: ``entry_names("methods")`` -> full, lora, none."""
    return sorted(_files(kind))


def load_method(name: str, parameters: Mapping[str, Any] | None = None) -> Method:
    """Returns a method with its hyper-parameters checked and defaults filled in.

    Raises:
        CatalogError: no method has that name.
        StudyError: a hyper-parameter is unknown or out of range; names it.
    """
    method: Method = _configured(entry_class("methods", name), name, parameters or {})
    return method


def load_dataset(name: str, options: Mapping[str, Any] | None = None) -> Dataset:
    """Returns a data set with its options checked.

    Raises:
        CatalogError: no data set has that name.
        StudyError: an option is unknown or of the wrong type; names it.
    """
    dataset: Dataset = _configured(entry_class("datasets", name), name, options or {})
    return dataset


def load_task(name: str) -> Task:
    """Returns a task, or of ``task:argument`` that variant of it.

    Raises:
        CatalogError: none has that name.
        UsageError: the task has no such variant.
    """
    entry, colon, argument = name.partition(":")
    found: type[Task] = entry_class("tasks", entry)
    try:
        return found.with_argument(argument) if colon else found()
    except UsageError as error:
        raise UsageError(f"{name}: {error}") from error


def load_quantizer(name: str) -> Quantizer:
    """Returns a quantizer. Raises ``CatalogError`` when none has that name."""
    quantizer: Quantizer = entry_class("quantization", name)()
    return quantizer


def missing_library(quantizer: Quantizer) -> str | None:
    """Why a quantizer does not run in this installation; None where its package is there."""
    library = quantizer.library
    if importlib.util.find_spec(library) is not None:
        return None
    return f"{library} is not installed. Run: pip install {_PACKAGES.get(library, library)}"


def load_family(name: str) -> ModelFamily:
    """Returns a model family. Raises ``CatalogError`` when none has that name."""
    family: ModelFamily = entry_class("models", name)()
    return family


def family_for(*, model_type: str | None = None, model_name: str | None = None) -> ModelFamily:
    """Returns the family of a config's ``model_type`` or of a known checkpoint's name.

    Falls back to ``generic`` where neither is known.
    """
    for name in entry_names("models"):
        family = load_family(name)
        if model_type in family.model_types or model_name in family.known_shapes:
            return family
    return load_family("generic")


def _configured(entry: Any, name: str, parameters: Mapping[str, Any]) -> Any:
    try:
        return entry(**parameters)
    except ValidationError as error:
        raise StudyError(_explain(entry, name, error)) from None


def _explain(entry: type[BaseModel], name: str, error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"{name}: " + unknown_name("parameter", key, entry.model_fields)
    if first["type"] == "missing":
        return f"{name}: parameter {key!r} is required."
    message = first["msg"].removeprefix("Value error, ")
    if not key:  # of several fields together
        return f"{name}: {message}."
    return f"{name}: {key} = {first.get('input')!r}: {message}."


@functools.cache
def _package_files(kind: str) -> dict[str, str]:
    folder = Path(__file__).parent / kind
    return {_name(p): f"maple.catalog.{kind}.{p.stem}" for p in folder.glob("[!_]*.py")}


def _files(kind: str) -> dict[str, str | Path]:
    found: dict[str, str | Path] = {}
    for folder in reversed(os.environ.get("MAPLE_CATALOG", "").split(os.pathsep)):
        if folder:
            found |= {_name(p): p for p in (Path(folder) / kind).glob("[!_]*.py")}
    return found | _package_files(kind)


def _name(path: Path) -> str:
    return path.stem.replace("_", "-")


def entry_class(kind: str, name: str) -> Any:
    """Returns the class that an entry's file defines.

    Raises:
        CatalogError: no such entry, or a file that does not define exactly one.
    """
    files = _files(kind)
    if name not in files:
        raise CatalogError(unknown_name(kind.removesuffix("s"), name, files))
    module = _module(files[name])
    contract = KINDS[kind]
    found = [
        c
        for c in vars(module).values()
        if inspect.isclass(c) and issubclass(c, contract) and c.__module__ == module.__name__
        and not inspect.isabstract(c)
    ]  # fmt: skip
    if len(found) != 1:
        raise CatalogError(
            f"{module.__file__} must define exactly one {contract.__name__}; "
            f"it defines {len(found)}."
        )
    return found[0]


def _module(source: str | Path) -> ModuleType:
    if isinstance(source, str):
        return importlib.import_module(source)
    name = f"maple_user_catalog.{source.parent.name}.{source.stem}"
    if name in sys.modules and sys.modules[name].__file__ == str(source):
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, source)
    if spec is None or spec.loader is None:
        raise CatalogError(f"{source} cannot be loaded as a Python file.")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[name]
        reason = f"{type(error).__name__}: {error}"
        raise CatalogError(f"{source} cannot be imported: {reason}") from error
    return module
