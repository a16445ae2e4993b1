"""MultiAlpaca: instructions *generated* in 11 languages by self-instruct, with no English.

Wei et al. 2023, PolyLM (arXiv 2307.06018); some 132,000 rows of {instruction, input | null,
output}, for example::

    {"instruction": "Qual é a capital da França?", "input": null, "output": "Paris"}
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from maple.catalog.contracts import Conversation, Dataset, DatasetInfo
from maple.catalog.datasets import instruction_conversations
from maple.files import Files
from maple.languages import upstream_name


class MultiAlpaca(Dataset):
    """MultiAlpaca: self-instruct data generated in 11 languages (about 132,000 rows)."""

    info = DatasetInfo(
        # The card on the Hub; the GitHub release states none for the data.
        licence="Apache-2.0 on its Hub card, none in its repository (OpenAI-generated)",
        source="https://github.com/DAMO-NLP-MT/PolyLM",
        hub="DAMO-NLP-MT/multialpaca",
        languages={
            "arb_Arab": "ar",
            "deu_Latn": "de",
            "spa_Latn": "es",
            "fra_Latn": "fr",
            "ind_Latn": "id",
            "jpn_Jpan": "ja",
            "kor_Hang": "ko",
            "por_Latn": "pt",
            "rus_Cyrl": "ru",
            "tha_Thai": "th",
            "vie_Latn": "vi",
        },
    )

    def paths(self, files: Files, language: str) -> list[Path]:
        """One file a language; see the contract."""
        name = upstream_name(language, self.info.languages, "multialpaca")
        return files.find(
            local=[f"multialpaca/{name}.jsonl"],
            repo=self.info.hub,
            patterns=[f"{name}.jsonl", f"*/{name}.jsonl"],
            revision=self.info.revision,
        )

    def conversations(self, files: Files, language: str) -> Iterator[Conversation]:
        """Yields the rows in file order, the line number as id; blank rows are passed over."""
        for path in self.paths(files, language):
            yield from instruction_conversations(path, language)
