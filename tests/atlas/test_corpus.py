"""The pre-training text: its shares, its spans, and what low-resource languages never state."""

from collections import Counter
from itertools import islice

from maple.atlas import LANGUAGES
from maple.atlas.corpus import EASY_DOCUMENTS, HIGH_CLASS, documents, language_shares
from maple.atlas.frames import load_frames
from maple.atlas.scenes import STATEMENT_FRAMES
from maple.atlas.speaker import load_speaker
from maple.atlas.world import load_world


def test_documents_follow_the_shares() -> None:
    shares = language_shares()
    assert abs(sum(shares.values()) - 1) < 1e-12
    counts = Counter(d.language for d in islice(documents(0), 20_000))
    assert set(counts) <= set(shares)
    for code in ("eng_Latn", "spa_Latn", "rus_Cyrl"):
        assert abs(counts[code] / 20_000 - shares[code]) < 0.015
    assert shares["eng_Latn"] > shares["spa_Latn"] > shares["rus_Cyrl"] > shares["tha_Thai"]
    assert shares["tha_Thai"] > shares["swh_Latn"] > shares["som_Latn"] > 0


def test_some_languages_are_absent_and_can_still_be_written() -> None:
    absent = set(LANGUAGES) - set(language_shares())
    assert absent == {"pcm_Latn", "quy_Latn"}
    for code in absent:
        assert next(documents(0, language=code)).language == code


def test_spans_are_in_order_and_inside_the_text() -> None:
    kinds = 0
    for document in islice(documents(3, skip=EASY_DOCUMENTS), 4_000):
        assert document.spans, document.text
        end = 0
        for start, stop in document.spans:
            assert end <= start < stop <= len(document.text)
            end = stop
        kinds += end == len(document.text)
    # Every document ends in something that could be foreseen.
    assert kinds == 4_000


def test_low_resource_text_never_states_a_fact_of_the_high_resource_only() -> None:
    world = load_world()
    hidden = [
        world.fact(relation, subject)
        for relation, table in world.facts.items()
        for subject in table
        if world.is_high_only(world.fact(relation, subject))
    ]
    assert 100 < len(hidden) < 300
    for code in ("swh_Latn", "ell_Grek", "khm_Khmr"):
        assert load_frames(code).resource_class < HIGH_CLASS
        speaker = load_speaker(code)
        text = "\n".join(d.text for d in islice(documents(1, language=code), 3_000))
        said = [
            speaker.statement(fact, frame) for fact in hidden for frame in range(STATEMENT_FRAMES)
        ]
        assert not [sentence for sentence in said if sentence in text]
    spoken = "\n".join(d.text for d in islice(documents(1, language="eng_Latn"), 6_000))
    english = load_speaker("eng_Latn")
    assert sum(english.statement(fact, 0) in spoken for fact in hidden) > 20


def test_a_document_does_not_depend_on_what_was_written_before() -> None:
    first = [d.text for d in islice(documents(5), 50)]
    list(islice(documents(6, language="tha_Thai"), 50))
    assert [d.text for d in islice(documents(5), 50)] == first
