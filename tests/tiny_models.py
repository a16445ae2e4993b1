"""Tiny random models and a tokenizer for several scripts, made on the spot: no network, no GPU."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from maple.base import LoadedBase
from maple.catalog.contracts import AttachContext, Conversation, Method
from maple.data import ExamplePool, MicroBatch, StepSchedule
from maple.study import TrainingSettings
from maple.train import TrainResult, calibration_rows, train_run
from maple.train.passes import passes

TEXTS = {
    "eng_Latn": ["Name the capital of Kenya.", "The capital of Kenya is Nairobi.", "Add 3 and 4."],
    "swh_Latn": ["Taja mji mkuu wa Kenya.", "Mji mkuu wa Kenya ni Nairobi.", "Jumlisha 3 na 4."],
    "zho_Hans": ["说出肯尼亚的首都。", "肯尼亚的首都是内罗毕。", "计算三加四。"],
    "tha_Thai": ["บอกชื่อเมืองหลวงของเคนยา", "เมืองหลวงของเคนยาคือไนโรบี", "บวกสามกับสี่"],
    "jpn_Jpan": [
        "ケニアの首都を答えてください。",
        "ケニアの首都はナイロビです。",
        "三と四を足しなさい。",
    ],
    "hin_Deva": ["केन्या की राजधानी बताइए।", "केन्या की राजधानी नैरोबी है।", "तीन और चार जोड़िए।"],
    "arb_Arab": ["اذكر عاصمة كينيا.", "عاصمة كينيا هي نيروبي.", "اجمع ثلاثة وأربعة."],
    "rus_Cyrl": ["Назови столицу Кении.", "Столица Кении — Найроби.", "Сложи три и четыре."],
}
"""A prompt, a response and another prompt per language."""

FAMILIES = ("llama", "mistral", "qwen2", "qwen3", "gemma2")
VOCABULARY = 640


def train_tokenizer(directory: Path) -> None:
    """Byte-level BPE with BOS in front, as Llama's; pads with its own token."""
    import tokenizers
    import transformers

    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [text for texts in TEXTS.values() for text in texts]
    framed = [f"### Input:\n{text}\n\n### Output:\n" for text in texts]
    tokenizer.train_from_iterator([*texts, *framed] * 3, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", 0)]
    )
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", pad_token="<pad>"
    )
    fast.save_pretrained(str(directory))


def save_model(family: str, directory: Path, *, seed: int = 0, **changes: Any) -> None:
    """A random two-layer model of that architecture; large weights, so that logits differ."""
    import torch
    import transformers

    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "initializer_range": 0.15,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
        "tie_word_embeddings": family == "gemma2",
    }
    # A window that the tests' sequences exceed.
    own = {
        "mistral": {"sliding_window": 8},
        "gemma2": {"sliding_window": 8, "query_pre_attn_scalar": 16},
    }
    names = {"qwen2": "Qwen2", "qwen3": "Qwen3", "gemma2": "Gemma2"}
    name = names.get(family, family.capitalize())
    settings = sizes | own.get(family, {}) | changes
    if family == "qwen2":
        settings.pop("head_dim")
    config = getattr(transformers, f"{name}Config")(**settings)
    torch.manual_seed(seed)
    model = getattr(transformers, f"{name}ForCausalLM")(config)
    model.save_pretrained(str(directory), safe_serialization=True)


def make_pools(languages: Sequence[str] = tuple(TEXTS), rows: int = 4) -> list[ExamplePool]:
    """Pools of worded examples of unequal lengths in several scripts."""
    return [ExamplePool("made-up", code, 1.0, _conversations(code, rows)) for code in languages]


def _conversations(code: str, rows: int) -> tuple[Conversation, ...]:
    question, answer, other = TEXTS[code]
    return tuple(
        Conversation(
            id=str(n),
            language=code,
            instruction=other if n % 2 else question,
            input=f"{n}" if n % 3 == 0 else "",
            response=answer + f" {n}" * (n % 4),
        )
        for n in range(rows)
    )


def settings(**changes: Any) -> TrainingSettings:
    """Short training at a high rate, so that a few steps move the loss."""
    small: dict[str, Any] = {
        "learning_rate": 1e-2,
        "epochs": 1.0,
        "max_steps": 3,
        "batch_size": 8,
        "max_length": 96,
        "warmup_steps": 0,
        "micro_batch_tokens": 256,
        "scheduler": "constant",
    }
    return TrainingSettings(**(small | changes))


def batch_loss(model: Any, base: LoadedBase, batch: MicroBatch) -> Any:
    """Sum of cross-entropies over the label tokens of one forward pass, as the loop computes it."""
    from maple.base.fused import peft_updates

    with passes(model, base, [peft_updates(model)], [None]) as forward:
        total, _, _ = forward.losses([batch], [1.0])
    return total


def train_on(
    base: LoadedBase,
    method: Method,
    wanted: TrainingSettings,
    *,
    seed: int = 0,
    pools: Sequence[ExamplePool] | None = None,
    **arguments: Any,
) -> tuple[Any, TrainResult]:
    """Attaches and trains as a study's run does; returns the adapted model and its curve."""
    import torch

    schedule = StepSchedule(
        pools or make_pools(), wanted, seed=seed, tokenizer=base.tokenizer, family=base.family
    )
    torch.manual_seed(seed)
    context = AttachContext(
        family=base.family,
        quantizer=base.quantizer,
        seed=seed,
        calibration=lambda: calibration_rows(schedule, base),
    )
    model = method.attach(base.model, context)
    result = train_run(
        model,
        base,
        method,
        schedule,
        settings=wanted,
        **arguments,
    )
    return model, result
