"""The shipped base model: it loads offline, is small, and its tokenizer loses nothing."""

import json
import math
from itertools import islice
from typing import Any

import pytest

from maple.atlas import LANGUAGES, base_model_path
from maple.atlas.corpus import documents, language_shares

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def tokenizer() -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base_model_path(), local_files_only=True)


@pytest.fixture(scope="module")
def model() -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base_model_path(), local_files_only=True)


def test_base_is_small() -> None:
    files = [path for path in base_model_path().iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 9_000_000


def test_base_is_a_llama_that_quantizers_can_split(model: Any) -> None:
    config = model.config
    assert config.model_type == "llama"
    assert config.hidden_size % 64 == 0
    assert config.intermediate_size % 64 == 0
    assert config.max_position_embeddings >= 512
    assert config.tie_word_embeddings
    assert str(model.dtype) == "torch.bfloat16"


def test_special_tokens_are_distinct(tokenizer: Any, model: Any) -> None:
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert len(set(ids)) == 3
    assert ids == (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id)
    assert len(tokenizer) == model.config.vocab_size


def test_tokenizer_round_trip_in_every_language(tokenizer: Any) -> None:
    seen = set()
    for document in islice(documents(7), 3000):
        seen.add(document.language)
        ids = tokenizer(document.text)["input_ids"]
        assert ids[0] == tokenizer.bos_token_id
        assert tokenizer.decode(ids, skip_special_tokens=True) == document.text
    assert seen == set(LANGUAGES)


def test_base_predicts_english_better_than_a_uniform_guess(tokenizer: Any, model: Any) -> None:
    text = "The currency of Kenya is the Kenyan Shilling. Kenya lies in Eastern Africa."
    batch = tokenizer(text, return_tensors="pt")
    loss = model(input_ids=batch["input_ids"], labels=batch["input_ids"]).loss
    assert loss.item() < math.log(len(tokenizer)) / 2


def test_shares_follow_the_resource_class() -> None:
    shares = language_shares()
    assert abs(sum(shares.values()) - 1) < 1e-12
    assert shares["eng_Latn"] > shares["rus_Cyrl"] > shares["tha_Thai"] > shares["swh_Latn"]
    assert shares["swh_Latn"] > shares["som_Latn"]


def test_curve_is_recorded() -> None:
    path = base_model_path() / "curve.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    assert rows[0]["step"] == 0
    assert "bits_per_character" in rows[-1]
