"""XL-Sum's release layout, our words of any script, and ROUGE against rouge-score itself."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from maple.catalog import load_task
from maple.catalog.contracts import GenerationRequest, GenerationResponse, Sample
from maple.catalog.words import words
from maple.errors import DataError
from maple.files import Files
from maple.languages import find
from maple.study import PromptSettings


def row(**changes: object) -> dict[str, object]:
    fields = {"id": "a-1", "url": "https://bbc.com/a-1", "title": "T", "summary": "Short."}
    return {**fields, "text": "Long text.", **changes}


def read(files: Files, language: str = "swh_Latn", split: str = "test") -> list[Sample]:
    return list(load_task("xlsum").samples(files, language, split))


def rouge(gold: str, answer: str) -> dict[str, float]:
    sample = Sample(id="1", fields={}, gold=(gold,))
    response = GenerationResponse(text=answer, finish="stop", n_tokens=1)
    return dict(load_task("xlsum").score(sample, GenerationRequest(context=""), response).metrics)


# ----------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("folder", ["xlsum/", ""])
@pytest.mark.parametrize(("split", "part"), [("test", "test"), ("validation", "val")])
def test_files_carry_upstreams_name_of_the_language(folder, split, part, write, files) -> None:
    write(f"{folder}swahili_{part}.jsonl", [row()])
    fields = {"text": "Long text."}
    assert read(files, split=split) == [Sample(id="a-1", fields=fields, gold=("Short.",))]


@pytest.mark.parametrize(("name", "code"), [("de", "deu_Latn"), ("sw", "swh_Latn")])
def test_any_language_may_be_read_by_its_tag(name: str, code: str, write, files) -> None:
    write(f"xlsum/{name}_test.jsonl", [row()])
    assert len(read(files, code)) == 1


def test_the_hub_ships_parquet(write, from_hub) -> None:
    files, hub = from_hub({"csebuetnlp/xlsum": [write("swahili/test/0000.parquet", [row()])]})
    assert read(files)[0].gold == ("Short.",)
    assert hub.asked[0][1][0] == "swahili/test*.parquet"


def test_articles_that_share_an_id_are_told_apart_by_their_order(write, files) -> None:
    write("xlsum/swahili_test.jsonl", [row(), row(), row(id="b-1")])
    assert [s.id for s in read(files)] == ["a-1", "a-1#2", "b-1"]


@pytest.mark.parametrize("field", ["id", "text", "summary"])
@pytest.mark.parametrize(("value", "message"), [(None, "must be text"), (" ", "is empty")])
def test_a_bad_value_names_file_line_and_field(field, value, message, write, files) -> None:
    write("xlsum/swahili_test.jsonl", [row(id="b"), row(**{field: value})])
    with pytest.raises(DataError, match=rf"swahili_test\.jsonl, line 2: field '{field}' {message}"):
        read(files)


def test_upstreams_names_are_known_as_aliases() -> None:
    info = load_task("xlsum").info
    assert len(info.languages) == 45
    assert {code: find(name).code for code, name in info.languages.items()} == {
        code: code for code in info.languages
    }


# --------------------------------------------------------------------------------------- prompts


def test_mega_form_is_megas_wording() -> None:
    sample = Sample(id="1", fields={"text": " Long {text}. "}, gold=("x",))
    assert load_task("xlsum").request(sample, "swh_Latn", PromptSettings()) == GenerationRequest(
        context="Long {text}.\n\n===\n\nWrite a summary of the text above :",
        stop=("\n",),
        max_new_tokens=128,
        delimiter="\n",
    )


# ---------------------------------------------------------------------------------------- scores


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("Je, 3 ng'ombe?", ["je", "3", "ng", "ombe"]),
        ("Running runs ran.", ["running", "runs", "ran"]),
        ("我们2024年在Beijing。", ["我", "们", "2024", "年", "在", "beijing"]),
        ("スーパーに", ["ス", "ー", "パ", "ー", "に"]),
        ("ที่นี่ OK", ["ที่", "นี่", "ok"]),
        ("ភាសាខ្មែរ", ["ភា", "សា", "ខ្", "មែ", "រ"]),
        ("မြန်မာ", ["မြ", "န်", "မာ"]),
        ("བོད་སྐད།", ["བོ", "ད", "སྐ", "ད"]),
        ("ລາວ", ["ລ", "າ", "ວ"]),
        ("हिन्दी में।", ["हिन्दी", "में"]),
        ("می\u200cروم، خانه", ["می\u200cروم", "خانه"]),
        ("e\u0301tat État", ["état", "état"]),
        ("한국어 문장", ["한국어", "문장"]),
        (" … — !? ", []),
    ],
)
def test_words_are_words_of_any_script(text: str, expected: list[str]) -> None:
    assert words(text) == expected


sentences = st.lists(st.sampled_from(["the", "Cat", "sat", "on", "a", "mat", "42"])).map(" ".join)


@settings(max_examples=200, deadline=None)  # the first call imports the scorer
@given(sentences, sentences)
def test_scores_equal_rouge_scores_own_tokens_in_plain_english(gold: str, answer: str) -> None:
    from rouge_score.rouge_scorer import RougeScorer

    own = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=False).score(gold, answer)
    assert rouge(gold, answer) == pytest.approx(
        {
            "rouge_1": own["rouge1"].fmeasure,
            "rouge_2": own["rouge2"].fmeasure,
            "rouge_l": own["rougeL"].fmeasure,
        },
        abs=1e-12,
    )


def longest_common(a: list[str], b: list[str]) -> int:
    if not a or not b:
        return 0
    if a[-1] == b[-1]:
        return longest_common(a[:-1], b[:-1]) + 1
    return max(longest_common(a[:-1], b), longest_common(a, b[:-1]))


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("北京下雨了。", "昨天北京下大雨"),
        ("ฝนตกหนัก", "ฝนไม่ตก"),
        ("Дождь идёт.", "идёт дождь сильный"),
    ],
)
def test_rouge_l_is_the_longest_common_subsequence_of_our_words(gold: str, answer: str) -> None:
    expected, given_words = words(gold), words(answer)
    common = longest_common(expected, given_words)
    f1 = 2 * common / (len(expected) + len(given_words))
    assert 0 < f1 < 1
    assert rouge(gold, answer)["rouge_l"] == pytest.approx(f1, abs=1e-12)


def test_an_empty_answer_scores_zero() -> None:
    assert rouge("Short text.", " ") == {"rouge_l": 0.0, "rouge_1": 0.0, "rouge_2": 0.0}
