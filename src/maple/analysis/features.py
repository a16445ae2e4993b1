"""What a study knows of a language that may explain its scores: covariates of the mixed model.

fertility           tokens per character of what the base was asked to rank, in the task that was
                    ranked in the most languages: the text is then as alike as it can be
non-Latin script    1 where the script is another than Latin
distance            to the nearest language of the training data: 0 it is one of them, 1 same
                    family and script, 2 one of both, 3 neither
pretraining share   log10 of the base's share, where ``study.json`` states ``pretraining_shares``

Each is language -> number; a language that has none is absent, and the model then leaves the
feature out and says so.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

from maple import languages as table
from maple.analysis.modes import Mode
from maple.errors import MapleError
from maple.languages import Language
from maple.store.read import Store, StoredEvaluation, StoredRun

_LATIN = "Latn"
FERTILITY, SCRIPT, DISTANCE, SHARE = (
    "fertility",
    "non-Latin script",
    "distance to the training languages",
    "pretraining share (log10)",
)
_ABSENT = {
    FERTILITY: "no finished evaluation ranked options whose text is stored",
    SCRIPT: "there is no language",
    DISTANCE: "the mixtures name no languages, or one takes all that its data has",
    SHARE: "study.json states no pretraining_shares",
}


def language_features(
    store: Store, modes: Sequence[Mode], runs: Sequence[StoredRun], codes: Collection[str]
) -> dict[str, dict[str, float]]:
    """Returns name -> language -> value, of the features that the store holds anything of.

    Args:
        store: where the rows are.
        modes: what was asked.
        runs: the store's runs; their mixtures say what was trained on.
        codes: the languages wanted.

    Raises:
        StoreError: a part of the store cannot be read.
    """
    found = {
        FERTILITY: fertility(store, modes, codes),
        SCRIPT: {c: float(c.partition("_")[2] != _LATIN) for c in codes},
        DISTANCE: distances(training_languages(runs), codes),
        SHARE: _shares(store.study.get("pretraining_shares"), codes),
    }
    return {name: values for name, values in found.items() if values}


def absent_features(found: Collection[str]) -> list[str]:
    """Returns which features a store holds nothing of, each with the reason."""
    return [f"{name}: {why}" for name, why in _ABSENT.items() if name not in found]


def fertility(store: Store, modes: Sequence[Mode], codes: Collection[str]) -> dict[str, float]:
    """Returns tokens per character of ranked options, by language.

    One finished evaluation of each language is read, all of one model: a tokenizer knows no
    adapter, and two models' tokens are not to be compared.

    Raises:
        StoreError: a part of the store cannot be read.
    """
    ranked = [_ranked(mode, codes) for mode in modes]
    chosen = max(ranked, key=len, default={})
    counts = {code: _count(store, evaluation) for code, evaluation in chosen.items()}
    return {c: tokens / characters for c, (tokens, characters) in counts.items() if characters}


def _ranked(mode: Mode, codes: Collection[str]) -> dict[str, StoredEvaluation]:
    """An evaluation per language, of the run that has the most."""
    found: dict[str, dict[str, StoredEvaluation]] = {}
    for (run, language), evaluation in sorted(mode.evaluations.items()):
        if evaluation.is_done and evaluation.chance_level is not None and language in codes:
            found.setdefault(run, {})[language] = evaluation
    return max(found.values(), key=len, default={})


def _count(store: Store, evaluation: StoredEvaluation) -> tuple[int, int]:
    prompts = store.prompts(str(evaluation.spec.get("prompts", "")))
    texts = zip(prompts["sample_id"].to_pylist(), prompts["continuations"].to_pylist(), strict=True)
    lengths = {sample: sum(map(len, options or ())) for sample, options in texts}
    if not lengths:
        return 0, 0
    rows = store.stored_rows(["sample_id", "n_tokens"], evaluation.eval_id)
    counts = dict(zip(rows["sample_id"].to_pylist(), rows["n_tokens"].to_pylist(), strict=True))
    shared = [sample for sample in counts if lengths.get(sample) and counts[sample]]
    return sum(sum(counts[s]) for s in shared), sum(lengths[s] for s in shared)


def training_languages(runs: Iterable[StoredRun]) -> set[str]:
    """Returns the languages that mixtures name; empty where one takes all that its data has."""
    named: set[str] = set()
    for run in runs:
        mixture = (run.spec or {}).get("mixture")
        parts = mixture.get("parts") if isinstance(mixture, Mapping) else None
        for part in parts or ():
            if not isinstance(part, Mapping) or not part.get("languages"):
                return set()
            named |= set(map(str, part["languages"]))
    return named


def distances(trained: Collection[str], codes: Collection[str]) -> dict[str, float]:
    """Returns each language's distance to the nearest language trained on, 0 to 3.

    Args:
        trained: canonical codes; none of them known gives no distance.
        codes: the languages wanted; those that no table has are left out.
    """
    known = [x for code in trained if (x := _find(code)) is not None]
    wanted = [(code, x) for code in codes if (x := _find(code)) is not None]
    return {code: min(_distance(x, y) for y in known) for code, x in wanted if known}


def _distance(x: Language, y: Language) -> float:
    if x.code == y.code:
        return 0.0
    return 3.0 - (x.family == y.family) - (x.script == y.script)


def _find(code: str) -> Language | None:
    try:
        return table.find(code)
    except MapleError:
        return None


def _shares(stated: object, codes: Collection[str]) -> dict[str, float]:
    if not isinstance(stated, Mapping):
        return {}
    known = {c: float(stated[c]) for c in codes if isinstance(stated.get(c), (int, float))}
    return {c: math.log10(share) for c, share in known.items() if 0 < share < math.inf}
