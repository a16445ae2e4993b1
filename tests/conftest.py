"""What every test may use: tiny models of several architectures, and the release files."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.int4_checkpoints import store_in_codes
from tests.tiny_models import save_model, train_tokenizer

if TYPE_CHECKING:
    from maple.base import LoadedBase

os.environ["HF_HUB_OFFLINE"] = "1"
# Before torch is imported: threads that spin while they wait crawl on a busy machine.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# One thread, read when torch is imported: on a busy machine two that wait for each other are
# twenty times slower on models this small, and sums then depend on nothing but the code.
os.environ["OMP_NUM_THREADS"] = "1"
# transformers' loading bars; a worker process of the tokenizers library warns when forked.
os.environ.setdefault("TQDM_DISABLE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The upstream release files; skips where there are none."""
    beside = Path(__file__).parents[2] / "shared" / "data"
    directory = Path(os.environ.get("MAPLE_SHARED", beside))
    if not directory.is_dir():
        pytest.skip("no release files: set MAPLE_SHARED to a directory of them")
    return directory


@pytest.fixture(scope="session")
def model_directory(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``model_directory("llama")`` -> directory of a tiny random checkpoint with tokenizer."""
    made: dict[tuple[Any, ...], Path] = {}

    def make(family: str = "llama", **changes: Any) -> Path:
        key = (family, *sorted(changes.items()))
        if key not in made:
            made[key] = tmp_path_factory.mktemp(f"{family}-", numbered=True)
            train_tokenizer(made[key])
            save_model(family, made[key], **changes)
        return made[key]

    return make


@pytest.fixture(scope="session")
def fresh_base(
    model_directory: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., LoadedBase]:
    """``fresh_base("llama", "nf4")`` -> a newly loaded base, shared with no other test.

    Of ``gptq`` and ``awq`` the checkpoint is stored in their codes first.
    """

    def load(family: str = "llama", quantization: str = "fp32", **changes: Any) -> LoadedBase:
        import torch

        from maple.base import load_base
        from maple.catalog import load_quantizer, missing_library
        from maple.catalog.stored import takes_stored

        if absent := missing_library(load_quantizer(quantization)):
            pytest.skip(f"{quantization}: {absent}")
        directory = model_directory(family, **changes)
        if takes_stored(quantization):
            plain, directory = directory, tmp_path_factory.mktemp(quantization)
            store_in_codes(plain, directory, quantization)
        return load_base(str(directory), quantization=quantization, device=torch.device("cpu"))

    return load


@pytest.fixture(scope="session")
def shared_base(fresh_base: Callable[..., LoadedBase]) -> Callable[..., LoadedBase]:
    """Like ``fresh_base``, loaded once a session: for tests that leave the base as it was."""
    loaded: dict[tuple[Any, ...], LoadedBase] = {}

    def load(family: str = "llama", quantization: str = "fp32", **changes: Any) -> LoadedBase:
        key = (family, quantization, *sorted(changes.items()))
        if key not in loaded:
            loaded[key] = fresh_base(family, quantization, **changes)
        return loaded[key]

    return load
