"""The words of the mega and completion forms: ``CODE.toml`` holds those of one language.

A section is what one kind of task asks with: ``xnli``, ``pawsx``, ``xcopa``, ``qa`` (XQuAD, MLQA
and TyDiQA-GoldP), ``belebele``, ``xlsum``, ``xstorycloze``; ``completion`` serves all tasks. A
language may lack sections, never keys of a section.

Source of the English words: MEGA (Ahuja et al. 2023, arXiv 2303.12528) for XNLI, PAWS-X (its
``PAWS-ANLI GPT3``), XL-Sum and XStoryCloze, arXiv 2410.16168 for XCOPA, Belebele and question
answering. The others are ours. XCOPA's Quechua (qve_Latn) has none: no wording could be vouched
for.
"""

from __future__ import annotations

import tomllib
import unicodedata
from collections.abc import Mapping
from functools import cache
from importlib.resources import files

from maple.errors import UsageError


@cache
def languages_with(section: str) -> tuple[str, ...]:
    """Canonical codes of the languages that have words for a section, sorted."""
    names = sorted(p.name for p in files(__package__).iterdir() if p.name.endswith(".toml"))
    codes = (name.removesuffix(".toml") for name in names)
    return tuple(code for code in codes if section in _sections(code))


@cache
def words(section: str, language: str) -> Mapping[str, str]:
    """The words of one section in one language, in Unicode NFC.

    Args:
        section: the name of a table: ``xnli``.
        language: canonical code.

    Raises:
        UsageError: the language has no such section; names those that have it.
    """
    found = _sections(language).get(section)
    if found is None:
        form = "completion" if section == "completion" else "mega"
        raise UsageError(
            f"the {form} prompt form with native instructions has no words for {language} "
            f"(section [{section}]). It has them for: {', '.join(languages_with(section))}. "
            "Choose another form, or instruction_language: english, or leave the language out."
        )
    return found


@cache
def _sections(language: str) -> Mapping[str, Mapping[str, str]]:
    file = files(__package__) / f"{language}.toml"
    if not file.is_file():
        return {}
    text = unicodedata.normalize("NFC", file.read_text("utf-8"))
    sections: dict[str, dict[str, str]] = tomllib.loads(text)
    return sections
