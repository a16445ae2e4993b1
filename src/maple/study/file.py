"""Reads a study file: YAML in, a checked StudySpec out, or an error that names key and line."""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from maple.errors import StudyError, unknown_name
from maple.study.early_look import EarlyLook
from maple.study.engines import EngineSettings
from maple.study.spec import (
    Choices,
    DecodingSettings,
    Frozen,
    ModelRef,
    Scalar,
    Scoring,
    Template,
    TrainingSettings,
    ValidationSettings,
)

ParameterGrid = dict[str, Any]


def _listed(value: Any) -> Any:
    """One value where a list is expected stands for a list of one."""
    return value if isinstance(value, list | tuple) or value is None else [value]


class PartSettings(Frozen):
    """One data set inside a mixture; keys beyond weight and languages are its options."""

    model_config = ConfigDict(frozen=True, extra="allow", allow_inf_nan=False)

    weight: Annotated[float, Field(gt=0)] = 1.0
    languages: tuple[str, ...] = Field(
        (), description="Languages to take; none stated: all the data set has."
    )

    _languages = field_validator("languages", mode="before")(_listed)

    @property
    def options(self) -> dict[str, Scalar]:
        """The keys that belong to the data set itself, for example ``path`` of ``jsonl``."""
        return dict(self.__pydantic_extra__ or {})


class PromptChoice(Frozen):
    """How samples are worded; ``template`` defaults to the training template under ``mega``."""

    form: Literal["completion", "lm-eval", "mega"] = "mega"
    instruction_language: Literal["english", "native"] = "english"
    template: Template | None = None
    shots: Annotated[int, Field(ge=0)] = 0
    choices: Choices = "letter"
    scoring: Scoring = "ranking"
    unconditional: bool = True


class EvaluateSettings(Frozen):
    """What every cell of the study is scored on."""

    tasks: tuple[str, ...] = Field((), description="Benchmarks, by catalog name.")
    languages: Literal["all"] | tuple[str, ...] = "all"
    english: tuple[str, ...] = Field((), description="Tasks also scored in English.")
    split: str | None = Field(None, description="None: each task's own default.")
    prompt: PromptChoice = PromptChoice()
    decoding: DecodingSettings = DecodingSettings()
    engine: EngineSettings = EngineSettings()
    limit: Annotated[int, Field(gt=0)] | None = Field(
        None, description="Samples per task and language; None: the whole split."
    )
    early_look: EarlyLook | None = Field(
        None, description="Leave a task off once its comparison is decided; None: never."
    )

    _lists = field_validator("tasks", "english", mode="before")(_listed)

    @field_validator("languages", mode="before")
    @classmethod
    def _list_languages(cls, value: Any) -> Any:
        return value if value == "all" else _listed(value)


# What an editor should accept is the file's short form, not the checked value's.
_MODELS_SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {"anyOf": [{"type": "string"}, ModelRef.model_json_schema()]},
}
_METHODS_SCHEMA: dict[str, Any] = {
    "type": "array",
    "minItems": 1,
    "items": {
        "anyOf": [
            {"type": "string"},
            {
                "type": "object",
                "minProperties": 1,
                "maxProperties": 1,
                "additionalProperties": {"type": ["object", "null"]},
            },
        ]
    },
}
_MIXTURES_SCHEMA: dict[str, Any] = {
    "type": "object",
    "additionalProperties": {
        "type": "object",
        "minProperties": 1,
        "additionalProperties": {
            "anyOf": [{"type": "number", "exclusiveMinimum": 0}, PartSettings.model_json_schema()]
        },
    },
}


class StudySpec(Frozen):
    """A whole question: every factor and its levels, crossed by the plan."""

    name: Annotated[str, Field(min_length=1, pattern=r"^[\w.-]+$")]
    description: str = ""
    data: str = Field("hub", description="hub, atlas, or a directory of upstream release files.")
    models: Annotated[tuple[ModelRef, ...], WithJsonSchema(_MODELS_SCHEMA)] = Field(min_length=1)
    methods: Annotated[tuple[tuple[str, ParameterGrid], ...], WithJsonSchema(_METHODS_SCHEMA)] = (
        Field(min_length=1)
    )
    quantization: tuple[str, ...] = ("bf16",)
    mixtures: Annotated[dict[str, dict[str, PartSettings]], WithJsonSchema(_MIXTURES_SCHEMA)] = (
        Field(default_factory=dict)
    )
    training: TrainingSettings = TrainingSettings()
    seeds: tuple[Annotated[int, Field(ge=0, lt=2**31)], ...] = (0,)
    evaluate: EvaluateSettings = EvaluateSettings()

    _lists = field_validator("quantization", "seeds", mode="before")(_listed)

    @field_validator("models", mode="before")
    @classmethod
    def _name_models(cls, value: Any) -> Any:
        entries = value if isinstance(value, list | tuple) else [value]
        return [{"name": e} if isinstance(e, str) else e for e in entries]

    @field_validator("methods", mode="before")
    @classmethod
    def _pair_methods(cls, value: Any) -> Any:
        entries = value if isinstance(value, list | tuple) else [value]
        return [_method_pair(e) for e in entries]

    @field_validator("mixtures", mode="before")
    @classmethod
    def _weigh_parts(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        return {name: _weighed(name, parts) for name, parts in value.items()}

    @model_validator(mode="after")
    def _has_data_for_methods(self) -> StudySpec:
        trained = [name for name, _ in self.methods if name != "none"]
        if trained and not self.mixtures:
            raise ValueError(f"methods {trained} train, and no mixture is given to train on")
        if trained and self.evaluate.engine.name == "openai":
            raise ValueError(
                f"methods {trained} train adapters that no endpoint has, and evaluate.engine is "
                "openai: use the engine vllm or reference, or methods: [none]"
            )
        return self

    @model_validator(mode="after")
    def _can_look_early(self) -> StudySpec:
        look = self.evaluate.early_look
        if look is None:
            return self
        if self.evaluate.engine.name != "reference":
            raise ValueError(
                "evaluate.early_look stops the reference engine's scoring; leave it out with the "
                f"engine {self.evaluate.engine.name}"
            )
        if look.against == "base" and "none" not in [name for name, _ in self.methods]:
            raise ValueError(
                "evaluate.early_look compares with the untouched base: add none to methods, or "
                "name a run by early_look.against"
            )
        return self


def _method_pair(entry: Any) -> Any:
    if isinstance(entry, str):
        return (entry, {})
    if isinstance(entry, dict) and len(entry) == 1:
        ((name, grid),) = entry.items()
        if grid is None or isinstance(grid, dict):
            return (name, grid or {})
    if isinstance(entry, list | tuple) and len(entry) == 2:
        return entry
    raise ValueError(
        f"{entry!r} is not a method: write its name, or one 'name: {{parameter: value}}'"
    )


def _weighed(name: str, parts: Any) -> Any:
    if not isinstance(parts, dict) or not parts:
        raise ValueError(
            f"mixture {name!r} is empty: name at least one data set, 'dataset: weight'"
        )
    return {
        dataset: {"weight": part} if isinstance(part, int | float) else (part or {})
        for dataset, part in parts.items()
    }


def load_study(path: Path) -> StudySpec:
    """Reads and checks a study file.

    Raises:
        StudyError: the file cannot be read, is no YAML, or a key or value is wrong; names the
            file, the line and the key, and the nearest known key.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise StudyError(
            f"{path}: no such study file. `maple init` writes one to start from."
        ) from None
    except UnicodeDecodeError as error:
        raise StudyError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    except OSError as error:
        raise StudyError(f"{path}: cannot be read: {error.strerror}.") from None
    try:
        content = yaml.load(text, Loader=_UniqueKeyLoader)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        # ValueError: a date such as 2024-13-45, which PyYAML takes for one.
        raise StudyError(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(content, dict):
        raise StudyError(f"{path}: a study is a mapping of keys (name, models, methods, ...).")
    try:
        return StudySpec.model_validate(content)
    except ValidationError as error:
        raise StudyError(_explain(path, root, error)) from None


class _UniqueKeyLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key given twice, which YAML would silently let win last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=True)
            if not isinstance(key, Hashable):
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key!r} cannot be a key", key_node.start_mark
                )
            if key in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"key {key!r} is given twice", key_node.start_mark
                )
            seen.add(key)
        return super().construct_mapping(node, deep)


def _explain(path: Path, root: Any, error: ValidationError) -> str:
    # A misspelt key first: it is why another is missing. Then the deepest: of a union's branches
    # the one that got furthest.
    first = max(error.errors(), key=lambda e: (e["type"] == "extra_forbidden", len(e["loc"])))
    location = [part for part in first["loc"] if _is_key(part)]
    key = ".".join(str(part) for part in location) or "study"
    where = f"{path}, line {_line_of(root, location)}"
    if first["type"] == "extra_forbidden":
        known = _fields_at(location[:-1])
        return f"{where}: {unknown_name('key', str(location[-1]), known)} (in {key})"
    if first["type"] == "missing":
        return f"{where}: the key {key!r} is missing. `maple init` shows a complete study."
    message = first["msg"].removeprefix("Value error, ").replace("valid tuple", "list")
    if first["type"] == "model_type":
        message = "a mapping is expected here, 'key: value'"
    given = first.get("input")
    shown = f" = {given!r}" if not isinstance(given, dict | list | BaseModel) else ""
    return f"{where}: {key}{shown}: {message}."


def _is_key(part: str | int) -> bool:
    # Pydantic adds the branch of a union ("tuple[str, ...]", "literal['all']") to a location.
    return isinstance(part, int) or not any(c in part for c in "[(")


def _line_of(node: Any, location: list[str | int]) -> int:
    line = node.start_mark.line if node is not None else 0
    for part in location:
        if isinstance(node, yaml.MappingNode):
            pair = next(((k, v) for k, v in node.value if k.value == str(part)), None)
            if pair is None:
                break
            line, node = pair[0].start_mark.line, pair[1]
        elif (
            isinstance(node, yaml.SequenceNode) and isinstance(part, int) and part < len(node.value)
        ):
            node = node.value[part]
            line = node.start_mark.line
        else:
            break
    return int(line) + 1


def _fields_at(location: list[str | int]) -> list[str]:
    """Known keys of the block at a location, for suggestions."""
    blocks: dict[str, type[BaseModel]] = {
        "training": TrainingSettings,
        "training.validation": ValidationSettings,
        "models": ModelRef,
        "evaluate.prompt": PromptChoice,
        "evaluate.decoding": DecodingSettings,
        "evaluate.engine": EngineSettings,
        "evaluate.early_look": EarlyLook,
        "evaluate": EvaluateSettings,
    }
    dotted = ".".join(str(p) for p in location if not isinstance(p, int))
    return list(blocks.get(dotted, StudySpec).model_fields)
