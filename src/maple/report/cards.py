"""A model card per adapter: ``cards/<run id>/README.md``, with its scores as a ``model-index``."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from maple.analysis.costs import run_costs
from maple.analysis.groups import facts
from maple.analysis.modes import Mode
from maple.analysis.scores import Score
from maple.analysis.summary import Summary
from maple.report.files import write_text
from maple.report.wording import (
    count,
    duration,
    group_name,
    limits,
    parameters,
    points,
    score_limits,
    signed,
    size,
)
from maple.store.read import StoredRun

_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
"""How the Hub names a repository; a directory or a shipped base is named in the text alone."""


def write_cards(summary: Summary, directory: Path) -> list[Path]:
    """Writes a card for every trained run that has a finished evaluation; returns the paths.

    Args:
        summary: the estimates.
        directory: ``<store>/cards``. Not ``adapter/``, whose bytes the store answers for.

    Raises:
        StoreError: the directory cannot be written.
    """
    paths = []
    for run in summary.runs:
        scores = [s for s in summary.estimates.scores if s.run_id == run.run_id]
        if run.train is not None and scores:
            path = directory / run.run_id / "README.md"
            write_text(path, card(summary, run, scores))
            paths.append(path)
    return paths


def card(summary: Summary, run: StoredRun, scores: list[Score]) -> str:
    """Returns a card: YAML that the Hub reads, then what a reader wants to know."""
    header = yaml.safe_dump(_header(summary, run, scores), allow_unicode=True, sort_keys=False)
    return f"---\n{header}---\n\n{_text(summary, run, scores)}"


def _header(summary: Summary, run: StoredRun, scores: list[Score]) -> dict[str, Any]:
    languages = dict.fromkeys(facts(s.language).tag.split("-")[0] for s in scores)
    header: dict[str, Any] = {
        "library_name": "peft",
        "tags": ["maple", run.cell.method],
        "language": [tag for tag in languages if tag != "und"],
        "model-index": [{"name": _name(summary, run), "results": _results(summary, scores)}],
    }
    if _REPOSITORY.fullmatch(run.cell.model):
        header = {"base_model": run.cell.model, **header}
    return header


def _name(summary: Summary, run: StoredRun) -> str:
    return f"{summary.labels[run.run_id]} ({run.run_id})"


def _results(summary: Summary, scores: list[Score]) -> list[dict[str, Any]]:
    modes = {mode.label: mode for mode in summary.modes}
    return [_result(modes[s.task], s) for s in scores]


def _result(mode: Mode, score: Score) -> dict[str, Any]:
    kind = "text-generation" if mode.chance_level is None else "multiple-choice"
    dataset: dict[str, Any] = {
        "type": mode.task,
        "name": f"{mode.label}, {facts(score.language).name}",
        "config": score.language,
    }
    if split := mode.settings.get("split"):
        dataset["split"] = str(split)
    name = f"{mode.headline}, 95% interval {score_limits(score.low, score.high)}, n = {score.n}"
    metric = {"type": mode.headline, "value": round(100 * score.score, 2), "name": name}
    return {"task": {"type": kind}, "dataset": dataset, "metrics": [metric]}


def _text(summary: Summary, run: StoredRun, scores: list[Score]) -> str:
    cell, train = run.cell, run.train
    assert train is not None
    (cost,) = run_costs([run], ())
    settings = ", ".join(f"{key} {value}" for key, value in sorted(cell.parameters.items()))
    lines = [
        f"# {_line(_name(summary, run))}",
        "",
        f"An adapter of {_code(cell.model)}, trained and scored by Maple in the study "
        f"{_code(str(summary.study.get('name') or 'without a name'))}.",
        "",
        "| | |",
        "|---|---|",
        f"| base | {_code(cell.model)}, {_line(cell.quantization)} |",
        f"| method | {_line(cell.method)}{': ' if settings else ''}{_line(settings)} |",
        f"| instruction data | {_line(cell.mixture or 'none')}, seed {cell.seed} |",
        f"| trained parameters | {parameters(cost.trainable_parameters)} of "
        f"{parameters(cost.total_parameters)} |",
        f"| adapter | {size(cost.adapter_bytes)}, SHA-256 {_code(train.adapter_sha256)} |",
        f"| training | {count(cost.steps)} steps, {count(cost.tokens)} tokens, "
        f"{duration(cost.train_seconds)}, peak memory {size(cost.peak_memory_bytes)} |",
        "",
        "Use it on the base it was trained on, at the same bits: others were not measured.",
        "",
        *_changes(summary, run),
        *_scores(summary, scores),
    ]
    return "\n".join(lines)


def _changes(summary: Summary, run: StoredRun) -> list[str]:
    effects = [d for d in summary.estimates.run_effects if d.run_id == run.run_id]
    if not effects:
        return []
    lines = ["## Change from the untouched base", "", "Points, 95% interval, mean over tasks.", ""]
    for d in effects:
        said = f"{signed(d.delta)} {limits(d.low, d.high)}"
        lines.append(f"- {group_name(d.group)}: {said}, {d.n_languages} languages")
    return [*lines, ""]


def _scores(summary: Summary, scores: list[Score]) -> list[str]:
    metrics = {mode.label: mode.headline for mode in summary.modes}
    lines = ["## Scores", "", "| task | language | metric | points | 95% interval | samples |"]
    lines.append("|---|---|---|---|---|---|")
    for s in scores:
        below = " (not above chance)" if s.is_above_chance is False else ""
        lines.append(
            f"| {_line(s.task)} | {facts(s.language).name} ({_line(s.language)}) | "
            f"{_line(metrics[s.task])} | {points(s.score)}{below} | "
            f"{score_limits(s.low, s.high)} | {s.n:,} |"
        )
    return [*lines, ""]


def _line(text: str) -> str:
    """Text of a study in one cell of a Markdown table, never markup."""
    flat = " ".join(text.split())
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", flat)


def _code(text: str) -> str:
    return "`" + " ".join(text.split()).replace("`", "'").replace("|", "/") + "`"
