"""What ``maple train`` is asked -> the RunSpec that a study of that one cell would have."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from maple.catalog import entry_names, load_dataset, load_method, load_quantizer
from maple.data import ExamplePool, draw_epoch, hold_out, load_pools
from maple.errors import CatalogError, SourceError, StudyError, UsageError, unknown_name
from maple.files import Files
from maple.files.read import read_rows
from maple.languages import find
from maple.plan import Resolver
from maple.plan.cross import cross
from maple.plan.training import check_validation
from maple.run.evaluate import resolve_model
from maple.study import Mixture, ModelRef, RunSpec, TrainingSettings
from maple.study.file import PartSettings, StudySpec
from maple.study.spec import number_of_steps

UNSTATED = "und"
"""The language of rows that name none, where none is stated either. Source: ISO 639-2."""
WARMUP_SHARE = 0.1
"""Unasked, warm-up takes at most this share of the steps: 200 of 10 would train nothing."""
_SUFFIXES = (".jsonl", ".json", ".parquet", ".csv", ".tsv", ".gz")


@dataclass(frozen=True, kw_only=True)
class TrainRequest:
    """One run, named as a study would name it; every mapping holds what differs from defaults."""

    model: str
    """Hub repository, directory, ``atlas-base`` or ``atlas-qwen``."""
    method: str
    dataset: str
    """A file of instructions or chats, or the name of a data set."""
    quantization: str = "bf16"
    parameters: Mapping[str, Any] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    options: Mapping[str, Any] = field(default_factory=dict)
    """Of the data set."""
    languages: tuple[str, ...] = ()
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class ChosenRun:
    """The run of a request, and what was chosen for the user on the way."""

    run: RunSpec
    notes: tuple[str, ...]


def is_file_name(dataset: str) -> bool:
    """Whether ``--dataset`` names a file and not an entry of the catalog."""
    has_ending = dataset.endswith(_SUFFIXES) or os.sep in dataset
    return has_ending or (dataset not in entry_names("datasets") and Path(dataset).is_file())


def choose_run(request: TrainRequest, files: Files) -> ChosenRun:
    """Checks a request, reads its data, and fills in what was not stated.

    Raises:
        UsageError: a name, hyper-parameter or setting that cannot be, or a method that cannot live
            on those bits.
        DataError: a file breaks its format, or holds no example.
        SourceError: a file or the model cannot be had.
    """
    load_method(request.method, request.parameters)
    if request.method == "none":
        raise UsageError("method 'none' is the untouched base: there is nothing to train.")
    load_quantizer(request.quantization)
    refuse_absent(request.model, files)
    stated = _settings(request.training)
    name, part, codes, said = _data(request, files)
    mixture = _in_languages(Resolver(files).mixture(*_mixture(name, part)), codes)
    check_validation(stated, [mixture])
    training, counted = _with_warmup(stated, load_pools(mixture, files), request)
    study = StudySpec(
        name="train",
        models=(ModelRef(name=request.model),),
        methods=((request.method, dict(request.parameters)),),
        quantization=(request.quantization,),
        mixtures=dict([_mixture(name, part)]),
        training=training,
        seeds=(request.seed,),
    )
    resolve_model(study.models[0], files)
    # Read and fetched by now: what comes from the Hub has its commit.
    resolver = Resolver(files)
    cells, skipped = cross(study, resolver)
    if skipped:
        what = f"{request.method} cannot be trained on {request.quantization}"
        raise UsageError(f"{what} (base {request.model}): {skipped[0].reason}.")
    run = cells[0].run
    if run.mixture is not None:
        run = run.model_copy(update={"mixture": _in_languages(run.mixture, codes)})
    return ChosenRun(run=run, notes=(*said, *resolver.notes, counted))


def refuse_absent(model: str, files: Files) -> None:
    """A name that can only be a path is not looked for on the Hub.

    Raises:
        SourceError: it is one, and no model lies there.
    """
    if model.startswith(("/", ".", "~")) and not Resolver(files).model_directory(
        ModelRef(name=model)
    ):
        raise SourceError(
            f"the base {model} is not there: no config.json in {Path(model).expanduser()}. Name "
            "with --model where it is now."
        )


def _settings(stated: Mapping[str, Any]) -> TrainingSettings:
    try:
        return TrainingSettings(**stated)
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(["training", *(str(part) for part in first["loc"])])
        if first["type"] == "extra_forbidden":
            known = TrainingSettings.model_fields
            problem = unknown_name("training setting", str(first["loc"][-1]), known)
            raise StudyError(problem) from None
        given = first.get("input")
        shown = f" = {given!r}" if not isinstance(given, dict) else ""
        message = first["msg"].removeprefix("Value error, ")
        raise StudyError(f"{key}{shown}: {message}.") from None


def _data(
    request: TrainRequest, files: Files
) -> tuple[str, PartSettings, tuple[str, ...] | None, list[str]]:
    """The data set's name and settings; languages where it is a file; what to tell of them."""
    name, options = request.dataset, dict(request.options)
    if not is_file_name(name):
        if name not in entry_names("datasets"):
            known = entry_names("datasets")
            raise CatalogError(unknown_name("file or data set", name, known))
        return name, PartSettings(languages=request.languages, **options), None, []
    options["path"] = name
    codes = _stated_or_found(request.languages, load_dataset("jsonl", options).paths(files, ""))
    is_unknown = codes == (UNSTATED,)
    how = "as stated" if request.languages else "as the rows say"
    if is_unknown:
        how = "the rows name none; --languages states one, which only labels them"
    # No study can state that a language is unknown: it is put in afterwards.
    part = PartSettings(languages=("eng_Latn",) if is_unknown else codes, **options)
    return "jsonl", part, codes, [f"languages: {', '.join(codes)} ({how})"]


def _mixture(name: str, part: PartSettings) -> tuple[str, dict[str, PartSettings]]:
    path = part.options.get("path")
    return (Path(str(path)).stem if path else name), {name: part}


def _in_languages(mixture: Mixture, codes: tuple[str, ...] | None) -> Mixture:
    if codes is None:
        return mixture
    (part,) = mixture.parts
    return mixture.model_copy(update={"parts": (part.model_copy(update={"languages": codes}),)})


def _stated_or_found(stated: Sequence[str], paths: Sequence[Path]) -> tuple[str, ...]:
    """The languages that a file's rows are read in, each row once.

    Raises:
        UsageError: rows without a language would belong to none or to several.
    """
    n_rows = n_silent = 0
    found: dict[str, None] = {}
    for path in paths:
        for _, row in read_rows(path):
            n_rows += 1
            alias = row.get("language" if "language" in row else "lang")
            n_silent += not alias
            if alias and not stated:
                found[_code(str(alias))] = None
    codes = tuple(dict.fromkeys(find(alias).code for alias in stated)) or tuple(sorted(found))
    if not codes:
        return (UNSTATED,)
    if n_silent and (len(codes) > 1 or not stated):
        raise UsageError(
            f"{paths[0]}: {n_silent} of {n_rows} rows name no language, and "
            f"{', '.join(codes)} are not one. Fill in their field 'language', or name one with "
            "--languages: it stands for those rows."
        )
    return codes


def _code(alias: str) -> str:
    try:
        return find(alias).code
    except CatalogError:
        return alias  # reading the row itself names its line


def _with_warmup(
    stated: TrainingSettings, pools: Sequence[ExamplePool], request: TrainRequest
) -> tuple[TrainingSettings, str]:
    """The settings with a warm-up that leaves something to train, and what to tell of it."""
    if (held := stated.validation) is not None:
        pools, _ = hold_out(pools, held.languages, held.examples)
    n_examples = len(draw_epoch(pools, examples=stated.examples, seed=request.seed))
    n_steps = number_of_steps(stated, n_examples)
    counted = f"steps: {n_steps}, of {n_examples} examples by {stated.batch_size}"
    share = int(WARMUP_SHARE * n_steps)
    if "warmup_steps" in request.training and stated.warmup_steps >= n_steps:
        never = "so the learning rate never reaches its value"
        return stated, f"{counted}; warm-up takes {stated.warmup_steps} steps, {never}"
    if "warmup_steps" in request.training or share >= stated.warmup_steps:
        return stated, f"{counted}; warm-up takes {stated.warmup_steps} of them"
    chosen = stated.model_copy(update={"warmup_steps": share})
    default = f"a tenth, where a study's default is {stated.warmup_steps}: see --warmup-steps"
    return chosen, f"{counted}; warm-up takes {share} of them ({default})"
