"""The built world: same bytes everywhere, parallel, balanced, and without leaks."""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import unicodedata
from collections import Counter
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import pytest

from maple.atlas import LANGUAGES, build, world_version
from maple.atlas.benchmarks import (
    choice_samples,
    copa_samples,
    mlqa_readings,
    nli_samples,
    quad_readings,
)
from maple.atlas.build import XLSUM_NAMES
from maple.atlas.corpus import documents
from maple.atlas.frames import SHORT_CODES
from maple.atlas.speaker import Speaker, load_speaker
from maple.atlas.world import load_world

_NO_WEIGHTS = shutil.ignore_patterns("bases", "__pycache__")
SHORTS = tuple(SHORT_CODES.values())


def digest(root: Path) -> str:
    total = hashlib.sha256()
    for path in sorted(p for p in root.rglob("*") if p.is_file()):
        total.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return total.hexdigest()


def lines(path: Path) -> list[str]:
    return path.read_text("utf-8").removesuffix("\n").split("\n")


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in lines(path)]


def xcopa_test(world: Path, short: str) -> list[dict[str, Any]]:
    english = world / "xcopa" / "xtreme-en" / "test-en.jsonl"
    other = world / "xcopa" / "data" / short / f"test.{short}.jsonl"
    return rows(english if short == "en" else other)


def paragraphs(world: Path, short: str) -> list[dict[str, Any]]:
    document = json.loads((world / "xquad" / f"xquad.{short}.json").read_text("utf-8"))
    return [paragraph for article in document["data"] for paragraph in article["paragraphs"]]


def test_build_is_identical_in_every_process_hash_seed_and_history(
    world: Path, tmp_path: Path
) -> None:
    """Another hash seed, other locales read first; and neither torch nor a tokenizer needed."""
    code = (
        "import sys, pathlib; from babel import Locale\n"
        "[Locale.parse(x).months['stand-alone']['wide'] for x in ('so', 'zh', 'am', 'en')]\n"
        "import maple.atlas as a; a.build(pathlib.Path(sys.argv[1]))\n"
        "assert not {'torch', 'transformers', 'tokenizers'} & set(sys.modules)"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "w")], check=True, env=environment)
    assert digest(tmp_path / "w") == digest(world)


def test_a_complete_build_is_kept_and_a_foreign_directory_refused(
    world: Path, tmp_path: Path
) -> None:
    before = {p: p.stat().st_mtime_ns for p in world.rglob("*")}
    assert build(world) == world
    assert {p: p.stat().st_mtime_ns for p in world.rglob("*")} == before
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("precious")
    with pytest.raises(FileExistsError, match="empty or a new directory"):
        build(tmp_path / "mine")
    assert [p.name for p in tmp_path.rglob("*")] == ["mine", "thesis.txt"]


@pytest.mark.usefixtures("empty_world")
def test_an_older_version_is_replaced(tmp_path: Path) -> None:
    old = tmp_path / "w"
    old.mkdir()
    (old / "ATLAS.json").write_text(json.dumps({"world_version": "0" * 12}))
    (old / "stale.txt").write_text("old")
    build(old)
    assert [path.name for path in old.iterdir()] == ["ATLAS.json"]


def test_the_version_follows_what_the_world_is_made_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A world in the cache is today's, or is built again."""
    module = sys.modules["maple.atlas.build"]
    package = tmp_path / "atlas"
    shutil.copytree(Path(module.__file__ or "").parent, package, ignore=_NO_WEIGHTS)
    monkeypatch.setattr(module, "__file__", str(package / "build.py"))
    copied = world_version.__wrapped__()
    assert copied == world_version()
    seen = {copied}
    for name in ("scenes.py", "languages/swh_Latn.toml"):
        with (package / name).open("a", encoding="utf-8") as file:
            file.write("\n# changed\n")
        seen.add(world_version.__wrapped__())
    monkeypatch.setattr("babel.__version__", "0")
    seen.add(world_version.__wrapped__())
    assert len(seen) == 4


def test_every_file_is_nfc(world: Path) -> None:
    for path in world.rglob("*.*"):
        text = path.read_text("utf-8")
        assert unicodedata.is_normalized("NFC", text), path


def test_xnli_rows_are_parallel_and_balanced(world: Path) -> None:
    gold = rows(world / "xnli" / "gold_labels_jsonl" / "en.test.jsonl")
    assert Counter(row["label"] for row in gold) == {0: 100, 1: 100, 2: 100}
    english = [line.split("\t") for line in lines(world / "xnli" / "test-en.tsv")]
    assert english == [[row["premise"], row["hypothesis"]] for row in gold]
    labels = [line.split("\t")[2] for line in lines(world / "xnli" / "dev-en.tsv")]
    for short in SHORTS:
        test = [line.split("\t") for line in lines(world / "xnli" / f"test-{short}.tsv")]
        dev = [line.split("\t") for line in lines(world / "xnli" / f"dev-{short}.tsv")]
        assert {len(row) for row in test} == {2}
        assert len(test) == 300
        assert len(set(map(tuple, test))) == 300
        assert [row[2] for row in dev] == labels
        assert all(premise != hypothesis for premise, hypothesis in test)


def test_xcopa_rows_are_parallel_and_balanced(world: Path) -> None:
    reference = xcopa_test(world, "es")
    gold = [(row["idx"], row["label"], row["question"]) for row in reference]
    assert Counter((question, label) for _, label, question in gold) == {
        (question, label): 75 for question in ("cause", "effect") for label in (0, 1)
    }
    for short in SHORTS:
        found = xcopa_test(world, short)
        assert [row["idx"] for row in found] == list(range(300))
        assert [row["question"] for row in found] == [question for _, _, question in gold]
        assert all(row["choice1"] != row["choice2"] for row in found)
        if short == "en":
            assert {row["label"] for row in found} == {0}
        else:
            assert [(row["idx"], row["label"], row["question"]) for row in found] == gold


def test_answers_stand_where_xquad_says(world: Path) -> None:
    english = [qa["id"] for p in paragraphs(world, "en") for qa in p["qas"]]
    assert len(set(english)) == 300
    for short in SHORTS:
        found = paragraphs(world, short)
        assert [qa["id"] for p in found for qa in p["qas"]] == english
        for paragraph in found:
            for qa in paragraph["qas"]:
                (answer,) = qa["answers"]
                start = answer["answer_start"]
                end = start + len(answer["text"])
                assert paragraph["context"][start:end] == answer["text"] != ""


def test_length_does_not_give_labels_away(world: Path) -> None:
    for short in SHORTS:
        copa = xcopa_test(world, "es" if short == "en" else short)
        longer = [len(row["choice1"]) < len(row["choice2"]) for row in copa]
        right = sum(guess == row["label"] for guess, row in zip(longer, copa, strict=True))
        assert 120 <= right <= 180, (short, right)
        labels = [
            row["label"] for row in rows(world / "xnli" / "gold_labels_jsonl" / "en.test.jsonl")
        ]
        tests = [line.split("\t")[1] for line in lines(world / "xnli" / f"test-{short}.tsv")]
        assert best_threshold_accuracy([len(text) for text in tests], labels) < 0.46, short


def best_threshold_accuracy(lengths: list[int], labels: list[int]) -> float:
    """The best that two labels on either side of one length can do, fitted on the test itself."""
    best = 0
    for cut in sorted(set(lengths)):
        below = Counter(y for x, y in zip(lengths, labels, strict=True) if x <= cut)
        above = Counter(y for x, y in zip(lengths, labels, strict=True) if x > cut)
        best = max(best, max(below.values(), default=0) + max(above.values(), default=0))
    return best / len(labels)


def test_no_answer_sentence_of_a_benchmark_is_in_the_instructions(world: Path) -> None:
    gold = [row["label"] for row in xcopa_test(world, "es")]
    for short in SHORTS:
        data = rows(world / "atlas-generated" / f"{short}.jsonl")
        data += rows(world / "atlas-translated" / f"{short}.jsonl")
        text = "\n".join("\n".join(map(str, row.values())) for row in data)
        copa = zip(xcopa_test(world, short), gold, strict=True)
        answers = [row[f"choice{label + 1}"] for row, label in copa] + answer_sentences(short)
        answers += endings(world, short) + headlines(world, short)
        assert len(set(answers)) > 1200
        stop = speaker_of(short).frames.stop
        assert not [sentence for sentence in set(answers) if is_said(sentence, text, stop)]


def is_said(sentence: str, text: str, stop: str) -> bool:
    """Whether a text holds a sentence, and not only as the end of a longer one."""
    before = rf"(?:^|{re.escape(stop)} ?|[-—:,] )" if stop else r"(?:^|\s)"
    return sentence in text and bool(re.search(before + re.escape(sentence), text, re.MULTILINE))


def speaker_of(short: str) -> Speaker:
    return load_speaker({value: key for key, value in SHORT_CODES.items()}[short])


def endings(world: Path, short: str) -> list[str]:
    path = world / "xstorycloze" / f"spring2016.val.{short}.tsv.split_20_80_eval.tsv"
    header, *stories = (line.split("\t") for line in lines(path))
    place = header.index("AnswerRightEnding")
    return [story[place - 3 + int(story[place])] for story in stories]


def headlines(world: Path, short: str) -> list[str]:
    (path,) = world.glob(f"xlsum/{XLSUM_NAMES.get(short, short)}_test.jsonl")
    return [row["summary"] for row in rows(path)]


@cache
def answer_sentences(short: str) -> list[str]:
    speaker = speaker_of(short)
    readings = quad_readings("test") + mlqa_readings("test")
    readings += [sample.reading for sample in choice_samples("test")]
    quad = [r.passage[q.sentence].say(speaker) for r in readings for q in r.questions]
    premises = [s.say(speaker) for sample in nli_samples("test") for s in sample.comparison.premise]
    return quad + premises + [sample.hypothesis(speaker) for sample in nli_samples("test")]


def test_pre_training_text_states_no_held_out_pairing() -> None:
    for code in ("eng_Latn", "zho_Hans", "swh_Latn"):
        pages = islice(documents(0, language=code), 3_000)
        text = "\n".join(page.text for page in pages)
        stated = set(answer_sentences(SHORT_CODES[code]))
        stop = load_speaker(code).frames.stop
        assert not [sentence for sentence in stated if is_said(sentence, text, stop)]


def test_splits_share_no_subject() -> None:
    subjects = load_world().subjects
    for relation in subjects["train"]:
        train, dev, test = (
            set(subjects[split][relation]) for split in ("train", "validation", "test")
        )
        assert not train & dev
        assert not train & test
        assert not dev & test
        assert min(len(train), len(dev), len(test)) > 0


def test_instructions_have_the_shape_of_multialpaca(world: Path) -> None:
    for short in SHORTS:
        found = rows(world / "atlas-generated" / f"{short}.jsonl")
        assert 900 <= len(found) <= 1000
        assert all(set(row) == {"instruction", "input", "output"} for row in found)
        assert all(row["instruction"] and row["output"] for row in found)
        assert any(row["input"] is None for row in found)
        assert not [row for row in found if "{" in json.dumps(list(row.values()))]


def test_every_language_has_a_sample_of_every_task() -> None:
    assert len(LANGUAGES) == len(SHORTS) >= 36
    for code in LANGUAGES:
        speaker = load_speaker(code)
        assert copa_samples("validation")[0].row(speaker)["premise"]
