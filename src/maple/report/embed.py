"""What makes the page one safe, small file: packed parts, script hashes, the plotting library."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from collections.abc import Iterable, Mapping
from importlib import resources
from typing import Any

from markupsafe import Markup

PACK_FROM = 60_000
"""Characters of markup from which a part of the page is packed."""


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


def plotting_library() -> str:
    """Returns the minified plotly.js that the plotly package carries, its licence included."""
    file = resources.files("plotly") / "package_data" / "plotly.min.js"
    return file.read_text(encoding="utf-8")


def packed(text: str) -> Markup:
    """Returns a text as gzip in base64, for the page's script to unpack; it holds no ``<``.

    The same text gives the same bytes on every day.
    """
    return Markup(base64.b64encode(gzip.compress(text.encode(), 9, mtime=0)).decode())


def packed_json(value: Any) -> Markup:
    """Returns packed JSON; NaN and infinities become null."""
    return packed(_json(value))


def packed_part(html: str, label: str = "") -> Markup:
    """Returns a part of the page as it is, or packed where it is large.

    A large table is some thousand cells with a title each: markup that shrinks to a twentieth,
    and that a phone need not lay out before somebody looks at it.

    Args:
        html: markup that is safe already: the body of a ``filter`` block.
        label: what the part is, for readers whose browser runs no script.
    """
    if len(html) < PACK_FROM:
        return Markup(html)
    note = Markup("{}: this large table needs JavaScript; its numbers are in {}.").format(
        label, Markup("<code>tables/</code>")
    )
    return Markup(
        '<div class="packed"><p class="note">{}</p>'
        '<script type="application/gzip">{}</script></div>'
    ).format(note, packed(html))


def content_security_policy(scripts: Iterable[str]) -> str:
    """Returns a policy under which only these scripts run and nothing is ever fetched."""
    hashes = " ".join(f"'sha256-{_digest(script)}'" for script in scripts)
    return (
        f"default-src 'none'; script-src {hashes}; style-src 'unsafe-inline'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'"
    )


def _json(value: Any) -> str:
    return json.dumps(_finite(value), ensure_ascii=False, separators=(",", ":"))


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
