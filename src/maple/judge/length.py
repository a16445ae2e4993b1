"""AlpacaEval's length-controlled win rate: the rate there would be if both answers were as long.

    logit P(model preferred) = a * tanh(d / s) + b * difficulty + c * is_model

    d           characters of the reference's answer less those of the model's
    s           standard deviation of d over the model's rows
    difficulty  of the instruction, a column of AlpacaEval's ``df_gamed.csv``
    is_model    1 for the model's rows, 0 for those of the gamed baselines

Fitted by L1-penalised logistic regression on the model's rows and, each with weight 0.2 / 2, the
rows of two baselines that game the length; the strength of the penalty by cross-validation. The
rate is the mean of P over the model's rows with d = 0.

Source: Dubois, Galambosi, Liang, Hashimoto 2024, arXiv:2404.04475; alpaca_eval 0.6.6,
``length_controlled_v1``.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from maple.errors import DataError, UsageError
from maple.files.fields import place
from maple.files.read import read_rows
from maple.judge.annotations import Annotation

_GAMED_WEIGHT = 0.2 / 2
"""Of a row of the gamed baselines: lambda over their number."""
_FOLDS = 5
_SEED = 123
"""liblinear visits the coefficients in random order; the package's seed gives its order."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class GamedBaselines:
    """The rows of ``df_gamed.csv``: annotations of models that game the length."""

    preference: Floats
    """(rows,) in 0..1; NaN where there is none."""
    delta_length: Floats
    """(rows,) standardised difference of lengths."""
    difficulty: Floats
    """(rows,) of the row's instruction."""
    by_instruction: Mapping[int, float]
    """Difficulty by the number of the instruction, counted from 0."""


@dataclass(frozen=True, kw_only=True)
class LengthControlled:
    """A win rate freed of the length of the answers, in percent."""

    length_controlled_winrate: float
    lc_standard_error: float | None


def read_gamed(path: Path, difficulty: Path | None = None) -> GamedBaselines:
    """Reads AlpacaEval's ``df_gamed.csv``.

    Args:
        path: the file.
        difficulty: ``instruction_difficulty.csv``, for a ``df_gamed.csv`` without that column;
            the column counts where there is one, as in alpaca_eval.

    Raises:
        DataError: a column or a number is missing; names file and line.
    """
    rows = [(line, row) for line, row in read_rows(path)]
    index = [int(_number(row, "index", path, line)) for line, row in rows]
    if "instruction_difficulty" in rows[0][1]:
        known = [_number(row, "instruction_difficulty", path, line) for line, row in rows]
    else:
        known = _look_up(index, difficulty, path)
    # alpaca_eval keeps the first row of each instruction and finds it by its place in the file,
    # not by the column ``index``; in the published file, which begins with 0, 1, 2, both agree.
    first = {number: place for place, number in reversed(list(enumerate(index)))}
    return GamedBaselines(
        preference=np.array([_number(r, "preference", path, n, may_lack=True) for n, r in rows]),
        delta_length=np.array([_number(r, "std_delta_len", path, n) for n, r in rows]),
        difficulty=np.array(known),
        by_instruction={place: known[place] for place in first.values()},
    )


def length_controlled(annotations: Sequence[Annotation], gamed: GamedBaselines) -> LengthControlled:
    """Computes the length-controlled win rate of one model.

    Annotation ``i`` must be of AlpacaEval's instruction ``i``: its difficulty is looked up so.
    Rows without a preference are not fitted, but are in the mean.

    Raises:
        DataError: an instruction without a difficulty, answers that are all of one length, or
            fewer readable preferences than there are folds.
        UsageError: scikit-learn is not installed.
    """
    first = annotations[0].pair
    if first.model.generator == first.reference.generator:
        # AlpacaEval's definition of a baseline against itself.
        return LengthControlled(length_controlled_winrate=50.0, lc_standard_error=0.0)
    difficulty = _difficulties(len(annotations), gamed)
    stated = np.array([math.nan if a.preference is None else a.preference for a in annotations])
    features = np.column_stack([np.tanh(_lengths(annotations)), difficulty, np.ones(len(stated))])
    gamed_features = np.column_stack(
        [np.tanh(gamed.delta_length), gamed.difficulty, np.zeros(len(gamed.difficulty))]
    )
    fitted = _fit(
        np.vstack([gamed_features, features]),
        np.concatenate([gamed.preference, stated - 1]),
        np.concatenate([np.full(len(gamed_features), _GAMED_WEIGHT), np.ones(len(features))]),
    )
    features[:, 0] = 0.0
    rate: Floats = 100 * fitted.predict_proba(features)[:, 1]
    error = float(rate.std(ddof=1) / math.sqrt(rate.size)) if rate.size > 1 else None
    return LengthControlled(length_controlled_winrate=float(rate.mean()), lc_standard_error=error)


def _fit(features: Floats, preference: Floats, weight: Floats) -> Any:
    """Fits the regression to preferences in 0..1 rather than to labels.

    A row becomes two, with label 1 and the preference as weight and with label 0 and its
    complement; the two stay in one fold.
    """
    is_stated = ~np.isnan(preference)
    features, preference, weight = features[is_stated], preference[is_stated], weight[is_stated]
    n, twice = len(preference), np.tile(weight, 2)
    if n < _FOLDS:
        raise DataError(f"{n} preferences are too few for a length-controlled win rate.")
    sklearn = _scikit_learn()
    # Routing takes the groups to the folds, preferences and weights to the loss.
    with sklearn.config_context(enable_metadata_routing=True):
        return _regression().fit(
            X=np.tile(features, (2, 1)),
            y=np.repeat([1, 0], n),
            sample_weight=np.concatenate([preference, 1 - preference]) * twice,
            groups=np.tile(np.arange(n), 2),
            preference=np.tile(preference, 2),
            weight=twice,
        )


def _regression() -> Any:
    from sklearn.linear_model import LogisticRegressionCV
    from sklearn.metrics import make_scorer
    from sklearn.model_selection import GroupKFold

    score = make_scorer(_log_loss, response_method="predict_proba", greater_is_better=False)
    model = LogisticRegressionCV(
        l1_ratios=(1.0,),
        solver="liblinear",
        fit_intercept=False,
        random_state=_SEED,
        cv=GroupKFold(n_splits=_FOLDS),
        scoring=score.set_score_request(preference=True, weight=True),
        use_legacy_attributes=False,
    )
    return model.set_fit_request(sample_weight=True)


def _log_loss(label: Floats, predicted: Floats, preference: Floats, weight: Floats) -> float:
    """Weighted cross-entropy between preferences and predicted ones; the labels say nothing."""
    predicted = np.clip(predicted, 1e-15, 1 - 1e-15)
    agreement = preference * np.log(predicted) + (1 - preference) * np.log(1 - predicted)
    return float(-np.mean(agreement * weight))


def _scikit_learn() -> Any:
    try:
        import sklearn
    except ImportError as error:
        raise UsageError(
            "the length-controlled win rate needs scikit-learn, which is not installed. "
            "Run: pip install 'maple-peft[judge]'."
        ) from error
    return sklearn


def _lengths(annotations: Sequence[Annotation]) -> Floats:
    """Standardised difference of lengths in characters, reference less model."""
    pairs = [a.pair for a in annotations]
    delta = np.array([len(p.reference.output) - len(p.model.output) for p in pairs], float)
    spread = delta.std(ddof=1) if delta.size > 1 else 0.0
    if not spread:
        raise DataError(
            "the reference's and the model's answers differ by the same length everywhere, so "
            "there is no length to control for."
        )
    return delta / spread


def _difficulties(n: int, gamed: GamedBaselines) -> Floats:
    lacking = [i for i in range(n) if i not in gamed.by_instruction]
    if lacking:
        raise DataError(
            f"df_gamed.csv has no difficulty for {len(lacking)} of {n} instructions, number "
            f"{lacking[0]} among them. Is it AlpacaEval's file of 805 instructions?"
        )
    return np.array([gamed.by_instruction[i] for i in range(n)])


def _look_up(index: Sequence[int], path: Path | None, gamed: Path) -> list[float]:
    if path is None:
        raise DataError(
            f"{gamed}: column 'instruction_difficulty' is missing. Name AlpacaEval's "
            "instruction_difficulty.csv with --difficulty."
        )
    # Its first column, the number of the instruction, has no name.
    known = {
        int(_number(row, next(iter(row)), path, line)): _number(
            row, "instruction_difficulty", path, line
        )
        for line, row in read_rows(path)
    }
    lacking = sorted(set(index) - set(known))
    if lacking:
        raise DataError(f"{path}: no difficulty for instruction {lacking[0]}, which {gamed} has.")
    return [known[number] for number in index]


def _number(
    row: Mapping[str, Any], name: str, path: Path, line: int, *, may_lack: bool = False
) -> float:
    text = row.get(name)
    if may_lack and text == "":
        return math.nan
    try:
        value = float(text or "")
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        has = ", ".join(row)
        raise DataError(
            f"{place(path, line)}: column {name!r} is {text!r}, not a number. The file has {has}. "
            "Is it the file of the Hub data set tatsu-lab/alpaca_eval?"
        )
    return value
