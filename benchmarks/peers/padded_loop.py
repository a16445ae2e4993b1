"""A plain PEFT loop over a whole grid of ranks in one process: ``padded_loop.py CONFIG.json``.

What a practitioner writes without a trainer: the base is loaded and the rows are tokenized once,
each batch is padded to its longest row, the model computes all logits and its own loss, AdamW
steps, the adapter is saved and taken off, the next rank goes on.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

Row = tuple[list[int], list[int]]
"""Token ids and labels; -100 carries no loss."""


def main(config: dict[str, Any]) -> None:
    tokenizer = AutoTokenizer.from_pretrained(config["model"])
    rows = [tokenize(row, tokenizer, config["max_length"]) for row in read(config["rows"])]
    base = load(config)
    found = {}
    for rank in config["ranks"]:
        torch.manual_seed(config["seed"])
        model = get_peft_model(base, adapter(rank, config))
        began = time.monotonic()
        losses = train(model, rows, tokenizer.pad_token_id, config)
        seconds = time.monotonic() - began
        model.save_pretrained(f"{config['out']}/{rank}")
        base = model.unload()
        found[str(rank)] = {
            "label_tokens": sum(label != -100 for _, labels in rows for label in labels[1:]),
            "steps": len(losses),
            "first_loss": losses[0],
            "last_loss": losses[-1],
            "training_seconds": seconds,
            "cuda_peak_bytes": cuda_peak(config["device"]),
        }
    Path(config["report"]).write_text(json.dumps(found), encoding="utf-8")


def read(path: str) -> list[dict[str, str]]:
    return [json.loads(line) for line in Path(path).read_text(encoding="utf-8").splitlines()]


def tokenize(row: dict[str, str], tokenizer: Any, max_length: int) -> Row:
    n_prompt = len(tokenizer(row["prompt"])["input_ids"])
    ids = tokenizer(row["prompt"] + row["completion"])["input_ids"] + [tokenizer.eos_token_id]
    return ids[:max_length], ([-100] * n_prompt + ids[n_prompt:])[:max_length]


def load(config: dict[str, Any]) -> Any:
    model = AutoModelForCausalLM.from_pretrained(
        config["model"],
        dtype=getattr(torch, config["dtype"]),
        quantization_config=quantization(config["bits"]),
        device_map={"": config["device"]},
    )
    model.config.use_cache = False
    return model.requires_grad_(False)


def quantization(bits: str) -> BitsAndBytesConfig | None:
    """The settings that Maple's entries of the same names load with."""
    if bits == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_threshold=6.0)
    if bits == "nf4":
        return BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type="nf4",
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=torch.bfloat16,
        )
    return None


def adapter(rank: int, config: dict[str, Any]) -> LoraConfig:
    return LoraConfig(
        r=rank,
        lora_alpha=config["alpha"],
        lora_dropout=config["dropout"],
        target_modules="all-linear",
        task_type="CAUSAL_LM",
    )


def train(model: Any, rows: list[Row], pad: int, config: dict[str, Any]) -> list[float]:
    """One epoch in the given order; returns each optimiser step's mean loss."""
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=config["learning_rate"], weight_decay=0.0, fused=True)
    model.train()
    losses = []
    size = config["per_device"] * config["accumulation"]
    for start in range(0, len(rows), size):
        step = rows[start : start + size]
        n_labels = sum(label != -100 for _, labels in step for label in labels[1:])
        total = 0.0
        for batch in padded(step, config["per_device"], pad, config["device"]):
            with torch.autocast(config["device"], dtype=torch.bfloat16):
                loss = model(**batch, num_items_in_batch=n_labels).loss
            loss.backward()
            total += float(loss.detach())
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(total)
    return losses


def padded(
    rows: list[Row], per_device: int, pad: int, device: str
) -> Iterator[dict[str, torch.Tensor]]:
    """The forward passes of a step, each padded on the right to its longest row."""
    for start in range(0, len(rows), per_device):
        chunk = rows[start : start + per_device]
        width = max(len(ids) for ids, _ in chunk)
        ids = torch.full((len(chunk), width), pad)
        labels = torch.full((len(chunk), width), -100)
        mask = torch.zeros((len(chunk), width), dtype=torch.long)
        for place, (row_ids, row_labels) in enumerate(chunk):
            ids[place, : len(row_ids)] = torch.tensor(row_ids)
            labels[place, : len(row_ids)] = torch.tensor(row_labels)
            mask[place, : len(row_ids)] = 1
        batch = {"input_ids": ids, "labels": labels, "attention_mask": mask}
        yield {name: tensor.to(device) for name, tensor in batch.items()}


def cuda_peak(device: str) -> int | None:
    return int(torch.cuda.max_memory_allocated()) if device == "cuda" else None


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
