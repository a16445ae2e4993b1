"""Counts the tokens that a process feeds to its model, as it feeds them: padding, branches, trials.

Every pass looks its tokens up in the input embedding, so that is where they are counted: an append
a pass. ``torch`` is not imported for it, because when a contestant does so is part of its time.
"""

from __future__ import annotations

import atexit
import json
import sys
import time
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

_MODULE = "torch.nn.modules.sparse"


def count_fed_tokens(path: Path) -> None:
    """Writes ``[[seconds since the epoch, tokens], ...]``, a pair a pass, when the process ends."""
    passes: list[tuple[float, int]] = []
    if _MODULE in sys.modules:
        count_lookups(sys.modules[_MODULE], passes)
    else:
        sys.meta_path.insert(0, _WhenImported(passes))
    atexit.register(lambda: path.write_text(json.dumps(passes), encoding="utf-8"))


def count_lookups(module: ModuleType | Any, passes: list[tuple[float, int]]) -> None:
    """Makes the module's ``Embedding`` note how many tokens it is asked for."""
    look_up = module.Embedding.forward

    def noting(self: Any, ids: Any) -> Any:
        passes.append((time.time(), ids.numel()))
        return look_up(self, ids)

    module.Embedding.forward = noting


class _WhenImported(MetaPathFinder):
    """Lets torch's embeddings be imported as ever, and changes them then."""

    def __init__(self, passes: list[tuple[float, int]]) -> None:
        self._passes = passes

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if name != _MODULE:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(name, path, target)
        loader: Any = spec.loader if spec else None
        if loader is not None:
            run = loader.exec_module

            def exec_module(module: ModuleType) -> None:
                run(module)
                count_lookups(module, self._passes)

            loader.exec_module = exec_module
        return spec
