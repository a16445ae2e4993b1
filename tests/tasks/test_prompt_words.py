"""The folder of native prompt words: every file has what English has, in its own language."""

from __future__ import annotations

import re
import tomllib
import unicodedata
from pathlib import Path

import pytest

from maple.catalog import prompts
from maple.catalog.prompts import languages_with, words
from maple.errors import UsageError
from maple.languages import find

FOLDER = Path(prompts.__file__).parent
CODES = sorted(path.stem for path in FOLDER.glob("*.toml"))
ENGLISH = tomllib.loads((FOLDER / "eng_Latn.toml").read_text(encoding="utf-8"))
NATIVE = [code for code in CODES if code != "eng_Latn"]
LONG = 40
"""Characters from which on a text in Latin script cannot be the same in English by chance."""


def file(code: str) -> dict[str, dict[str, str]]:
    return tomllib.loads((FOLDER / f"{code}.toml").read_text(encoding="utf-8"))


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"\{\w*\}", text))


@pytest.mark.parametrize("code", CODES)
def test_a_file_is_named_by_its_canonical_code(code: str) -> None:
    assert find(code).code == code


@pytest.mark.parametrize("code", CODES)
def test_a_section_has_englishs_keys_and_placeholders(code: str) -> None:
    for section, texts in file(code).items():
        assert set(texts) == set(ENGLISH[section]), section
        for key, text in texts.items():
            assert placeholders(text) == placeholders(ENGLISH[section][key]), (section, key)
            # Between two words of a script without spaces there is nothing.
            assert text.strip() or key == "space", (section, key)


@pytest.mark.parametrize("code", NATIVE)
def test_native_words_are_not_english_ones(code: str) -> None:
    for section, texts in file(code).items():
        for key, text in texts.items():
            own = re.sub(r"\{\w*\}", "", text)
            if find(code).script != "Latn":
                assert not re.search("[A-Za-z]", own), (section, key, text)
            elif len(own.strip()) >= LONG:
                assert text != ENGLISH[section][key], (section, key)


@pytest.mark.parametrize("code", CODES)
def test_answers_that_are_ranked_against_each_other_differ(code: str) -> None:
    texts = file(code)
    if "xnli" in texts:
        labels = [texts["xnli"][key] for key in ("entailment", "neutral", "contradiction")]
        assert len(set(labels)) == 3
    if "xcopa" in texts:
        assert texts["xcopa"]["cause"] != texts["xcopa"]["effect"]


def test_every_section_lists_the_languages_that_have_it() -> None:
    for section in ENGLISH:
        listed = languages_with(section)
        assert list(listed) == [code for code in CODES if section in file(code)]
        for code in listed:
            texts = words(section, code)
            assert texts == {
                key: unicodedata.normalize("NFC", text) for key, text in file(code)[section].items()
            }


def test_a_missing_language_or_section_names_those_that_have_it() -> None:
    with pytest.raises(UsageError, match=r"no words for qve_Latn \(section \[qa\]\).*eng_Latn"):
        words("qa", "qve_Latn")
    with pytest.raises(UsageError, match=r"no words for ita_Latn \(section \[nothing\]\)"):
        words("nothing", "ita_Latn")
