"""TyDiQA-GoldP: the span of a passage that answers a question asked in its own language.

Clark et al. 2020, "TyDi QA: A Benchmark for Information-Seeking Question Answering in
Typologically Diverse Languages", TACL (arXiv 2003.05002); scored as SQuAD v1.1.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

from maple import languages
from maple.catalog import completion, squad
from maple.catalog.contracts import (
    GenerationRequest,
    Request,
    Response,
    Sample,
    Score,
    Task,
    TaskInfo,
)
from maple.catalog.tasks import check_split, mega_words, subset, words_for
from maple.errors import SourceError
from maple.files import Files
from maple.study import PromptSettings


class Words(NamedTuple):
    """The lm-eval form's names of the three parts of a prompt."""

    context: str
    question: str
    answer: str


# Source: lm-evaluation-harness 0.4.13, tasks/tydiqa/tydiqa_goldp_*.yaml. Rows under "ours" are
# for files in the format in other languages.
_WORDS: Mapping[str, Words] = {
    "ar": Words("السياق", "السؤال", "الإجابة"),
    "bn": Words("প্রসঙ্গ", "প্রশ্ন", "উত্তর"),
    "en": Words("Context", "Question", "Answer"),
    "fi": Words("Konteksti", "Kysymys", "Vastaus"),
    "id": Words("Konteks", "Pertanyaan", "Jawaban"),
    "ko": Words("맥락", "질문", "답변"),
    "ru": Words("Контекст", "Вопрос", "Ответ"),
    "sw": Words("Muktadha", "Swali", "Jibu"),
    "te": Words("సందర్భం", "ప్రశ్న", "సమాధానం"),
    # Ours.
    "am": Words("ምንባብ", "ጥያቄ", "መልስ"),
    "de": Words("Kontext", "Frage", "Antwort"),
    "es": Words("Contexto", "Pregunta", "Respuesta"),
    "hi": Words("प्रसंग", "सवाल", "उत्तर"),
    "ja": Words("文脈", "質問", "答え"),
    "so": Words("Qoraal", "Su'aal", "Jawaab"),
    "th": Words("บริบท", "คำถาม", "คำตอบ"),
    "tr": Words("Bağlam", "Soru", "Cevap"),
    "yo": Words("Àyọkà", "Ìbéèrè", "Ìdáhùn"),
    "zh": Words("语境", "问题", "回答"),
}

_LM_EVAL_MAX_NEW_TOKENS = 256

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
        found = squad.read_questions(
            paths,
            prefix=f"{_english(language)}-" if _is_whole(paths[0]) else "",
            are_named=not paths[0].name.endswith(".train.json"),
        )
        for sample in found:
            yield replace(sample, fields={**sample.fields, "language": language})

    def request(self, sample: Sample, language: str, prompt: PromptSettings) -> Request:
        """Words a question to be answered by a continuation, up to the end of its line."""
        if prompt.form == "lm-eval":
            words = words_for(_WORDS, self.info, language, prompt)
            parts = (
                f"{words.context}: {sample.fields['context']}",
                f"{words.question}: {sample.fields['question']}",
                f"{words.answer}:",
            )
            return GenerationRequest(
                context="\n\n".join(parts), max_new_tokens=_LM_EVAL_MAX_NEW_TOKENS
            )
        if prompt.form == "completion":
            labels = mega_words("completion", language, prompt)
            fields = squad.cleaned(sample.fields)
            return completion.answer_request(labels, fields["context"], fields["question"])
        template = mega_words("qa", language, prompt)["template"]
        context = squad.mega_context(template, sample.fields)
        # An answer begins a line, as in training.
        return GenerationRequest(context=context, delimiter="\n")

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
