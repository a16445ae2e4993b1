"""XL-Sum: a summary of a BBC article in a sentence or two.

Hasan et al. 2021, "XL-Sum: Large-Scale Multilingual Abstractive Summarization for 44 Languages",
Findings of ACL (https://aclanthology.org/2021.findings-acl.413).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from maple import languages
from maple.catalog import completion
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
from maple.catalog.tasks import check_split, mega_words, subset
from maple.catalog.words import words
from maple.errors import UsageError
from maple.files import Files
from maple.files.fields import filled_field
from maple.files.read import read_rows
from maple.study import PromptSettings

if TYPE_CHECKING:
    from rouge_score.rouge_scorer import RougeScorer

_MAX_NEW_TOKENS = 128
_UPSTREAM_SPLIT = {"test": "test", "validation": "val"}
_METRICS = {"rouge_l": "rougeL", "rouge_1": "rouge1", "rouge_2": "rouge2"}

# Upstream's name and its articles in test, as many as in dev. Source: csebuetnlp/xl-sum, README.
_LANGUAGES: Mapping[str, tuple[str, int]] = {
    "amh_Ethi": ("amharic", 719),
    "arb_Arab": ("arabic", 4_689),
    "azj_Latn": ("azerbaijani", 809),
    "ben_Beng": ("bengali", 1_012),
    "cym_Latn": ("welsh", 1_216),
    "eng_Latn": ("english", 11_535),
    "fra_Latn": ("french", 1_086),
    "gaz_Latn": ("oromo", 757),
    "gla_Latn": ("scottish_gaelic", 500),
    "guj_Gujr": ("gujarati", 1_139),
    "hau_Latn": ("hausa", 802),
    "hin_Deva": ("hindi", 8_847),
    "ibo_Latn": ("igbo", 522),
    "ind_Latn": ("indonesian", 4_780),
    "jpn_Jpan": ("japanese", 889),
    "kir_Cyrl": ("kyrgyz", 500),
    "kor_Hang": ("korean", 550),
    "mar_Deva": ("marathi", 1_362),
    "mya_Mymr": ("burmese", 570),
    "npi_Deva": ("nepali", 725),
    "pan_Guru": ("punjabi", 1_026),
    "pbt_Arab": ("pashto", 1_794),
    "pcm_Latn": ("pidgin", 1_151),
    "pes_Arab": ("persian", 5_906),
    "por_Latn": ("portuguese", 7_175),
    "run_Latn": ("kirundi", 718),
    "rus_Cyrl": ("russian", 7_780),
    "sin_Sinh": ("sinhala", 500),
    "som_Latn": ("somali", 745),
    "spa_Latn": ("spanish", 4_763),
    "srp_Cyrl": ("serbian_cyrillic", 909),
    "srp_Latn": ("serbian_latin", 909),
    "swh_Latn": ("swahili", 987),
    "tam_Taml": ("tamil", 2_027),
    "tel_Telu": ("telugu", 1_302),
    "tha_Thai": ("thai", 826),
    "tir_Ethi": ("tigrinya", 681),
    "tur_Latn": ("turkish", 3_397),
    "ukr_Cyrl": ("ukrainian", 5_399),
    "urd_Arab": ("urdu", 8_458),
    "uzn_Latn": ("uzbek", 590),
    "vie_Latn": ("vietnamese", 4_013),
    "yor_Latn": ("yoruba", 793),
    "zho_Hans": ("chinese_simplified", 4_670),
    "zho_Hant": ("chinese_traditional", 4_670),
}


class Xlsum(Task):
    """Summaries of news in 44 languages, Chinese and Serbian in two scripts each.

    A row of ``xlsum/english_test.jsonl``::

        {"id": "technology-17657859", "url": "https://www.bbc.com/news/technology-17657859",
         "title": "Yahoo files e-book advert system patent applications",
         "summary": "Yahoo has signalled it is investigating e-book adverts as a way to ...",
         "text": "Yahoo's patents suggest users could weigh the type of ads against ..."}

    becomes the sample ``technology-17657859`` with the summary as gold. The articles of two
    languages are not parallel.
    """

    info = TaskInfo(
        version=1,
        licence="CC BY-NC-SA 4.0",
        citation="Hasan et al. 2021, Findings of ACL, 2021.findings-acl.413",
        chance_level=None,
        languages={code: name for code, (name, _) in _LANGUAGES.items()},
        headline="rouge_l",
        split="test",
        samples={
            split: {code: count for code, (_, count) in _LANGUAGES.items()}
            for split in ("test", "validation")
        },
        shots_split="validation",
        hub="csebuetnlp/xlsum",
    )

    def paths(self, files: Files, language: str, split: str) -> list[Path]:
        """The language's file."""
        check_split(self.info, "xlsum", split)
        name, part = subset(self.info, language), _UPSTREAM_SPLIT[split]
        # Files that are not the release's may be named by the short tag in any language.
        names = dict.fromkeys((name, languages.find(language).tag))
        return files.find(
            local=[f"{folder}{n}_{part}.jsonl" for n in names for folder in ("xlsum/", "")],
            repo=self.info.hub,
            patterns=[f"{name}/{split}*.parquet", f"{name}/*{split}*.parquet"],
            revision=self.info.revision,
        )

    def samples(self, files: Files, language: str, split: str) -> Iterator[Sample]:
        """Yields the articles in upstream order, named by ``id``; a repeated one by its count."""
        names: Counter[str] = Counter()
        for path in self.paths(files, language, split):
            for line, row in read_rows(path):
                fields = {
                    name: filled_field(row, name, path, line) for name in ("id", "text", "summary")
                }
                # An id is the end of an article's address, so two articles may share one.
                names[fields["id"]] += 1
                count = names[fields["id"]]
                yield Sample(
                    id=fields["id"] if count == 1 else f"{fields['id']}#{count}",
                    fields={"text": fields["text"]},
                    gold=(fields["summary"],),
                )

    def request(self, sample: Sample, language: str, prompt: PromptSettings) -> Request:
        """Words an article to be followed by its summary, up to the end of its line.

        Raises:
            UsageError: the lm-eval form, which the harness does not have; or no words in that
                language.
        """
        if prompt.form == "lm-eval":
            raise UsageError(
                "xlsum: lm-evaluation-harness has no such task, so there is no lm-eval form. "
                "Set form: mega, or leave the task out."
            )
        text = sample.fields["text"].strip()
        if prompt.form == "completion":
            return completion.headline_request(text, _MAX_NEW_TOKENS)
        template = mega_words("xlsum", language, prompt)["template"]
        context = template.format(text=text)
        return GenerationRequest(context=context, max_new_tokens=_MAX_NEW_TOKENS, delimiter="\n")

    def score(self, sample: Sample, request: Request, response: Response) -> Score:
        """ROUGE against the summary, F1 in 0..1: ``rouge_l`` (headline), ``rouge_1``, ``rouge_2``.

        Google's ``rouge-score`` over our words of any script: no stemming, and letters where a
        script has no spaces. XL-Sum's own figures use a word splitter and a stemmer for each
        language, so they are not comparable.
        """
        if not isinstance(response, GenerationResponse):
            raise TypeError("a generation task needs a GenerationResponse")
        scores = _scorer().score(sample.gold[0], response.text)
        metrics = {ours: float(scores[theirs].fmeasure) for ours, theirs in _METRICS.items()}
        return Score(value=metrics["rouge_l"], prediction=response.text.strip(), metrics=metrics)


class _Words:
    """Our words as the tokenizer that rouge-score asks for."""

    def tokenize(self, text: str) -> list[str]:
        return words(text)


@cache
def _scorer() -> RougeScorer:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(list(_METRICS.values()), use_stemmer=False, tokenizer=_Words())
