"""The first screen in words: the study's question, and its answer with numbers and intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

from maple.analysis.configurations import configuration_label
from maple.analysis.deltas import Delta
from maple.analysis.effects import ALL_TASKS, Effect, Factor
from maple.analysis.groups import ENGLISH
from maple.analysis.summary import Summary
from maple.report.embed import cut
from maple.report.wording import (
    group_name,
    limits,
    listed,
    plural,
    points,
    score_limits,
    signed,
)
from maple.store.read import Status, StoredRun

SIGNIFICANCE = 0.05
"""Adjusted p-values below this are called a difference."""
MOST_CHARACTERS = 400
"""Of a question that the study states itself."""


def stated_question(summary: Summary) -> str:
    """Returns what the study file says that it asks, in one line; empty where it says nothing."""
    study = summary.study.get("study")
    stated = study.get("description") if isinstance(study, Mapping) else ""
    return cut(" ".join(str(stated or "").split()), MOST_CHARACTERS)


def question(summary: Summary) -> str:
    """Returns the study's question in one sentence, made from the factors that vary."""
    trained = [run.cell for run in summary.runs if not run.cell.is_base]
    ranks = sorted({c.rank for c in trained if c.rank is not None})
    factors = [
        _levels("the base model", sorted({run.cell.model for run in summary.runs})),
        _levels("the method", sorted({c.method for c in trained})),
        _levels("rank", [str(r) for r in ranks]),
        _levels("quantization", list(dict.fromkeys(c.quantization for c in trained))),
        _levels("the instruction data", sorted({c.mixture for c in trained if c.mixture})),
    ]
    asked = [factor for factor in factors if factor] or ["tuning"]
    verb = "does" if len(asked) == 1 else "do"
    languages = {code for codes in summary.languages.values() for code in codes}
    tasks = listed([mode.label for mode in summary.modes]) or "the planned tasks"
    english = ", and to English" if ENGLISH in languages and len(languages) > 1 else ""
    others = plural(len(languages - {ENGLISH}), "language") if languages - {ENGLISH} else "English"
    return f"What {verb} {listed(asked)} do to {tasks} in {others}{english}?"


def answer(summary: Summary) -> list[str]:
    """Returns the answer in up to three sentences, each with its numbers."""
    if not summary.estimates.scores:
        counts = summary.count_runs()
        return [
            f"Nothing is scored yet: of {plural(len(summary.runs), 'run')} "
            f"{counts['done']} are trained and no evaluation is finished."
        ]
    sentences = [_tuning(summary), _told_apart(summary), _factors(summary)]
    if not any(effect.factor == "tuning" for effect in summary.estimates.effects):
        sentences = [_without_base(summary), _factors(summary)]
    return [sentence for sentence in sentences if sentence]


def main_group(summary: Summary) -> str:
    """Returns the group of languages that the headline speaks of."""
    groups = {d.group for d in summary.estimates.run_effects}
    return "non-english" if "non-english" in groups or not groups else "english"


def is_told_apart(estimate: Delta | Effect) -> bool:
    """Whether a difference is told from zero after adjusting for its family."""
    return estimate.p_holm < SIGNIFICANCE


def find_effect(summary: Summary, factor: Factor, group: str) -> Effect | None:
    """Returns one effect, or None where the study does not allow it."""
    effects = summary.estimates.effects
    return next(
        (e for e in effects if (e.task, e.factor, e.group) == (ALL_TASKS, factor, group)), None
    )


def _levels(factor: str, levels: Sequence[str]) -> str:
    return f"{factor} ({', '.join(levels)})" if len(levels) > 1 else ""


def _without_base(summary: Summary) -> str:
    best = max((m for m in summary.estimates.means if m.group == "all"), key=lambda m: m.score)
    why = "No run has an untouched base of the same model with answers to the same samples"
    if all(run.cell.is_base for run in summary.runs):
        why = "The study has no tuned run"
    return (
        f"{why}, so no change can be stated. The highest mean over languages is "
        f"{points(best.score)} {score_limits(best.low, best.high)}, by "
        f"{summary.labels[best.run_id]} on {best.task}."
    )


def _tuning(summary: Summary) -> str:
    group = main_group(summary)
    effect = find_effect(summary, "tuning", group)
    if effect is None:
        return ""
    where = f"the languages {group_name(group)}" if group == "non-english" else group_name(group)
    # An interval may leave zero out and yet not survive the adjustment: a reader would stumble.
    leaves_zero_out = effect.low > 0 or effect.high < 0
    adjusted = "adjusted for all effects of this study (Holm), " if leaves_zero_out else ""
    verdict = f": {adjusted}the tuned runs cannot be told from the untouched base."
    if is_told_apart(effect):
        verdict = "."
    return (
        f"Over {plural(effect.n_contrasts, 'tuned run')}, {plural(effect.n_tasks, 'task')} and "
        f"{where}, tuning changes the mean score by "
        f"{signed(effect.value)} points {limits(effect.low, effect.high)} against the untouched "
        f"base{_where_otherwise(summary, effect)}{verdict}"
    )


def _told_apart(summary: Summary) -> str:
    group = main_group(summary)
    effects = [d for d in summary.estimates.run_effects if d.group == group]
    planned = [run for run in summary.runs if not run.cell.is_base]
    if len(planned) == 1:
        return ""
    if not effects:
        return "No tuned run answered every task beside its base, so none is compared on its own."
    up = sum(is_told_apart(d) and d.delta > 0 for d in effects)
    down = sum(is_told_apart(d) and d.delta < 0 for d in effects)
    parts = [f"{up} {'is' if up == 1 else 'are'} better than the base", f"{down} worse"]
    parts.append(f"{len(effects) - up - down} cannot be told from it")
    compared = {d.run_id for d in effects}
    without = [run for run in planned if run.run_id not in compared]
    if without:
        parts.append(f"{len(without)} cannot be compared ({_why(without)})")
    if not up + down:
        alone = f"None of {plural(len(planned), 'tuned run')} can be told from the base on its own"
        return "; ".join([alone, *parts[3:]]) + "."
    tuned = plural(len(planned), "tuned run")
    return f"Of {tuned}, {listed(parts)}; {_best(summary, effects)}."


def _why(runs: Sequence[StoredRun]) -> str:
    counts = Counter(run.status for run in runs)
    names: dict[Status, str] = {
        "failed": "failed",
        "unfinished": "unfinished",
        "missing": "not started",
        "done": "not scored beside its base",
    }
    return ", ".join(f"{counts[status]} {names[status]}" for status in names if counts[status])


def _best(summary: Summary, effects: Sequence[Delta]) -> str:
    best = max(effects, key=lambda d: d.delta)
    among = f", of {len(effects)} and so a little flattered," if len(effects) > 2 else ""
    return (
        f"the highest estimate{among} is {summary.labels[best.run_id]} at {signed(best.delta)} "
        f"{limits(best.low, best.high)}{_tied(summary, best)}"
    )


def _tied(summary: Summary, best: Delta) -> str:
    """How many others share the first place with the best configuration, its seeds averaged."""
    tasks = {tie.task for tie in summary.estimates.tied_groups}
    task = (
        ALL_TASKS
        if ALL_TASKS in tasks
        else best.task
        if best.task in tasks
        else min(tasks, default="")
    )
    here = [t for t in summary.estimates.tied_groups if (t.task, t.group) == (task, best.group)]
    first = [t.run_id for t in here if t.place == 1]
    n = len({t.place for t in here}) - 1
    if not first or not n:
        return ""
    tied = len({t.place for t in here if t.is_tied_with_best and t.place > 1})
    others = f"{tied} of {n} other configurations and bases cannot be told from it"
    if not tied:
        others = f"each of {n} other configurations and bases is told to be below it"
    if best.run_id in first:
        return f", and {others}"
    runs = {run.run_id: run for run in summary.runs}
    highest = configuration_label(runs[first[0]], summary.labels)
    return f"; with seeds averaged {highest} is the highest, and {others}"


def _factors(summary: Summary) -> str:
    group = main_group(summary)
    effects = [e for e in summary.estimates.effects if (e.task, e.group) == (ALL_TASKS, group)]
    parts = [
        f"{e.contrast.replace(' - ', ' against ')} {_gives(e)}{_where_otherwise(summary, e)}"
        for e in effects
        if e.factor != "tuning"
    ]
    english = find_effect(summary, "tuning", "english") if group != "english" else None
    if english is not None:
        parts.append(f"tuning {_gives(english).replace('gives', 'changes English by')}")
    text = "; ".join(parts)
    return f"{text[:1].upper()}{text[1:]}." if text else ""


def _gives(effect: Effect) -> str:
    verdict = ""
    if not is_told_apart(effect):
        leaves_zero_out = effect.low > 0 or effect.high < 0
        verdict = f", not told from zero{' once adjusted (Holm)' if leaves_zero_out else ''}"
    return f"gives {signed(effect.value)} {limits(effect.low, effect.high)}{verdict}"


def _where_otherwise(summary: Summary, effect: Effect) -> str:
    """The resource classes, and English, where their intervals show that one number hides two."""
    alike = {
        e.group: e
        for e in summary.estimates.effects
        if (e.task, e.factor, e.contrast) == (effect.task, effect.factor, effect.contrast)
    }
    low, high, english = (alike.get(g) for g in ("low-resource", "high-resource", "english"))
    shown = [low, high] if low and high and _is_disjoint(low, high) else []
    if english and effect.factor != "tuning" and _is_disjoint(effect, english):
        shown.append(english)
    texts = [
        f"{'English' if e.group == 'english' else e.group} {signed(e.value)} "
        f"{limits(e.low, e.high)}"
        for e in shown
        if e is not None
    ]
    return f" ({', '.join(texts)})" if texts else ""


def _is_disjoint(a: Effect, b: Effect) -> bool:
    return a.low > b.high or b.low > a.high
