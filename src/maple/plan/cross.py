"""Crosses the factors of a study into cells, collapses what a factor cannot affect."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from maple.catalog import entry_names, family_for, load_family, load_method, load_quantizer
from maple.catalog.contracts import Method, ModelFamily
from maple.catalog.load import entry_class
from maple.catalog.stored import other_bits, plain_weights
from maple.errors import CatalogError, StudyError, unknown_name
from maple.plan.resolve import Resolver
from maple.plan.training import check_validation, training_conflict
from maple.study import MethodRef, Mixture, ModelRef, RunSpec
from maple.study.file import StudySpec


@dataclass(frozen=True, kw_only=True)
class Cell:
    """One run to be trained (or the untouched base) and scored."""

    run: RunSpec
    label: str
    stands_for: int = 1
    """Crossed combinations this one run answers; above 1 where a factor cannot affect it."""


@dataclass(frozen=True, kw_only=True)
class Skip:
    """A combination that cannot be run, and why."""

    cell: str
    reason: str


def cross(study: StudySpec, resolver: Resolver) -> tuple[list[Cell], list[Skip]]:
    """Returns the runs of a study in a fixed order, and what cannot be run.

    Raises:
        CatalogError: a method, quantization or data set that no catalog entry has.
        StudyError: a hyper-parameter is unknown or out of range; a mixture has no examples in a
            language of the validation.
    """
    methods = [m for name, grid in study.methods for m in _expand(name, grid)]
    mixtures = [resolver.mixture(name, parts) for name, parts in study.mixtures.items()]
    check_validation(study.training, mixtures)
    for name in study.quantization:
        load_quantizer(name)
    cells: dict[str, Cell] = {}
    skips: dict[str, Skip] = {}
    for model, quantization in itertools.product(study.models, study.quantization):
        resolved = resolver.model(model)
        family = _family(model, resolver)
        unfit = _unfit(resolver.model_config(model), quantization)
        for ref, method in methods:
            reason = unfit or method.conflict(load_quantizer(quantization), family)
            reason = reason or training_conflict(method, study.training)
            if reason:
                label = f"{model.name} · {ref.label} · {quantization}"
                skips[label] = Skip(cell=label, reason=reason)
                continue
            for run in _runs(study, resolved, ref, quantization, mixtures):
                previous = cells.get(run.id)
                count = previous.stands_for + 1 if previous else 1
                first = previous or Cell(run=run, label=run.label)
                cells[run.id] = replace(first, stands_for=count)
    return _told_apart(list(cells.values())), list(skips.values())


def _told_apart(cells: list[Cell]) -> list[Cell]:
    """Adds to the labels the hyper-parameters, other than rank, that the study varies."""
    seen: dict[tuple[str, str], set[str]] = {}
    for cell in cells:
        for key, value in cell.run.method.parameters.items():
            seen.setdefault((cell.run.method.name, key), set()).add(str(value))
    labelled = []
    for cell in cells:
        method = cell.run.method
        shown = [
            f"{key}={value}"
            for key, value in method.parameters.items()
            if key != "rank" and len(seen[method.name, key]) > 1
        ]
        labelled.append(replace(cell, label=" · ".join([cell.label, *shown])))
    return labelled


def _runs(
    study: StudySpec, model: ModelRef, method: MethodRef, quantization: str, mixtures: list[Mixture]
) -> Iterator[RunSpec]:
    """The runs of one model x method x bits; the untouched base has no data, seed or training."""
    choices: list[Mixture | None] = [*mixtures] or [None]
    for mixture, seed in itertools.product(choices, study.seeds):
        if method.name == "none" or mixture is None:
            yield RunSpec(model=model, method=method, quantization=quantization)
        else:
            yield RunSpec(
                model=model,
                method=method,
                quantization=quantization,
                mixture=mixture,
                training=study.training,
                seed=seed,
            )


def _unfit(config: Mapping[str, Any] | None, quantization: str) -> str | None:
    """Why a base cannot be had in those bits; None where it can, or its config is not at hand."""
    if config is None:
        return None
    if other := other_bits(config, quantization):
        return f"the base cannot be loaded: {other}"
    return plain_weights(config, quantization)


def _family(model: ModelRef, resolver: Resolver) -> ModelFamily:
    if model.family:
        return load_family(model.family)
    return family_for(model_type=resolver.model_type(model), model_name=model.name)


def _expand(name: str, grid: dict[str, Any]) -> list[tuple[MethodRef, Method]]:
    """Every combination of a method's listed hyper-parameters, checked and completed."""
    if name not in entry_names("methods"):
        raise CatalogError(unknown_name("method", name, entry_names("methods")))
    levels = {key: _levels(name, key, value) for key, value in grid.items()}
    expanded = []
    for combination in itertools.product(*levels.values()):
        method = load_method(name, dict(zip(levels, combination, strict=True)))
        parameters = method.model_dump(mode="json")
        expanded.append((MethodRef(name=name, parameters=parameters), method))
    return expanded


def _levels(method: str, key: str, value: Any) -> list[Any]:
    """A list crosses, unless the parameter itself is a list (``targets: [q_proj, v_proj]``)."""
    if not isinstance(value, list):
        return [value]
    if not value:
        raise StudyError(f"{method}: {key} = []: an empty list of levels leaves nothing to run.")
    fields = entry_class("methods", method).model_fields
    if key not in fields:
        return value  # load_method names the unknown key
    adapter: TypeAdapter[Any] = TypeAdapter(fields[key].annotation)
    return (
        value
        if all(_accepts(adapter, v) for v in value) or not _accepts(adapter, value)
        else [value]
    )


def _accepts(adapter: TypeAdapter[Any], value: Any) -> bool:
    try:
        adapter.validate_python(value)
    except ValidationError:
        return False
    return True
