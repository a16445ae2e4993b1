"""What each section of the page shows, as plain values that the templates lay out."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from maple.analysis.effects import ALL_TASKS, GROUPS, Effect
from maple.analysis.groups import ENGLISH, facts
from maple.analysis.modes import Mode
from maple.analysis.summary import Summary
from maple.report.engines import engines_line
from maple.report.headline import is_told_apart
from maple.report.wording import (
    NOTHING,
    bits_name,
    count,
    duration,
    energy,
    group_name,
    limits,
    listed,
    parameters,
    plural,
    points,
    rate,
    signed,
    size,
)
from maple.store.read import StoredRun

STATUS_NAMES = {
    "done": "done",
    "failed": "failed",
    "unfinished": "unfinished",
    "missing": "not started",
}


def effects_table(summary: Summary) -> dict[str, Any]:
    """Returns the study's factors by groups of languages: what each changes, and in which task."""
    effects = summary.estimates.effects
    groups = [g for g in GROUPS if any(e.group == g for e in effects)]
    rows: dict[tuple[str, str], dict[str, Effect]] = defaultdict(dict)
    for effect in effects:
        rows[effect.contrast, effect.task][effect.group] = effect
    shown = [
        {
            "name": contrast.replace(" - ", " against "),
            "task": task,
            "cells": [_effect(found.get(g)) for g in groups],
        }
        for (contrast, task), found in rows.items()
    ]
    return {
        "groups": [group_name(g) for g in groups],
        "rows": [row for row in shown if row["task"] == ALL_TASKS],
        "by_task": [row for row in shown if row["task"] != ALL_TASKS],
    }


def facts_list(summary: Summary) -> list[tuple[str, str]]:
    """Returns what was run: one line per factor and per count."""
    runs, study = summary.runs, summary.study
    cells = [run.cell for run in runs]
    languages = sorted({code for codes in summary.languages.values() for code in codes})
    limit = study.get("limit")
    whole = "whole splits" if "limit" in study else ""
    counts = summary.count_runs()
    lines = [
        ("Runs", _counts(counts, sum(run.cell.stands_for for run in runs), len(runs))),
        ("Base models", listed(sorted({c.model for c in cells}))),
        ("Methods", listed(sorted({_method(run) for run in runs}))),
        ("Quantization", listed(list(dict.fromkeys(_bits(run) for run in runs)))),
        ("Instruction data", listed(sorted({c.mixture for c in cells if c.mixture})) or "none"),
        ("Seeds", listed([str(s) for s in sorted({c.seed for c in cells if not c.is_base})])),
        ("Languages", f"{len(languages)}: {listed([facts(c).name for c in languages])}"),
        ("Samples", f"at most {limit} per task and language" if limit else whole),
        ("Engines", engines_line(e for mode in summary.modes for e in mode.evaluations.values())),
        ("Results stored", str(study.get("created", "")) or "date not stated"),
    ]
    return [(name, text) for name, text in lines if text]


def task_list(summary: Summary) -> list[dict[str, Any]]:
    """Returns what each task is and how it was asked."""
    return [
        {
            "name": mode.label,
            "metric": mode.headline if mode.evaluations else "not scored",
            "chance": points(mode.chance_level),
            "languages": len(summary.languages[mode.label]),
            "split": str(mode.settings.get("split") or ""),
            "version": str(mode.settings.get("task_version") or ""),
            "prompt": _prompt(mode),
            "samples": _samples(mode),
        }
        for mode in summary.modes
    ]


def gap_list(summary: Summary) -> list[dict[str, str]]:
    """Returns planned cells without an estimate, languages of one reason together."""
    together: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for gap in summary.gaps:
        together[gap.run_id, gap.task, gap.reason].append(gap.language)
    return [
        {
            "run": summary.labels[run],
            "task": task,
            "languages": "all" if len(codes) == len(summary.languages[task]) else listed(codes),
            "reason": reason,
        }
        for (run, task, reason), codes in together.items()
    ]


def english_table(summary: Summary) -> list[dict[str, Any]]:
    """Returns English scores of every tuned run beside its base's, with the paired change."""
    scores = {(s.task, s.run_id): s for s in summary.estimates.scores if s.language == ENGLISH}
    return [
        {
            "run": summary.labels[d.run_id],
            "task": d.task,
            "base": scores.get((d.task, d.base_run_id)),
            "tuned": scores.get((d.task, d.run_id)),
            "delta": d,
            "is_told": is_told_apart(d),
        }
        for d in summary.estimates.deltas
        if d.group == ENGLISH
    ]


def cost_table(summary: Summary) -> list[dict[str, str]]:
    """Returns what every run cost, in units for readers."""
    status = {run.run_id: STATUS_NAMES[run.status] for run in summary.runs}
    return [
        {
            "run": summary.labels[c.run_id],
            "status": status[c.run_id],
            "trainable": parameters(c.trainable_parameters),
            "share": _share(c.trainable_parameters, c.total_parameters),
            "stored": parameters(c.stored_parameters),
            "adapter": size(c.adapter_bytes),
            "steps": count(c.steps),
            "tokens": count(c.tokens),
            "labels": count(c.label_tokens),
            "train": duration(c.train_seconds),
            "speed": count(c.tokens_per_second),
            "rate": rate(c.flops_per_second),
            "utilization": _percent(c.utilization),
            "energy": energy(c.energy_joules),
            "memory": size(c.peak_memory_bytes),
            "evaluate": duration(c.evaluate_seconds),
        }
        for c in summary.costs
    ]


def metric_table(summary: Summary) -> list[dict[str, Any]]:
    """Returns every metric but the headline as a mean over languages, a row per run."""
    values: dict[tuple[str, str, str], list[float]] = defaultdict(list)
    headlines = {mode.label: mode.headline for mode in summary.modes}
    order = [run.run_id for run in summary.runs]
    for m in summary.metrics:
        if m.metric != headlines[m.task]:
            values[m.task, m.metric, m.run_id].append(m.mean)
    return [
        {
            "task": task,
            "metric": metric,
            "run": summary.labels[run],
            "mean": f"{sum(found) / len(found):.3f}",
            "n_languages": len(found),
        }
        for (task, metric, run), found in sorted(
            values.items(), key=lambda entry: (*entry[0][:2], order.index(entry[0][2]))
        )
    ]


def _effect(effect: Effect | None) -> dict[str, Any] | None:
    if effect is None:
        return None
    return {
        "value": signed(effect.value),
        "limits": limits(effect.low, effect.high),
        "is_told": is_told_apart(effect),
        "n": plural(effect.n_contrasts, "pair"),
    }


def _counts(counts: Mapping[str, int], combinations: int, n_runs: int) -> str:
    parts = [f"{counts[s]} {STATUS_NAMES[s]}" for s in STATUS_NAMES if counts[s]]
    collapsed = (
        f"; they answer {combinations} combinations, because some factors cannot affect some runs"
        if combinations > n_runs
        else ""
    )
    return f"{n_runs} in all, {listed(parts)}{collapsed}"


def _method(run: StoredRun) -> str:
    return "untouched base" if run.cell.is_base else run.cell.method


def _bits(run: StoredRun) -> str:
    return bits_name(run.cell.quantization, run.cell.bits)


def _prompt(mode: Mode) -> str:
    prompt = mode.settings.get("prompt")
    if not isinstance(prompt, dict):
        return ""
    shots = prompt.get("shots", 0)
    parts = [
        f"form {prompt.get('form')}",
        f"{prompt.get('instruction_language')} instructions",
        f"template {prompt.get('template')}",
        plural(int(shots), "shot"),
    ]
    if "choices" in prompt:
        parts.append(f"{prompt['choices']} choices")
    return ", ".join(parts)


def _samples(mode: Mode) -> str:
    sizes = sorted({e.n_samples for e in mode.evaluations.values() if e.is_done})
    if not sizes:
        return "0"
    return count(sizes[0]) if len(sizes) == 1 else f"{count(sizes[0])} to {count(sizes[-1])}"


def _percent(value: float | None) -> str:
    return NOTHING if value is None else f"{100 * value:.0f}%"


def _share(part: int | None, whole: int | None) -> str:
    return f"{100 * part / whole:.2g}%" if part is not None and whole else ""
