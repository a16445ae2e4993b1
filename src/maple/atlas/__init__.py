"""Atlas, the embedded world: tasks, instructions and two small base models made from CLDR."""

from pathlib import Path

from maple.atlas.build import build, world_version
from maple.atlas.frames import LANGUAGES

BASES = ("atlas-base", "atlas-qwen")
"""Names of the shipped base models in study files: a Llama and a Qwen3."""

_ENGLISH_ONLY = frozenset({"atlas-open"})

__all__ = ["BASES", "LANGUAGES", "base_model_path", "build", "task_languages", "world_version"]


def base_model_path(name: str = BASES[0]) -> Path:
    """Returns the directory of a shipped base model and its tokenizer.

    Raises:
        KeyError: no base of that name is shipped.
    """
    if name not in BASES:
        raise KeyError(f"no base {name!r} is shipped; there are {', '.join(BASES)}")
    return Path(__file__).parent / "bases" / name


def task_languages(task: str) -> tuple[str, ...]:
    """Returns the languages that the built world has a task in."""
    return ("eng_Latn",) if task in _ENGLISH_ONLY else LANGUAGES
