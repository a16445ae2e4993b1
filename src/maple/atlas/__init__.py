"""Atlas, the embedded world: tasks, instructions and a small base model made from Unicode CLDR."""

from pathlib import Path

from maple.atlas.build import WORLD_VERSION, build
from maple.atlas.frames import LANGUAGES

BASE_NAME = "atlas-base"
"""Name of the shipped base model in study files."""

__all__ = ["BASE_NAME", "LANGUAGES", "WORLD_VERSION", "base_model_path", "build"]


def base_model_path() -> Path:
    """Returns the directory of the shipped base model and its tokenizer."""
    return Path(__file__).parent / "base"
