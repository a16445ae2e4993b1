"""Writes the world as upstream release files, the same bytes every time."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any

import babel

from maple.atlas.benchmarks import (
    article_row,
    article_samples,
    choice_samples,
    copa_samples,
    mlqa_readings,
    nli_samples,
    quad_readings,
    squad_document,
    story_samples,
)
from maple.atlas.corpus import language_shares
from maple.atlas.frames import LANGUAGES, SHORT_CODES
from maple.atlas.instructions import generated_rows, translated_rows
from maple.atlas.open_ended import open_rows
from maple.atlas.scenes import LABELS, Reading
from maple.atlas.speaker import Speaker, load_speaker
from maple.atlas.world import Split, load_world

_MARK = "ATLAS.json"

XLSUM_NAMES = {
    **{"en": "english", "es": "spanish", "fr": "french", "zh": "chinese_simplified"},
    **{"ja": "japanese", "ar": "arabic", "pt": "portuguese", "ru": "russian", "ko": "korean"},
    **{"fa": "persian", "hi": "hindi", "vi": "vietnamese", "tr": "turkish", "bn": "bengali"},
    **{"ta": "tamil", "ur": "urdu", "th": "thai", "id": "indonesian", "sw": "swahili"},
    **{"yo": "yoruba", "ha": "hausa", "am": "amharic", "te": "telugu", "my": "burmese"},
    **{"si": "sinhala", "so": "somali", "ig": "igbo", "pcm": "pidgin"},
}
"""XLSum names its languages in words; the others keep their short code."""


@cache
def world_version() -> str:
    """Returns the name of the world that `build` writes: a digest of everything it is made from.

    That is the generator's own source, the frames of every language and Babel's version, whose CLDR
    gives the names. A number raised by hand was forgotten once, and a stale world measured.
    """
    package = Path(__file__).parent
    digest = hashlib.blake2b(f"babel {babel.__version__}".encode(), digest_size=6)
    for path in sorted([*package.glob("*.py"), *package.glob("languages/*.toml")]):
        digest.update(path.name.encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()


def build(directory: Path) -> Path:
    """Writes the files of the world into a directory and returns it.

    The layout is that of the upstream releases: `xnli/`, `xcopa/`, `belebele/`, `xquad/`, `mlqa/`,
    `xlsum/`, `xstorycloze/`; then `atlas-open/`, `atlas-generated/`, `atlas-translated/`, and
    `facts.jsonl`, the ground truth.
    A directory that already holds today's world is left as it is; one that holds anything else is
    not touched.

    Args:
        directory: Where to write; its parent is made if missing.

    Raises:
        FileExistsError: The directory holds something other than a build of the world.
    """
    if _is_built(directory):
        return directory
    directory.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=f".{directory.name}-", dir=directory.parent))
    try:
        _write_world(temporary)
        _put_in_place(temporary, directory)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return directory


def _is_built(directory: Path) -> bool:
    mark = directory / _MARK
    return mark.is_file() and bool(
        json.loads(mark.read_text("utf-8"))["world_version"] == world_version()
    )


def _put_in_place(temporary: Path, directory: Path) -> None:
    temporary.chmod(0o755)
    if (directory / _MARK).is_file():
        shutil.rmtree(directory)
    try:
        os.replace(temporary, directory)
    except OSError as error:
        # Another process may have put the same bytes there meanwhile.
        if _is_built(directory):
            return
        raise FileExistsError(
            f"cannot build the world in {directory}: it holds other files. "
            "Name an empty or a new directory."
        ) from error


def _write_world(root: Path) -> None:
    speakers = {SHORT_CODES[code]: load_speaker(code) for code in LANGUAGES}
    _write_xnli(root / "xnli", speakers)
    _write_xcopa(root / "xcopa", speakers)
    _write_questions(root, speakers)
    _write_xlsum(root / "xlsum", speakers)
    _write_xstorycloze(root / "xstorycloze", speakers)
    for short, speaker in speakers.items():
        _write(root / "atlas-generated" / f"{short}.jsonl", map(_json, generated_rows(speaker)))
        _write(root / "atlas-translated" / f"{short}.jsonl", map(_json, translated_rows(speaker)))
    open_set = json.dumps(open_rows(), ensure_ascii=False, indent=1)
    _write(root / "atlas-open" / "eval.json", [open_set])
    _write(root / "facts.jsonl", map(_json, _facts()))
    shares = {code: round(language_shares().get(code, 0.0), 6) for code in LANGUAGES}
    _write(root / _MARK, [_json({"world_version": world_version(), "pretraining_shares": shares})])


def _facts() -> Iterable[dict[str, Any]]:
    """Every fact, its split, and whose pre-training text states it: all, high (classes 4 and 5) or
    none.
    """
    world = load_world()
    splits: tuple[Split, ...] = ("train", "validation", "test")
    for relation, table in world.facts.items():
        split_of = {s: split for split in splits for s in world.subjects[split][relation]}
        for subject, value in table.items():
            is_high = world.is_high_only(world.fact(relation, subject))
            stated = "none" if split_of[subject] != "train" else "high" if is_high else "all"
            yield {
                "relation": relation,
                "subject": subject,
                "value": value,
                "split": split_of[subject],
                "stated_in": stated,
            }


def _write_questions(root: Path, speakers: dict[str, Speaker]) -> None:
    quad, choices = quad_readings("test"), choice_samples("test")
    mlqa = {"dev": mlqa_readings("validation"), "test": mlqa_readings("test")}
    for short, speaker in speakers.items():
        _write(root / "xquad" / f"xquad.{short}.json", [_squad(quad, speaker)])
        for part, readings in mlqa.items():
            name = f"{part}-context-{short}-question-{short}.json"
            _write(root / "mlqa" / "MLQA_V1" / part / name, [_squad(readings, speaker)])
        rows = (
            {"link": "", "question_number": n, **c.row(speaker), "dialect": speaker.code, "ds": ""}
            for n, c in enumerate(choices, start=1)
        )
        _write(root / "belebele" / "data" / f"{speaker.code}.jsonl", map(_json, rows))


def _squad(readings: list[Reading], speaker: Speaker) -> str:
    return json.dumps(squad_document(readings, speaker), ensure_ascii=False)


def _write_xlsum(folder: Path, speakers: dict[str, Speaker]) -> None:
    articles = article_samples("test")
    for short, speaker in speakers.items():
        rows = (article_row(article, speaker, n) for n, article in enumerate(articles))
        _write(folder / f"{XLSUM_NAMES.get(short, short)}_test.jsonl", map(_json, rows))


def _write_xstorycloze(folder: Path, speakers: dict[str, Speaker]) -> None:
    for part, samples in (("train", story_samples("train")), ("eval", story_samples("test"))):
        for short, speaker in speakers.items():
            rows = [sample.row(speaker, n) for n, sample in enumerate(samples)]
            lines = ["\t".join(rows[0]), *("\t".join(row.values()) for row in rows)]
            _write(folder / f"spring2016.val.{short}.tsv.split_20_80_{part}.tsv", lines)


def _write_xnli(folder: Path, speakers: dict[str, Speaker]) -> None:
    dev, test = nli_samples("validation"), nli_samples("test")
    for short, speaker in speakers.items():
        rows = (f"{s.premise(speaker)}\t{s.hypothesis(speaker)}\t{s.label}" for s in dev)
        _write(folder / f"dev-{short}.tsv", rows)
        # Upstream's test files carry no label; row i is labelled by row i of the English gold file.
        _write(
            folder / f"test-{short}.tsv",
            (f"{s.premise(speaker)}\t{s.hypothesis(speaker)}" for s in test),
        )
    english = speakers["en"]
    gold = (
        {
            "premise": s.premise(english),
            "hypothesis": s.hypothesis(english),
            "label": LABELS.index(s.label),
        }
        for s in test
    )
    _write(folder / "gold_labels_jsonl" / "en.test.jsonl", map(_json, gold))


def _write_xcopa(folder: Path, speakers: dict[str, Speaker]) -> None:
    train, val, test = copa_samples("train"), copa_samples("validation"), copa_samples("test")
    for short, speaker in speakers.items():
        for name, samples in (("val", val), ("test", test)):
            if short != "en":
                rows = (
                    {**s.row(speaker), "idx": n, "changed": False} for n, s in enumerate(samples)
                )
                _write(folder / "data" / short / f"{name}.{short}.jsonl", map(_json, rows))
    english = speakers["en"]
    for name, samples in (("train", train), ("val", val)):
        rows = ({**s.row(english), "idx": n} for n, s in enumerate(samples))
        _write(folder / "xtreme-en" / f"{name}-en.jsonl", map(_json, rows))
    # Upstream hides the English test labels behind zeros; gold is the label of the same idx in any
    # other language.
    hidden = ({**s.row(english), "idx": n, "label": 0} for n, s in enumerate(test))
    _write(folder / "xtreme-en" / "test-en.jsonl", map(_json, hidden))


def _json(row: dict[str, Any]) -> str:
    return json.dumps(row, ensure_ascii=False)


def _write(path: Path, lines: Iterable[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8", newline="\n")
