"""The shipped base models: they load offline, are small, and their tokenizers lose nothing."""

import json
import math
from itertools import islice
from typing import Any

import pytest

from maple.atlas import BASES, LANGUAGES, base_model_path
from maple.atlas.corpus import EASY_DOCUMENTS, documents
from maple.atlas.pretrain import RECIPES, make_model

pytest.importorskip("transformers")

ARCHITECTURES = {"atlas-base": "llama", "atlas-qwen": "qwen3"}


@pytest.fixture(scope="module", params=BASES)
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def tokenizer(name: str) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(base_model_path(name), local_files_only=True)


@pytest.fixture(scope="module")
def model(name: str) -> Any:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(base_model_path(name), local_files_only=True)


def test_all_bases_together_are_small() -> None:
    files = [path for name in BASES for path in base_model_path(name).iterdir()]
    assert sum(path.stat().st_size for path in files) < 16_000_000


def test_an_unknown_base_is_named() -> None:
    with pytest.raises(KeyError, match="atlas-base, atlas-qwen"):
        base_model_path("atlas-gpt")


def test_base_is_its_recipe_and_quantizers_can_split_it(name: str, model: Any) -> None:
    config = model.config
    assert config.model_type == ARCHITECTURES[name] == RECIPES[name].architecture
    assert config.hidden_size % 64 == 0
    assert config.intermediate_size % 64 == 0
    assert config.max_position_embeddings >= 512
    assert config.tie_word_embeddings
    assert str(model.dtype) == "torch.bfloat16"
    recipe = RECIPES[name]
    fresh = make_model(recipe.architecture, recipe.vocabulary)
    assert {k: v.shape for k, v in fresh.state_dict().items()} == {
        k: v.shape for k, v in model.state_dict().items()
    }


def test_special_tokens_are_distinct(tokenizer: Any, model: Any) -> None:
    ids = (tokenizer.bos_token_id, tokenizer.eos_token_id, tokenizer.pad_token_id)
    assert len(set(ids)) == 3
    assert ids == (model.config.bos_token_id, model.config.eos_token_id, model.config.pad_token_id)
    assert len(tokenizer) == model.config.vocab_size


def test_tokenizer_round_trip_in_every_language(tokenizer: Any) -> None:
    for code in LANGUAGES:
        for document in islice(documents(7, skip=EASY_DOCUMENTS, language=code), 60):
            ids = tokenizer(document.text)["input_ids"]
            assert ids[0] == tokenizer.bos_token_id
            assert tokenizer.decode(ids, skip_special_tokens=True) == document.text


@pytest.mark.parametrize(
    "text", ["a\nB", "a\n B", "a\n\nB\n", " \n x", "א\nב", "x\n中\n文", "\n\n"]
)
def test_tokenizer_keeps_lines_and_spaces(tokenizer: Any, text: str) -> None:
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids) == text


def test_a_name_has_the_same_tokens_at_a_line_start_and_in_a_sentence(tokenizer: Any) -> None:
    for name in ("Eastern Africa", "Саудовская Аравия", "केन्या", "الأردن", "스와힐리어"):
        inside = tokenizer(f"x {name}", add_special_tokens=False)["input_ids"]
        at_start = tokenizer(f"x\n{name}", add_special_tokens=False)["input_ids"]
        length = len(inside) - 1
        assert at_start[-length:] == inside[-length:]


def test_fertility_is_graded_by_the_skewed_text(tokenizer: Any) -> None:
    def fertility(code: str) -> float:
        texts = [d.text for d in islice(documents(8, skip=EASY_DOCUMENTS, language=code), 60)]
        return sum(len(ids) for ids in tokenizer(texts)["input_ids"]) / sum(map(len, texts))

    assert fertility("eng_Latn") < fertility("por_Latn") < fertility("swh_Latn")
    assert fertility("hin_Deva") < fertility("sin_Sinh")


def test_base_predicts_english_better_than_a_uniform_guess(tokenizer: Any, model: Any) -> None:
    text = "The currency of Kenya is the Kenyan Shilling. Kenya lies in Eastern Africa."
    batch = tokenizer(text, return_tensors="pt")
    loss = model(input_ids=batch["input_ids"], labels=batch["input_ids"]).loss
    assert loss.item() < math.log(len(tokenizer)) / 2


def test_curve_is_recorded_to_the_end_of_the_recipe(name: str) -> None:
    path = base_model_path(name) / "curve.jsonl"
    rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    steps = [row["step"] for row in rows if "step" in row]
    assert steps[-1] == RECIPES[name].steps
    assert set(rows[-1]["bits_per_character"]) == set(LANGUAGES)
