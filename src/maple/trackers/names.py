"""Names that every tracker takes: letters, digits, ``_``, ``-``, ``.`` and ``/``, 250 at most."""

from __future__ import annotations

import hashlib
import re

MOST_CHARACTERS = 78
"""Of one part of a name: three parts stay below MLflow's limit of 250 for the whole."""
_DIGITS = 8
_REFUSED = re.compile(r"[^A-Za-z0-9_.-]+")


def metric_name(*parts: str) -> str:
    """Joins parts by ``/``, for example ``score/xnli/swh_Latn``.

    A part that MLflow would refuse has what it refuses replaced by ``_``, is cut, and ends with
    eight digits of a hash of what it was: two names never become one, and the same name is the
    same every time.
    """
    return "/".join(_part(part) for part in parts)


def _part(part: str) -> str:
    kept = _REFUSED.sub("_", part)
    # "." and ".." are no names of a file, which MLflow's artifacts and older stores would make.
    if kept == part and part.strip(".") and len(part) <= MOST_CHARACTERS:
        return part
    digest = hashlib.sha256(part.encode()).hexdigest()[:_DIGITS]
    return f"{kept[: MOST_CHARACTERS - _DIGITS - 1].strip('_.')}-{digest}"
