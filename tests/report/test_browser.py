"""The report in a real browser: every figure, the search, three widths, both schemes, print."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.analysis.synthetic import TASKS, Run, StoreBuilder, draw
from tests.browser import browser, page

from maple.report import embed, static, write_report

ALERT = "<script>alert(1)</script>"
ARABIC = "مرحبا بالعالم"
RUNS = (
    Run(method="none", rank=None),
    Run(method="none", rank=None, quantization="nf4"),
    *(Run(rank=rank, quantization=bits) for rank in (4, 16) for bits in ("bf16", "nf4")),
)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("shown")
    builder = StoreBuilder(directory, name="<i>shown</i>")
    builder.study(RUNS)
    texts = [ALERT, "x" * 1_000_000, f"{ARABIC} (42)", "needle in Swahili", *["x"] * 8]
    for run in RUNS:
        builder.run(run)
        for task in TASKS:
            for code in ("arb_Arab", "eng_Latn", "swh_Latn"):
                scores = draw(run, task, code, 12)
                found = [{"never_stopped": bool(i % 2)} for i in range(12)]
                mine = texts if code == "arb_Arab" else [t[:99] for t in texts]
                generated = {"texts": mine, "checks": found} if task.chance_level is None else {}
                builder.evaluation(run, task, code, scores, **generated)
    with pytest.MonkeyPatch.context() as patch:
        # Small tables are packed too, so that the browser has some to unpack.
        patch.setattr(embed, "PACK_FROM", 1_500)
        patch.setattr(static, "can_draw", lambda: False)
        return write_report(directory)


@pytest.fixture(scope="module")
def opened(report: Path) -> Iterator[tuple[Any, list[str]]]:
    """One page for all tests: to start a browser and unpack plotly takes longer than they do."""
    with browser() as chromium, page(chromium, report.as_uri(), 1400) as found:
        yield found


@pytest.fixture
def shown(opened: tuple[Any, list[str]]) -> Iterator[Any]:
    """The page as a reader finds it: wide, light, nothing searched. It must say no error."""
    found, problems = opened
    found.emulate_media(media="screen", color_scheme="light")
    found.set_viewport_size({"width": 1400, "height": 900})
    found.wait_for_selector("#sample-controls:not([hidden])")
    form = found.locator("#sample-controls")
    form.locator("[name=text]").fill("")
    form.locator("[name=kind]").select_option("all")
    form.locator("[name=task]").select_option("")
    form.locator("[name=language]").select_option("")
    yield found
    assert problems == []


def open_all(shown: Any) -> None:
    """Opens every part, and waits until what was opened is drawn."""
    shown.evaluate(
        "document.querySelectorAll('details:not(.alternative)').forEach((d) => { d.open = true; })"
    )
    shown.wait_for_selector("[data-figure]:not([data-drawn])", state="detached", timeout=120_000)


OVERFLOWING = """[...document.querySelectorAll("[data-figure]")].filter((figure) => {
  const drawn = figure.querySelector(".main-svg").getBoundingClientRect();
  const own = figure.getBoundingClientRect();
  return drawn.bottom > own.bottom + 2 || drawn.right > own.right + 2 || drawn.width < 100;
}).map((figure) => figure.dataset.figure)"""
REDRAWN = """[...document.querySelectorAll("[data-figure]")]
  .every((figure) => Number(figure.dataset.width) === figure.clientWidth)"""
WIDE = [1400, "light"], [800, "dark"], [390, "light"]


def wait_until_redrawn(shown: Any) -> None:
    """The page waits for the end of a change of size; its policy lets nobody poll by ``eval``."""
    end = time.monotonic() + 60
    while not shown.evaluate(REDRAWN):
        assert time.monotonic() < end
        shown.wait_for_timeout(20)


def test_every_figure_is_drawn_in_its_place_at_every_width_and_in_both_schemes(shown: Any) -> None:
    open_all(shown)
    figures = shown.locator("[data-figure]").count()
    assert figures == shown.locator("[data-figure] .main-svg:first-child").count() > 15
    assert shown.locator(".packed > script").count() == 0
    assert shown.locator(".packed table").count() >= 4
    for width, scheme in WIDE:
        shown.set_viewport_size({"width": width, "height": 900})
        shown.emulate_media(color_scheme=scheme)
        wait_until_redrawn(shown)
        assert shown.evaluate("document.documentElement.scrollWidth") <= width
        assert shown.evaluate(OVERFLOWING) == []


def test_samples_are_found_by_task_language_and_words(shown: Any) -> None:
    status, form = shown.locator("#sample-status"), shown.locator("#sample-controls")
    assert status.text_content() == "72 samples, page 1 of 24"
    form.locator("[name=next]").click()
    assert status.text_content() == "72 samples, page 2 of 24"
    form.locator("[name=task]").select_option("xquad")
    form.locator("[name=language]").select_option("swh_Latn")
    assert status.text_content() == "12 samples, page 1 of 4"
    form.locator("[name=text]").fill("NEEDLE in")
    assert status.text_content() == "1 sample, page 1 of 1"
    assert "needle in Swahili" in shown.text_content("#sample-list")
    form.locator("[name=text]").fill("no such words")
    assert status.text_content() == "0 samples, page 1 of 1"
    form.locator("[name=text]").fill("")
    form.locator("[name=kind]").select_option("differ")
    assert status.text_content() == "0 samples, page 1 of 1"
    form.locator("[name=task]").select_option("xnli")
    assert 0 < int(status.text_content().split()[0]) < 12


def test_what_a_model_wrote_stays_text_and_runs_the_way_its_script_does(shown: Any) -> None:
    search = shown.locator("#sample-controls [name=text]")
    scripts = shown.locator("script").count()
    search.fill("alert(1)")
    assert shown.locator(".sample .text", has_text=ALERT).count() >= 6
    assert shown.locator("script").count() == scripts
    search.fill("characters in all")
    assert "[cut: 1,000,000 characters in all]" in shown.text_content("#sample-list")
    search.fill(ARABIC)
    text = shown.locator(".sample td .text", has_text=ARABIC).first
    assert text.evaluate("e => getComputedStyle(e).direction") == "rtl"
    assert text.get_attribute("lang") == "ar"
    assert shown.text_content("h1") == "<i>shown</i>"


def test_figures_have_tables_for_a_keyboard_and_follow_choices(shown: Any) -> None:
    first = shown.locator(".alternative").first
    first.locator("summary").focus()
    shown.keyboard.press("Enter")
    rows = first.locator("tbody tr")
    rows.first.wait_for()
    assert rows.count() >= 3
    assert "against untouched base" in rows.first.text_content()
    shown.keyboard.press("Tab")
    assert shown.evaluate("document.activeElement.getAttribute('role')") == "region"
    panel = shown.locator("#curves [data-figure][data-drawn]").first
    panel.wait_for()
    before = panel.inner_html()
    shown.locator("#curve-controls [name=quantity]").select_option("score")
    assert panel.inner_html() != before
    shown.locator("[data-figure=effects] .point").first.hover(force=True)
    shown.wait_for_selector("[data-figure=effects] .hovertext", timeout=10_000)
    assert "[" in shown.text_content("[data-figure=effects] .hovertext")


def test_all_is_printed_within_the_paper(shown: Any) -> None:
    shown.evaluate("dispatchEvent(new Event('beforeprint'))")
    shown.set_viewport_size({"width": 720, "height": 900})
    shown.emulate_media(media="print")
    assert shown.locator("[data-figure]:not([data-drawn])").count() == 0
    assert shown.locator(".packed > script").count() == 0
    width = shown.locator("[data-figure=effects]").get_attribute("data-width")
    assert 300 < int(width) <= 720
    assert not shown.locator("#samples").is_visible()
    assert shown.locator("#languages table").first.is_visible()
    shown.evaluate("dispatchEvent(new Event('afterprint'))")
