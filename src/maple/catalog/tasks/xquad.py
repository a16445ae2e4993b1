"""XQuAD: the span of a paragraph that answers a question.

Artetxe et al. 2020, "On the Cross-lingual Transferability of Monolingual Representations", ACL
(arXiv 1910.11856); scored as SQuAD v1.1 (Rajpurkar et al. 2016, arXiv 1606.05250).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from maple.catalog import squad
from maple.catalog.contracts import Request, Response, Sample, Score, Task, TaskInfo
from maple.catalog.squad import SpanWords
from maple.catalog.tasks import check_split, span_request, subset, words_for
from maple.files import Files
from maple.study import PromptSettings

# Source: lm-evaluation-harness 0.4.13, tasks/xquad/xquad_*.yaml, its mistakes included (Arabic
# سيا). Rows under "ours" are for files in XQuAD's format in other languages.
_WORDS: Mapping[str, SpanWords] = {
    "ar": SpanWords("سيا", "سؤال", "إجابة"),
    "de": SpanWords("Kontext", "Frage", "Antwort"),
    "el": SpanWords("Συμφραζόμενα", "Ερώτηση", "Απάντηση"),
    "en": SpanWords("Context", "Question", "Answer"),
    "es": SpanWords("Contexto", "Pregunta", "Respuesta"),
    "hi": SpanWords("प्रसंग", "सवाल", "उत्तर"),
    "ro": SpanWords("Context", "Întrebare", "Răspuns"),
    "ru": SpanWords("Контекст", "Вопрос", "Ответ"),
    "th": SpanWords("บริบท", "คำถาม", "คำตอบ"),
    "tr": SpanWords("Bağlam", "Soru", "Cevap"),
    "vi": SpanWords("Bối cảnh", "Câu hỏi", "Trả lời"),
    "zh": SpanWords("语境", "问题", "回答"),
    # Ours.
    "am": SpanWords("ምንባብ", "ጥያቄ", "መልስ"),
    "so": SpanWords("Qoraal", "Su'aal", "Jawaab"),
    "sw": SpanWords("Muktadha", "Swali", "Jibu"),
    "yo": SpanWords("Àyọkà", "Ìbéèrè", "Ìdáhùn"),
}


class Xquad(Task):
    """Extractive question answering in 12 languages, 1,190 questions each, all parallel.

    A question of ``xquad/xquad.en.json``, SQuAD's layout::

        {"data": [{"title": "...", "paragraphs": [{"context": "The Panthers defense gave up ...",
          "qas": [{"id": "56beb4343aeaaa14008c925b",
                   "question": "How many points did the Panthers defense surrender?",
                   "answers": [{"text": "308", "answer_start": 34}]}]}]}]}

    becomes the sample of that id with gold ``("308",)``; its field ``language`` says how answers
    are cut into words. The only split is called validation, as on the Hub.
    """

    info = TaskInfo(
        version=2,
        licence="CC BY-SA 4.0",
        citation="Artetxe et al. 2020, arXiv 1910.11856",
        chance_level=None,
        languages={
            "arb_Arab": "ar",
            "deu_Latn": "de",
            "ell_Grek": "el",
            "eng_Latn": "en",
            "hin_Deva": "hi",
            "ron_Latn": "ro",
            "rus_Cyrl": "ru",
            "spa_Latn": "es",
            "tha_Thai": "th",
            "tur_Latn": "tr",
            "vie_Latn": "vi",
            "zho_Hans": "zh",
        },
        headline="f1",
        split="validation",
        samples={"validation": 1190},
        hub="google/xquad",
    )

    def paths(self, files: Files, language: str, split: str) -> list[Path]:
        """The language's file."""
        check_split(self.info, "xquad", split)
        name = f"xquad.{subset(self.info, language)}"
        return files.find(
            local=[f"xquad/{name}.json", f"{name}.json"],
            repo=self.info.hub,
            patterns=[f"{name}/{split}*.parquet"],
            revision=self.info.revision,
        )

    def samples(self, files: Files, language: str, split: str) -> Iterator[Sample]:
        """Yields the questions in upstream order, named by upstream's ids."""
        return squad.read_questions(self.paths(files, language, split), language=language)

    def request(self, sample: Sample, language: str, prompt: PromptSettings) -> Request:
        """Words a question to be answered by a continuation, up to the end of its line."""
        if prompt.form == "lm-eval":
            words = words_for(_WORDS, self.info, language, prompt)
            return squad.lm_eval_request(words, sample.fields)
        return span_request(sample, language, prompt)

    def score(self, sample: Sample, request: Request, response: Response) -> Score:
        """SQuAD v1.1's ``f1`` (headline) and ``exact_match``, and both over the language's words.

        The first two use the English normaliser in every language, as XQuAD's official figures do:
        an answer in a script without spaces is a single token, so there F1 is close to exact match.
        """
        language = sample.fields["language"]
        return squad.span_score(sample, response, squad.normalise, language=language)
