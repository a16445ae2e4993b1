"""Words of answers in every script, against the segmenters themselves and Unicode's own rules."""

from __future__ import annotations

import builtins
import os
import subprocess
import sys
import unicodedata
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import regex
from hypothesis import given, settings
from hypothesis import strategies as st

from maple.catalog import segment as module
from maple.catalog.segment import describe, segment
from maple.catalog.tasks.mlqa import normalise
from maple.errors import CatalogError
from maple.languages import all_languages

EVERY_SCRIPT = {entry.script: entry.code for entry in all_languages()}
EVERY_SCRIPT_WITHOUT_SPACES = regex.compile(
    r"\p{Thai}|\p{Han}|\p{Hiragana}|\p{Katakana}|\u30fc|\p{Khmer}|\p{Lao}|\p{Myanmar}|\p{Tibetan}"
)
MIXED = st.text(
    st.sampled_from("กรุงเทพที่นี่ 東京都に、。住ភ្នំពេញ ວຽງ ရန်ကုန် བོད aB9é,.!?«»٪٣ ａ９\u200d\u0301")
)


@pytest.mark.parametrize(
    ("code", "text", "words"),
    [
        ("eng_Latn", "The U.S., in 2024!", ["the", "us", "in", "2024"]),
        ("swh_Latn", "Ng'ombe — watatu", ["ngombe", "watatu"]),
        ("kor_Hang", "서울은 '수도'다.", ["서울은", "수도다"]),
        ("zho_Hans", "北京，２０２４年 ＯＫ", ["北", "京", "2024", "年", "ok"]),
        ("zho_Hant", "《臺北》", ["臺", "北"]),
        ("khm_Khmr", "ភ្នំពេញ COVID", ["ភ្នំ", "ពេ", "ញ", "covid"]),
        ("lao_Laoo", "ວັນ", ["ວັ", "ນ"]),
        ("mya_Mymr", "ရန်။ကုန်", ["ရ", "န်", "ကု", "န်"]),
        ("bod_Tibt", "བོད་སྐད", ["བོ", "ད", "སྐ", "ད"]),
        ("hin_Deva", "दिल्ली।", ["दिल्ली"]),
        ("arb_Arab", "الكتاب، هنا؟", ["الكتاب", "هنا"]),
        ("eng_Latn", "…", []),
    ],
)
def test_words_are_lower_case_and_without_punctuation(code, text, words) -> None:
    assert segment(text, code) == words


def test_thai_is_cut_by_pythainlps_newmm() -> None:
    tokenize = pytest.importorskip("pythainlp.tokenize")
    text = "ที่นี่คือกรุงเทพมหานคร น้ำใจคนไทย"
    expected = tokenize.word_tokenize(text, engine="newmm", keep_whitespace=False)
    assert segment(text, "tha_Thai") == expected
    # NFKC would take the vowel of water apart, and the word would be in no dictionary.
    assert segment("น้ำ", "tha_Thai") == ["น้ำ"]


def test_japanese_is_cut_by_fugashi_with_unidic_lite() -> None:
    fugashi = pytest.importorskip("fugashi")
    unidic_lite = pytest.importorskip("unidic_lite")
    tagger = fugashi.GenericTagger(f"-r {os.devnull} -d {unidic_lite.DICDIR} -Owakati")
    text = "東京都に住んでいる人"
    assert segment(text, "jpn_Jpan") == tagger.parse(text).split()
    assert segment("ｶﾞﾝﾀﾞﾑ、ＧＯ", "jpn_Jpan") == segment("ガンダム。go", "jpn_Jpan")


def composed(words: list[str]) -> list[str]:
    """In NFC: a mark may have lost the punctuation, or the width, that held it off its letter."""
    return [unicodedata.normalize("NFC", word) for word in words]


@settings(deadline=None)
@given(MIXED)
def test_unspaced_scripts_fall_into_unicodes_grapheme_clusters(text: str) -> None:
    cleaned = regex.sub(r"\p{P}", " ", unicodedata.normalize("NFC", text.lower()))
    cleaned = cleaned.replace("ａ", "a").replace("９", "9")
    expected, is_open = [], False
    for cluster in regex.findall(r"\X", cleaned):
        own = cluster.lstrip()
        is_unspaced = bool(own) and EVERY_SCRIPT_WITHOUT_SPACES.match(own) is not None
        if is_open and own == cluster and not is_unspaced:
            expected[-1] += own
        elif own:
            expected.append(own)
        is_open = bool(own) and not is_unspaced
    assert composed(segment(text, "khm_Khmr")) == composed(expected)


@settings(deadline=None)
@given(MIXED)
def test_no_letter_is_lost_and_no_white_space_is_left(text: str) -> None:
    letters = [
        c for c in unicodedata.normalize("NFKD", text.lower()) if unicodedata.category(c)[0] in "LN"
    ]
    for code in ("tha_Thai", "jpn_Jpan", "khm_Khmr", "zho_Hans", "eng_Latn"):
        words = segment(text, code)
        assert all(word and not regex.search(r"\s", word) for word in words)
        joined = unicodedata.normalize("NFKD", "".join(words))
        assert [c for c in joined if unicodedata.category(c)[0] in "LN"] == letters


@settings(deadline=None)
@given(st.text())
def test_where_mlqa_has_no_articles_it_cuts_spaced_text_alike(text: str) -> None:
    # MLQA's Hindi: lower case, no punctuation, white space. Ours folds widths and composes too.
    plain = unicodedata.normalize("NFC", text)
    plain = "".join(c for c in plain if not "\uff01" <= c <= "\uffef" and c != "\u3000")
    words = normalise(plain, "hin_Deva").split()
    assert composed(segment(plain, "hin_Deva")) == composed(words)


@pytest.mark.parametrize("code", sorted(EVERY_SCRIPT.values()))
def test_every_script_has_a_named_segmenter(code: str) -> None:
    assert segment("2024 abc", code) == ["2024", "abc"]
    assert describe(code)


def test_names_say_which_segmenter_and_version() -> None:
    pytest.importorskip("pythainlp")
    pytest.importorskip("fugashi")
    assert regex.fullmatch(r"pythainlp [\d.]+ newmm", describe("tha_Thai"))
    assert regex.fullmatch(r"fugashi [\d.]+ unidic-lite [\d.]+", describe("jpn_Jpan"))
    assert regex.fullmatch(r"grapheme clusters, regex [\d.]+", describe("khm_Khmr"))
    assert describe("zho_Hans") == "characters"
    assert describe("swh_Latn") == "white space"
    with pytest.raises(CatalogError):
        describe("xxx_Latn")


@pytest.fixture
def without_the_extra(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    real = builtins.__import__

    def refuse(name: str, *args: Any, **kwargs: Any) -> Any:
        if name.partition(".")[0] in {"pythainlp", "fugashi", "unidic_lite"}:
            raise ImportError(name)
        return real(name, *args, **kwargs)

    monkeypatch.setattr(builtins, "__import__", refuse)
    caches = (module._extra_cut, module._cut_of)
    for cached in caches:
        cached.cache_clear()
    yield
    for cached in caches:
        cached.cache_clear()


@pytest.mark.usefixtures("without_the_extra")
def test_without_the_extra_clusters_stand_in_and_the_name_says_so() -> None:
    assert segment("ที่นี่", "tha_Thai") == ["ที่", "นี่"]
    assert segment("東京 go", "jpn_Jpan") == ["東", "京", "go"]
    assert describe("tha_Thai") == "grapheme clusters: pythainlp is not installed"
    assert describe("jpn_Jpan") == "grapheme clusters: fugashi is not installed"


def test_nothing_is_written_and_nothing_asked_of_a_network(tmp_path: Path) -> None:
    pytest.importorskip("pythainlp")
    code = (
        "import os, socket\n"
        "def refuse(*a, **k): raise AssertionError('network')\n"
        "socket.socket.connect = refuse\n"
        "from maple.catalog.segment import segment\n"
        "assert segment('ที่นี่', 'tha_Thai') == ['ที่นี่']\n"
        "assert segment('東京都', 'jpn_Jpan')\n"
        "assert 'PYTHAINLP_READ_ONLY' not in os.environ\n"
    )
    environment = {**os.environ, "HOME": str(tmp_path)}
    for name in ("PYTHAINLP_READ_ONLY", "PYTHAINLP_READ_MODE", "PYTHAINLP_DATA"):
        environment.pop(name, None)
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
    assert list(tmp_path.iterdir()) == []
