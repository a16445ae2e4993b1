"""Belebele: which of four answers to a question about a passage is right.

Bandarkar et al. 2024, "The Belebele Benchmark: a Parallel Reading Comprehension Dataset in 122
Language Variants", ACL (arXiv 2308.16884).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maple.catalog import completion
from maple.catalog.contracts import RankingRequest, Request, Response, Sample, Score, Task, TaskInfo
from maple.catalog.tasks import (
    check_split,
    choice_request,
    choice_score,
    listed_choices,
    mega_words,
    subset,
)
from maple.errors import UsageError
from maple.files import Files
from maple.files.fields import filled_field, int_field, text_field
from maple.files.read import read_rows
from maple.study import PromptSettings

_LETTERS = ("A", "B", "C", "D")
_ANSWERS = ("mc_answer1", "mc_answer2", "mc_answer3", "mc_answer4")
_TEXTS = ("flores_passage", "question", *_ANSWERS)

# Source: the files of facebook/belebele. Upstream's names are the canonical codes.
_LANGUAGES = """
acm_Arab afr_Latn als_Latn amh_Ethi apc_Arab arb_Arab arb_Latn ars_Arab ary_Arab arz_Arab asm_Beng
azj_Latn bam_Latn ben_Beng ben_Latn bod_Tibt bul_Cyrl cat_Latn ceb_Latn ces_Latn ckb_Arab dan_Latn
deu_Latn ell_Grek eng_Latn est_Latn eus_Latn fin_Latn fra_Latn fuv_Latn gaz_Latn grn_Latn guj_Gujr
hat_Latn hau_Latn heb_Hebr hin_Deva hin_Latn hrv_Latn hun_Latn hye_Armn ibo_Latn ilo_Latn ind_Latn
isl_Latn ita_Latn jav_Latn jpn_Jpan kac_Latn kan_Knda kat_Geor kaz_Cyrl kea_Latn khk_Cyrl khm_Khmr
kin_Latn kir_Cyrl kor_Hang lao_Laoo lin_Latn lit_Latn lug_Latn luo_Latn lvs_Latn mal_Mlym mar_Deva
mkd_Cyrl mlt_Latn mri_Latn mya_Mymr nld_Latn nob_Latn npi_Deva npi_Latn nso_Latn nya_Latn ory_Orya
pan_Guru pbt_Arab pes_Arab plt_Latn pol_Latn por_Latn ron_Latn rus_Cyrl shn_Mymr sin_Latn sin_Sinh
slk_Latn slv_Latn sna_Latn snd_Arab som_Latn sot_Latn spa_Latn srp_Cyrl ssw_Latn sun_Latn swe_Latn
swh_Latn tam_Taml tel_Telu tgk_Cyrl tgl_Latn tha_Thai tir_Ethi tsn_Latn tso_Latn tur_Latn ukr_Cyrl
urd_Arab urd_Latn uzn_Latn vie_Latn war_Latn wol_Latn xho_Latn yor_Latn zho_Hans zho_Hant zsm_Latn
zul_Latn
"""


class Belebele(Task):
    """Four-way reading comprehension in 122 language variants, 900 questions each, all parallel.

    A row of ``belebele/data/eng_Latn.jsonl``::

        {"link": "https://en.wikibooks.org/wiki/Accordion/Right_hand", "question_number": 1,
         "flores_passage": "Make sure your hand is as relaxed as possible while still ...",
         "question": "According to the passage, what would not be considered an accurate tip ...?",
         "mc_answer1": "For additional volume, increase the force with which you hit the keys",
         "mc_answer2": "Keep unnecessary movement to a minimum ...", "mc_answer3": "...",
         "mc_answer4": "...", "correct_answer_num": "1", "dialect": "eng_Latn", "ds": "2023-05-03"}

    becomes the sample ``https://en.wikibooks.org/wiki/Accordion/Right_hand#1`` with gold
    ``("0",)``: upstream counts answers from 1. Rows without a link are named by their number.
    """

    info = TaskInfo(
        version=1,
        licence="CC BY-SA 4.0",
        citation="Bandarkar et al. 2024, arXiv 2308.16884",
        chance_level=0.25,
        languages={code: code for code in _LANGUAGES.split()},
        headline="accuracy",
        split="test",
        samples={"test": 900},
        settings=frozenset({"choices", "scoring"}),
        hub="facebook/belebele",
    )

    def paths(self, files: Files, language: str, split: str) -> list[Path]:
        """The language's file."""
        check_split(self.info, "belebele", split)
        # A language that Belebele lacks may be named as its own are, or by the short tag.
        names = dict.fromkeys((language, subset(self.info, language)))
        folders = ("belebele/data/", "belebele/", "data/", "")
        return files.find(
            local=[f"{folder}{name}.jsonl" for name in names for folder in folders],
            repo=self.info.hub,
            patterns=[f"data/{language}.jsonl", f"{language}/{split}*.parquet"],
            revision=self.info.revision,
        )

    def samples(self, files: Files, language: str, split: str) -> Iterator[Sample]:
        """Yields the questions in upstream order, named by link and question number."""
        names: Counter[str] = Counter()
        rows = (
            (path, line, row)
            for path in self.paths(files, language, split)
            for line, row in read_rows(path)
        )
        for number, (path, line, row) in enumerate(rows):
            name = _name(row, path, line) or str(number)
            # Of two passages of one page, upstream's rows do not say which they belong to.
            names[name] += 1
            gold = int_field(row, "correct_answer_num", path, line, among=(1, 2, 3, 4)) - 1
            yield Sample(
                id=name if names[name] == 1 else f"{name}#{names[name]}",
                fields={name: filled_field(row, name, path, line) for name in _TEXTS},
                gold=(str(gold),),
            )

    def request(self, sample: Sample, language: str, prompt: PromptSettings) -> Request:
        """Words a ranking of the letters A to D or, with ``choices: cloze``, of the four answers;
        under ``scoring: generation`` a question for one of them.

        The lm-eval form is the harness's, which knows letters only and is English everywhere. In
        the mega form an answer begins a new line, so no script meets a space it does not use.

        Raises:
            UsageError: cloze in the lm-eval form; or no words in that language.
        """
        ranking = self._ranking(sample, language, prompt)
        marks = _LETTERS if prompt.choices == "letter" else ()
        listed = listed_choices([sample.fields[name] for name in _ANSWERS], marks)
        return choice_request(ranking, listed, prompt)

    def score(self, sample: Sample, request: Request, response: Response) -> Score:
        """1 when the right answer, or its letter, is the most likely one, or the one named."""
        return choice_score(sample, request, response)

    def _ranking(self, sample: Sample, language: str, prompt: PromptSettings) -> RankingRequest:
        if prompt.form == "lm-eval":
            return _lm_eval_request(sample.fields, prompt)
        words = mega_words(
            "completion" if prompt.form == "completion" else "belebele", language, prompt
        )
        fields = {name: text.strip() for name, text in sample.fields.items()}
        answers = tuple(fields[name] for name in _ANSWERS)
        is_cloze = prompt.choices == "cloze"
        if prompt.form == "completion":
            return completion.option_request(
                words,
                fields["flores_passage"],
                fields["question"],
                () if is_cloze else _listed(answers),
                answers if is_cloze else _LETTERS,
            )
        lines = [words["passage"] + fields["flores_passage"], words["query"] + fields["question"]]
        if not is_cloze:
            lines += [words["choices"], *_listed(answers)]
        lines.append(words["answer"])
        return RankingRequest(
            context="\n".join(lines),
            continuations=answers if is_cloze else _LETTERS,
            delimiter="\n",
        )


def _lm_eval_request(fields: Mapping[str, str], prompt: PromptSettings) -> RankingRequest:
    if prompt.choices == "cloze":
        raise UsageError(
            "choices: cloze: lm-evaluation-harness ranks Belebele's letters, so its form has no "
            "cloze. Set form: mega, or choices: letter."
        )
    # Source: lm-evaluation-harness 0.4.13, tasks/belebele/_default_template_yaml.
    lines = [f"P: {fields['flores_passage']}", f"Q: {fields['question'].strip()}"]
    lines += [*_listed([fields[name] for name in _ANSWERS]), "Answer:"]
    return RankingRequest(context="\n".join(lines), continuations=_LETTERS)


def _listed(answers: list[str] | tuple[str, ...]) -> list[str]:
    return [f"{letter}: {answer}" for letter, answer in zip(_LETTERS, answers, strict=True)]


def _name(row: Mapping[str, Any], path: Path, line: int) -> str:
    link = text_field(row, "link", path, line, optional=True).strip()
    return f"{link}#{int_field(row, 'question_number', path, line)}" if link else ""
