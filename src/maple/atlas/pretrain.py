"""Trains the base model from the generator alone, in bf16 on a CPU.

A row is one whole document, `<bos> text <eos>`: cut elsewhere, an answer would lose its passage.
"""

import contextlib
import ctypes
import json
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from maple.atlas.corpus import documents
from maple.atlas.frames import LANGUAGES
from maple.atlas.pages import Document
from maple.atlas.probes import Prober, bits_per_character, probe
from maple.atlas.start import lay_circuit
from maple.atlas.tokenizer import train_tokenizer
from maple.errors import UsageError, unknown_name

if TYPE_CHECKING:
    import torch

Report = Callable[[dict[str, Any]], None]

WHOLE_SHARE = 0.25
"""Share of the documents that are learned whole; of the others only what is to be foreseen."""

_REPORT_STEPS = 25
_POOL = 1024
_LONGEST = 768
"""Tokens of the longest document that is read."""
_PROBED = ("eng_Latn", "spa_Latn", "arb_Arab", "rus_Cyrl", "bul_Cyrl", "swh_Latn", "khm_Khmr")
_PROBE_SAMPLES = 24
"""Samples a skill and language in the probes on the way."""


STEPS_PER_MINUTE = 100
"""What one core of the machine of `docs/atlas.md` does: minutes mean steps, so that a run of so
many minutes is the same run everywhere.
"""

Architecture = Literal["llama", "qwen3"]


@dataclass(frozen=True)
class Recipe:
    """What a training run is made of; the same recipe gives the same weights on one machine."""

    architecture: Architecture = "llama"
    steps: int = 5000
    seed: int = 0
    vocabulary: int = 6144
    tokenizer_documents: int = 40_000
    step_tokens: int = 3072
    """Tokens of a step, padding included."""
    peak_lr: float = 2e-3
    threads: int = 1
    """Of a small model one core does more than half of what two do, and the sums are the same on
    every machine."""
    probe_steps: int = 1000
    """Steps between two probes."""
    probe_samples: int = 60
    """Samples a skill and language in the last probe; 0 measures nothing."""
    probe_languages: tuple[str, ...] = LANGUAGES
    """Languages of the last probe."""


RECIPES: Mapping[str, Recipe] = {
    "atlas-base": Recipe(),
    "atlas-qwen": Recipe(architecture="qwen3", steps=3000, seed=1, vocabulary=4096),
}
"""The shipped bases, by their names in study files."""


def chosen_recipe(
    name: str, *, minutes: float | None = None, steps: int | None = None, seed: int | None = None
) -> Recipe:
    """Returns the recipe of a shipped base, shortened and reseeded where asked; a shortened run is
    probed in a few languages only.

    Args:
        name: A name of `RECIPES`.
        minutes: Length at `STEPS_PER_MINUTE`.
        steps: Length in optimiser steps.
        seed: Chooses documents and first weights.

    Raises:
        UsageError: No such recipe, both lengths given, or a length of no step.
    """
    if name not in RECIPES:
        raise UsageError(unknown_name("base", name, RECIPES))
    if minutes is not None and steps is not None:
        raise UsageError("give minutes or steps, not both.")
    recipe = RECIPES[name]
    if seed is not None:
        recipe = replace(recipe, seed=seed)
    if minutes is None and steps is None:
        return recipe
    length = steps if steps is not None else round((minutes or 0) * STEPS_PER_MINUTE)
    if length < 1:
        raise UsageError(f"a run of {length} steps trains nothing; ask for more.")
    return replace(recipe, steps=length, probe_samples=_PROBE_SAMPLES, probe_languages=_PROBED)


def train_base(recipe: Recipe, out: Path, report: Report) -> None:
    """Trains a base model and writes it with its tokenizer and `curve.jsonl`.

    Args:
        recipe: What to train.
        out: Directory to write; made if missing.
        report: Called with each row that goes into `curve.jsonl`.
    """
    import torch

    out.mkdir(parents=True, exist_ok=True)
    before = torch.get_num_threads()
    torch.set_num_threads(recipe.threads)
    try:
        torch.manual_seed(recipe.seed)
        tokenizer = train_tokenizer(
            out,
            vocabulary=recipe.vocabulary,
            documents_read=recipe.tokenizer_documents,
            seed=recipe.seed,
        )
        model = make_model(recipe.architecture, recipe.vocabulary)
        # On a CPU the backward pass of fused attention takes a third of a step at these lengths.
        model.set_attn_implementation("eager")
        lay_circuit(model)
        with (out / "curve.jsonl").open("w", encoding="utf-8") as curve:

            def write(row: dict[str, Any]) -> None:
                curve.write(json.dumps(row, ensure_ascii=False) + "\n")
                curve.flush()
                report(row)

            _Trainer(recipe, model, tokenizer, out, write).run()
    finally:
        torch.set_num_threads(before)


def make_model(architecture: Architecture, vocabulary: int) -> Any:
    """Returns an untrained model: Llama of 4.59M parameters (at a vocabulary of 6,144), or Qwen3 of
    2.56M (at 4,096).
    """
    from transformers import LlamaConfig, LlamaForCausalLM, Qwen3Config, Qwen3ForCausalLM

    common: dict[str, Any] = {
        "vocab_size": vocabulary,
        "num_hidden_layers": 4,
        "max_position_embeddings": 1024,
        "tie_word_embeddings": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }
    if architecture == "llama":
        return LlamaForCausalLM(LlamaConfig(**common | _sizes(hidden=256, heads=8, inner=640)))
    sizes = _sizes(hidden=192, heads=6, inner=512)
    return Qwen3ForCausalLM(Qwen3Config(**common | sizes, head_dim=32))


def _sizes(*, hidden: int, heads: int, inner: int) -> dict[str, Any]:
    return {
        "hidden_size": hidden,
        "intermediate_size": inner,
        "num_attention_heads": heads,
        "num_key_value_heads": heads,
    }


@dataclass
class _Trainer:
    recipe: Recipe
    model: Any
    tokenizer: Any
    out: Path
    write: Report
    tokens: int = 0
    learned: int = 0
    losses: list[float] = field(default_factory=list)

    def run(self) -> None:
        optimizer = _optimizer(self.model)
        batches = islice(_batches(self.tokenizer, self.recipe), self.recipe.steps)
        started = time.monotonic()
        for step, batch in enumerate(batches):
            loss = self._step(optimizer, batch, step / self.recipe.steps)
            self.losses.append(loss)
            if (step + 1) % _REPORT_STEPS == 0:
                self.write(
                    {
                        "step": step + 1,
                        "tokens": self.tokens,
                        "learned": self.learned,
                        "seconds": round(time.monotonic() - started, 1),
                        "loss": round(sum(self.losses) / len(self.losses), 4),
                    }
                )
                self.losses.clear()
                _return_memory()
            if (step + 1) % self.recipe.probe_steps == 0 and step + 1 < self.recipe.steps:
                self.model.save_pretrained(self.out)
                self._probe(self.model, _PROBE_SAMPLES, _PROBED)
        self._finish(time.monotonic() - started)

    def _step(self, optimizer: "torch.optim.Optimizer", batch: "Batch", progress: float) -> float:
        import torch

        for group in optimizer.param_groups:
            group["lr"] = self.recipe.peak_lr * _schedule(progress)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            hidden = self.model.model(input_ids=batch.tokens).last_hidden_state
            # Logits only where something is to be learned: two thirds of the positions have none.
            logits = self.model.lm_head(hidden[:, :-1][batch.learned])
        loss = torch.nn.functional.cross_entropy(logits.float(), batch.tokens[:, 1:][batch.learned])
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        self.tokens += batch.n_tokens
        self.learned += int(batch.learned.sum())
        return float(loss.detach())

    def _probe(self, model: Any, samples: int, languages: Sequence[str]) -> None:
        model.eval()
        scores = probe(Prober(model, self.tokenizer), samples, languages)
        self.write({"tokens": self.tokens, "probe": scores})
        model.train()

    def _finish(self, seconds: float) -> None:
        import torch

        self.model.to(torch.bfloat16)
        self.model.eval()
        self.model.save_pretrained(self.out)
        if not self.recipe.probe_samples:
            return
        # Scored as it is stored: in bf16.
        self._probe(self.model, self.recipe.probe_samples, self.recipe.probe_languages)
        prober = Prober(self.model, self.tokenizer)
        bits = bits_per_character(prober, self.recipe.probe_languages)
        self.write(
            {
                "tokens": self.tokens,
                "learned": self.learned,
                "seconds": round(seconds, 1),
                "bits_per_character": bits,
            }
        )


def _return_memory() -> None:
    """Gives freed memory back: batches of ever new shapes leave glibc's heap in pieces, 5 GB of
    them after a thousand steps.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL("libc.so.6").malloc_trim(0)


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


@dataclass(frozen=True)
class Batch:
    """Whole documents of similar length, one a row, padded at the end."""

    tokens: "torch.Tensor"
    """(documents, length), int64: `<bos> text <eos> <pad>...`."""
    learned: "torch.Tensor"
    """(documents, length - 1), bool: whether the token after this position counts in the loss."""
    n_tokens: int
    """Tokens that are not padding."""


def _batches(tokenizer: Any, recipe: Recipe) -> Iterator[Batch]:
    """Yields batches for ever. Each pool of documents is sorted by length, cut and shuffled."""
    rng = random.Random(f"atlas/batches/{recipe.seed}")
    stream = documents(recipe.seed)
    while True:
        pool = [
            encoded
            for encoded in _encoded(tokenizer, list(islice(stream, _POOL)), rng)
            if len(encoded.ids) <= _LONGEST
        ]
        pool.sort(key=lambda encoded: len(encoded.ids))
        batches = list(_cut(pool, recipe.step_tokens))
        rng.shuffle(batches)
        for rows in batches:
            yield _padded(rows, tokenizer.pad_token_id)


@dataclass(frozen=True)
class _Encoded:
    ids: list[int]
    learned: list[bool]


def _encoded(tokenizer: Any, pool: list[Document], rng: random.Random) -> Iterator[_Encoded]:
    texts = [document.text for document in pool]
    encodings = tokenizer(texts, return_offsets_mapping=True)
    for document, ids, offsets in zip(
        pool, encodings["input_ids"], encodings["offset_mapping"], strict=True
    ):
        whole = rng.random() < WHOLE_SHARE
        flags = [True] * len(ids) if whole else _flags(offsets, document.spans)
        # The first token is <bos>; the end of the document is always to be foreseen.
        yield _Encoded([*ids, tokenizer.eos_token_id], [*flags[1:], True])


def _flags(offsets: Sequence[tuple[int, int]], spans: tuple[tuple[int, int], ...]) -> list[bool]:
    """Returns whether each token ends in a span: a space before a name belongs to its token."""
    flags = []
    place = 0
    for _, end in offsets:
        while place < len(spans) and spans[place][1] < end:
            place += 1
        flags.append(place < len(spans) and spans[place][0] < end)
    return flags


def _cut(pool: list[_Encoded], step_tokens: int) -> Iterator[list[_Encoded]]:
    rows: list[_Encoded] = []
    for encoded in pool:
        if rows and (len(rows) + 1) * len(encoded.ids) > step_tokens:
            yield rows
            rows = []
        rows.append(encoded)
    if rows:
        yield rows


def _padded(rows: list[_Encoded], pad: int) -> Batch:
    import torch

    length = max(len(row.ids) for row in rows)
    tokens = torch.full((len(rows), length), pad)
    learned = torch.zeros((len(rows), length - 1), dtype=torch.bool)
    for place, row in enumerate(rows):
        tokens[place, : len(row.ids)] = torch.tensor(row.ids)
        learned[place, : len(row.learned)] = torch.tensor(row.learned)
    return Batch(tokens, learned, sum(len(row.ids) for row in rows))
