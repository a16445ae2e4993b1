"""Every model family: its module names are those of the architectures it claims."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from tests.tiny_models import FAMILIES

from maple.base import LoadedBase
from maple.catalog import entry_names, family_for, load_family
from maple.plan.estimate import shape_from_config

Bases = Callable[..., LoadedBase]


@pytest.mark.parametrize("architecture", FAMILIES)
def test_linear_shapes_are_those_of_the_modules(shared_base: Bases, architecture: str) -> None:
    base = shared_base(architecture)
    config = base.model.config.to_dict()
    shape = shape_from_config(config)
    assert shape is not None
    assert base.family is not None
    found: dict[str, tuple[int, int]] = {}
    for name, module in base.model.named_modules():
        if type(module).__name__ == "Linear" and ".layers." in name:
            found[name.rsplit(".", 1)[-1]] = (module.in_features, module.out_features)
    assert found == base.family.linear_shapes(shape)
    assert set(base.family.linear) == set(found)
    assert set(base.family.attention) < set(found)


@pytest.mark.parametrize("name", entry_names("models"))
def test_a_model_type_belongs_to_one_family(name: str) -> None:
    family = load_family(name)
    for model_type in family.model_types:
        owners = [n for n in entry_names("models") if model_type in load_family(n).model_types]
        assert owners == [name]
        assert type(family_for(model_type=model_type)) is type(family)
    for checkpoint in family.known_shapes:
        assert type(family_for(model_name=checkpoint)) is type(family)


def test_an_unknown_architecture_is_generic() -> None:
    assert type(family_for(model_type="brand-new")).__name__ == "Generic"
    assert type(family_for()).__name__ == "Generic"


# What the checkpoints' own chat templates write, without BOS. Source: tokenizer_config.json of
# Mistral-7B-Instruct-v0.1, Qwen2.5-0.5B-Instruct (its default system line left out) and
# gemma-2-2b-it; for LLaMA-2 its release's generation code.
CHATS: dict[str, tuple[list[tuple[str, str]], str]] = {
    "llama": (
        [("system", "Be brief."), ("user", "Hi")],
        "[INST] <<SYS>>\nBe brief.\n<</SYS>>\n\nHi [/INST]",
    ),
    "mistral": ([("user", "Hi")], "[INST] Hi [/INST]"),
    "qwen": (
        [("system", "Be brief."), ("user", "Hi"), ("assistant", "Hello."), ("user", "Bye")],
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n"
        "<|im_start|>assistant\nHello.<|im_end|>\n<|im_start|>user\nBye<|im_end|>\n"
        "<|im_start|>assistant\n",
    ),
    "gemma": (
        [("user", "Hi"), ("assistant", "Hello."), ("user", "Bye")],
        "<start_of_turn>user\nHi<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
        "<start_of_turn>user\nBye<end_of_turn>\n<start_of_turn>model\n",
    ),
}


@pytest.mark.parametrize("name", CHATS)
def test_a_chat_is_worded_as_the_checkpoints_own_template_words_it(name: str) -> None:
    turns, expected = CHATS[name]
    assert load_family(name).chat(turns) == expected


@pytest.mark.parametrize("name", entry_names("models"))
def test_a_chat_ends_where_the_answer_begins(name: str) -> None:
    family: Any = load_family(name)
    one = family.chat([("user", "Hi")])
    assert one.index("Hi") >= 0
    longer = family.chat([("user", "Hi"), ("assistant", "Hello."), ("user", "Bye")])
    assert longer.startswith(one)
    assert longer.index("Hello.") < longer.index("Bye")
