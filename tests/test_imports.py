"""bitsandbytes without torch's compiler, and the device without torch."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch

from maple.base import is_on_cpu, select_device
from maple.imports import _when_called


def said_by(code: str) -> list[str]:
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    return done.stdout.split()


def test_importing_bitsandbytes_leaves_the_compiler_out_and_torch_as_it_was() -> None:
    pytest.importorskip("bitsandbytes")
    code = (
        "import sys, torch; before = torch.compile\n"
        "from maple.imports import import_bitsandbytes\n"
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
