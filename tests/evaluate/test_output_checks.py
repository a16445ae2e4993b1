"""Output checks: what is found wrong with a generated text, and what must not be."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from maple import languages
from maple.evaluate import checks
from maple.evaluate.checks import check_output, columns, is_copy, is_wrong_language

ENGLISH = "Everyone has the right to freedom of opinion and expression without interference."
# Article 3 of the Universal Declaration of Human Rights, or a sentence of our own.
OWN = {
    "amh_Ethi": "እያንዳንዱ ሰው የመኖር፣ በነፃነትና በሰላም የመኖሩ መጠበቅ መብት አለው።",
    "arb_Arab": "لكل فرد حق في الحياة والحرية وفي الأمان على شخصه.",
    "ben_Beng": "জীবন, স্বাধীনতা এবং দৈহিক নিরাপত্তায় প্রত্যেকের অধিকার আছে।",
    "bul_Cyrl": "Всеки човек има право на живот, свобода и лична сигурност.",
    "deu_Latn": "Jeder hat das Recht auf Leben, Freiheit und Sicherheit der Person.",
    "ell_Grek": "Κάθε άτομο έχει δικαίωμα στη ζωή, την ελευθερία και την προσωπική ασφάλεια.",
    "eng_Latn": ENGLISH,
    "heb_Hebr": "כל אדם יש לו הזכות לחיים, לחרות ולבטחון אישי.",
    "hin_Deva": "प्रत्येक व्यक्ति को जीवन, स्वाधीनता और वैयक्तिक सुरक्षा का अधिकार है।",
    "ind_Latn": "Setiap orang berhak atas kehidupan, kebebasan dan keselamatan sebagai individu.",
    "jpn_Jpan": "すべて人は、生命、自由及び身体の安全に対する権利を有する。",
    "kat_Geor": "ყოველ ადამიანს აქვს სიცოცხლის, თავისუფლებისა და პირადი ხელშეუხებლობის უფლება.",
    "kor_Hang": "모든 사람은 생명과 신체의 자유와 안전에 대한 권리를 가진다.",
    "mya_Mymr": "လူတိုင်း၌ အသက်ရှင်ရန် လွတ်လပ်မှုခံစားရန် လုံခြုံစိတ်ချရန် အခွင့်အရေးရှိသည်။",
    "rus_Cyrl": "Каждый человек имеет право на жизнь, на свободу и на личную неприкосновенность.",
    "spa_Latn": "Todo individuo tiene derecho a la vida y a la seguridad de su persona.",
    "srp_Cyrl": "Свако има право на живот, слободу и безбедност личности.",
    "srp_Latn": "Svako ima pravo na život, slobodu i bezbednost ličnosti.",
    "swh_Latn": "Kila mtu ana haki ya kuishi, haki ya kuwa huru na haki ya kulindwa nafsi yake.",
    "tam_Taml": "வாழ்வதற்கும் சுதந்திரத்திற்கும் பாதுகாப்பிற்கும் ஒவ்வொருவருக்கும் உரிமை உண்டு.",
    "tha_Thai": "คนทุกคนมีสิทธิในการดำรงชีวิต เสรีภาพ และความมั่นคงแห่งตัวตน",
    "tur_Latn": "Yaşamak, özgürlük ve kişi güvenliği herkesin hakkıdır.",
    "vie_Latn": "Mọi người đều có quyền sống, quyền tự do và an toàn cá nhân.",
    "yor_Latn": "Ẹnì kọ̀ọ̀kan ló ní ẹ̀tọ́ láti wà láàyè, ẹ̀tọ́ sí òmìnira àti ẹ̀tọ́ sí ààbò ara rẹ̀.",
    "zho_Hans": "人人有权享有生命、自由和人身安全，任何人不得使为奴隶或奴役。",
    "zho_Hant": "人人有權享有生命、自由和人身安全，任何人不得使為奴隸或奴役。",
}
CHINESE = {"zho_Hans", "zho_Hant"}

PASSAGES = {
    "arb_Arab": (
        "تقع المدينة على ضفة النهر وقد بناها التجار قبل ثلاثة قرون لتخزين الملح. "
        "وكانت القوافل تصل إليها كل شهر محملة بالقماش والتمر والنحاس من الجنوب البعيد.",
        "أجب عن السؤال من النص.",
        "الملح",
    ),
    "hin_Deva": (
        "यह नगर नदी के किनारे बसा है और इसे व्यापारियों ने तीन सौ वर्ष पहले नमक रखने के लिए बनाया था। "
        "हर महीने दूर दक्षिण से कपड़े, खजूर और ताँबे से लदे काफ़िले यहाँ पहुँचते थे।",
        "पाठ से प्रश्न का उत्तर दीजिए।",
        "नमक",
    ),
    "swh_Latn": (
        "Mji huu uko kando ya mto na ulijengwa na wafanyabiashara miaka mia tatu iliyopita. "
        "Kila mwezi misafara ya nguo, tende na shaba ilifika hapa kutoka kusini ya mbali.",
        "Jibu swali kutoka kwa kifungu.",
        "wafanyabiashara",
    ),
    "tha_Thai": (
        "เมืองนี้ตั้งอยู่ริมแม่น้ำ พ่อค้าสร้างขึ้นเมื่อสามร้อยปีก่อนเพื่อเก็บเกลือไว้ขายให้หมู่บ้านใกล้เคียง "
        "ทุกเดือนกองคาราวานบรรทุกผ้า อินทผลัม และทองแดงเดินทางมาถึงที่นี่จากทางใต้อันไกลโพ้น",
        "จงตอบคำถามจากข้อความ",
        "เก็บเกลือ",
    ),
    "zho_Hans": (
        "这座城市坐落在河边，三百年前由商人修建，用来存放从海边运来的盐和布匹。"
        "每个月都有商队从遥远的南方运来布匹、椰枣和铜器，换走整船的盐，再沿着河流一路北上。",
        "请根据短文回答问题。",
        "盐和布匹",
    ),
}


def checked(text: str, language: str = "eng_Latn", **changes: object) -> dict[str, bool]:
    """The checks of a text that nothing else is wrong with."""
    settings: dict[str, object] = {
        "finish": "stop",
        "context": "Q:",
        "gold": ("x",),
        "was_extracted": True,
        "has_choices": False,
    }
    return check_output(text, language=language, **(settings | changes))  # type: ignore[arg-type]


def asked(language: str) -> tuple[str, str, str]:
    """A prompt, its passage and the gold."""
    passage, instruction, gold = PASSAGES[language]
    return f"{instruction}\n\n{passage}\n\n?", passage, gold


def test_a_right_answer_has_nothing_wrong() -> None:
    assert checked("Salt and cloth.") == {
        "never_stopped": False,
        "empty": False,
        "copied_prompt": False,
        "wrong_language": False,
    }


def test_an_answer_that_the_limit_ended_never_stopped() -> None:
    assert checked("Salt", finish="length")["never_stopped"]


@pytest.mark.parametrize("text", ["", " \n\t", "\u3000", "\u200b\ufeff", "\u200f "])
def test_nothing_but_white_space_is_empty_and_nothing_else(text: str) -> None:
    found = checked(text, "hin_Deva")
    assert [name for name, is_wrong in found.items() if is_wrong] == ["empty"]


@pytest.mark.parametrize("text", [".", "7", "盐", "।"])
def test_any_sign_is_not_empty(text: str) -> None:
    assert not checked(text)["empty"]


@pytest.mark.parametrize("was_extracted", [True, False])
def test_extraction_is_checked_only_where_there_are_choices(was_extracted: bool) -> None:
    assert "not_extracted" not in checked("B", was_extracted=was_extracted)
    found = checked("B", was_extracted=was_extracted, has_choices=True)
    assert found["not_extracted"] is not was_extracted


@pytest.mark.parametrize("language", PASSAGES)
def test_the_passage_said_again_is_a_copy_and_its_answer_is_not(language: str) -> None:
    context, passage, gold = asked(language)
    changes = {"context": context, "gold": (gold,)}
    for text in (passage, f"{passage} ", passage[1:-1], f"A: {passage}"):
        assert checked(text, language, **changes)["copied_prompt"], text
    for text in (gold, passage[:12], f"{gold}。", passage[-15:]):
        assert not checked(text, language, **changes)["copied_prompt"], text


@pytest.mark.parametrize("language", PASSAGES)
def test_a_sentence_is_a_long_answer_and_no_copy(language: str) -> None:
    context, passage, gold = asked(language)
    sentence = passage[: len(passage) // 2]
    assert columns(sentence) > checks.COPY_COLUMNS
    assert not checked(sentence, language, context=context, gold=(gold,))["copied_prompt"]


@pytest.mark.parametrize("language", PASSAGES)
def test_a_long_span_is_no_copy_where_the_gold_is_as_long(language: str) -> None:
    context, passage, _ = asked(language)
    half = passage[: len(passage) // 2]
    for text in (half, passage, half[3:]):
        assert not checked(text, language, context=context, gold=(half,))["copied_prompt"]


def test_a_sentence_of_the_article_is_a_copy_where_the_gold_is_no_span_of_it() -> None:
    article = (
        "The council met on Monday. It closed the old bridge to lorries for two years. Rain fell."
    )
    found = checked(
        "It closed the old bridge to lorries for two years.",
        context=f"{article}\n\nWrite a summary:",
        gold=("A bridge will be shut to heavy traffic while it is repaired.",),
    )
    assert found["copied_prompt"]


def test_an_answer_that_starts_as_the_prompt_does_is_a_copy_however_it_goes_on() -> None:
    context = (
        "Answer the question with a span of the passage and nothing else. "
        "Passage: Salt came by river."
    )
    text = f"{context} Question: What came? " + "It is said that salt came with the boats. " * 20
    assert checked(text, context=context, gold=("Salt",))["copied_prompt"]


def test_a_choice_may_be_quoted_in_full_and_only_a_choice() -> None:
    ending = "She put the letter back into the drawer and never spoke of it again."
    changes = {"context": f"Choose.\n1: {ending}\n2: She laughed.", "has_choices": True}
    assert not checked(ending, gold=("0",), **changes)["copied_prompt"]
    assert checked(ending, gold=("0",), was_extracted=False, **changes)["copied_prompt"]


def _longest_common(first: str, second: str) -> int:
    """Length of the longest common substring, by the textbook table."""
    best, row = 0, [0] * (len(second) + 1)
    for a in first:
        row = [0, *(row[j] + 1 if a == b else 0 for j, b in enumerate(second))]
        best = max(best, *row)
    return best


@pytest.mark.parametrize("gold", [("",), (" ",), ()])
def test_a_prompt_without_a_gold_may_be_copied_too(gold: tuple[str, ...]) -> None:
    context = "Name three cities on the coast of Kenya and say what each of them is known for."
    assert checked(context, context=context, gold=gold)["copied_prompt"]


def test_copies_are_those_of_the_longest_common_substring() -> None:
    rng = random.Random(4)
    n_copies = 0
    for _ in range(150):
        prompt = "".join(rng.choices("abcde", k=150))
        start, length = rng.randrange(20, 60), rng.randrange(20, 80)
        own = "".join(rng.choices("xyz", k=rng.randrange(20)))
        answer = own + prompt[start : start + length] + own[:5]
        expected = len(answer) >= checks.COPY_COLUMNS and _longest_common(answer, prompt) >= max(
            1, round(checks.COPY_SHARE * len(answer))
        )
        assert is_copy(answer, prompt, gold=("w",), names_choice=False) is expected
        n_copies += expected
    assert 30 < n_copies < 120


@pytest.mark.parametrize("language", OWN)
def test_a_sentence_is_in_its_own_language_and_in_none_of_another_script(language: str) -> None:
    assert not is_wrong_language(OWN[language], language)
    for other, text in OWN.items():
        if languages.find(other).script != languages.find(language).script:
            # One identifier for both: traditional characters are not told from simplified ones.
            assert is_wrong_language(text, language) is ({other, language} != CHINESE), other


@pytest.mark.parametrize(
    ("expected", "given"),
    [
        ("deu_Latn", "eng_Latn"),
        ("swh_Latn", "eng_Latn"),
        ("yor_Latn", "eng_Latn"),
        ("eng_Latn", "swh_Latn"),
        ("spa_Latn", "ind_Latn"),
        ("tur_Latn", "deu_Latn"),
        ("vie_Latn", "spa_Latn"),
        ("jpn_Jpan", "zho_Hans"),
        ("zho_Hans", "jpn_Jpan"),
        ("kor_Hang", "zho_Hans"),
    ],
)
def test_a_language_of_the_same_script_is_told_apart(expected: str, given: str) -> None:
    assert is_wrong_language(OWN[given], expected)


def test_english_is_told_from_every_language_that_does_not_share_its_words() -> None:
    text = f"{ENGLISH} This right includes freedom to hold opinions and to seek information."
    same = {x.code for x in languages.all_languages() if not is_wrong_language(text, x.code)}
    assert same == {"eng_Latn", "pcm_Latn", "tpi_Latn"}


def test_a_language_that_the_identifier_does_not_know_is_judged_by_script_and_english() -> None:
    # Rundi, of the Declaration's third article.
    text = (
        "Umuntu wese afise uburenganzira bwo kubaho, bwo kwishira akizana no kurindirwa umutekano."
    )
    assert not is_wrong_language(text, "run_Latn")
    assert is_wrong_language(OWN["arb_Arab"], "run_Latn")


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("1984", "hin_Deva"),
        ("25 km", "arb_Arab"),
        ("NATO, UNESCO", "tha_Thai"),
        ("B", "hin_Deva"),
        ("https://www.example.org/some/long/path?with=words", "jpn_Jpan"),
        ("```python\nfor item in list_of_things:\n    print(item)\n```", "jpn_Jpan"),
        ("वह Microsoft और Apple में काम करता था।", "hin_Deva"),
        ("他在 Microsoft 公司工作了三年，然后去了 Apple。", "zho_Hans"),
        ("Wolfgang Amadeus", "tur_Latn"),
        ("東京", "jpn_Jpan"),
        ("東京", "zho_Hans"),
        ("?!", "eng_Latn"),
    ],
)
def test_names_numbers_links_and_code_are_not_judged(text: str, language: str) -> None:
    assert not checked(text, language)["wrong_language"]


def test_nothing_is_wrong_where_the_gold_would_be_wrong_too() -> None:
    assert checked("Genentech", "hin_Deva", gold=("जेनेंटेक",))["wrong_language"]
    assert not checked("Genentech", "hin_Deva", gold=("Qwest",))["wrong_language"]


def test_a_label_that_may_be_named_in_english_does_not_excuse_an_english_answer() -> None:
    changes = {"has_choices": True, "gold": ("True", "सही")}
    assert checked(ENGLISH, "hin_Deva", **changes)["wrong_language"]
    assert not checked("सही", "hin_Deva", **changes)["wrong_language"]
    title = {"has_choices": True, "gold": ("Flung to the Heedless Winds",)}
    assert not checked("Ein neues Lied wir heben an", "hin_Deva", **title)["wrong_language"]


def test_a_name_may_be_written_as_the_prompt_writes_it() -> None:
    context = "कंपनी Genentech ने यह दवा बनाई। किसने बनाई?"
    assert not checked("Genentech", "hin_Deva", context=context)["wrong_language"]


def test_wide_characters_count_two_columns() -> None:
    assert columns("ab盐かなカナ한글") == 2 + 2 * 7


def test_every_label_named_here_is_one_of_the_identifier() -> None:
    known = set(checks._identifier().labels)
    assert {*checks._LABELS.values(), *(x for alike in checks._ALIKE for x in alike)} <= known
    assert all(languages.find(code).code == code for code in checks._LABELS)
    assert {len(checks._own_labels(code)) > 0 for code in checks._LABELS} == {True}
    assert checks._own_labels("hin_Latn") == frozenset()


def test_the_identifier_is_named_with_its_version_and_not_loaded_before_it_is_needed() -> None:
    code = (
        "import sys; from maple.evaluate.checks import check_output, describe; print(describe()); "
        "check_output('B', language='hin_Deva', finish='stop', context='', gold=('0',), "
        "was_extracted=True, has_choices=True); assert 'py3langid' not in sys.modules"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.startswith("py3langid 0.")


@pytest.mark.parametrize("tag", ["et", "id", "it", "sw", "th", "tr", "zh"])
def test_real_sentences_are_rarely_found_to_be_in_another_language(
    shared_data: Path, tag: str
) -> None:
    path = shared_data / "xcopa" / "data" / tag / f"test.{tag}.jsonl"
    if not path.is_file():
        pytest.skip(f"{path.name} is not there")
    rows = [json.loads(line) for line in path.read_text("utf-8").split("\n")[:200]]
    code = languages.find(tag).code
    assert sum(is_wrong_language(row["premise"], code) for row in rows) <= 2
    other = "eng_Latn" if tag != "id" else "spa_Latn"
    # Short sentences are judged by script alone, so Latin ones are found half of the time.
    share = sum(is_wrong_language(row["premise"], other) for row in rows) / len(rows)
    assert share > 0.5
