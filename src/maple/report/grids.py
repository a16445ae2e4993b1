"""Grids of runs, languages and classes: heat maps, score tables, means by resource class."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import groupby
from typing import Any

from maple.analysis.deltas import Delta
from maple.analysis.groups import facts, language_groups
from maple.analysis.modes import Mode
from maple.analysis.scores import Score
from maple.analysis.summary import Summary
from maple.report.headline import is_told_apart
from maple.report.wording import group_name, limits, points, score_limits, signed
from maple.store.read import StoredRun

NO_CLASS = "?"
"""Stands for a language that the taxonomy of resource classes does not list."""


def heat_maps(summary: Summary) -> list[dict[str, Any]]:
    """Returns per task the grid of runs x languages: deltas, scores of bases, gaps."""
    return [_heat_map(summary, mode) for mode in summary.modes if summary.languages[mode.label]]


def score_tables(summary: Summary) -> list[dict[str, Any]]:
    """Returns per task a row per language and a column per run, with intervals."""
    scores = {(s.task, s.run_id, s.language): s for s in summary.estimates.scores}
    tables = []
    for mode in summary.modes:
        answered = {run for task, run, _ in scores if task == mode.label}
        runs = [run for run in _scored_runs(summary) if run.run_id in answered]
        rows = [
            {**_language(code), "cells": [scores.get((mode.label, r.run_id, code)) for r in runs]}
            for code in _by_class(summary.languages[mode.label])
        ]
        if runs:
            tables.append(
                {
                    "task": mode.label,
                    "metric": mode.headline,
                    "runs": [summary.labels[r.run_id] for r in runs],
                    "rows": rows,
                    "chance": mode.chance_level,
                }
            )
    return tables


def class_tables(summary: Summary) -> list[dict[str, Any]]:
    """Returns per task a row per run and a column per group: mean score and mean delta."""
    means = {(m.task, m.run_id, m.group): m for m in summary.estimates.means}
    deltas = {(d.task, d.run_id, d.group): d for d in summary.estimates.mean_deltas}
    ties = {(t.task, t.run_id, t.group): t.letters for t in summary.estimates.tied_groups}
    tables = []
    for mode in summary.modes:
        groups = [
            g
            for g in language_groups(summary.languages[mode.label])
            if g.kind in ("all", "non-english", "resource-class")
        ]
        rows = [
            {
                "run": summary.labels[run.run_id],
                "is_base": run.cell.is_base,
                "cells": [
                    {
                        "mean": means.get(key),
                        "delta": deltas.get(key),
                        "letters": ties.get(key, ""),
                    }
                    for key in ((mode.label, run.run_id, g.name) for g in groups)
                ],
            }
            for run in _scored_runs(summary)
            if (mode.label, run.run_id, "all") in means
        ]
        if rows:
            columns = [{"name": group_name(g.name), "n": len(g.languages)} for g in groups]
            tables.append({"task": mode.label, "groups": columns, "rows": rows})
    return tables


def _scored_runs(summary: Summary) -> list[StoredRun]:
    """Runs with a score: bases first, then in the plan's order."""
    scored = {s.run_id for s in summary.estimates.scores}
    return sorted((r for r in summary.runs if r.run_id in scored), key=lambda r: not r.cell.is_base)


def _by_class(codes: Iterable[str]) -> list[str]:
    classes = {code: facts(code).resource_class for code in codes}
    return sorted(codes, key=lambda c: (-1 if (k := classes[c]) is None else k, c))


def _language(code: str) -> dict[str, Any]:
    known = facts(code)
    return {
        "code": code,
        "name": known.name,
        "script": known.script,
        "resource_class": NO_CLASS if known.resource_class is None else known.resource_class,
    }


def _heat_map(summary: Summary, mode: Mode) -> dict[str, Any]:
    codes = _by_class(summary.languages[mode.label])
    estimates = summary.estimates
    scores = {(s.run_id, s.language): s for s in estimates.scores if s.task == mode.label}
    deltas = {(d.run_id, d.group): d for d in estimates.deltas if d.task == mode.label}
    reasons = {(g.run_id, g.language): g.reason for g in summary.gaps if g.task == mode.label}
    scale = max((abs(d.delta) for d in deltas.values()), default=0.0) or 1.0
    rows = [
        {
            "run": summary.labels[run.run_id],
            "is_base": run.cell.is_base,
            "cells": [
                _heat_cell(scores.get(key), deltas.get(key), reasons.get(key), scale)
                for key in ((run.run_id, code) for code in codes)
            ],
        }
        for run in sorted(summary.runs, key=lambda r: not r.cell.is_base)
    ]
    languages = [_language(code) for code in codes]
    return {
        "task": mode.label,
        "languages": languages,
        "classes": [
            {"name": key, "n": len(list(members))}
            for key, members in groupby(languages, key=lambda entry: entry["resource_class"])
        ],
        "rows": rows,
        "has_deltas": bool(deltas),
    }


def _heat_cell(
    score: Score | None, delta: Delta | None, reason: str | None, scale: float
) -> dict[str, Any]:
    """One cell: a change where there is a base, else the score, else why there is neither."""
    if score is None:
        return {**_CELL, "kind": "gap", "title": reason or "not planned"}
    chance = "" if score.is_above_chance in (True, None) else "; not above chance"
    interval = score_limits(score.low, score.high)
    said = f"score {points(score.score)} {interval}, n = {score.n:,}{chance}"
    if delta is None:
        return {**_CELL, "kind": "score", "text": points(score.score), "title": said}
    return {
        "kind": "up" if delta.delta > 0 else "down",
        "strength": round(abs(delta.delta) / scale, 2),
        "text": signed(delta.delta),
        "is_told": is_told_apart(delta),
        "title": f"change {signed(delta.delta)} {limits(delta.low, delta.high)}; {said}",
    }


_CELL = {"text": "", "strength": None, "is_told": False}
