"""Skill probes of a base model on the validation split: reading, entailment, cause and effect, bits
per character.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from maple.atlas.benchmarks import (
    CopaSample,
    NliSample,
    answer,
    copa_samples,
    nli_samples,
    quad_readings,
)
from maple.atlas.corpus import EASY_DOCUMENTS, MARKS, documents
from maple.atlas.frames import LANGUAGES
from maple.atlas.instructions import ANSWER_WORDS
from maple.atlas.scenes import LABELS, Label, Reading
from maple.atlas.speaker import Speaker, load_speaker

_BATCH = 32
_HELD_OUT_SEED = 1_000_003
_ANSWER_TOKENS = 40


@dataclass(frozen=True)
class Prober:
    """A model under test."""

    model: Any
    """A causal language model of transformers, in evaluation mode."""
    tokenizer: Any
    """Its fast tokenizer, with a padding token."""

    def log_probabilities(self, texts: Sequence[str]) -> list[float]:
        """Returns the natural-log probability of each whole text."""
        scores = dict(
            pair
            for batch in _batches(texts)
            for pair in zip(batch, self._score(batch), strict=True)
        )
        return [scores[text] for text in texts]

    def complete(self, prompts: Sequence[str]) -> list[str]:
        """Returns the first line of the greedy continuation of each prompt."""
        answers: dict[str, str] = {}
        for batch in _batches(prompts):
            answers.update(zip(batch, self._generate(batch), strict=True))
        return [answers[prompt] for prompt in prompts]

    def _score(self, texts: Sequence[str]) -> list[float]:
        import torch

        batch = self.tokenizer(list(texts), return_tensors="pt", padding=True, padding_side="right")
        with torch.no_grad():
            logits = self.model(
                input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]
            ).logits
        logs = logits[:, :-1].float().log_softmax(-1)
        taken = (
            logs.gather(-1, batch["input_ids"][:, 1:, None])[..., 0]
            * batch["attention_mask"][:, 1:]
        )
        return [float(total) for total in taken.sum(-1)]

    def _generate(self, prompts: Sequence[str]) -> list[str]:
        import torch

        batch = self.tokenizer(
            list(prompts), return_tensors="pt", padding=True, padding_side="left"
        )
        with torch.no_grad():
            ids = self.model.generate(
                input_ids=batch["input_ids"],
                attention_mask=batch["attention_mask"],
                max_new_tokens=_ANSWER_TOKENS,
                do_sample=False,
                pad_token_id=self.tokenizer.pad_token_id,
            )
        new = ids[:, batch["input_ids"].shape[1] :]
        return [
            text.split("\n")[0].strip()
            for text in self.tokenizer.batch_decode(new, skip_special_tokens=True)
        ]


def probe(
    prober: Prober, samples: int, languages: Sequence[str] = LANGUAGES
) -> dict[str, dict[str, float]]:
    """Returns, for each language, the share of right answers by skill and the bits per character.

    Args:
        prober: The model under test.
        samples: Samples a skill and language, from the validation split.
        languages: Canonical codes.
    """
    nli, copa = nli_samples("validation")[:samples], copa_samples("validation")[:samples]
    readings = quad_readings("validation")[:samples]
    return {
        code: {
            "reading": _reading(prober, load_speaker(code), readings),
            "entailment": _entailment(prober, load_speaker(code), nli, MARKS[0], "{p}\n{h}\n{w}"),
            "entailment_task": _entailment(
                prober, load_speaker(code), nli, ANSWER_WORDS, "{b}? {w}, {h}"
            ),
            "copa": _copa(prober, load_speaker(code), copa),
        }
        for code in languages
    }


def bits_per_character(
    prober: Prober, languages: Sequence[str] = LANGUAGES, characters: int = 12_000
) -> dict[str, float]:
    """Returns each language's bits per character on corpus documents that training never saw."""
    return {code: _bits(prober, _unseen(code, characters)) for code in languages}


def _unseen(code: str, characters: int) -> list[str]:
    texts: set[str] = set()
    for document in documents(_HELD_OUT_SEED, skip=EASY_DOCUMENTS, language=code):
        texts.add(document.text)
        if sum(map(len, texts)) >= characters:
            break
    return sorted(texts)


def _bits(prober: Prober, texts: Sequence[str]) -> float:
    return -sum(prober.log_probabilities(texts)) / math.log(2) / sum(map(len, texts))


def _reading(prober: Prober, speaker: Speaker, readings: Sequence[Reading]) -> float:
    prompts, gold = [], []
    for reading in readings:
        asked = reading.questions[0]
        question = speaker.question(
            reading.passage[asked.sentence].pairing, asked.frame, asked.part
        )
        prompts.append(
            speaker.join([stated.say(speaker) for stated in reading.passage]) + f"\n{question}\n"
        )
        gold.append(answer(reading, 0, speaker))
    given = prober.complete(prompts)
    return _share([a.casefold() == b.casefold() for a, b in zip(given, gold, strict=True)])


def _entailment(
    prober: Prober, speaker: Speaker, samples: Sequence[NliSample], words: Any, form: str
) -> float:
    texts = [
        _compare(speaker, sample, words[label], form) for sample in samples for label in LABELS
    ]
    scores = prober.log_probabilities(texts)
    ranked = [scores[start : start + len(LABELS)] for start in range(0, len(scores), len(LABELS))]
    return _share([_best(row) == sample.label for row, sample in zip(ranked, samples, strict=True)])


def _best(scores: Sequence[float]) -> Label:
    return LABELS[max(range(len(scores)), key=scores.__getitem__)]


def _compare(speaker: Speaker, sample: NliSample, word: str, form: str) -> str:
    premise = sample.premise(speaker)
    text = form.replace("{p}", premise).replace("{b}", speaker.bare(premise))
    return text.replace("{w}", speaker.word(word)).replace("{h}", sample.hypothesis(speaker))


def _copa(prober: Prober, speaker: Speaker, samples: Sequence[CopaSample]) -> float:
    rows = [sample.row(speaker) for sample in samples]
    texts = [_connect(speaker, row, choice) for row in rows for choice in ("choice1", "choice2")]
    scores = prober.log_probabilities(texts)
    return _share(
        [(scores[2 * n] < scores[2 * n + 1]) == row["label"] for n, row in enumerate(rows)]
    )


def _connect(speaker: Speaker, row: dict[str, Any], choice: str) -> str:
    connector = speaker.word("because" if row["question"] == "cause" else "so")
    gap = speaker.frames.space
    return f"{speaker.bare(row['premise'])}{gap}{connector}{gap}{speaker.small(row[choice])}"


def _batches(texts: Sequence[str]) -> list[list[str]]:
    ordered = sorted(set(texts), key=lambda text: (len(text.encode()), text))
    return [ordered[start : start + _BATCH] for start in range(0, len(ordered), _BATCH)]


def _share(right: Sequence[bool]) -> float:
    return sum(right) / len(right)
