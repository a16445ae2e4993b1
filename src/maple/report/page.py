"""Writes the report of a store: ``report.html`` and ``tables/*.csv``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jinja2 import PackageLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup

from maple import __version__
from maple.analysis.summary import Summary, summarise
from maple.report import certificates, checks, grids, headline, panels, sections, wording
from maple.report.browser import pick_samples
from maple.report.embed import content_security_policy, cut, plotting_library, script_json
from maple.report.figures import Figure, forest, loss_curves
from maple.report.files import write_text
from maple.report.tables import write_tables
from maple.store.read import Store, open_store

TRACEBACK_CHARACTERS = 20_000


def write_report(directory: Path) -> Path:
    """Writes ``report.html`` and ``tables/*.csv`` into a store's directory.

    The page is one file that fetches nothing. Writing it again replaces it.

    Args:
        directory: the store, finished or not.

    Returns:
        The path of ``report.html``.

    Raises:
        StoreError: the directory is no store, a file of it cannot be read, or the report cannot
            be written.
    """
    store = open_store(directory)
    summary = summarise(store)
    write_tables(summary, store.directory / "tables")
    path = store.directory / "report.html"
    write_text(path, render(store, summary))
    return path


def render(store: Store, summary: Summary) -> str:
    """Returns the page as HTML.

    Raises:
        StoreError: a curve, a prompt or a sample cannot be read.
    """
    environment = _environment()
    script = Markup(_template_text(environment, "report.js"))
    library = plotting_library()
    figures = _figures(store, summary)
    return environment.get_template("report.html.j2").render(
        policy=content_security_policy([library, script]),
        style=Markup(_template_text(environment, "report.css")),
        library=library,
        script=script,
        figure_data=script_json({f.id: f.as_json() for f in figures.values()}),
        sample_data=script_json(pick_samples(store, summary)),
        figures=figures,
        certificates=certificates.certificate_section(store.directory / "certificates"),
        **_content(summary, list(figures.values())),
    )


def _figures(store: Store, summary: Summary) -> dict[str, Figure]:
    curves = {r.run_id: store.curve(r.run_id) for r in summary.runs if not r.cell.is_base}
    single = [forest(summary), loss_curves(summary, curves)]
    small = [*panels.curve_panels(summary, "rank"), *panels.curve_panels(summary, "bits")]
    return {figure.id: figure for figure in [*single, *small] if figure is not None}


def _content(summary: Summary, figures: list[Figure]) -> dict[str, Any]:
    study = json.dumps(summary.study, indent=2, ensure_ascii=False)
    failed = [run for run in summary.runs if run.failure is not None]
    return {
        "title": str(summary.study.get("name") or "Study"),
        "question": headline.question(summary),
        "answer": headline.answer(summary),
        "effects": sections.effects_table(summary),
        "facts": sections.facts_list(summary),
        "tasks": sections.task_list(summary),
        "skipped": list(summary.study.get("skipped") or ()),
        "not_in_benchmark": list(summary.study.get("missing") or ()),
        "gaps": sections.gap_list(summary),
        "set_aside": [(summary.labels.get(s.run_id, s.run_id), s) for s in summary.set_aside],
        "heat_maps": grids.heat_maps(summary),
        "score_tables": grids.score_tables(summary),
        "class_tables": grids.class_tables(summary),
        "curves": [_curve_section(summary, figures, factor) for factor in ("rank", "bits")],
        "series": panels.series_names(summary),
        "checks": checks.check_sections(summary),
        "english": sections.english_table(summary),
        "metrics": sections.metric_table(summary),
        "costs": sections.cost_table(summary),
        "failures": [(summary.labels[run.run_id], run.failure) for run in failed],
        "environment": sections.environments(summary),
        "runs": summary.runs,
        "labels": summary.labels,
        "study_json": cut(study, 200_000),
        "version": __version__,
    }


def _curve_section(summary: Summary, figures: list[Figure], factor: Any) -> dict[str, Any]:
    tasks: dict[str, list[Figure]] = {}
    for figure in figures:
        if figure.factor == factor:
            tasks.setdefault(figure.task, []).append(figure)
    return {"factor": factor, "lines": panels.line_names(summary, factor), "tasks": tasks}


def _environment() -> SandboxedEnvironment:
    environment = SandboxedEnvironment(
        loader=PackageLoader("maple.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(
        points=wording.points,
        signed=wording.signed,
        count=wording.count,
        group=wording.group_name,
        cut=lambda text: cut(text, TRACEBACK_CHARACTERS),
        status=lambda status: sections.STATUS_NAMES[status],
        limits=lambda e: wording.limits(e.low, e.high),
        score_limits=lambda e: wording.score_limits(e.low, e.high),
    )
    return environment


def _template_text(environment: SandboxedEnvironment, name: str) -> str:
    """The source of a file that is no template: taken as it is, braces and all."""
    assert environment.loader is not None
    source, _, _ = environment.loader.get_source(environment, name)
    return source
