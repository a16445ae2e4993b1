"""A study file is read whole or refused with file, line, key and the next step."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from maple.errors import StudyError
from maple.study.file import StudySpec, load_study
from maple.study.template import COMMENTED_STUDY

GOOD: dict[str, Any] = {
    "name": "s",
    "models": ["org/base"],
    "methods": ["none", {"lora": {"rank": [8, 16]}}],
    "quantization": ["nf4"],
    "mixtures": {"m": {"multialpaca": 1.0}},
    "training": {"epochs": 1},
    "evaluate": {"tasks": ["xnli"], "languages": ["sw"]},
}


def write(folder: Path, **changes: Any) -> Path:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(GOOD | changes, sort_keys=False), encoding="utf-8")
    return path


def refused(path: Path) -> str:
    """The message of a refusal: it names the file and is no usage of pydantic's words alone."""
    with pytest.raises(StudyError) as caught:
        load_study(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert caught.value.exit_code == 2
    assert "\n" not in message
    return message


def test_a_good_study_is_read(tmp_path: Path) -> None:
    study = load_study(write(tmp_path))
    assert study.methods == (("none", {}), ("lora", {"rank": [8, 16]}))
    assert study.mixtures["m"]["multialpaca"].weight == 1.0
    assert hash(study) == hash(load_study(write(tmp_path)))


def test_the_template_is_a_study_and_every_line_of_it_is_explained(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(COMMENTED_STUDY, encoding="utf-8")
    assert load_study(path).seeds == (0, 1, 2)


def test_one_value_stands_for_a_list_of_one(tmp_path: Path) -> None:
    changes = {
        "models": "org/base",
        "methods": "none",
        "quantization": "nf4",
        "seeds": 3,
        "evaluate": {"tasks": "xnli", "languages": "sw", "english": "xnli"},
    }
    study = load_study(write(tmp_path, **changes))
    assert [m.name for m in study.models] == ["org/base"]
    assert (study.quantization, study.seeds) == (("nf4",), (3,))
    assert (study.evaluate.tasks, study.evaluate.languages) == (("xnli",), ("sw",))
    everything = load_study(write(tmp_path, evaluate={"languages": "all"}))
    assert everything.evaluate.languages == "all"


def test_numbers_in_yaml_1_1_notation_are_numbers(tmp_path: Path) -> None:
    path = tmp_path / "study.yaml"
    text = yaml.safe_dump(GOOD | {"training": {}}).replace("training: {}", "training: RATE")
    path.write_text(text.replace("RATE", "{learning_rate: 3e-4}"), encoding="utf-8")
    assert load_study(path).training.learning_rate == 3e-4


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"trainning": {}}, ["line", "no key 'trainning'", "Did you mean 'training'"]),
        ({"training": {"epoch": 1}}, ["line 16", "Did you mean 'epochs'", "training"]),
        ({"evaluate": {"lenguages": ["sw"]}}, ["Did you mean 'languages'", "evaluate"]),
        ({"evaluate": {"prompt": {"from": "mega"}}}, ["Did you mean 'form'", "evaluate.prompt"]),
        ({"models": [{"nme": "x"}]}, ["no key 'nme'", "Did you mean 'name'", "models"]),
        ({"training": {"batch_size": "many"}}, ["line 16", "training.batch_size", "'many'"]),
        ({"training": {"batch_size": 0}}, ["training.batch_size", "= 0", "greater than 0"]),
        ({"training": {"batch_size": True}}, ["training.batch_size", "True"]),
        ({"training": {"learning_rate": float("nan")}}, ["learning_rate", "finite"]),
        ({"training": {"scheduler": "cosin"}}, ["training.scheduler", "'cosin'", "'cosine'"]),
        ({"training": None}, ["training", "mapping"]),
        ({"seeds": ["zero"]}, ["seeds.0", "'zero'", "integer"]),
        ({"seeds": [-1]}, ["seeds.0", "-1"]),
        ({"name": "a/b"}, ["name", "'a/b'"]),
        ({"name": 7}, ["name", "7", "string"]),
        ({"models": []}, ["models"]),
        ({"models": [3]}, ["models.0", "3", "mapping"]),
        ({"methods": {"lora": {}, "none": None}}, ["methods", "is not a method"]),
        ({"methods": [{"lora": 8}]}, ["methods", "is not a method"]),
        ({"methods": []}, ["methods"]),
        ({"mixtures": {}}, ["'lora'", "no mixture is given"]),
        ({"mixtures": {"m": {}}}, ["mixture 'm' is empty", "dataset: weight"]),
        ({"mixtures": {"m": None}}, ["mixture 'm' is empty"]),
        ({"mixtures": {"m": {"multialpaca": -1}}}, ["mixtures.m.multialpaca.weight", "-1"]),
        ({"mixtures": {"m": {"multialpaca": "much"}}}, ["mixtures.m.multialpaca", "'much'"]),
        ({"evaluate": {"languages": [1]}}, ["evaluate.languages.0", "1", "string"]),
        ({"evaluate": {"limit": 0}}, ["evaluate.limit", "greater than 0"]),
    ],
)
def test_a_wrong_key_or_value_names_line_key_and_value(
    tmp_path: Path, changes: dict[str, Any], words: list[str]
) -> None:
    message = refused(write(tmp_path, **changes))
    assert ", line " in message
    for word in words:
        assert word in message


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    for key in ("name", "models", "methods"):
        path = write(tmp_path)
        content = {k: v for k, v in GOOD.items() if k != key}
        path.write_text(yaml.safe_dump(content), encoding="utf-8")
        assert f"the key {key!r} is missing" in refused(path)


def test_a_misspelt_key_is_named_rather_than_the_one_it_leaves_missing(tmp_path: Path) -> None:
    path = write(tmp_path)
    path.write_text(path.read_text().replace("models:", "model:"), encoding="utf-8")
    message = refused(path)
    assert "no key 'model'" in message
    assert "Did you mean 'models'" in message
    assert "line 2" in message


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: a\nname: b\n", ["'name' is given twice", "line 2"]),
        ("training: {epochs: 1, epochs: 2}\n", ["'epochs' is given twice", "line 1"]),
        ("name: [\n", ["not valid YAML", "line 2"]),
        ("name: {{ name }}\n", ["cannot be a key", "line 1"]),
        ("name: 2024-13-45\n", ["not valid YAML", "month"]),
        ("name: !!python/object:os.system {}\n", ["not valid YAML"]),
        ("name: x\n\tmodels: y\n", ["not valid YAML", "line 2"]),
        ("\x00", ["not valid YAML"]),
        ("", ["a study is a mapping"]),
        ("- a\n", ["a study is a mapping"]),
        ("just words\n", ["a study is a mapping"]),
    ],
)
def test_what_is_no_mapping_of_keys_is_refused(tmp_path: Path, text: str, words: list[str]) -> None:
    path = tmp_path / "study.yaml"
    path.write_text(text, encoding="utf-8")
    message = refused(path)
    for word in words:
        assert word in message


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    assert "`maple init`" in refused(tmp_path / "absent.yaml")
    assert "cannot be read" in refused(tmp_path)
    path = tmp_path / "latin.yaml"
    path.write_bytes("name: é".encode("latin-1"))
    assert "UTF-8" in refused(path)


def test_the_schema_knows_every_key_of_a_study() -> None:
    schema = StudySpec.model_json_schema()
    assert set(schema["properties"]) == set(StudySpec.model_fields)
    assert schema["additionalProperties"] is False
