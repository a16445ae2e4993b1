"""Trains the base model from the generator alone, in bf16 on a CPU.

Documents are packed end to end, `<bos> text <eos>`, into rows of 256, 512 and 1,024 tokens (long
rows are dear, but the positions have to be learned).
"""

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maple.atlas.corpus import documents
from maple.atlas.probes import Prober, bits_per_character, probe
from maple.atlas.start import lay_circuit
from maple.atlas.tokenizer import train_tokenizer

if TYPE_CHECKING:
    import torch

Report = Callable[[dict[str, Any]], None]

_LENGTHS = (256, 256, 256, 512, 256, 256, 256, 1024)
_ENCODE_DOCUMENTS = 512
_PROBE_SAMPLES = 24
"""Samples a skill and language in the probes on the way."""


@dataclass(frozen=True)
class Recipe:
    """What a training run is made of."""

    minutes: float = 40.0
    """Wall time of training; not used where `steps` is given."""
    steps: int = 0
    """Optimiser steps; a run of given steps is reproducible, a run of given minutes is not."""
    seed: int = 0
    vocabulary: int = 4096
    tokenizer_documents: int = 60_000
    step_tokens: int = 2048
    peak_lr: float = 2e-3
    probe_minutes: float = 10.0
    probe_samples: int = 60
    """Samples a skill and language in the last probe; 0 measures nothing."""
    start: Path | None = None
    """A base to train on from, with its tokenizer; None starts from nothing."""


def train_base(recipe: Recipe, out: Path, report: Report) -> None:
    """Trains a base model and writes it with its tokenizer and `curve.jsonl`.

    Args:
        recipe: What to train.
        out: Directory to write; made if missing.
        report: Called with each row that goes into `curve.jsonl`.
    """
    import torch

    out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(recipe.seed)
    if recipe.start is None:
        tokenizer = train_tokenizer(
            out,
            vocabulary=recipe.vocabulary,
            documents_read=recipe.tokenizer_documents,
            seed=recipe.seed,
        )
        model = make_model(recipe.vocabulary)
        lay_circuit(model)
    else:
        model, tokenizer = _load(recipe.start)
        tokenizer.save_pretrained(str(out))
    with (out / "curve.jsonl").open("w", encoding="utf-8") as curve:

        def write(row: dict[str, Any]) -> None:
            curve.write(json.dumps(row, ensure_ascii=False) + "\n")
            curve.flush()
            report(row)

        _Trainer(recipe, model, tokenizer, out, write).run()


def _load(directory: Path) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model: Any = AutoModelForCausalLM.from_pretrained(str(directory))
    return model.float().train(), AutoTokenizer.from_pretrained(str(directory))


def make_model(vocabulary: int) -> Any:
    """Returns an untrained `LlamaForCausalLM` of 4.07M parameters (at a vocabulary of 4,096)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=vocabulary,
        hidden_size=256,
        intermediate_size=640,
        num_hidden_layers=4,
        num_attention_heads=8,
        num_key_value_heads=8,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    return LlamaForCausalLM(config)


@dataclass
class _Trainer:
    recipe: Recipe
    model: Any
    tokenizer: Any
    out: Path
    write: Report
    tokens: int = 0

    def run(self) -> None:
        optimizer = _optimizer(self.model)
        rows = _rows(self.tokenizer, self.recipe)
        started = probed = time.monotonic()
        paused = 0.0
        for step, batch in enumerate(rows):
            progress = self._progress(step, time.monotonic() - started - paused)
            if progress >= 1:
                break
            loss = self._step(optimizer, batch, progress)
            if step % 25 == 0:
                seconds = time.monotonic() - started - paused
                self.write(
                    {
                        "step": step,
                        "tokens": self.tokens,
                        "seconds": round(seconds, 1),
                        "loss": round(loss, 4),
                    }
                )
            if time.monotonic() - probed > 60 * self.recipe.probe_minutes:
                before = time.monotonic()
                self.model.save_pretrained(self.out)
                self._probe(self.model, _PROBE_SAMPLES)
                probed = time.monotonic()
                paused += probed - before
        self._finish(time.monotonic() - started - paused)

    def _progress(self, step: int, seconds: float) -> float:
        return (
            step / self.recipe.steps if self.recipe.steps else seconds / (60 * self.recipe.minutes)
        )

    def _step(
        self, optimizer: "torch.optim.Optimizer", batch: "torch.Tensor", progress: float
    ) -> float:
        import torch

        for group in optimizer.param_groups:
            group["lr"] = self.recipe.peak_lr * _schedule(progress)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = self.model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        self.tokens += batch.numel()
        return float(loss.detach())

    def _probe(self, model: Any, samples: int) -> None:
        model.eval()
        self.write({"tokens": self.tokens, "probe": probe(Prober(model, self.tokenizer), samples)})
        model.train()

    def _finish(self, seconds: float) -> None:
        import torch

        self.model.to(torch.bfloat16)
        self.model.eval()
        self.model.save_pretrained(self.out)
        if not self.recipe.probe_samples:
            return
        # Scored as it is stored: in bf16.
        self._probe(self.model, self.recipe.probe_samples)
        bits = bits_per_character(Prober(self.model, self.tokenizer))
        self.write(
            {"tokens": self.tokens, "seconds": round(seconds, 1), "bits_per_character": bits}
        )


def _optimizer(model: "torch.nn.Module") -> "torch.optim.Optimizer":
    import torch

    matrices = [p for p in model.parameters() if p.dim() > 1]
    vectors = [p for p in model.parameters() if p.dim() <= 1]
    groups = [{"params": matrices, "weight_decay": 0.1}, {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.95), eps=1e-8)


def _schedule(progress: float) -> float:
    """Returns the factor on the peak learning rate: 2% warm-up, then a cosine down to 3%."""
    if progress < 0.02:
        return (progress + 1e-3) / 0.021
    return 0.03 + 0.97 * 0.5 * (1 + math.cos(math.pi * (progress - 0.02) / 0.98))


def _rows(tokenizer: Any, recipe: Recipe) -> Iterator["torch.Tensor"]:
    """Yields batches of packed tokens: (step_tokens / length, length)."""
    import torch

    stream = documents(recipe.seed, is_second_phase=recipe.start is not None)
    buffer: list[int] = []
    step = 0
    while True:
        texts = [document.text for document in islice(stream, _ENCODE_DOCUMENTS)]
        for ids in tokenizer(texts)["input_ids"]:
            buffer.extend(ids)
            buffer.append(tokenizer.eos_token_id)
        while len(buffer) >= recipe.step_tokens:
            length = _LENGTHS[step % len(_LENGTHS)]
            yield torch.tensor(buffer[: recipe.step_tokens]).view(-1, length)
            del buffer[: recipe.step_tokens]
            step += 1
