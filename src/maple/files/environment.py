"""What the Hub's own environment variables say, read when asked and not at import.

``HF_ENDPOINT HF_HOME HF_HUB_CACHE XDG_CACHE_HOME HF_HUB_OFFLINE TRANSFORMERS_OFFLINE HF_TOKEN``.
``huggingface_hub`` reads most of them once, when it is first imported; Maple passes what these
functions return, so that a variable set later counts too.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import urlsplit

_DEFAULT_ENDPOINT = "https://huggingface.co"


def endpoint() -> str:
    """The Hub's address: ``HF_ENDPOINT`` or huggingface.co."""
    return (os.environ.get("HF_ENDPOINT") or _DEFAULT_ENDPOINT).rstrip("/")


def shown_endpoint() -> str:
    """The Hub's address as it may be printed: without a user name and password."""
    parts = urlsplit(endpoint())
    return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def home() -> Path:
    """The Hub's folder: ``HF_HOME``, else ``huggingface`` in the user's cache folder."""
    caches = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return _expand(os.environ.get("HF_HOME") or f"{caches}/huggingface")


def cache() -> Path:
    """The folder that downloads go to: ``HF_HUB_CACHE``, else ``hub`` in the Hub's folder."""
    named = os.environ.get("HF_HUB_CACHE")
    return _expand(named) if named else home() / "hub"


def is_offline() -> bool:
    """Whether ``HF_HUB_OFFLINE`` (or ``TRANSFORMERS_OFFLINE``) forbids the network."""
    value = os.environ.get("HF_HUB_OFFLINE") or os.environ.get("TRANSFORMERS_OFFLINE") or ""
    return value.upper() in {"1", "ON", "YES", "TRUE"}


def token() -> str | None:
    """The access token: ``HF_TOKEN``, else the one that ``hf auth login`` stored; never printed."""
    from huggingface_hub import get_token

    stored = home() / "token"
    if os.environ.get("HF_TOKEN") or not stored.is_file():
        return get_token()
    return stored.read_text(encoding="utf-8").strip() or None


def _expand(path: str) -> Path:
    return Path(os.path.expandvars(path)).expanduser()
