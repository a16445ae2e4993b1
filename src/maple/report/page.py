"""Writes the report of a store: the page, tables, figures and model cards."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import PackageLoader, StrictUndefined
from jinja2.sandbox import SandboxedEnvironment
from markupsafe import Markup

from maple import __version__
from maple.analysis.forgetting import Ledger, forgetting_ledger
from maple.analysis.summary import Summary, summarise
from maple.report import (
    certificates,
    checks,
    further,
    grids,
    headline,
    panels,
    pareto,
    reproduce,
    sections,
    wording,
)
from maple.report.browser import pick_samples
from maple.report.cards import write_cards
from maple.report.early_looks import early_look_rows
from maple.report.effects import effects_section, write_effects
from maple.report.embed import (
    content_security_policy,
    cut,
    packed,
    packed_json,
    packed_part,
    plotting_library,
)
from maple.report.figures import Figure, effects_figure, forest, loss_curves
from maple.report.files import write_text
from maple.report.latex import write_latex
from maple.report.static import write_figures
from maple.report.tables import write_tables
from maple.report.trade_off import trade_off_figure
from maple.store.read import Store, open_store

TRACEBACK_CHARACTERS = 20_000
SCRIPTS = ("unpack.js", "report.js", "samples.js")


def write_report(directory: Path, *, has_drawings: bool = True) -> Path:
    """Writes ``report.html``, ``tables/``, ``figures/`` and ``cards/`` into a store's directory.

    The page is one file that fetches nothing. Writing it again replaces it. Figures as files need
    matplotlib; without it there are none. The page itself never needs it.

    Args:
        directory: the store, finished or not.
        has_drawings: whether to draw figures as files, which takes longer than all the rest.

    Returns:
        The path of ``report.html``.

    Raises:
        StoreError: the directory is no store, a file of it cannot be read, or the report cannot
            be written.
        DataError: a judge's verdicts cannot be read.
    """
    store = open_store(directory)
    summary = summarise(store)
    ledger = forgetting_ledger(store, summary.panels)
    write_tables(summary, store.directory / "tables", ledger=ledger)
    write_latex(summary, store.directory / "tables")
    write_effects(summary.factors, store.directory / "tables")
    write_cards(summary, store.directory / "cards")
    figures = make_figures(store, summary, ledger)
    if has_drawings:
        write_figures(list(figures.values()), store.directory / "figures")
    path = store.directory / "report.html"
    write_text(path, render(store, summary, figures, ledger=ledger))
    return path


def render(
    store: Store, summary: Summary, figures: Mapping[str, Figure], *, ledger: Ledger | None = None
) -> str:
    """Returns the page as HTML.

    Raises:
        StoreError: a curve, a prompt or a sample cannot be read.
    """
    environment = _environment()
    script = Markup("\n".join(_template_text(environment, name) for name in SCRIPTS))
    library = plotting_library()
    return environment.get_template("report.html.j2").render(
        policy=content_security_policy([library, script]),
        style=Markup(_template_text(environment, "report.css")),
        library=packed(library),
        script=script,
        figure_data=packed_json({f.id: f.as_json() for f in figures.values()}),
        sample_data=packed_json(pick_samples(store, summary)),
        figures=figures,
        certificates=certificates.certificate_section(store.directory / "certificates"),
        **_content(summary, list(figures.values()), ledger),
    )


def make_figures(store: Store, summary: Summary, ledger: Ledger | None = None) -> dict[str, Figure]:
    """Returns every figure of the page by its id.

    Raises:
        StoreError: a curve cannot be read.
    """
    curves = {r.run_id: store.curve(r.run_id) for r in summary.runs if not r.cell.is_base}
    single = [effects_figure(summary), forest(summary), loss_curves(summary, curves)]
    single.append(trade_off_figure(ledger))
    small = [*panels.curve_panels(summary, "rank"), *panels.curve_panels(summary, "bits")]
    small += pareto.pareto_panels(summary)
    return {figure.id: figure for figure in [*single, *small] if figure is not None}


def _content(summary: Summary, figures: list[Figure], ledger: Ledger | None) -> dict[str, Any]:
    failed = [run for run in summary.runs if run.failure is not None]
    return {
        "title": str(summary.study.get("name") or "Study"),
        "question": headline.stated_question(summary) or headline.question(summary),
        "asked": headline.question(summary) if headline.stated_question(summary) else "",
        "answer": headline.answer(summary),
        "effects": sections.effects_table(summary),
        "facts": sections.facts_list(summary),
        "tasks": sections.task_list(summary),
        "skipped": list(summary.study.get("skipped") or ()),
        "not_in_benchmark": list(summary.study.get("missing") or ()),
        "early_looks": early_look_rows(summary),
        "factors": effects_section(summary.factors),
        "gaps": sections.gap_list(summary),
        "set_aside": [(summary.labels.get(s.run_id, s.run_id), s) for s in summary.set_aside],
        "heat_maps": grids.heat_maps(summary),
        "score_tables": grids.score_tables(summary),
        "class_tables": grids.class_tables(summary),
        "curves": [_curve_section(summary, figures, factor) for factor in ("rank", "bits")],
        "series": panels.series_names(summary),
        "pareto": {
            "figures": [f for f in figures if f.id.startswith("pareto-")],
            "names": pareto.family_names(summary),
        },
        "further": further.further_sections(summary, ledger),
        "checks": checks.check_sections(summary),
        "english": sections.english_table(summary),
        "metrics": sections.metric_table(summary),
        "costs": sections.cost_table(summary),
        "failures": [(summary.labels[run.run_id], run.failure) for run in failed],
        "environment": reproduce.environments(summary),
        "revisions": reproduce.revisions(summary),
        "study_file": reproduce.study_file(summary),
        "plan_json": reproduce.plan_json(summary),
        "runs": summary.runs,
        "labels": summary.labels,
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
        packed=packed_part,
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
