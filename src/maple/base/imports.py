"""Imports of libraries whose import costs more than it need."""

from __future__ import annotations

import functools
import importlib.util
import sys
from collections.abc import Callable
from typing import Any


def import_bitsandbytes() -> None:
    """Imports bitsandbytes, where it is installed, without torch's compiler.

    ``peft`` imports it whatever the bits are, and it compiles some functions at its import, for
    which torch loads its whole compiler: 1.3 of its 1.5 seconds. Few machines call those functions;
    here each is compiled when it is called first.
    """
    if "bitsandbytes" in sys.modules or importlib.util.find_spec("bitsandbytes") is None:
        return
    import torch

    compile_now: Callable[..., Any] = torch.compile
    torch.compile = functools.partial(_compile_when_called, compile_now)
    try:
        import bitsandbytes  # noqa: F401
    except Exception:
        # Whoever needs it says so: with its own error, where it is loaded for its bits.
        return
    finally:
        torch.compile = compile_now


def _compile_when_called(
    compile_now: Callable[..., Any], function: Callable[..., Any] | None = None, **options: Any
) -> Callable[..., Any]:
    if function is None:
        return functools.partial(_compile_when_called, compile_now, **options)
    own = function
    compiled: Callable[..., Any] | None = None

    @functools.wraps(own)
    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal compiled
        if compiled is None:
            compiled = compile_now(own, **options)
        return compiled(*arguments, **named)

    return call
