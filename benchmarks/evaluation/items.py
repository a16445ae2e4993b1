"""What is scored: tasks in languages, their release files, and the same rows for the harness.

Each row carries ``sample_id``, the name that Maple gives the sample, read here in the plainest way
from the file: so answers of both sides are paired by the upstream file and not by our reader.
"""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LANGUAGES: Mapping[str, tuple[str, ...]] = {
    "xnli": ("deu_Latn", "eng_Latn", "swh_Latn", "zho_Hans"),
    "xcopa": ("est_Latn", "swh_Latn", "tur_Latn", "zho_Hans"),
    "belebele": ("deu_Latn", "eng_Latn", "swh_Latn", "zho_Hans"),
    "xquad": ("deu_Latn", "eng_Latn", "spa_Latn", "zho_Hans"),
    "mlqa": ("deu_Latn", "eng_Latn", "spa_Latn", "zho_Hans"),
}
"""Of each task, in Maple's codes; of them, those that the release files hold.

Their scripts are those that the bases' tokenizers were made for, except Swahili's, Turkish's and
Estonian's words: a paragraph in another script would not fit the bases' 2,048 positions.
"""
ROWS = 300
"""Of each file, kept for the harness."""
SENTENCES = "sentences"
"""Belebele with its whole answers as options, beside ``letters``."""
HARNESS_PREFIX = "bench_"


@dataclass(frozen=True, order=True)
class Item:
    """One task in one language, as both sides are asked it."""

    kind: str
    """xnli, xcopa, letters, sentences, xquad or mlqa."""
    language: str

    @property
    def task(self) -> str:
        """Maple's task."""
        return "belebele" if self.kind in ("letters", SENTENCES) else self.kind

    @property
    def name(self) -> str:
        """The harness's task."""
        return f"{HARNESS_PREFIX}{self.kind}_{self.language}"

    @property
    def is_generated(self) -> bool:
        return self.kind in ("xquad", "mlqa")


def upstream(language: str, task: str) -> str:
    """Upstream's own name of a language."""
    from maple.catalog import load_task

    return load_task(task).info.languages[language]


def release_files(task: str, name: str) -> dict[str, tuple[str, ...]]:
    """Where a language's file belongs -> where it may be found."""
    if task == "xnli":
        gold = "xnli/gold_labels_jsonl/en.test.jsonl"
        return {f"xnli/test-{name}.tsv": (f"xnli/test-{name}.tsv",), gold: (gold,)}
    if task == "mlqa":
        # The test files where they are; else the dev files stand in, under the test files' names,
        # because one `maple eval` takes one split for all its tasks.
        files = [f"{part}/{part}-context-{name}-question-{name}.json" for part in ("test", "dev")]
        return {f"mlqa/MLQA_V1/{files[0]}": tuple(f"mlqa/MLQA_V1/{file}" for file in files)}
    file = {
        "xcopa": f"xcopa/data/{name}/test.{name}.jsonl",
        "belebele": f"belebele/data/{name}.jsonl",
        "xquad": f"xquad/xquad.{name}.json",
    }[task]
    return {file: (file,)}


def link_release(source: Path, folder: Path, *, languages: int, questions: int) -> list[Item]:
    """Links the files that are scored into an empty folder, so that 'all' means those.

    Files of questions are cut: one ``maple eval`` takes one ``--limit`` for all its tasks, and a
    generated answer takes as long as a hundred ranked ones.

    Args:
        source: the release files.
        folder: where the links go.
        languages: at most so many of a task.
        questions: of XQuAD and MLQA, of a language.

    Raises:
        SystemExit: a task has no file.
    """
    found: list[Item] = []
    for task, codes in LANGUAGES.items():
        n_languages = 0
        for code in codes:
            if n_languages < languages and _link(source, folder, task, code, questions):
                n_languages += 1
                kinds = ("letters", SENTENCES) if task == "belebele" else (task,)
                found += [Item(kind, code) for kind in kinds]
        if not n_languages:
            raise SystemExit(f"no release file of {task} in --data, in any of {codes}")
    return sorted(found)


def _link(source: Path, folder: Path, task: str, code: str, questions: int) -> bool:
    wanted = release_files(task, upstream(code, task))
    chosen = {
        to: next((source / p for p in places if (source / p).is_file()), None)
        for to, places in wanted.items()
    }
    if None in chosen.values():
        return False
    examples = f"xcopa/data/{upstream(code, task)}/val.{upstream(code, task)}.jsonl"
    if task == "xcopa" and (source / examples).is_file():
        chosen[examples] = source / examples  # for shots
    for to, path in chosen.items():
        assert path is not None
        link = folder / to
        link.parent.mkdir(parents=True, exist_ok=True)
        if task in ("xquad", "mlqa"):
            release = json.loads(path.read_text(encoding="utf-8"))
            cut_questions(release, questions)
            link.write_text(json.dumps(release, ensure_ascii=False), encoding="utf-8")
        elif not link.exists():
            link.symlink_to(path.resolve())
    return True


def cut_questions(release: dict[str, Any], count: int) -> None:
    """Keeps the first questions of a release in SQuAD's layout, one a paragraph."""
    left = count
    for article in release["data"]:
        for paragraph in article["paragraphs"]:
            paragraph["qas"] = paragraph["qas"][: min(1, left)]
            left -= len(paragraph["qas"])


def documents(item: Item, data: Path) -> Iterator[dict[str, Any]]:
    """The rows of an item in the Hub's columns, in the file's order, with ``sample_id``."""
    files = [data / to for to in release_files(item.task, upstream(item.language, item.task))]
    if item.task == "xnli":
        labels = [row["label"] for row in _json_lines(files[1])]
        for number, (line, label) in enumerate(zip(_lines(files[0]), labels, strict=True)):
            premise, hypothesis = line.split("\t")
            yield {"sample_id": str(number), "premise": premise, "hypothesis": hypothesis,
                   "label": label}  # fmt: skip
    elif item.task == "xcopa":
        for row in _json_lines(files[0]):
            yield row | {"sample_id": str(row["idx"])}
    elif item.task == "belebele":
        yield from _belebele(files[0])
    else:
        yield from _questions(files[0])


def _belebele(path: Path) -> Iterator[dict[str, Any]]:
    seen: Counter[str] = Counter()
    for number, row in enumerate(_json_lines(path)):
        link = row["link"].strip()
        name = f"{link}#{row['question_number']}" if link else str(number)
        seen[name] += 1
        name = name if seen[name] == 1 else f"{name}#{seen[name]}"
        yield row | {"sample_id": name, "row_number": str(number)}


def _questions(path: Path) -> Iterator[dict[str, Any]]:
    release = json.loads(path.read_text(encoding="utf-8"))
    for article in release["data"]:
        for paragraph in article["paragraphs"]:
            for question in paragraph["qas"]:
                answers = question["answers"]
                yield {
                    "sample_id": question["id"],
                    "id": question["id"],
                    "context": paragraph["context"],
                    "question": question["question"],
                    "answers": {
                        "text": [a["text"] for a in answers],
                        "answer_start": [a["answer_start"] for a in answers],
                    },
                }


def write_documents(items: Sequence[Item], data: Path, folder: Path) -> None:
    """A JSON Lines file an item, for the harness."""
    folder.mkdir(parents=True, exist_ok=True)
    for item in items:
        rows = itertools.islice(documents(item, data), ROWS)
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (folder / f"{item.name}.jsonl").write_text("".join(lines), encoding="utf-8")


def _lines(path: Path) -> list[str]:
    # Not splitlines(): texts hold line separators of their own.
    return path.read_text(encoding="utf-8").rstrip("\n").split("\n")


def _json_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in _lines(path)]
