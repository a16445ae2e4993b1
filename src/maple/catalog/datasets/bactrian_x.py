"""Bactrian-X: 67,017 English instructions *translated* into 51 languages, answered in each.

Li et al. 2023 (arXiv 2305.15011): Alpaca's and Dolly's instructions, machine-translated; outputs
by gpt-3.5-turbo in that language. The id is that of the English source, the same in every
language::

    {"id": "alpaca-12", "instruction": "Toa vidokezo vitatu vya afya.", "input": "", "output": "…"}
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from maple.catalog.contracts import Conversation, Dataset, DatasetInfo
from maple.files import Files
from maple.files.fields import text_field
from maple.files.instructions import read_instructions
from maple.languages import upstream_name


class BactrianX(Dataset):
    """Bactrian-X: 67,017 instructions translated into 52 languages, English included."""

    info = DatasetInfo(
        licence="CC BY-NC 4.0 (generated with OpenAI models)",
        source="https://github.com/mbzuai-nlp/bactrian-x",
        hub="MBZUAI/Bactrian-X",
        languages={
            "afr_Latn": "af",
            "arb_Arab": "ar",
            "azj_Latn": "az",
            "ben_Beng": "bn",
            "ces_Latn": "cs",
            "deu_Latn": "de",
            "eng_Latn": "en",
            "est_Latn": "et",
            "fin_Latn": "fi",
            "fra_Latn": "fr",
            "glg_Latn": "gl",
            "guj_Gujr": "gu",
            "heb_Hebr": "he",
            "hin_Deva": "hi",
            "hrv_Latn": "hr",
            "ind_Latn": "id",
            "ita_Latn": "it",
            "jpn_Jpan": "ja",
            "kat_Geor": "ka",
            "kaz_Cyrl": "kk",
            "khk_Cyrl": "mn",
            "khm_Khmr": "km",
            "kor_Hang": "ko",
            "lit_Latn": "lt",
            "lvs_Latn": "lv",
            "mal_Mlym": "ml",
            "mar_Deva": "mr",
            "mkd_Cyrl": "mk",
            "mya_Mymr": "my",
            "nld_Latn": "nl",
            "npi_Deva": "ne",
            "pbt_Arab": "ps",
            "pes_Arab": "fa",
            "pol_Latn": "pl",
            "por_Latn": "pt",
            "ron_Latn": "ro",
            "rus_Cyrl": "ru",
            "sin_Sinh": "si",
            "slv_Latn": "sl",
            "spa_Latn": "es",
            "swe_Latn": "sv",
            "swh_Latn": "sw",
            "tam_Taml": "ta",
            "tel_Telu": "te",
            "tgl_Latn": "tl",
            "tha_Thai": "th",
            "tur_Latn": "tr",
            "ukr_Cyrl": "uk",
            "urd_Arab": "ur",
            "vie_Latn": "vi",
            "xho_Latn": "xh",
            "zho_Hans": "zh",
        },
    )

    def paths(self, files: Files, language: str) -> list[Path]:
        """One file a language; see the contract."""
        name = upstream_name(language, self.info.languages, "bactrian-x")
        folders = ("bactrian-x", "bactrian-x/data")
        endings = ("json.gz", "json", "jsonl", "jsonl.gz")
        beside = [f"{folder}/{name}.{ending}" for folder in folders for ending in endings]
        return files.find(
            local=[*beside, f"data/{name}.json.gz"],
            repo=self.info.hub,
            patterns=[f"data/{name}.json.gz", f"data/{name}.json*", f"{name}/train/*.parquet"],
            revision=self.info.revision,
        )

    def conversations(self, files: Files, language: str) -> Iterator[Conversation]:
        """Yields the rows in file order; blank rows are passed over.

        The id is upstream's; a row without one gets its number, and a repeated id its number too.
        """
        seen: set[str] = set()
        for path in self.paths(files, language):
            for row in read_instructions(path):
                id = text_field(row.fields, "id", path, row.line, optional=True) or str(row.line)
                if id in seen:
                    id = f"{id}#{row.line}"
                seen.add(id)
                yield Conversation(
                    id=id,
                    language=language,
                    instruction=row.instruction,
                    input=row.input,
                    response=row.output,
                )
