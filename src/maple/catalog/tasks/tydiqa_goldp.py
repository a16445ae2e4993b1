"""TyDiQA-GoldP: the span of a passage that answers a question asked in its own language.

Clark et al. 2020, "TyDi QA: A Benchmark for Information-Seeking Question Answering in
Typologically Diverse Languages", TACL (arXiv 2003.05002); scored as SQuAD v1.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from maple import languages
from maple.catalog import squad
from maple.catalog.contracts import Request, Response, Sample, Score, Task, TaskInfo
from maple.catalog.squad import SpanWords
from maple.catalog.tasks import check_split, span_request, subset, words_for
from maple.errors import SourceError
from maple.files import Files
from maple.study import PromptSettings

# Source: lm-evaluation-harness 0.4.13, tasks/tydiqa/tydiqa_goldp_*.yaml. Rows under "ours" are
# for files in the format in other languages.
_WORDS: Mapping[str, SpanWords] = {
    "ar": SpanWords("السياق", "السؤال", "الإجابة"),
    "bn": SpanWords("প্রসঙ্গ", "প্রশ্ন", "উত্তর"),
    "en": SpanWords("Context", "Question", "Answer"),
    "fi": SpanWords("Konteksti", "Kysymys", "Vastaus"),
    "id": SpanWords("Konteks", "Pertanyaan", "Jawaban"),
    "ko": SpanWords("맥락", "질문", "답변"),
    "ru": SpanWords("Контекст", "Вопрос", "Ответ"),
    "sw": SpanWords("Muktadha", "Swali", "Jibu"),
    "te": SpanWords("సందర్భం", "ప్రశ్న", "సమాధానం"),
    # Ours.
    "am": SpanWords("ምንባብ", "ጥያቄ", "መልስ"),
    "de": SpanWords("Kontext", "Frage", "Antwort"),
    "es": SpanWords("Contexto", "Pregunta", "Respuesta"),
    "hi": SpanWords("प्रसंग", "सवाल", "उत्तर"),
    "ja": SpanWords("文脈", "質問", "答え"),
    "so": SpanWords("Qoraal", "Su'aal", "Jawaab"),
    "th": SpanWords("บริบท", "คำถาม", "คำตอบ"),
    "tr": SpanWords("Bağlam", "Soru", "Cevap"),
    "yo": SpanWords("Àyọkà", "Ìbéèrè", "Ìdáhùn"),
    "zh": SpanWords("语境", "问题", "回答"),
}

# Upstream's names in questions' ids and file names.
_ENGLISH_NAMES: Mapping[str, str] = {
    "arb_Arab": "arabic",
    "ben_Beng": "bengali",
    "eng_Latn": "english",
    "fin_Latn": "finnish",
    "ind_Latn": "indonesian",
    "kor_Hang": "korean",
    "rus_Cyrl": "russian",
    "swh_Latn": "swahili",
    "tel_Telu": "telugu",
}


class TydiqaGoldp(Task):
    """Extractive question answering in 9 languages, asked without knowing the answer.

    A question of ``tydiqa-goldp-v1.1-dev.json``, SQuAD's layout with all languages in one file::

        {"data": [{"title": "...", "paragraphs": [{"context": "...",
          "qas": [{"id": "swahili-2387335860751143628-1", "question": "...",
                   "answers": [{"text": "...", "answer_start": 394}]}]}]}]}

    becomes the sample of that id. Files of one language are read as well: the release's
    ``tydiqa-goldp-v1.1-dev/tydiqa-goldp-dev-swahili.json`` and XTREME's
    ``tydiqa.goldp.sw.dev.json``, in whose own download the answers are blanked. Languages are not
    parallel. The release has no labelled test split; ``validation`` is its dev.
    """

    info = TaskInfo(
        version=1,
        licence="Apache 2.0",
        citation="Clark et al. 2020, arXiv 2003.05002",
        chance_level=None,
        languages={
            "arb_Arab": "ar",
            "ben_Beng": "bn",
            "eng_Latn": "en",
            "fin_Latn": "fi",
            "ind_Latn": "id",
            "kor_Hang": "ko",
            "rus_Cyrl": "ru",
            "swh_Latn": "sw",
            "tel_Telu": "te",
        },
        headline="f1",
        split="validation",
        samples={
            "validation": {
                "arb_Arab": 921,
                "ben_Beng": 113,
                "eng_Latn": 440,
                "fin_Latn": 782,
                "ind_Latn": 565,
                "kor_Hang": 276,
                "rus_Cyrl": 812,
                "swh_Latn": 499,
                "tel_Telu": 669,
            },
            "train": {
                "arb_Arab": 14_805,
                "ben_Beng": 2_390,
                "eng_Latn": 3_696,
                "fin_Latn": 6_855,
                "ind_Latn": 5_702,
                "kor_Hang": 1_625,
                "rus_Cyrl": 6_490,
                "swh_Latn": 2_755,
                "tel_Telu": 5_563,
            },
        },
        shots_split="train",
        hub="google-research-datasets/tydiqa",
    )

    def paths(self, files: Files, language: str, split: str) -> list[Path]:
        """The language's file, or the one of all languages."""
        check_split(self.info, "tydiqa-goldp", split)
        name, part = subset(self.info, language), _UPSTREAM_SPLIT[split]
        folder = f"tydiqa-goldp-v1.1-{part}"
        whole = f"{folder}.json"
        # XTREME's train files come last: they have lost the questions' ids.
        names = [
            f"{folder}/tydiqa-goldp-{part}-{_english(language)}.json",
            f"tydiqa-goldp-{part}-{_english(language)}.json",
            *([whole, f"{folder}/{whole}"] if split == "train" else []),
            f"{folder}/tydiqa.goldp.{name}.{part}.json",
            f"tydiqa.goldp.{name}.{part}.json",
            *([whole, f"{folder}/{whole}"] if split != "train" else []),
        ]
        found = files.find(
            local=[top + file for file in names for top in ("tydiqa/", "tydiqa-goldp/", "")],
            repo=self.info.hub,
            patterns=[f"secondary_task/{split}*.parquet"],
            revision=self.info.revision,
        )
        _require_language(found, language)
        return found

    def samples(self, files: Files, language: str, split: str) -> Iterator[Sample]:
        """Yields the language's questions in upstream order, named by upstream's ids."""
        paths = self.paths(files, language, split)
        return squad.read_questions(
            paths,
            language=language,
            prefix=f"{_english(language)}-" if _is_whole(paths[0]) else "",
            are_named=not paths[0].name.endswith(".train.json"),
        )

    def request(self, sample: Sample, language: str, prompt: PromptSettings) -> Request:
        """Words a question to be answered by a continuation, up to the end of its line."""
        if prompt.form == "lm-eval":
            words = words_for(_WORDS, self.info, language, prompt)
            return squad.lm_eval_request(words, sample.fields)
        return span_request(sample, language, prompt)

    def score(self, sample: Sample, request: Request, response: Response) -> Score:
        """SQuAD v1.1's ``f1`` (headline) and ``exact_match``, and both over the language's words.

        SQuAD v1.1's metrics are what the release's gold_passage_baseline/README.md asks for, and
        what XTREME's evaluate.py computes. lm-evaluation-harness drops all Unicode punctuation and
        the Arabic article instead, so its figures differ. Upstream's mean leaves English out.
        """
        language = sample.fields["language"]
        return squad.span_score(sample, response, squad.normalise, language=language)


_UPSTREAM_SPLIT = {"validation": "dev", "train": "train"}


def _english(language: str) -> str:
    return _ENGLISH_NAMES.get(language) or languages.find(language).name.lower()


def _is_whole(path: Path) -> bool:
    """Whether a file holds all languages."""
    return path.suffix == ".parquet" or path.name.startswith("tydiqa-goldp-v1.1-")


def _require_language(paths: list[Path], language: str) -> None:
    """Tells before anything is run that a file of several languages lacks the one asked for."""
    for path in paths:
        if path.suffix != ".json" or not _is_whole(path):
            continue
        content, wanted = path.read_bytes(), _english(language)
        present = [n for n in (wanted, *_ENGLISH_NAMES.values()) if f'"{n}-'.encode() in content]
        # A file with none is empty or broken: the reader says how.
        if present and wanted not in present:
            raise SourceError(
                f"{path} has no question whose id begins with '{wanted}-', only: "
                f"{', '.join(present)}. Add the language's own file, or leave the language out."
            )
