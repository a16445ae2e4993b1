"""Prompt methods: packed rows, ``peft``'s own forward, and answers that no padding changes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
from tests.contract.method_lives import SMALL, Bases, attach_and_train, base_for, few_steps
from tests.tiny_models import FAMILIES

from maple.base import LoadedBase, label_logits
from maple.catalog import load_method
from maple.errors import TrainingError
from maple.evaluate.encode import EncodedRequest
from maple.evaluate.engine import Engine
from maple.run.adapters import detach, strip

PROMPTS = ("prompt-tuning", "p-tuning", "prefix-tuning")
TEXTS = ("The capital of Kenya is", "东京是日本的", "Add 3 and 4.")

every_prompt = pytest.mark.parametrize("name", PROMPTS)
every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture
def attached(shared_base: Bases, name: str, family: str) -> Any:
    """A base with trained vectors in front of it."""
    base = base_for(shared_base, name, family, "fp32")
    model, _ = attach_and_train(base, load_method(name, SMALL[name]), few_steps(name))
    yield base, model
    detach(model, base)


def token_ids(base: LoadedBase) -> list[list[int]]:
    return [base.tokenizer(text)["input_ids"] for text in TEXTS]


def logits_of(model: Any, ids: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        return label_logits(
            model,
            input_ids=ids,
            positions=positions,
            selected=torch.ones_like(ids, dtype=torch.bool),
            use_cache=False,
        )


@every_prompt
@every_family
def test_examples_of_a_row_do_not_see_one_another(attached: Any) -> None:
    base, model = attached
    examples = token_ids(base)
    alone = [logits_of(model, torch.tensor([e]), torch.arange(len(e))[None]) for e in examples]
    # Two rows of unlike numbers of examples, the second padded at its end.
    first, second = examples[0] + examples[1], examples[2]
    padding = len(first) - len(second)
    ids = torch.tensor([first, second + [2] * padding])
    positions = torch.tensor(
        [
            [*range(len(examples[0])), *range(len(examples[1]))],
            [*range(len(second)), *range(padding)],
        ]
    )
    packed = logits_of(model, ids, positions)
    torch.testing.assert_close(
        packed[: len(first) + len(second)], torch.cat(alone), atol=2e-5, rtol=1e-5
    )


@every_prompt
@pytest.mark.parametrize("family", ["llama", "qwen3"])
def test_stored_vectors_mean_the_same_to_plain_peft(attached: Any, tmp_path: Path) -> None:
    base, model = attached
    examples = token_ids(base)
    ours = [logits_of(model, torch.tensor([e]), torch.arange(len(e))[None]) for e in examples]
    load_method("prompt-tuning").save(model, tmp_path)
    detach(model, base)
    plain = peft.PeftModel.from_pretrained(base.model, str(tmp_path)).eval()
    for example, expected in zip(examples, ours, strict=True):
        with torch.inference_mode(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            theirs = plain(input_ids=torch.tensor([example])).logits[0, -len(example) :]
        torch.testing.assert_close(theirs, expected, atol=2e-5, rtol=1e-5)
    detach(plain, base)


@every_prompt
@every_family
def test_greedy_answers_are_those_of_one_forward_a_token(attached: Any) -> None:
    base, model = attached
    model.eval()
    answers = []
    for ids in token_ids(base):
        row = list(ids)
        for _ in range(6):
            logits = logits_of(model, torch.tensor([row]), torch.arange(len(row))[None])
            row.append(int(logits[-1].argmax()))
        answers.append(row[len(ids) :])
    requests = [EncodedRequest(prompt=tuple(ids), max_new_tokens=6) for ids in token_ids(base)]
    ends = Engine(model, base).end_ids()
    expected = [
        base.tokenizer.decode(
            row[: next((i for i, t in enumerate(row) if t in ends), len(row))],
            skip_special_tokens=True,
        )
        for row in answers
    ]
    for batch in (requests, *[[r] for r in requests]):
        found = [r.text for r in Engine(model, base).generate(batch)]
        assert found == [expected[requests.index(r)] for r in batch]


@pytest.mark.parametrize("family", ["mistral", "gemma2"])
def test_a_prefix_that_would_leave_the_window_is_refused(shared_base: Bases, family: str) -> None:
    base, method = shared_base(family), load_method("prefix-tuning", SMALL["prefix-tuning"])
    try:
        with pytest.raises(TrainingError, match="window of 8 tokens"):
            attach_and_train(base, method, few_steps("prefix-tuning"))
    finally:
        strip(base)


@pytest.mark.parametrize(("name", "family"), [("prefix-tuning", "llama")])
def test_a_prefix_with_gradient_checkpointing_is_refused(
    shared_base: Bases, name: str, family: str
) -> None:
    base = shared_base(family)
    wanted = few_steps(name, gradient_checkpointing=True)
    try:
        with pytest.raises(TrainingError, match="prompt-tuning"):
            attach_and_train(base, load_method(name, SMALL[name]), wanted)
    finally:
        base.model.activation_checkpointing_disable()
        strip(base)
