import csv
import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tests.analysis.synthetic import (
    LANGUAGES,
    STUDY_RUNS,
    TASKS,
    Run,
    StoreBuilder,
    build_study,
    draw,
)

from maple.analysis import summarise
from maple.errors import StoreError
from maple.report import browser, write_report
from maple.report.headline import answer, question
from maple.store.read import open_store

BASE, TUNED = Run(method="none", rank=None), Run(rank=8)
MEGABYTE = "x" * 1_000_000
HOSTILE = (
    "<script>alert(1)</script>",
    "</script><script>window.pwned = 1</script>",
    "<!--<script>",
    "line\u2028separator\u2029",
    "{{ 7 * 7 }}",
    "مرحبا <img src=x onerror=alert(1)>",
    MEGABYTE,
)


class Page(HTMLParser):
    """The page as a browser would cut it up: elements, their attributes, text of scripts."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.text: list[str] = []
        self._script: dict[str, str | None] | None = None
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._script = dict(attrs) if tag == "script" else None

    def handle_endtag(self, tag: str) -> None:
        self._script = None

    def handle_data(self, data: str) -> None:
        if self._script is not None:
            self.scripts.append((self._script, data))
        else:
            self.text.append(data)

    def all(self, tag: str) -> Iterator[dict[str, str | None]]:
        return (attributes for name, attributes in self.elements if name == tag)

    def data(self, script_id: str) -> dict:
        texts = [text for attributes, text in self.scripts if attributes.get("id") == script_id]
        return json.loads("".join(texts))


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("study")
    build_study(directory, n=30)
    assert write_report(directory) == directory / "report.html"
    return directory


@pytest.fixture(scope="module")
def page(study: Path) -> Page:
    return Page((study / "report.html").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("hostile")
    builder = StoreBuilder(directory, name="<b>evil</b>")
    failed = Run(rank=4, status="failed")
    builder.study([BASE, TUNED, failed])
    scores = (np.arange(len(HOSTILE)) % 2).astype(float)
    for run in (BASE, TUNED, failed):
        builder.run(run)
    failure = directory / "runs" / failed.id / "failed.json"
    failure.write_text(json.dumps({"stage": "<i>", "error": "<script>1", "traceback": "</pre><b>"}))
    for run in (BASE, TUNED):
        builder.evaluation(run, TASKS[1], "arb_Arab", scores, texts=HOSTILE)
    ids = [f"{i:05d}" for i in range(len(HOSTILE))]
    context = "</script><script>window.pwned = 2</script>" + "y" * 5000 + " the question?"
    builder.prompts("prompts-xquad-arb_Arab", ids, context=context)
    write_report(directory)
    return directory


def test_the_report_is_one_file_that_fetches_nothing(study: Path, page: Page) -> None:
    assert (study / "report.html").stat().st_size < 6_000_000
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert not re.match(r"\s*(https?:)?//", attributes.get(name) or "")
    assert not list(page.all("link"))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    assert "url(" not in (study / "report.html").read_text(encoding="utf-8").split("</style>")[0]


def test_the_report_says_everything_it_must(page: Page) -> None:
    text = " ".join(" ".join(page.text).split())
    for needed in (
        "What do the method (full, lora), rank (4, 16, 64, 128) and quantization (bf16, nf4) do",
        "tuning changes the mean score by",
        "11 done, 1 failed, 1 unfinished and 1 not started",
        "full fine-tuning needs float weights",
        "the benchmark has none",
        "evaluation unfinished: 30 of 37 samples stored",
        "English retention",
        "TrainingError: not finite",
        "Cost per run",
        "form mega, english instructions",
        "exact_match",
        "2.13.0+cpu",
        "class 2",
        "Swahili",
        STUDY_RUNS[0].id,
    ):
        assert needed in text, needed


def test_headings_tables_and_figures_are_accessible(page: Page) -> None:
    tags = [tag for tag, _ in page.elements]
    assert tags.count("h1") == 1
    assert tags.count("table") == tags.count("caption")
    assert all("scope" in attributes for attributes in page.all("th"))
    figures = [a for a in page.all("div") if "data-figure" in a]
    assert len(figures) == len(page.data("figure-data")) > 20
    assert all(a["role"] == "img" and a["aria-label"] for a in figures)
    assert next(page.all("html"))["lang"] == "en"
    ids = [a["id"] for _, a in page.elements if "id" in a]
    assert len(ids) == len(set(ids))
    targets = {a["href"] for a in page.all("a")}
    assert targets <= {f"#{i}" for i in ids}


def test_figures_hold_the_estimates_in_points(study: Path, page: Page) -> None:
    summary = summarise(open_store(study))
    figures = page.data("figure-data")
    shown = {x for trace in figures["forest"]["data"] for x in trace["x"]}
    group = [d for d in summary.estimates.run_effects if d.group == "non-english"]
    assert {100 * d.delta for d in group} <= shown
    curve = {
        y
        for name, f in figures.items()
        if name.startswith("rank")
        for t in f["data"]
        for y in t["y"]
    }
    assert curve == {100 * p.value for p in summary.estimates.curves}
    assert figures["loss"]["data"][0]["x"][-1] == 30


def test_tables_hold_every_estimate(study: Path) -> None:
    summary = summarise(open_store(study))
    with (study / "tables" / "scores.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    expected = summary.estimates.scores
    assert [float(r["score"]) for r in rows] == [s.score for s in expected]
    assert {r["language_name"] for r in rows} >= {"Swahili", "Thai"}
    names = {p.stem for p in (study / "tables").glob("*.csv")}
    assert names == {
        "scores", "means", "deltas", "mean_deltas", "effects", "curves", "metrics", "costs",
        "missing", "set_aside", "runs", "checks",
    }  # fmt: skip
    with (study / "tables" / "deltas.csv").open(encoding="utf-8", newline="") as stream:
        deltas = list(csv.DictReader(stream))
    assert {r["language"] for r in deltas} == set(LANGUAGES)


def test_text_of_models_and_studies_stays_text(hostile: Path) -> None:
    html = (hostile / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert len(list(page.all("script"))) == 4
    assert not list(page.all("img"))
    assert not list(page.all("b"))
    for attributes, text in page.scripts:
        if attributes.get("type") == "application/json":
            assert not set("<>&\u2028\u2029") & set(text)
    samples = page.data("sample-data")["groups"][0]["samples"]
    shown = {answer["answer"] for sample in samples for answer in sample["answers"]}
    assert set(HOSTILE) - {MEGABYTE} <= shown
    assert "&lt;b&gt;evil&lt;/b&gt;" in html


def test_a_megabyte_of_output_is_cut_with_a_mark(hostile: Path) -> None:
    assert (hostile / "report.html").stat().st_size < 6_000_000
    page = Page((hostile / "report.html").read_text(encoding="utf-8"))
    group = page.data("sample-data")["groups"][0]
    answers = [a["answer"] for s in group["samples"] for a in s["answers"]]
    assert sum(a.endswith("… [cut: 1,000,000 characters in all]") for a in answers) == 2
    prompt = group["samples"][0]["prompt"]
    assert "cut] … " in prompt
    assert prompt.endswith("the question?")


def test_answers_of_a_ranking_task_are_shown_as_their_options(page: Page) -> None:
    group = next(g for g in page.data("sample-data")["groups"] if g["task"] == "xnli")
    answers = {a["answer"] for s in group["samples"] for a in s["answers"]}
    assert answers <= {"1. yes", "2. also"}
    assert group["samples"][0]["gold"] == ["2. also"]


def test_samples_of_many_groups_stay_within_their_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "MOST_BYTES", 200_000)
    builder = StoreBuilder(tmp_path)
    builder.study([BASE, TUNED])
    text = "ሰላም ለዓለም " * 60
    for task in TASKS:
        for code in LANGUAGES:
            scores = np.zeros(12)
            for run in (BASE, TUNED):
                builder.evaluation(run, task, code, scores, texts=[text] * 12)
            ids = [f"{i:05d}" for i in range(12)]
            builder.prompts(f"prompts-{task.name}-{code}", ids, context=text * 4)
    page = Page(write_report(tmp_path).read_text(encoding="utf-8"))
    groups = page.data("sample-data")["groups"]
    assert len(groups) == 12
    assert all(1 <= len(g["samples"]) < 10 for g in groups)
    assert len(json.dumps(groups, ensure_ascii=False).encode()) < 205_000


def test_a_store_without_rows_has_a_report(tmp_path: Path) -> None:
    StoreBuilder(tmp_path).study([BASE, TUNED])
    text = " ".join(Page(write_report(tmp_path).read_text(encoding="utf-8")).text)
    assert "Nothing is scored yet" in text
    assert "run not started" in text


def test_a_study_without_a_base_says_that_no_change_can_be_stated(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    builder.study([TUNED])
    builder.evaluation(TUNED, TASKS[0], "swh_Latn", np.array([0, 1.0, 1.0, 1.0]))
    (sentence,) = answer(summarise(open_store(tmp_path)))
    assert "no change can be stated" in sentence
    assert "75.0" in sentence
    write_report(tmp_path)


def test_a_study_without_a_difference_claims_none(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    runs = [BASE, *(Run(rank=rank) for rank in (2, 4, 8, 16))]
    builder.study(runs)
    for run in runs:
        for task in TASKS:
            for code in LANGUAGES:
                builder.evaluation(run, task, code, draw(run, task, code, 80, lambda *_: 0.5))
    summary = summarise(open_store(tmp_path))
    sentences = answer(summary)
    assert "cannot be told from the untouched base" in sentences[0]
    assert sentences[1] == "None of 4 tuned runs can be told from the base on its own."
    assert "not told from zero" in sentences[2]
    assert question(summary) == (
        "What does rank (2, 4, 8, 16) do to xnli and xquad in 5 languages, and to English?"
    )


def test_writing_the_report_again_replaces_it_and_leaves_no_temporary_file(study: Path) -> None:
    first = (study / "report.html").read_bytes()
    write_report(study)
    assert (study / "report.html").read_bytes() == first
    assert not list(study.glob(".tmp-*"))
    assert not list((study / "tables").glob(".tmp-*"))


def test_what_is_no_store_gets_no_report(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="is no store"):
        write_report(tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_report_that_cannot_be_written_is_one_clear_error(tmp_path: Path) -> None:
    StoreBuilder(tmp_path).study([BASE])
    (tmp_path / "tables").write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="cannot be written"):
        write_report(tmp_path)


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_a_browser_draws_the_figures_and_runs_no_text_of_a_model(
    hostile: Path, tmp_path: Path
) -> None:
    options = (
        "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-sync "
        "--disable-background-networking --disable-component-update --virtual-time-budget=8000"
    )
    command = ["chromium", *options.split(), f"--user-data-dir={tmp_path}", "--dump-dom"]
    url = (hostile / "report.html").as_uri()
    shown = subprocess.run([*command, url], capture_output=True, text=True, timeout=180, check=True)
    dom = shown.stdout
    assert dom.count('data-drawn="yes"') == dom.count("data-figure=")
    assert "main-svg" in dom
    assert dom.count('<article class="sample">') == 3
    assert not list(Page(dom).all("img"))
