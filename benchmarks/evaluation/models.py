"""The base whose answers end, and the adapters: made once, from fixed seeds, by plain peft."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.training.bases import ARCHITECTURES, make_base

EMBEDDING_SCALE, LINE_END_SCALE = 6.0, 5.5
"""Of ``ending_base``: found by trying; most answers then end within some 40 tokens, a few never."""
B_DEVIATION = 0.05
"""Of the adapters' second matrix: an adapter then shifts a layer's output by some 5 to 30%."""


def ending_base(name: str, work: Path, data: Path) -> Path:
    """A benchmark base whose random weights write lines of scattered lengths.

    Greedy decoding of random weights falls into a loop of a few tokens, so that every answer would
    run to its 256th token. Here the head is its own matrix, the embeddings with their rows drawn
    anew, and the embeddings are made larger: each token then calls for another one along a walk
    through the whole vocabulary, which the context bends. The head's row of the line end is made
    longer, so that the walk meets it. Shapes, and so the work of a token, are untouched.

    Args:
        name: of the architecture.
        work: where models are kept.
        data: what its tokenizer is trained on.
    """
    directory = work / "models" / f"{name}-ends"
    if (directory / "made").exists():
        return directory
    source = make_base(name, ARCHITECTURES[name], work, data, "cpu")
    shutil.rmtree(directory, ignore_errors=True)
    shutil.copytree(source, directory)
    (directory / "made").unlink()
    _loosen(directory)
    (directory / "made").touch()
    return directory


def _loosen(directory: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    tokenizer: Any = AutoTokenizer.from_pretrained(directory)
    (line_end,) = tokenizer("\n")["input_ids"]
    model: Any = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.bfloat16)
    embeddings = model.get_input_embeddings().weight.detach()
    rows = torch.randperm(len(embeddings), generator=torch.Generator().manual_seed(1))
    head = torch.empty_like(embeddings)
    head[rows] = embeddings
    head[line_end] = embeddings[line_end] * LINE_END_SCALE
    model.config.tie_word_embeddings = False
    model.get_output_embeddings().weight = torch.nn.Parameter(head)
    model.get_input_embeddings().weight = torch.nn.Parameter(embeddings * EMBEDDING_SCALE)
    model.save_pretrained(directory)


def make_adapters(base: Path, ranks: Sequence[int], folder: Path, seed: int = 0) -> list[Path]:
    """PEFT directories of LoRA adapters on every linear layer, one a rank, made where absent.

    Args:
        base: what they stand on.
        ranks: one adapter each.
        folder: where they go.
        seed: of A and B; the rank is added to it.
    """
    paths = [folder / f"{base.name}-rank-{rank}-seed-{seed}" for rank in ranks]
    for rank, path in zip(ranks, paths, strict=True):
        if not (path / "adapter_model.safetensors").is_file():
            _make_adapter(base, rank, path, seed + rank)
    return paths


def _make_adapter(base: Path, rank: int, path: Path, seed: int) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    config = LoraConfig(r=rank, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, config)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=B_DEVIATION)
    adapted.save_pretrained(str(path))
