"""A good file is green; each kind of broken one has its colour, check and line."""

from __future__ import annotations

import json
import textwrap
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from scipy.stats import chisquare
from tests.certify.conftest import N_ROWS, Row, copa_rows, write_copa

from maple.catalog import load_task
from maple.certify import (
    Certificate,
    Check,
    LanguageCertificate,
    TokenCounter,
    certify,
    certify_study,
)
from maple.errors import UsageError
from maple.files import Files

SWAHILI = "swh_Latn"


def of(certificate: Certificate, code: str = SWAHILI) -> LanguageCertificate:
    return next(one for one in certificate.languages if one.language == code)


def check(language: LanguageCertificate, name: str) -> Check:
    return next(found for found in language.checks if found.name == name)


def not_green(language: LanguageCertificate) -> dict[str, str]:
    return {f.name: f.status for f in language.findings if f.status in ("yellow", "red")}


def certified(files: Files, code: str = SWAHILI, **options: Any) -> LanguageCertificate:
    options = {"wanted": [code], **options}
    return of(certify("xcopa", files, split="validation", **options), code)


def test_good_files_are_green_in_every_language(copa: Files) -> None:
    certificate = certify("xcopa", copa, split="validation")
    assert [one.language for one in certificate.languages] == ["eng_Latn", "ita_Latn", SWAHILI]
    for one in certificate.languages:
        assert not_green(one) == {}
        assert (one.items, one.declared) == (N_ROWS, N_ROWS)
        assert {form.name for form in one.prompts if form.rendered == N_ROWS} >= {
            "mega, English",
            "mega, native",
            "lm-eval",
            "completion",
        }
    assert certificate.status == "green"
    assert certificate.items == 3 * N_ROWS
    assert {"tha_Thai", "qve_Latn"} <= set(certificate.missing)


# ------------------------------------------------------------------------------ broken files


def with_row(change: dict[str, Any], at: int = 4) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [{**row, **change} if n == at else row for n, row in enumerate(rows)]


def without(field: str) -> Callable[[list[Row]], list[Row]]:
    return lambda rows: [
        {k: v for k, v in row.items() if n != 4 or k != field} for n, row in enumerate(rows)
    ]


BROKEN: dict[str, tuple[Callable[[list[Row]], Any], str, str, str]] = {
    "a row too few": (lambda rows: rows[:-1], "red", "count", "99 items are there and 100"),
    "an id twice": (with_row({"idx": 1}), "red", "files", "line 5: idx 1 was already used"),
    "a label out of range": (with_row({"label": 2}), "red", "files", "line 5: field 'label' is 2"),
    "a missing field": (without("choice2"), "red", "files", "line 5: field 'choice2' is missing"),
    "an empty field": (with_row({"premise": " "}), "red", "files", "line 5: field 'premise'"),
    "no rows": (lambda rows: "", "red", "files", "holds no rows"),
    "another encoding": (
        lambda rows: json.dumps({**rows[0], "premise": "café"}, ensure_ascii=False).encode("latin"),
        "red",
        "files",
        "line 1: not UTF-8",
    ),
    "half a surrogate pair": (
        lambda rows: "".join(json.dumps(r) + "\n" for r in with_row({"premise": "\ud83d"})(rows)),
        "red",
        "files",
        "line 5: field 'premise' holds half",
    ),
    "normal form D": (
        with_row({"premise": unicodedata.normalize("NFD", "Café moja ilikuwa kijijini.")}),
        "yellow",
        "NFC",
        "normal form C: 1 of 100",
    ),
    "a byte order mark inside": (
        with_row({"premise": "\ufeffMwalimu alikuja shuleni."}),
        "yellow",
        "characters",
        "byte order mark (U+FEFF): 1.",
    ),
    "a replacement character": (
        with_row({"premise": "Mwalimu al\ufffdkuja shuleni."}),
        "yellow",
        "characters",
        "replacement character (U+FFFD): 1.",
    ),
    "white space around a field": (
        with_row({"choice1": " Mwalimu alikuja shuleni."}),
        "yellow",
        "white space",
        "begins or ends with white space: 1.",
    ),
    "the same item twice": (
        lambda rows: with_row({**rows[0], "idx": 4})(rows),
        "yellow",
        "duplicates",
        "under an id of their own: 1; of the",
    ),
    "two options alike": (
        lambda rows: with_row({"choice1": rows[4]["choice2"]})(rows),
        "yellow",
        "options",
        "the same option twice: 1.",
    ),
    "labels all alike": (
        lambda rows: [{**row, "label": 1} for row in rows],
        "yellow",
        "balance",
        "scores 100.0, a guess 50.0",
    ),
    "a label unlike the other languages": (
        lambda rows: with_row({"label": 1 - rows[4]["label"]})(rows),
        "yellow",
        "parallel",
        "Golds that differ from those of most languages: 1.",
    ),
    "English under a Swahili name": (
        lambda rows: copa_rows("en"),
        "yellow",
        "copied",
        "word for word as in eng_Latn: 100.",
    ),
    "another script": (
        lambda rows: [
            {**row, "premise": f"Учитель {n} рассказал нам о долгой дороге домой."}
            for n, row in enumerate(rows)
        ],
        "yellow",
        "script",
        "of the letters are in the language's script, Latn",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_each_kind_of_broken_file_has_its_colour(kind: str, copa: Files) -> None:
    change, status, name, message = BROKEN[kind]
    assert copa.directory is not None
    write_copa(copa.directory, "sw", change(copa_rows("sw")))
    certificate = certify("xcopa", copa, split="validation", wanted=[SWAHILI, "eng_Latn"])
    found = check(of(certificate), name)
    assert (found.status, certificate.status) == (status, status)
    assert message in found.message
    assert not_green(of(certificate, "eng_Latn")).keys() <= {"copied"}


def test_english_under_a_swahili_name_shows_without_the_english_file(tmp_path: Path) -> None:
    write_copa(tmp_path, "sw", copa_rows("en"))
    found = check(certified(Files(directory=tmp_path)), "language")
    assert found.status == "yellow"
    assert "taken for Swahili, most for en" in found.message


KNOWN = {"xcopa": {"validation": {SWAHILI: {"NFC": "1 not"}}}}
NFD = "Cafe\u0301 moja ilikuwa kijijini."


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (with_row({"premise": NFD}), "green"),
        (lambda rows: with_row({"choice1": NFD})(with_row({"choice1": NFD}, at=5)(rows)), "yellow"),
        (lambda rows: with_row({"premise": NFD})(rows)[:-1], "yellow"),
    ],
    ids=["the release", "one more", "not whole"],
)
def test_what_the_release_is_known_to_have_is_green_to_the_figure(
    change: Any, status: str, copa: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert copa.directory is not None
    monkeypatch.setattr("maple.certify.deviations._known", lambda: KNOWN)
    write_copa(copa.directory, "sw", change(copa_rows("sw")))
    found = check(certified(copa), "NFC")
    assert (found.status, found.is_known) == (status, status == "green")


# --------------------------------------------------------------------------------- languages


def test_of_two_languages_that_disagree_english_is_right(tmp_path: Path) -> None:
    write_copa(tmp_path, "en", copa_rows("en"))
    rows = copa_rows("sw")
    write_copa(tmp_path, "sw", with_row({"label": 1 - rows[4]["label"]})(rows))
    certificate = certify("xcopa", Files(directory=tmp_path), split="validation")
    assert check(of(certificate, "eng_Latn"), "parallel").status == "green"
    assert check(of(certificate), "parallel").examples == ("4",)


def test_a_language_that_the_benchmark_lacks_is_found_and_undeclared(copa: Files) -> None:
    assert copa.directory is not None
    write_copa(copa.directory, "yo", copa_rows("sw"))
    one = certified(copa, "yor_Latn", wanted=["yor_Latn", SWAHILI])
    assert one.declared == N_ROWS  # a count that holds for every language
    assert not_green(one)["copied"] == "yellow"


def test_the_file_that_labels_english_is_still_its_own_languages(copa: Files) -> None:
    assert copa.directory is not None
    write_copa(copa.directory, "am", copa_rows("sw"))
    write_copa(copa.directory, "en", [{**row, "label": 0} for row in copa_rows("en")])
    certificate = certify("xcopa", copa, split="validation")
    assert of(certificate, "eng_Latn").files[1] == "xcopa/data/am/val.am.jsonl"
    assert of(certificate, "amh_Ethi").items == N_ROWS


def test_only_the_languages_asked_for_are_certified(copa: Files) -> None:
    certificate = certify("xcopa", copa, split="validation", wanted=[SWAHILI, "tha_Thai"])
    assert [one.language for one in certificate.languages] == [SWAHILI]
    assert certificate.missing == ("tha_Thai",)


def test_another_split_is_certified_where_the_default_one_is_not_there(copa: Files) -> None:
    one = of(certify("xcopa", copa, wanted=[SWAHILI]))
    assert one.split == "validation"
    assert not_green(one) == {"files": "yellow"}
    assert check(one, "files").message == ("The test split is not there; validation is certified.")


def test_without_files_there_is_a_reason_and_no_language(tmp_path: Path) -> None:
    certificate = certify("xcopa", Files(directory=tmp_path))
    assert (certificate.languages, certificate.status) == ((), "grey")
    assert "xcopa/data/en/test.en.jsonl" in certificate.reason


def test_an_unknown_split_is_a_mistake(copa: Files) -> None:
    with pytest.raises(UsageError, match="no split of xcopa 'tset'"):
        certify("xcopa", copa, split="tset")


# ------------------------------------------------------------------------------------ figures


def test_balance_gives_the_baseline_and_the_test_of_equal_shares(copa: Files) -> None:
    assert copa.directory is not None
    rows = [{**row, "label": int(n < 70)} for n, row in enumerate(copa_rows("sw"))]
    write_copa(copa.directory, "sw", rows)
    found = check(certified(copa), "balance")
    assert (found.status, found.figure) == ("yellow", "70.0%")
    assert found.message.endswith(f"p = {chisquare([30, 70]).pvalue:.2g}.")


class WordTokenizer:
    """A token a word, and one at the start."""

    def __call__(self, texts: list[str], *, add_special_tokens: bool, **_: Any) -> Any:
        return {"input_ids": [[0] * (len(t.split()) + add_special_tokens) for t in texts]}


def counter(max_length: int, *, is_asked: bool = True) -> TokenCounter:
    return TokenCounter(
        name="words", tokenizer=WordTokenizer(), max_length=max_length, is_asked=is_asked
    )


def test_prompts_longer_than_the_model_are_counted(copa: Files) -> None:
    task = load_task("xcopa")
    lengths = []
    for sample in task.samples(copa, SWAHILI, "validation"):
        request: Any = task.request(sample, SWAHILI, _mega())
        longest = max(request.continuations, key=len)
        lengths.append(1 + len(f"{request.context}\n{longest}".split()))
    for max_length in (max(lengths) - 1, max(lengths) - 2, max(lengths) - 3):
        # The last token of a ranking is predicted, never fed.
        n_cut = sum(length > max_length + 1 for length in lengths)
        found = check(certified(copa, counter=counter(max_length)), "length")
        assert found.message.startswith(f"{n_cut} of 100 prompts would be cut")
        assert found.status == ("yellow" if n_cut else "green")
        stand_in = certified(copa, counter=counter(max_length, is_asked=False))
        assert check(stand_in, "length").status == ("grey" if n_cut else "green")


def _mega() -> Any:
    from maple.study import PromptSettings

    return PromptSettings()


def test_fertility_is_tokens_per_word_of_the_items(copa: Files) -> None:
    found = check(certified(copa, counter=counter(1000)), "fertility")
    assert found.figure == "1.00 per word"


def test_a_prompt_form_without_words_is_grey_and_says_why(copa: Files) -> None:
    assert copa.directory is not None
    write_copa(copa.directory, "qu", copa_rows("sw"))
    one = certified(copa, "qve_Latn")
    native = next(form for form in one.prompts if form.name == "mega, native")
    assert (native.status, native.rendered) == ("grey", 0)
    assert "no words for qve_Latn" in native.message


def test_prompt_hashes_change_with_a_letter(copa: Files) -> None:
    before = {form.name: form.digest for form in certified(copa).prompts}
    assert copa.directory is not None
    write_copa(copa.directory, "sw", with_row({"premise": "Mwalimu aliondoka."})(copa_rows("sw")))
    after = {form.name: form.digest for form in certified(copa).prompts}
    assert not set(before.values()) & set(after.values())


# --------------------------------------------------------------------------------------- spans

PASSAGE = "The river rises in the north, near Moshi, and reaches the sea after 300 miles."


def test_answers_are_looked_for_in_their_passage(write_squad: Callable[..., Files]) -> None:
    files = write_squad(
        [
            (
                PASSAGE,
                [
                    ("Where does it rise?", "in the north", PASSAGE.index("in the north")),
                    ("Near what?", "Moshi", 3),
                    ("After how many miles?", "three hundred", 0),
                ],
            )
        ]
    )
    one = of(certify("xquad", files), "eng_Latn")
    found = check(one, "spans")
    assert found.status == "yellow"
    assert "Answers that do not occur in their passage: 1." in found.message
    assert "Answers not at their answer_start: 2 of 3." in found.message
    assert not_green(one) == {"count": "red", "spans": "yellow"}


def test_gold_answers_are_scored_against_themselves(write_squad: Callable[..., Files]) -> None:
    files = write_squad([(PASSAGE, [("Near what?", "Moshi", PASSAGE.index("Moshi"))])])
    one = of(certify("xquad", files), "eng_Latn")
    assert check(one, "scores").status == "green"
    assert check(one, "spans").status == "green"
    variants = check(one, "variants").message
    # SQuAD's normaliser drops ASCII punctuation and case, not typographic quotation marks.
    assert "in capitals 100%" in variants
    assert "with a full stop 100%" in variants
    assert "in quotation marks 0%" in variants


# --------------------------------------------------------------------------- a task at fault

TASK = '''
"""faulty: numbers."""

from maple.catalog.contracts import RankingRequest, Sample, Score, Task, TaskInfo


class Faulty(Task):
    """Which number is the larger one."""

    info = TaskInfo(
        version=1, licence="none", citation="made up", chance_level=0.25,
        languages={"swh_Latn": "sw"}, headline="accuracy", split="test", samples={"test": 12},
    )

    def paths(self, files, language, split):
        return files.find(local=["numbers.txt"])

    def samples(self, files, language, split):
        for n in range(12):
            gold = "5" if n == 3 else str(n % 2)
            yield Sample(id=str(n), fields={"text": f"Namba ni {n}?"}, gold=(gold,))

    def request(self, sample, language, prompt):
        return RankingRequest(context=sample.fields["text"] + " {answer}", continuations=("a", "b"))

    def score(self, sample, request, response):
        return Score(value=1.0, prediction="0", metrics={"accuracy": 1.0})
'''


def test_a_task_that_words_or_scores_wrongly_is_red(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = tmp_path / "catalog" / "tasks" / "faulty.py"
    entry.parent.mkdir(parents=True)
    entry.write_text(textwrap.dedent(TASK), encoding="utf-8")
    (tmp_path / "numbers.txt").write_text("here\n", encoding="utf-8")
    monkeypatch.setenv("MAPLE_CATALOG", str(tmp_path / "catalog"))
    one = of(certify("faulty", Files(directory=tmp_path)))
    found = not_green(one)
    assert {name for name, status in found.items() if status == "red"} >= {
        "gold",
        "chance",
        "scores",
        "mega, English",
    }
    assert check(one, "gold").examples == ("3: 5",)
    assert check(one, "chance").figure == "50.0 not 25.0"
    assert "Items that keep a placeholder in braces: 12" in one.prompts[0].message


# ---------------------------------------------------------------------------------- of a study


@dataclass
class Calls:
    n: int = 0


def test_a_study_is_certified_again_only_when_its_files_change(
    copa: Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import maple.certify.examine as examine

    calls, original = Calls(), examine.certify

    def counted(*arguments: Any, **options: Any) -> Certificate:
        calls.n += 1
        return original(*arguments, **options)

    monkeypatch.setattr(examine, "certify", counted)
    folder, pairs = tmp_path / "certificates", [("xcopa", SWAHILI), ("xcopa", "eng_Latn")]
    (first,) = certify_study(pairs, copa, folder, split="validation")
    (second,) = certify_study(pairs, copa, folder, split="validation")
    assert (calls.n, second) == (1, first)
    assert [one.language for one in first.languages] == ["eng_Latn", SWAHILI]
    assert copa.directory is not None
    write_copa(copa.directory, "sw", copa_rows("sw")[:-1])
    (third,) = certify_study(pairs, copa, folder, split="validation")
    assert (calls.n, third.status) == (2, "red")
    certify_study(pairs, copa, folder, split="validation", counter=counter(100))
    assert calls.n == 3
