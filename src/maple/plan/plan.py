"""The plan of a study: everything that will happen, known before anything is paid for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

from maple.catalog import (
    family_for,
    load_dataset,
    load_family,
    load_method,
    load_quantizer,
    load_task,
)
from maple.files import Files
from maple.plan.cross import Cell, Skip, cross
from maple.plan.early_look import notes_on_early_look
from maple.plan.estimate import Estimate, estimate, shape_from_config
from maple.plan.evaluations import Evaluation, Missing, choose_evaluations
from maple.plan.machine import notes_on_machine
from maple.plan.resolve import Resolver
from maple.plan.stacking import notes_on_stacking
from maple.study import ModelRef, PromptSettings
from maple.study.file import StudySpec


@dataclass(frozen=True, kw_only=True)
class Cohort:
    """Runs that share base and quantization: one loaded base serves them all."""

    model: str
    quantization: str
    cells: tuple[Cell, ...]

    @property
    def title(self) -> str:
        """Base, bits and the number of runs, in words."""
        return f"{self.model} · {self.quantization}: {len(self.cells)} runs"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A study crossed: what runs, what is scored, what is left out and why."""

    study: StudySpec
    cells: tuple[Cell, ...]
    skipped: tuple[Skip, ...]
    evaluations: tuple[Evaluation, ...]
    missing: tuple[Missing, ...]
    estimates: dict[str, Estimate]
    """By run id."""
    licences: dict[str, str]
    notes: tuple[str, ...]

    def cohorts(self) -> Iterator[Cohort]:
        """The cells grouped by base and quantization, in order of first appearance."""
        members: dict[tuple[ModelRef, str], list[Cell]] = {}
        for cell in self.cells:
            members.setdefault((cell.run.model, cell.run.quantization), []).append(cell)
        for (model, quantization), cells in members.items():
            yield Cohort(model=model.name, quantization=quantization, cells=tuple(cells))

    def prompt(self) -> PromptSettings:
        """The prompt settings in force: under ``mega`` the training template by default."""
        choice = self.study.evaluate.prompt
        default = self.study.training.template if choice.form == "mega" else "plain"
        return PromptSettings(
            form=choice.form,
            instruction_language=choice.instruction_language,
            template=choice.template or default,
            shots=choice.shots,
            choices=choice.choices,
            scoring=choice.scoring,
            unconditional=choice.unconditional,
        )

    def as_json(self) -> dict[str, Any]:
        """The plan as plain JSON values: what ``maple plan --json`` prints."""
        return {
            "study": self.study.name,
            "cells": [_cell_json(c) | asdict(self.estimates[c.run.id]) for c in self.cells],
            "skipped": [asdict(s) for s in self.skipped],
            "cohorts": [
                {"model": c.model, "quantization": c.quantization, "runs": len(c.cells)}
                for c in self.cohorts()
            ],
            "evaluations": [asdict(e) for e in self.evaluations],
            "missing": [asdict(m) for m in self.missing],
            "prompt": self.prompt().model_dump(mode="json"),
            "licences": self.licences,
            "notes": list(self.notes),
        }

    def cells_json(self) -> list[dict[str, Any]]:
        """The cells as plain JSON values: what ``study.json`` keeps."""
        return [_cell_json(c) for c in self.cells]


def make_plan(study: StudySpec, files: Files) -> Plan:
    """Crosses a study; needs no network and no torch.

    Raises:
        CatalogError: a name that no catalog entry has.
        StudyError: a value that cannot be; a language that no task has.
        SourceError: a data directory that holds none of a mixture's files.
    """
    resolver = Resolver(files)
    cells, skipped = cross(study, resolver)
    evaluations, missing = choose_evaluations(study, files)
    return Plan(
        study=study,
        cells=tuple(cells),
        skipped=tuple(skipped),
        evaluations=tuple(evaluations),
        missing=tuple(missing),
        estimates={c.run.id: _estimate(c, resolver) for c in cells},
        licences=_licences(study),
        notes=(
            *resolver.notes,
            *_unresolved(cells, study),
            *_warmup(study),
            *notes_on_machine([cell.run for cell in cells]),
            *notes_on_stacking([cell.run for cell in cells], resolver.model_config),
            *notes_on_early_look(
                study.evaluate.early_look, [c.run for c in cells], [e.task for e in evaluations]
            ),
        ),
    )


def _estimate(cell: Cell, resolver: Resolver) -> Estimate:
    run = cell.run
    config = resolver.model_config(run.model)
    model_type = str(config.get("model_type")) if config else None
    family = (
        load_family(run.model.family)
        if run.model.family
        else family_for(model_type=model_type, model_name=run.model.name)
    )
    shape = family.known_shapes.get(run.model.name)
    if shape is None and config is not None:
        shape = shape_from_config(config)
    return estimate(
        run,
        shape,
        family=family,
        method=load_method(run.method.name, run.method.parameters),
        quantizer=load_quantizer(run.quantization),
    )


def _cell_json(cell: Cell) -> dict[str, Any]:
    run = cell.run
    return {
        "run_id": run.id,
        "label": cell.label,
        "model": run.model.name,
        "method": run.method.name,
        "parameters": run.method.parameters,
        "quantization": run.quantization,
        "bits": load_quantizer(run.quantization).bits,
        "mixture": run.mixture.name if run.mixture else None,
        "seed": run.seed,
        "stands_for": cell.stands_for,
    }


def _licences(study: StudySpec) -> dict[str, str]:
    named = {
        f"dataset {name}": load_dataset(name, part.options).info.licence
        for parts in study.mixtures.values()
        for name, part in parts.items()
    }
    tasks = (*study.evaluate.tasks, *study.evaluate.english)
    return named | {f"task {name}": load_task(name).info.licence for name in tasks}


def _warmup(study: StudySpec) -> list[str]:
    training = study.training
    if training.max_steps is None or training.warmup_steps < training.max_steps:
        return []
    return [
        f"training.warmup_steps ({training.warmup_steps}) is not below max_steps "
        f"({training.max_steps}): the learning rate never reaches its value"
    ]


def _unresolved(cells: list[Cell], study: StudySpec) -> list[str]:
    models = {c.run.model.name for c in cells if c.run.model.revision is None}
    data = {
        part.dataset
        for c in cells
        if c.run.mixture
        for part in c.run.mixture.parts
        if part.revision is None
    }
    if not models | data:
        return []
    names = ", ".join(sorted(models | data))
    return [f"run ids are provisional until `maple fetch` has resolved the commits of {names}"]
