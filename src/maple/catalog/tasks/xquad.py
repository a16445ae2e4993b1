"""XQuAD: the span of a paragraph that answers a question.

Artetxe et al. 2020, "On the Cross-lingual Transferability of Monolingual Representations", ACL
(arXiv 1910.11856); scored as SQuAD v1.1 (Rajpurkar et al. 2016, arXiv 1606.05250).
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from maple.catalog.contracts import (
    GenerationRequest,
    GenerationResponse,
    Request,
    Response,
    Sample,
    Score,
    Task,
    TaskInfo,
)
from maple.catalog.tasks import check_split, subset, words_for
from maple.errors import DataError
from maple.files import Files
from maple.files.fields import place
from maple.files.read import read_parquet
from maple.study import PromptSettings

Kind = TypeVar("Kind")


class Words(NamedTuple):
    """The lm-eval form's names of the three parts of a prompt."""

    context: str
    question: str
    answer: str


# Source: lm-evaluation-harness 0.4.13, tasks/xquad/xquad_*.yaml, its mistakes included (Arabic
# سيا). Rows under "ours" are for files in XQuAD's format in other languages.
_WORDS: Mapping[str, Words] = {
    "ar": Words("سيا", "سؤال", "إجابة"),
    "de": Words("Kontext", "Frage", "Antwort"),
    "el": Words("Συμφραζόμενα", "Ερώτηση", "Απάντηση"),
    "en": Words("Context", "Question", "Answer"),
    "es": Words("Contexto", "Pregunta", "Respuesta"),
    "hi": Words("प्रसंग", "सवाल", "उत्तर"),
    "ro": Words("Context", "Întrebare", "Răspuns"),
    "ru": Words("Контекст", "Вопрос", "Ответ"),
    "th": Words("บริบท", "คำถาม", "คำตอบ"),
    "tr": Words("Bağlam", "Soru", "Cevap"),
    "vi": Words("Bối cảnh", "Câu hỏi", "Trả lời"),
    "zh": Words("语境", "问题", "回答"),
    # Ours.
    "am": Words("ምንባብ", "ጥያቄ", "መልስ"),
    "so": Words("Qoraal", "Su'aal", "Jawaab"),
    "sw": Words("Muktadha", "Swali", "Jibu"),
    "yo": Words("Àyọkà", "Ìbéèrè", "Ìdáhùn"),
}

# Source of the English row: MEGA (arXiv 2303.12528) in the wording of arXiv 2410.16168; the
# others are ours.
_INSTRUCTIONS: Mapping[str, str] = {
    "en": "Context: {context}\nQuestion: {question}\n"
    "Referring to the passage above, the correct answer to the given question is",
    "ar": "السياق: {context}\nالسؤال: {question}\n"
    "بالرجوع إلى الفقرة أعلاه، الإجابة الصحيحة عن السؤال المطروح هي",
    "de": "Kontext: {context}\nFrage: {question}\n"
    "Nach dem obigen Abschnitt lautet die richtige Antwort auf die gestellte Frage",
    "el": "Συμφραζόμενα: {context}\nΕρώτηση: {question}\n"
    "Σύμφωνα με το παραπάνω απόσπασμα, η σωστή απάντηση στην ερώτηση είναι",
    "es": "Contexto: {context}\nPregunta: {question}\n"
    "Según el pasaje anterior, la respuesta correcta a la pregunta dada es",
    "hi": "प्रसंग: {context}\nप्रश्न: {question}\nऊपर दिए गए अनुच्छेद के अनुसार, दिए गए प्रश्न का सही उत्तर है",
    "ro": "Context: {context}\nÎntrebare: {question}\n"
    "Conform pasajului de mai sus, răspunsul corect la întrebarea dată este",
    "ru": "Контекст: {context}\nВопрос: {question}\n"
    "Согласно приведённому выше отрывку, правильный ответ на данный вопрос:",
    "th": "บริบท: {context}\nคำถาม: {question}\nจากข้อความข้างต้น คำตอบที่ถูกต้องของคำถามนี้คือ",
    "tr": "Bağlam: {context}\nSoru: {question}\n"
    "Yukarıdaki metne göre, verilen sorunun doğru cevabı:",
    "vi": "Bối cảnh: {context}\nCâu hỏi: {question}\n"
    "Theo đoạn văn trên, câu trả lời đúng cho câu hỏi đã cho là",
    "zh": "语境：{context}\n问题：{question}\n根据上面的段落，所给问题的正确答案是",
    "am": "ምንባብ: {context}\nጥያቄ: {question}\nከላይ ባለው ምንባብ መሠረት፣ ለተሰጠው ጥያቄ ትክክለኛው መልስ:",
    "so": "Qoraal: {context}\nSu'aal: {question}\n"
    "Marka loo eego qoraalka kore, jawaabta saxda ah ee su'aasha la bixiyay waa",
    "sw": "Muktadha: {context}\nSwali: {question}\n"
    "Kulingana na kifungu kilicho hapo juu, jibu sahihi la swali lililotolewa ni",
    "yo": "Àyọkà: {context}\nÌbéèrè: {question}\n"
    "Gẹ́gẹ́ bí àyọkà òkè yìí, ìdáhùn tó tọ́ sí ìbéèrè náà ni",
}

_LM_EVAL_MAX_NEW_TOKENS = 256
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)


class Xquad(Task):
    """Extractive question answering in 12 languages, 1,190 questions each, all parallel.

    A question of ``xquad/xquad.en.json``, SQuAD's layout::

        {"data": [{"title": "...", "paragraphs": [{"context": "The Panthers defense gave up ...",
          "qas": [{"id": "56beb4343aeaaa14008c925b",
                   "question": "How many points did the Panthers defense surrender?",
                   "answers": [{"text": "308", "answer_start": 34}]}]}]}]}

    becomes the sample of that id with gold ``("308",)``. The only split is called validation, as
    on the Hub.
    """

    info = TaskInfo(
        version=1,
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
        seen = set()
        for path in self.paths(files, language, split):
            found = _of_parquet(path) if path.suffix == ".parquet" else _of_squad(path)
            for where, sample in found:
                if sample.id in seen:
                    raise DataError(f"{where}: the id {sample.id!r} is used twice.")
                seen.add(sample.id)
                yield sample
        if not seen:
            raise DataError(f"{path}: holds no questions. Fetch it again.")

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
        key = "eng_Latn" if prompt.instruction_language == "english" else language
        template = words_for(_INSTRUCTIONS, self.info, key, prompt)
        # Contexts of seven languages open with a byte order mark or close with spaces.
        fields = {name: text.replace("\ufeff", "").strip() for name, text in sample.fields.items()}
        return GenerationRequest(context=template.format(**fields))

    def score(self, sample: Sample, request: Request, response: Response) -> Score:
        """SQuAD v1.1's ``f1`` (headline) and ``exact_match``, each the best over the references.

        Both use the English normaliser in every language, as XQuAD's official figures do: an
        answer in a script without spaces is a single token, so there F1 is close to exact match.
        """
        if not isinstance(response, GenerationResponse):
            raise TypeError("a generation task needs a GenerationResponse")
        metrics = {
            "f1": max(token_f1(gold, response.text) for gold in sample.gold),
            "exact_match": max(exact_match(gold, response.text) for gold in sample.gold),
        }
        return Score(value=metrics["f1"], prediction=response.text.strip(), metrics=metrics)


def normalise(text: str) -> str:
    """SQuAD v1.1's normaliser: lower case; no ASCII punctuation, no a, an, the; single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def exact_match(gold: str, answer: str) -> float:
    """1 when both are equal once normalised, else 0."""
    return float(normalise(gold) == normalise(answer))


def token_f1(gold: str, answer: str) -> float:
    """Harmonic mean of precision and recall over bags of normalised tokens, in 0..1.

    Where either side normalises to nothing it is the exact match, as in lm-eval; SQuAD v1.1's
    script gives 0 to two empty sides. No XQuAD answer is empty, so no figure differs.
    """
    expected, given = normalise(gold).split(), normalise(answer).split()
    if not expected or not given:
        return float(expected == given)
    n_common = (Counter(expected) & Counter(given)).total()
    return 2 * n_common / (len(expected) + len(given))


def _of_parquet(path: Path) -> Iterator[tuple[str, Sample]]:
    for line, row in read_parquet(path):
        where = place(path, line)
        texts = _get(_get(row, "answers", dict, where), "text", list, where)
        fields = {name: _get(row, name, str, where) for name in ("context", "question")}
        yield where, _sample(_get(row, "id", str, where), fields, texts, where)


def _of_squad(path: Path) -> Iterator[tuple[str, Sample]]:
    for n, article in enumerate(_get(_load(path), "data", list, str(path))):
        for p, paragraph in enumerate(_get(article, "paragraphs", list, f"{path}, data[{n}]")):
            at = f"{path}, data[{n}].paragraphs[{p}]"
            context = _get(paragraph, "context", str, at)
            for q, question in enumerate(_get(paragraph, "qas", list, at)):
                yield f"{at}.qas[{q}]", _of_question(question, context, f"{at}.qas[{q}]")


def _of_question(question: Any, context: str, where: str) -> Sample:
    answers = enumerate(_get(question, "answers", list, where))
    texts = [_get(answer, "text", str, f"{where}.answers[{n}]") for n, answer in answers]
    fields = {"context": context, "question": _get(question, "question", str, where)}
    return _sample(_get(question, "id", str, where), fields, texts, where)


def _sample(name: str, fields: Mapping[str, str], texts: list[str], where: str) -> Sample:
    if not texts or not all(isinstance(text, str) and text.strip() for text in texts):
        raise DataError(f"{where}: the answers are {texts!r:.60}; one text at least is needed.")
    return Sample(id=name, fields=fields, gold=tuple(texts))


def _get(row: Any, name: str, kind: type[Kind], where: str) -> Kind:
    if not isinstance(row, dict) or name not in row:
        has = ", ".join(row) if isinstance(row, dict) else f"{row!r:.40}"
        raise DataError(f"{where}: field {name!r} is missing; there is {has or 'nothing'}.")
    value = row[name]
    if not isinstance(value, kind):
        raise DataError(f"{where}: field {name!r} must be a {kind.__name__}, it is {value!r:.60}.")
    return value


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {error.lineno}: not JSON at column {error.colno} ({error.msg}). "
            "The file is truncated or was edited; fetch it again."
        ) from error
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 at byte {error.start}. Convert the file.") from error
