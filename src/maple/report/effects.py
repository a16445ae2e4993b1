"""The section on what rank, bits and size change: slopes in words, the models, scaling, tables."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from maple.analysis.effects import ALL_TASKS
from maple.analysis.factors import Factors
from maple.analysis.groups import facts
from maple.analysis.intervals import Interval
from maple.analysis.mixed import COMPONENTS, LEAST_SQUARES, MixedFit
from maple.analysis.scaling_runs import RunScaling
from maple.analysis.slopes import LOW_MINUS_HIGH, Slope, SlopeFactor
from maple.report.files import write_text
from maple.report.wording import NOTHING, count, group_name, listed, plural, signed

SIGNIFICANCE = 0.05
_STEPS: Mapping[SlopeFactor, str] = {
    "rank": "Each doubling of the rank",
    "bits": "Each further bit",
    "parameters": "Ten times the trainable parameters",
}
_LEVELS: Mapping[SlopeFactor, str] = {
    "rank": "rank",
    "bits": "width",
    "parameters": "size",
}
_SCATTER = {
    "seeds": "repeated seeds say how far runs scatter",
    "line": "no configuration has two seeds, so the scatter around the line stands for theirs",
    "none": "nothing repeats, so the intervals cover test items alone and no other seed",
}
_INTERCEPTS = {
    "language": "language",
    "task": "task",
    "run": "run (the seed's)",
    "benchmark": "task in a language",
}
_SIZES = {"rank": "rank and method", "parameters": "trainable parameters"}


def effects_section(factors: Factors) -> dict[str, Any]:
    """Returns what the section shows, as plain values; ``is_empty`` where it has nothing to say."""
    return {
        "is_empty": not (factors.slopes or factors.models or factors.not_estimated),
        "sentences": [*_slope_sentences(factors.slopes), *map(_model_sentence, factors.models)],
        "slopes": [_slope_row(s) for s in factors.slopes if s.task == ALL_TASKS],
        "by_task": [_slope_row(s) for s in factors.slopes if s.task != ALL_TASKS],
        "models": [_model(fit) for fit in factors.models],
        "scaling": [_scaling_row(found) for found in factors.scaling],
        "features": _feature_table(factors.features),
        "not_estimated": list(factors.not_estimated),
    }


def write_effects(factors: Factors, directory: Path) -> list[Path]:
    """Writes ``slopes``, ``mixed_models``, ``mixed_terms``, ``scaling`` and ``language_features``.

    Each is a CSV file; ``factors.json`` holds all of it. Scores are in 0..1, losses in nats.

    Raises:
        StoreError: the directory cannot be written.
    """
    content = dataclasses.asdict(factors)
    terms = [
        {
            "size": fit.size,
            "model": fit.model,
            "term": t.name,
            **_ends(t.interval, "value"),
            "p": t.p,
        }
        for fit in factors.models
        for t in fit.terms
    ]
    models = [
        {
            k: v if isinstance(v, str | int) else json.dumps(v)
            for k, v in fit.items()
            if k != "terms"
        }
        for fit in content["models"]
    ]
    features = [
        {"language": code, "language_name": facts(code).name}
        | {name: values.get(code) for name, values in factors.features.items()}
        for code in _codes(factors.features)
    ]
    tables: dict[str, Sequence[Mapping[str, Any]]] = {
        "slopes": content["slopes"],
        "mixed_models": models,
        "mixed_terms": terms,
        "scaling": [_flat_scaling(found) for found in factors.scaling],
        "language_features": features,
    }
    paths = []
    for name, rows in tables.items():
        if rows:
            paths.append(directory / f"{name}.csv")
            write_text(paths[-1], _csv(rows))
    paths.append(directory / "factors.json")
    write_text(paths[-1], json.dumps(content, indent=1, ensure_ascii=False) + "\n")
    return paths


# ---------------------------------------------------------------------------------- sentences


def _slope_sentences(slopes: Sequence[Slope]) -> list[str]:
    of = {(s.factor, s.group): s for s in slopes if s.task == ALL_TASKS}
    sentences = []
    for factor, step in _STEPS.items():
        classes = [of.get((factor, group)) for group in ("low-resource", "high-resource")]
        shown = [s for s in classes if s] or [s for s in [of.get((factor, "non-english"))] if s]
        if not shown:
            continue
        parts = [f"by {_amount(s)} in {_where(s)}" for s in shown]
        text = f"{step} changes the score {listed(parts)}"
        both = of.get((factor, LOW_MINUS_HIGH))
        if both is not None:
            text += f"; the two slopes differ by {_amount(both)}"
        s = shown[0]
        levels = plural(s.n_levels, _LEVELS[factor])
        over = f"mean over {plural(s.n_tasks, 'task')}, " if s.n_tasks > 1 else ""
        sentences.append(
            f"{text} ({over}{plural(s.n_runs, 'run')} of {levels}; {_SCATTER[s.scatter]})."
        )
    return sentences


def _amount(slope: Slope) -> str:
    verdict = "" if slope.p_holm < SIGNIFICANCE else ", not told from zero,"
    return f"{signed(slope.value, 2)} points {_limits(slope.low, slope.high)}{verdict}"


def _where(slope: Slope) -> str:
    name = slope.group.removesuffix("-resource")
    kind = f"{name}-resource languages" if name != slope.group else "languages other than English"
    return f"{slope.n_languages} {kind}"


def _model_sentence(fit: MixedFit) -> str:
    cells = (
        f"{count(fit.n_cells)} cells ({plural(fit.n_runs, 'run')}, {plural(fit.n_tasks, 'task')}, "
        f"{plural(fit.n_languages, 'language')})"
    )
    start = f"The model with {_SIZES[fit.size]} was fitted to {cells}"
    if fit.model == LEAST_SQUARES:
        end = f"by {LEAST_SQUARES}"
    else:
        end = (
            f"with random intercepts for {listed([_INTERCEPTS[c] for c in fit.model.split(' + ')])}"
        )
    if not fit.notes:
        return f"{start} {end}: the whole model, no fit was singular."
    state = "A richer fit was singular" if fit.is_singular else "It is not the whole model"
    return f"{start} {end}. {state}: {'; '.join(map(_reworded, fit.notes))}."


def _reworded(note: str) -> str:
    whole = " + ".join(COMPONENTS)
    return note.replace(whole, "the whole model")


# ------------------------------------------------------------------------------------- tables


def _slope_row(slope: Slope) -> dict[str, Any]:
    has_others = slope.low_elsewhere is not None and slope.high_elsewhere is not None
    return {
        "task": slope.task,
        "unit": slope.unit,
        "group": group_name(slope.group),
        "value": signed(slope.value, 2),
        "limits": _limits(slope.low, slope.high),
        "elsewhere": _limits(slope.low_elsewhere or 0.0, slope.high_elsewhere or 0.0)
        if has_others
        else NOTHING,
        "is_told": slope.p_holm < SIGNIFICANCE,
        "runs": slope.n_runs,
        "levels": slope.n_levels,
        "languages": slope.n_languages,
        "scatter": {"seeds": "seeds", "line": "around the line", "none": "not known"}[
            slope.scatter
        ],
    }


def _model(fit: MixedFit) -> dict[str, Any]:
    return {
        "title": f"One model of all factors, with {_SIZES[fit.size]}",
        "terms": [
            {
                "name": t.name.replace(" x ", " × "),
                "value": signed(t.interval.value, 2),
                "limits": _limits(t.interval.low, t.interval.high),
                "p": _p(t.p),
            }
            for t in fit.terms
        ],
        "deviations": "; ".join(
            f"{_INTERCEPTS.get(name, name)} {100 * value:.2f}"
            for name, value in fit.deviations.items()
        ),
        "left_out": list(fit.left_out),
    }


def _scaling_row(found: RunScaling) -> dict[str, Any]:
    line, law, is_score = found.fit.line, found.fit.power_law, found.quantity == "score"
    slope = line.per_decade if line else None

    def say(value: float) -> str:
        return signed(value, 2) if is_score else f"{value:+.3f}".replace("-", "−")

    return {
        "quantity": "score, points" if is_score else "final loss, nats",
        "against": found.fit.against,
        "series": f"{found.series}, {found.quantization}",
        "runs": line.n_runs if line else NOTHING,
        "slope": f"{say(slope.value)} [{say(slope.low)}, {say(slope.high)}]" if slope else NOTHING,
        "bend": NOTHING if line is None or line.lack_of_fit is None else _p(line.lack_of_fit),
        "law": NOTHING
        if law is None
        else f"exponent {_plain(law.exponent)}, floor {_plain(law.floor)}",
        "why_not": found.fit.why_not,
    }


def _feature_table(features: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    rows = [
        [f"{facts(code).name} ({code})"]
        + [f"{values[code]:.3g}" if code in values else NOTHING for values in features.values()]
        for code in _codes(features)
    ]
    return {"names": list(features), "rows": rows}


def _codes(features: Mapping[str, Mapping[str, float]]) -> list[str]:
    return sorted({code for values in features.values() for code in values})


def _flat_scaling(found: RunScaling) -> dict[str, Any]:
    line, law = found.fit.line, found.fit.power_law
    nothing = Interval(math.nan, math.nan, math.nan)
    return {
        "quantity": found.quantity,
        "against": found.fit.against,
        "series": found.series,
        "quantization": found.quantization,
        **_ends(line.per_decade if line else nothing, "per_decade"),
        "p": line.p if line else None,
        **_ends(line.at_mean if line else nothing, "at_mean"),
        "mean_log10_size": line.centre if line else None,
        "deviation": line.deviation if line else None,
        "lack_of_fit": line.lack_of_fit if line else None,
        "n_runs": line.n_runs if line else None,
        "n_sizes": line.n_sizes if line else None,
        **_ends(law.exponent if law else nothing, "exponent"),
        **_ends(law.floor if law else nothing, "floor"),
        "scale_at_centre": law.scale if law else None,
        "centre": law.centre if law else None,
        "why_not": found.fit.why_not,
    }


def _ends(interval: Interval, name: str) -> dict[str, float | None]:
    values = (interval.value, interval.low, interval.high)
    low, high = ("low", "high") if name == "value" else (f"{name}_low", f"{name}_high")
    known = [None if math.isnan(v) else v for v in values]
    return dict(zip((name, low, high), known, strict=True))


def _plain(interval: Interval) -> str:
    return f"{interval.value:.2f} [{interval.low:.2f}, {interval.high:.2f}]"


def _limits(low: float, high: float) -> str:
    return f"[{signed(low, 2)}, {signed(high, 2)}]"


def _p(p: float) -> str:
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _csv(rows: Sequence[Mapping[str, Any]]) -> str:
    stream = io.StringIO()
    writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()
