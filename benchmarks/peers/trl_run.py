"""One rank with TRL's SFTTrainer and PEFT, written as a user would: ``trl_run.py CONFIG.json``.

Reads a JSON Lines file of {"prompt", "completion"}, trains one LoRA adapter, saves it, and then
writes what it saw (label tokens, losses, peak memory) to the file named ``report``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig
from transformers import BitsAndBytesConfig
from trl import SFTConfig, SFTTrainer

from datasets import load_dataset


def main(config: dict[str, Any]) -> None:
    rows = load_dataset("json", data_files=config["rows"], split="train")
    trainer = SFTTrainer(
        model=config["model"],
        args=arguments(config),
        train_dataset=rows,
        quantization_config=quantization(config["bits"]),
        peft_config=LoraConfig(
            r=config["rank"],
            lora_alpha=config["alpha"],
            lora_dropout=config["dropout"],
            target_modules="all-linear",
            task_type="CAUSAL_LM",
        ),
    )
    trained = trainer.train()
    trainer.save_model(config["out"])
    report(trainer, trained.metrics["train_runtime"], config)


def arguments(config: dict[str, Any]) -> SFTConfig:
    is_free = config["padding_free"] and not config["packing"]
    packed = {"packing": True, "packing_strategy": config["packing"]} if config["packing"] else {}
    return SFTConfig(
        output_dir=config["out"],
        model_init_kwargs={"dtype": config["dtype"]},
        num_train_epochs=1,
        per_device_train_batch_size=config["per_device"],
        gradient_accumulation_steps=config["accumulation"],
        learning_rate=config["learning_rate"],
        lr_scheduler_type="constant",
        weight_decay=0.0,
        max_grad_norm=1.0,
        bf16=True,
        use_cpu=config["device"] == "cpu",
        dataloader_pin_memory=config["device"] != "cpu",
        gradient_checkpointing=False,
        completion_only_loss=True,
        # TRL refuses padding_free with a maximum: its rows come tokenized and cut already.
        max_length=None if is_free else config["max_length"],
        padding_free=is_free,
        train_sampling_strategy=config["sampling"],
        seed=config["seed"],
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
        **packed,
    )


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


def report(trainer: SFTTrainer, seconds: float, config: dict[str, Any]) -> None:
    # The first token of a row is never predicted, so its label does not count.
    labels = (row[1:] for row in trainer.train_dataset["labels"])
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    found = {
        str(config["rank"]): {
            "label_tokens": sum(label != -100 for row in labels for label in row),
            "steps": trainer.state.global_step,
            "first_loss": losses[0],
            "last_loss": losses[-1],
            "training_seconds": seconds,
            "cuda_peak_bytes": cuda_peak(config["device"]),
        }
    }
    Path(config["report"]).write_text(json.dumps(found), encoding="utf-8")


def cuda_peak(device: str) -> int | None:
    return int(torch.cuda.max_memory_allocated()) if device == "cuda" else None


if __name__ == "__main__":
    main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8")))
