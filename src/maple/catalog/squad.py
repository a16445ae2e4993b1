"""SQuAD's file layout and scores, for the tasks whose answers are spans of a paragraph.

    file --read_questions()--> samples          answer --span_score()--> f1, exact_match
                               samples --lm_eval_request()--> the harness's prompt

Rajpurkar et al. 2016 (arXiv 1606.05250). F1 is the harmonic mean of precision and recall over bags
of tokens, exact match is equality, each after normalising both sides and each the best over the
references. What is normalised how is the task's: ``normalise`` here is SQuAD v1.1's, for English.
Beside the task's official scores stand ``f1_segmented`` and ``exact_match_segmented``, over words
as ``maple.catalog.segment`` cuts them in the answer's language.
"""

from __future__ import annotations

import json
import re
import string
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from maple.catalog.contracts import (
    GenerationRequest,
    GenerationResponse,
    Response,
    Sample,
    Score,
)
from maple.catalog.segment import segment
from maple.errors import DataError
from maple.files.fields import place
from maple.files.read import read_parquet

Kind = TypeVar("Kind")
Normaliser = Callable[[str], str]
Tokens = Callable[[str], list[str]]

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_WITHOUT_PUNCTUATION = str.maketrans("", "", string.punctuation)
_LM_EVAL_MAX_NEW_TOKENS = 256


class SpanWords(NamedTuple):
    """The lm-eval form's names of the three parts of a prompt."""

    context: str
    question: str
    answer: str


def read_questions(
    paths: Iterable[Path], *, language: str, prefix: str = "", are_named: bool = True
) -> Iterator[Sample]:
    """Yields the questions of SQuAD JSON or Parquet files in upstream order, by upstream's ids.

    Fields are ``context`` and ``question`` as they stand, and ``language``; the gold is every
    reference.

    Args:
        paths: the files.
        language: canonical code of the language that answers are in.
        prefix: how the ids begin that are wanted, in files that hold several languages.
        are_named: False where a file's ids tell nothing: a question is its number, from 0.

    Raises:
        DataError: a question is not what the layout promises, or an id is used twice; no questions.
    """
    seen: set[str] = set()
    n_found = 0
    for path in paths:
        found = _of_parquet(path) if path.suffix == ".parquet" else _of_squad(path)
        for where, sample in found:
            if are_named and sample.id in seen:
                raise DataError(f"{where}: the id {sample.id!r} is used twice.")
            seen.add(sample.id)
            if sample.id.startswith(prefix):
                name = sample.id if are_named else str(n_found)
                yield replace(sample, id=name, fields={**sample.fields, "language": language})
                n_found += 1
    if not n_found:
        which = f" whose id begins with {prefix!r}" if prefix else ""
        raise DataError(f"{path}: holds no questions{which}. Fetch it again.")


def lm_eval_request(words: SpanWords, fields: Mapping[str, str]) -> GenerationRequest:
    """Words a question as lm-evaluation-harness 0.4.13 does, the passage as it stands."""
    parts = (
        f"{words.context}: {fields['context']}",
        f"{words.question}: {fields['question']}",
        f"{words.answer}:",
    )
    return GenerationRequest(context="\n\n".join(parts), max_new_tokens=_LM_EVAL_MAX_NEW_TOKENS)


def cleaned(fields: Mapping[str, str]) -> dict[str, str]:
    """The fields without stray marks and outer white space."""
    # Contexts of seven of XQuAD's languages open with a byte order mark or close with spaces.
    return {name: text.replace("\ufeff", "").strip() for name, text in fields.items()}


def span_score(
    sample: Sample, response: Response, normaliser: Normaliser, *, language: str
) -> Score:
    """Scores a span, each metric the best over the references.

    ``f1`` (headline) and ``exact_match`` are over the normaliser's tokens, ``f1_segmented`` and
    ``exact_match_segmented`` over the language's own words.

    Args:
        sample: holds the references.
        response: the answer.
        normaliser: the benchmark's.
        language: canonical code of the language that answers are in.

    Raises:
        TypeError: the response is not that of a generation.
    """
    if not isinstance(response, GenerationResponse):
        raise TypeError("a generation task needs a GenerationResponse")

    def own(text: str) -> list[str]:
        return segment(text, language)

    def official(text: str) -> list[str]:
        return normaliser(text).split()

    metrics: dict[str, float] = {}
    for suffix, tokens in (("", official), ("_segmented", own)):
        f1, is_exact = token_scores(sample.gold, response.text, tokens)
        metrics |= {f"f1{suffix}": f1, f"exact_match{suffix}": float(is_exact)}
    return Score(value=metrics["f1"], prediction=response.text.strip(), metrics=metrics)


def token_scores(golds: Sequence[str], answer: str, tokens: Tokens) -> tuple[float, bool]:
    """F1 over bags of tokens, in 0..1, and whether the tokens are equal: the best reference's.

    Two sides without any token are equal and their F1 is 1, as in lm-eval's xquad; the scripts of
    SQuAD v1.1 and MLQA give them an F1 of 0.
    """
    given = tokens(answer)
    expected = [tokens(gold) for gold in golds]
    return max(_overlap(gold, given) for gold in expected), given in expected


def normalise(text: str) -> str:
    """SQuAD v1.1's normaliser: lower case; no ASCII punctuation, no a, an, the; single spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_WITHOUT_PUNCTUATION)).split())


def _overlap(expected: Sequence[str], given: Sequence[str]) -> float:
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
    if isinstance(value, str):
        _require_unicode(value, name, where)
    return value


def _require_unicode(value: str, name: str, where: str) -> None:
    try:
        value.encode("utf-8")
    except UnicodeEncodeError as error:
        raise DataError(
            f"{where}: field {name!r} holds half of a surrogate pair at character {error.start}. "
            "Correct the question, or remove it."
        ) from error


def _load(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise DataError(
            f"{path}, line {error.lineno}: not JSON at column {error.colno} ({error.msg}). "
            "The file is truncated or was edited; fetch it again."
        ) from error
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise DataError(
            f"{path}, line {line}: not UTF-8 at byte {error.start}. Convert the file to UTF-8."
        ) from error
