"""What a process does before its work: above all imports, which cost more than they need.

Half of the time from ``import transformers`` to a model goes into what one process that compiles
nothing never calls: distributed tensors, torch's compiler and the symbolic algebra beneath both,
an optimiser of scipy for boxes in pictures.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import importlib
import importlib.util
import inspect
import logging
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

_process_is_ours = False


def lean_process() -> None:
    """Says that this process is Maple's own, started to do its work and nothing else.

    Only there may ``import_model_libraries`` leave out what Maple never calls. A program that
    imports Maple keeps its libraries whole.
    """
    global _process_is_ours
    _process_is_ours = True


def import_model_libraries() -> None:
    """Imports transformers and, where it is installed, bitsandbytes, without what costs most."""
    is_new = "transformers.modeling_utils" not in sys.modules
    # vLLM works in this process, and is made of several.
    with without_collection():
        if _process_is_ours and is_new and importlib.util.find_spec("vllm") is None:
            _import_transformers()
        importlib.import_module("transformers.modeling_utils")
        import_bitsandbytes()


@contextlib.contextmanager
def without_collection() -> Iterator[None]:
    """Stops the search for cycles while much is made and nothing is dropped."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()


def _import_transformers() -> None:
    """Imports what models need of transformers, for one process of one machine.

    Told that this torch has no ``torch.distributed``, as some builds have none, the libraries
    import no distributed tensors; told that scipy is absent, no matcher of boxes.
    """
    import torch
    import transformers.utils

    # For good: they ask again for every tensor that they load.
    torch.distributed.is_available = _never
    with _no_compiler(), _for_a_moment(vars(transformers.utils), "is_scipy_available", _never):
        for name in ("modeling_utils", "masking_utils", "generation.utils"):
            # Where another version has moved one, it is imported when it is needed.
            with contextlib.suppress(ModuleNotFoundError):
                importlib.import_module(f"transformers.{name}")
        _call_what_asks_the_compiler()


def _call_what_asks_the_compiler() -> None:
    """Calls once what imports torch's compiler at its first call, to be left alone by it for good.

    What is forgotten here, or named otherwise by another torch, imports it when it is called.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    tiny = LlamaConfig(
        vocab_size=8,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
    )
    with torch.device("meta"):
        LlamaForCausalLM(tiny)
    weight = torch.nn.Parameter(torch.zeros(1))
    torch.optim.SGD([weight]).zero_grad()
    for kind in (torch.optim.Adam, torch.optim.SGD):
        # The wrapper left out turns gradients off, and tells the compiler so at every step.
        kind.step = torch.no_grad()(inspect.unwrap(kind.step))  # type: ignore[method-assign]


def _never() -> bool:
    return False


@contextlib.contextmanager
def _no_compiler() -> Iterator[None]:
    """Lets modules that are imported mark functions for torch's compiler without importing it."""
    import torch

    spec = importlib.util.find_spec("torch._dynamo")
    if spec is None or "torch._dynamo" in sys.modules:
        yield
        return
    package = ModuleType("torch._dynamo")
    package.__path__ = list(spec.submodule_search_locations or ())
    vars(package).update(dict.fromkeys(_MARKS, _unmarked))
    with (
        _for_a_moment(sys.modules, "torch._dynamo", package),
        _for_a_moment(vars(torch), "_dynamo", package),
        _for_a_moment(vars(torch.compiler), "allow_in_graph", _unmarked),
        _for_a_moment(vars(torch.compiler), "disable", _unmarked),
    ):
        yield


_MARKS = ("allow_in_graph", "assume_constant_result", "disable")


def _unmarked(function: Any = None, *_: Any, **__: Any) -> Any:
    # Only a compiled caller would notice, and there is none.
    return _unmarked if function is None else function


def import_bitsandbytes() -> None:
    """Imports bitsandbytes, where it is installed, without torch's compiler.

    ``peft`` imports it whatever the bits are, and it compiles some functions at its import, for
    which torch loads its whole compiler: 1.3 of its 1.5 seconds. Few machines call those functions;
    here each is compiled when it is called first.
    """
    if "bitsandbytes" in sys.modules or importlib.util.find_spec("bitsandbytes") is None:
        return
    import torch

    # It announces at import which optional kernels it did not find; nothing depends on them.
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    # Whoever needs it says what is wrong with it: with its own error, where it is loaded for bits.
    with (
        _for_a_moment(vars(torch), "compile", functools.partial(_when_called, torch.compile)),
        contextlib.suppress(Exception),
    ):
        importlib.import_module("bitsandbytes")


def _when_called(
    decorate: Callable[..., Any], function: Callable[..., Any] | None = None, **options: Any
) -> Callable[..., Any]:
    """Decorates a function when it is called first, and not when it is made."""
    if function is None:
        return functools.partial(_when_called, decorate, **options)
    own = function
    decorated: Callable[..., Any] | None = None

    @functools.wraps(own)
    def call(*arguments: Any, **named: Any) -> Any:
        nonlocal decorated
        if decorated is None:
            decorated = decorate(own, **options)
        return decorated(*arguments, **named)

    return call


@contextlib.contextmanager
def _for_a_moment(names: dict[str, Any], name: str, value: Any) -> Iterator[None]:
    was_there, before = name in names, names.get(name)
    names[name] = value
    try:
        yield
    finally:
        if was_there:
            names[name] = before
        else:
            del names[name]
