"""What makes the page one safe file: text inside scripts, script hashes, the plotting library."""

from __future__ import annotations

import base64
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from markupsafe import Markup

_UNSAFE = {"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"}


def script_json(value: Any) -> Markup:
    """Returns JSON that may stand inside ``<script type="application/json">``.

    No ``<`` is left, so no text of a model can end the element or open another; U+2028 and
    U+2029, which older JavaScript takes for line ends, are escaped; NaN becomes null.
    """
    text = json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))
    for character, escape in _UNSAFE.items():
        text = text.replace(character, escape)
    return Markup(text)


def cut(text: str, limit: int, length: int | None = None) -> str:
    """Returns at most ``limit`` characters of a text, with a mark where some are missing.

    Args:
        text: the text, or at least its first ``limit`` characters.
        limit: characters to keep.
        length: characters of the whole text; None where ``text`` is the whole.
    """
    length = len(text) if length is None else length
    return text if length <= limit else f"{text[:limit]} … [cut: {length:,} characters in all]"


def cut_middle(text: str, head: int, tail: int) -> str:
    """Returns a text without its middle, with a mark: a prompt's question stands at its end.

    Args:
        text: the whole text.
        head: characters to keep at the start.
        tail: characters to keep at the end, above 0.
    """
    missing = len(text) - head - tail
    return text if missing <= 0 else f"{text[:head]} … [{missing:,} cut] … {text[-tail:]}"


def plotting_library() -> Markup:
    """Returns the minified plotly.js that the plotly package carries, its licence included."""
    file = resources.files("plotly") / "package_data" / "plotly.min.js"
    return Markup(file.read_text(encoding="utf-8"))


def content_security_policy(scripts: Iterable[str]) -> str:
    """Returns a policy under which only these scripts run and nothing is ever fetched."""
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _digest(script: str) -> str:
    return base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value
