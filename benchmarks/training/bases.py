"""The models that are trained: random weights of a fixed seed, and tokenizers made on the spot.

Speeds hold for these sizes; losses say only that two trainings are alike.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SPECIAL = ("<pad>", "<s>", "</s>")
_CHARACTERS_PER_FILE = 800_000
"""Enough for 32,000 merges; more only costs time."""


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """A Llama's or Mistral's sizes."""

    hidden: int
    layers: int
    heads: int
    key_value_heads: int
    intermediate: int
    vocabulary: int
    tied_head: bool
    model_type: str = "llama"

    @property
    def head_dim(self) -> int:
        return self.hidden // self.heads

    def linear_widths(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of each linear layer of a block."""
        narrow = self.key_value_heads * self.head_dim
        return {
            "q_proj": (self.hidden, self.hidden),
            "k_proj": (self.hidden, narrow),
            "v_proj": (self.hidden, narrow),
            "o_proj": (self.hidden, self.hidden),
            "gate_proj": (self.hidden, self.intermediate),
            "up_proj": (self.hidden, self.intermediate),
            "down_proj": (self.intermediate, self.hidden),
        }


ARCHITECTURES = {
    # 42.1M parameters, 39% of them the head.
    "42M": Architecture(
        hidden=512, layers=8, heads=8, key_value_heads=8, intermediate=1408,
        vocabulary=32_000, tied_head=True,
    ),
    # 210.8M parameters, 4% of them the head.
    "wide": Architecture(
        hidden=1024, layers=16, heads=16, key_value_heads=16, intermediate=2752,
        vocabulary=8192, tied_head=True,
    ),
    "llama-2-7b": Architecture(
        hidden=4096, layers=32, heads=32, key_value_heads=32, intermediate=11_008,
        vocabulary=32_000, tied_head=False,
    ),
    "mistral-7b": Architecture(
        hidden=4096, layers=32, heads=32, key_value_heads=8, intermediate=14_336,
        vocabulary=32_000, tied_head=False, model_type="mistral",
    ),
}  # fmt: skip


def make_base(name: str, architecture: Architecture, work: Path, data: Path, device: str) -> Path:
    """The directory of a base, made at the first call: bfloat16 weights, seed 0."""
    directory = work / "models" / name
    if (directory / "made").exists():
        return directory
    directory.mkdir(parents=True, exist_ok=True)
    make_tokenizer(architecture.vocabulary, directory, data)
    save_weights(architecture, directory, device)
    (directory / "made").touch()
    return directory


def make_tokenizer(vocabulary: int, directory: Path, data: Path) -> None:
    """A byte-level BPE of exactly that size, trained on the instructions themselves.

    Raises:
        SystemExit: the files hold too little text for that many merges.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        special_tokens=list(SPECIAL),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts(data), trainer)
    if tokenizer.get_vocab_size() != vocabulary:
        raise SystemExit(f"the tokenizer has {tokenizer.get_vocab_size()} tokens, not {vocabulary}")
    pad, bos, eos = SPECIAL
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=pad, bos_token=bos, eos_token=eos
    )
    fast.save_pretrained(directory)


def texts(data: Path) -> Iterator[str]:
    """Fields of instruction files, as many characters of each language."""
    chunks = data / "alpaca_en_zh" / "history"
    sources = [sorted(chunks.glob(f"*/*{language}*.json"))[:1] for language in "英中"]
    sources += [[data / "multialpaca" / f"{name}.jsonl"] for name in ("es", "ja", "pt")]
    for path in (path for group in sources for path in group):
        n_characters = 0
        for row in _rows(path):
            text = "\n".join(str(row.get(k) or "") for k in ("instruction", "input", "output"))
            yield text
            n_characters += len(text)
            if n_characters > _CHARACTERS_PER_FILE:
                break


def _rows(path: Path) -> Iterator[dict[str, str]]:
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".json":
        yield from json.loads(text)
    else:
        yield from (json.loads(line) for line in text.splitlines() if line.strip())


def save_weights(architecture: Architecture, directory: Path, device: str) -> None:
    """Random weights, drawn where there is room for them."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    pad, bos, eos = range(len(SPECIAL))
    config = AutoConfig.for_model(
        architecture.model_type,
        hidden_size=architecture.hidden,
        num_hidden_layers=architecture.layers,
        num_attention_heads=architecture.heads,
        num_key_value_heads=architecture.key_value_heads,
        intermediate_size=architecture.intermediate,
        vocab_size=architecture.vocabulary,
        tie_word_embeddings=architecture.tied_head,
        max_position_embeddings=2048,
        pad_token_id=pad,
        bos_token_id=bos,
        eos_token_id=eos,
    )
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.save_pretrained(directory)
