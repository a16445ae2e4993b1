"""What a remote engine says an evaluation used: ``usage.json`` beside its rows."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from maple.errors import StoreError
from maple.files.write import write_text


def add_usage(folder: Path, used: Mapping[str, int]) -> dict[str, int]:
    """Adds counts to those that earlier calls have left in an evaluation's folder.

    Args:
        folder: ``evals/<eval id>``.
        used: counts by name, for example ``prompt_tokens``.

    Returns:
        The sums, as written.

    Raises:
        StoreError: the file cannot be written, or what stands there is broken.
    """
    path = folder / "usage.json"
    before: dict[str, int] = {}
    if path.exists():
        try:
            before = {str(k): int(v) for k, v in json.loads(path.read_text("utf-8")).items()}
        except (ValueError, TypeError, AttributeError) as error:
            raise StoreError(f"{path} is broken ({error}). Delete it and run again.") from error
    total = {name: before.get(name, 0) + used.get(name, 0) for name in {**before, **used}}
    text = json.dumps(total, indent=2, sort_keys=True) + "\n"
    write_text(path, text, advice="Free some space, then run the same command again.")
    return total
