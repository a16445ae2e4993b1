"""A generated text names an answer, or it does not; nothing is guessed."""

from __future__ import annotations

from pathlib import Path

import pytest

from maple.catalog.contracts import Choice
from maple.catalog.extraction import extract_choice
from maple.catalog.prompts import languages_with, words
from maple.catalog.tasks import label_choices, listed_choices

LETTERS = ("A", "B", "C", "D")
FRUIT = listed_choices(
    ["A man bought apples.", "Bananas are yellow", "Cherries, and no more", "1990"], LETTERS
)
THAI = listed_choices(["เขาป่วย", "เขาหิว"], ("1", "2"))
CHINESE = listed_choices(["他病了。", "他饿了。"], ("1", "2"))


@pytest.mark.parametrize(
    ("text", "index"),
    [
        ("B", 1),
        ("b", 1),
        ("  B.\n", 1),
        ("(C)", 2),
        ("**D**", 3),
        ("【B】", 1),
        ("Ｂ．", 1),
        ("B) Bananas are yellow", 1),
        ("B: Bananas are yellow, as the passage says. A is wrong.", 1),
        ("b) because", 1),
        ("B because the passage says so", 1),
        ("C\nPassage: another one. Answer: A", 2),
        ("정답: C", 2),
        ("正解はCです。", 2),
        ("答案是Ｃ。", 2),
        ("الإجابة: ب", 1),
        ("الإجابة الصحيحة هي (ج)", 2),
        ("उत्तर: ख", 1),
        ("คำตอบคือ ข", 1),
        ("정답은 ②번입니다", 1),
        ("Ответ: Б", 1),
        ("Η απάντηση είναι Γ.", 2),
        ("התשובה: ד", 3),
        ("উত্তর: গ", 2),
        ("٢", 1),
        ("२.", 1),
        ("۳)", 2),
        ("3", 2),
        ("The answer is: **B**", 1),
        ("The answer is B", 1),
        ("A: it is wrong. C: it is wrong. So the answer is D.", 3),
        ("Bananas are yellow", 1),
        ("bananas are yellow.", 1),
        ("Cherries, and no mo", 2),
        ("It says that cherries, and no more, were there.", 2),
        ("A man bought apples.", 0),
        ("1990", 3),
        ("\u200fB\u200f", 1),
    ],
)
def test_an_answer_is_found_behind_what_languages_put_around_it(text: str, index: int) -> None:
    assert extract_choice(text, FRUIT) == index


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n ",
        "I am not sure.",
        "A man was there.",
        "A or C",
        "Between B and D, both are possible",
        "E",
        "3.5 million",
        "1991",
        "Ответ: В",
        "The passage does not say.",
        "बहुत कम लोग",
    ],
)
def test_a_text_that_names_none_or_several_is_not_guessed_at(text: str) -> None:
    assert extract_choice(text, FRUIT) is None


@pytest.mark.parametrize(
    ("text", "index"),
    [("2", 1), ("-ตัวเลือก2 : เขาหิว", 1), ("ตัวเลือก๒", 1), ("เขาป่วย", 0), ("เพราะเขาหิวมาก", 1)],
)
def test_thai_choices_by_number_or_text(text: str, index: int) -> None:
    assert extract_choice(text, THAI) == index


@pytest.mark.parametrize(
    ("text", "index"),
    [("选项2", 1), ("-选项１：他病了。", 0), ("他饿了", 1), ("第二个：他饿了。", 1)],
)
def test_chinese_choices_by_number_or_text(text: str, index: int) -> None:
    assert extract_choice(text, CHINESE) == index


def test_identical_options_are_told_apart_by_their_marks_alone() -> None:
    same = listed_choices(["yes", "yes"], ("1", "2"))
    assert extract_choice("yes", same) is None
    assert extract_choice("2: yes", same) == 1


@pytest.mark.parametrize("language", languages_with("xnli"))
def test_every_label_of_every_language_names_itself(language: str) -> None:
    labels = ("entailment", "neutral", "contradiction")
    choices = label_choices("xnli", language, labels)
    for index, label in enumerate(labels):
        for code in (language, "eng_Latn"):
            word = words("xnli", code)[label]
            for text in (word, f"{word}.", f" {word.upper()}\n", f"**{word}**"):
                assert extract_choice(text, choices) == index, text


def test_a_negated_label_is_not_its_opposite() -> None:
    choices = (Choice(mark="", texts=("正确",)), Choice(mark="", texts=("错误",)))
    assert extract_choice("这个说法不正确", choices) is None
    assert extract_choice("这个说法正确", choices) == 0


def test_a_letter_in_any_language_of_the_world_is_found_after_its_own_word_for_answer() -> None:
    folder = Path(__file__).parents[2] / "src" / "maple" / "catalog" / "prompts"
    assert folder.is_dir()
    for language in languages_with("belebele"):
        word = words("belebele", language)["answer"]
        for index, letter in enumerate(LETTERS):
            assert extract_choice(f"{word} {letter}", FRUIT) == index, (language, letter)
            assert extract_choice(f"{word}{letter}。", FRUIT) == index, (language, letter)
