"""bitsandbytes without torch's compiler, and the device without torch."""

from __future__ import annotations

import gc
import subprocess
import sys

import pytest
import torch

from maple.base import is_on_cpu, select_device
from maple.startup import _when_called, without_collection


def said_by(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout.split()


def test_importing_bitsandbytes_leaves_the_compiler_out_and_torch_as_it_was() -> None:
    pytest.importorskip("bitsandbytes")
    code = (
        "import sys, torch; before = torch.compile\n"
        "from maple.startup import import_bitsandbytes\n"
        "import_bitsandbytes()\n"
        "print('bitsandbytes' in sys.modules, 'torch._inductor.compile_fx' in sys.modules)\n"
        "print(torch.compile is before)\n"
    )
    assert said_by(code) == ["True", "False", "True"]


def test_what_was_to_be_compiled_is_compiled_once_when_it_is_called() -> None:
    asked: list[dict[str, object]] = []

    def compile_now(function: object, **options: object) -> object:
        asked.append(options)
        return function

    @_when_called(compile_now, dynamic=False)
    def double(x: int) -> int:
        return 2 * x

    assert not asked
    assert [double(2), double(3)] == [4, 6]
    assert asked == [{"dynamic": False}]
    assert double.__name__ == "double"


def test_the_device_is_told_without_torch_where_its_build_knows_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("MAPLE_DEVICE", raising=False)
    assert is_on_cpu() is (select_device().type == "cpu")
    monkeypatch.setenv("MAPLE_DEVICE", "cuda:1")
    assert not is_on_cpu()
    assert select_device() == torch.device("cuda", 1)
    if torch.version.cuda is None and sys.platform != "darwin":
        monkeypatch.delenv("MAPLE_DEVICE")
        code = (
            "import sys; from maple.base import is_on_cpu\n"
            "print(is_on_cpu(), 'torch' in sys.modules)"
        )
        assert said_by(code) == ["True", "False"]


LEAN = """
import sys
from maple import startup
{call}
startup.import_model_libraries()
import peft, torch
weight = torch.nn.Parameter(torch.ones(1))
optimizer = torch.optim.AdamW([weight], lr=0.5, weight_decay=0.0)
(weight * 3).sum().backward()
optimizer.step()
optimizer.zero_grad()
print("torch._dynamo" in sys.modules, "torch.distributed.tensor" in sys.modules)
print(round(weight.item(), 3), torch.is_grad_enabled())
print(torch.distributed.is_available())
print(torch.compile(lambda x: x + 1, backend="eager")(torch.ones(1)).item())
"""


def test_a_process_of_our_own_imports_no_compiler_and_can_compile_all_the_same() -> None:
    said = said_by(LEAN.format(call="startup.lean_process()"))
    assert said == ["False", "False", "0.5", "True", "False", "2.0"]


def test_a_program_that_imports_maple_keeps_its_libraries_whole() -> None:
    said = said_by(LEAN.format(call=""))
    assert said == ["True", "True", "0.5", "True", str(torch.distributed.is_available()), "2.0"]


def test_the_search_for_cycles_goes_on_as_it_was() -> None:
    for was_on in (True, False):
        (gc.enable if was_on else gc.disable)()
        try:
            with without_collection():
                assert not gc.isenabled()
            assert gc.isenabled() is was_on
        finally:
            gc.enable()
