import base64
import csv
import gzip
import hashlib
import json
import re
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
    Task,
    build_study,
    draw,
)

from maple.analysis import summarise
from maple.errors import StoreError
from maple.report import browser, embed, further, pareto, static, write_report
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

    def unpack(self, script_id: str) -> str:
        (packed,) = [text for a, text in self.scripts if a.get("id") == script_id]
        return gzip.decompress(base64.b64decode(packed, validate=True)).decode()

    def data(self, script_id: str) -> dict:
        return json.loads(self.unpack(script_id))


def answers_of(group: dict) -> list[str]:
    return [a for of in group["by_run"] for a in of["answers"] if a is not None]


@pytest.fixture(scope="module", autouse=True)
def _no_drawings() -> Iterator[None]:
    # Files for papers are drawn in test_files.py; here they would only take time.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(static, "can_draw", lambda: False)
        yield


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
    assert (study / "report.html").stat().st_size < 3_000_000
    for _, attributes in page.elements:
        for name in ("src", "href", "srcset", "data", "action", "poster"):
            assert not re.match(r"\s*(https?:)?//", attributes.get(name) or "")
    assert not list(page.all("link"))
    policy = next(a["content"] for a in page.all("meta") if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'; script-src 'sha256-")
    run = [text for a, text in page.scripts if "type" not in a]
    for text in (*run, page.unpack("library")):
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert f"'sha256-{digest}'" in policy
    assert len(run) == 1
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
    assert names - {kind.name for kind in further.KINDS} == {
        "scores", "means", "deltas", "mean_deltas", "effects", "curves", "metrics", "costs",
        "missing", "set_aside", "runs", "checks", "early_looks", "slopes", "mixed_models",
        "mixed_terms", "scaling", "language_features",
    }  # fmt: skip
    with (study / "tables" / "deltas.csv").open(encoding="utf-8", newline="") as stream:
        deltas = list(csv.DictReader(stream))
    assert {r["language"] for r in deltas} == set(LANGUAGES)


def test_text_of_models_and_studies_stays_text(hostile: Path) -> None:
    html = (hostile / "report.html").read_text(encoding="utf-8")
    page = Page(html)
    assert len(list(page.all("script"))) == 4
    assert {a.get("type") for a, _ in page.scripts} == {None, "application/gzip"}
    assert not list(page.all("img"))
    assert not list(page.all("b"))
    shown = set(answers_of(page.data("sample-data")["groups"][0]))
    assert set(HOSTILE) - {MEGABYTE} <= shown
    assert "&lt;b&gt;evil&lt;/b&gt;" in html


def test_a_megabyte_of_output_is_cut_with_a_mark(hostile: Path) -> None:
    assert (hostile / "report.html").stat().st_size < 3_000_000
    page = Page((hostile / "report.html").read_text(encoding="utf-8"))
    group = page.data("sample-data")["groups"][0]
    answers = answers_of(group)
    assert sum(a.endswith("… [cut: 1,000,000 characters in all]") for a in answers) == 2
    prompt = group["prompts"][0]
    assert "cut] … " in prompt
    assert prompt.endswith("the question?")


def test_answers_of_a_ranking_task_are_shown_as_their_options(page: Page) -> None:
    group = next(g for g in page.data("sample-data")["groups"] if g["task"] == "xnli")
    assert set(answers_of(group)) == {"1. yes", "2. also"}
    assert group["gold"][0] == ["2. also"]
    assert all(
        len(of[k]) == len(group["ids"])
        for of in group["by_run"]
        for k in ("answers", "scores", "texts")
    )


def test_samples_of_many_groups_stay_within_their_budget(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(browser, "MOST_BYTES", 2_000)
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
    assert all(1 <= len(g["ids"]) < 12 for g in groups)
    assert len(embed.packed_json(groups)) <= 2_000


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


def test_a_mean_that_hides_two_classes_or_english_says_so(tmp_path: Path) -> None:
    low = ("swh_Latn", "yor_Latn")

    def truth(run: Run, task: Task, code: str) -> float:
        if run.rank != 16 or run.is_base:
            return 0.5
        return {"eng_Latn": 0.2}.get(code, 0.9 if code in low else 0.5)

    builder = StoreBuilder(tmp_path)
    runs = [BASE, Run(rank=4), Run(rank=16)]
    builder.study(runs)
    for run in runs:
        for task in TASKS:
            for code in LANGUAGES:
                builder.evaluation(run, task, code, draw(run, task, code, 150, truth))
    tuning, told, factors = answer(summarise(open_store(tmp_path)))
    effect = r"[+\N{MINUS SIGN}]?\d+\.\d \[[^]]+\]"
    assert re.search(rf"\(low-resource {effect}, high-resource {effect}\)", tuning)
    assert re.search(
        rf"Rank 16 against rank 4 gives {effect} "
        rf"\(low-resource {effect}, high-resource {effect}, English {effect}\)",
        factors,
    )
    assert "each of 2 other configurations and bases is told to be below it" in told


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


def test_a_large_part_is_packed_whole_and_a_small_one_left_as_it_is() -> None:
    small, large = "<p>&lt;b&gt;</p>", "<td>1 &amp; 2</td>" * 9000
    assert embed.packed_part(small) == small
    made = embed.packed_part(large, "a <table>")
    assert len(made) < len(large) / 20
    (packed,) = re.findall(r'<script type="application/gzip">([^<]+)</script>', made)
    assert gzip.decompress(base64.b64decode(packed)).decode() == large
    assert "a &lt;table&gt;: this large table needs JavaScript" in made
    assert made == embed.packed_part(large, "a <table>")


def test_the_front_holds_each_run_that_none_beats() -> None:
    rng = np.random.default_rng(0)
    every = [
        pareto.Point(run_id=str(i), price=float(p), value=float(v), low=0, high=0)
        for i, (p, v) in enumerate(rng.integers(1, 9, (60, 2)).cumsum(axis=1))
    ]

    def is_beaten(one: pareto.Point) -> bool:
        return any(
            o.price <= one.price and o.value >= one.value
            and (o.price, o.value) != (one.price, one.value)
            for o in every
        )  # fmt: skip

    expected = {(p.price, p.value) for p in every if not is_beaten(p)}
    found = pareto.front(every)
    assert [(p.price, p.value) for p in found] == sorted(expected)
    assert len(expected) > 2


def test_cost_is_set_against_the_change_of_complete_runs_alone(study: Path, page: Page) -> None:
    summary = summarise(open_store(study))
    figure = page.data("figure-data")["pareto-size"]
    whole = [
        d
        for d in summary.estimates.run_effects
        if d.group == "non-english" and d.n_languages == d.n_languages_planned
    ]
    marks = {y for trace in figure["data"] if trace["mode"] == "markers" for y in trace["y"]}
    assert marks == {100 * d.delta for d in whole}
    assert len(figure["rows"]) == len(whole) < len(summary.estimates.run_effects)


def test_text_has_contrast_in_both_schemes() -> None:
    style = (Path(browser.__file__).parent / "templates" / "report.css").read_text()
    schemes = [
        dict(re.findall(r"--([a-z0-9-]+): (#[0-9a-f]{6})", part))
        for part in style.split(":root")[1:3]
    ]

    def luminance(colour: str) -> float:
        numbers = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in numbers]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    # WCAG 2.2, AA: 4.5 for text, 3 for marks.
    least = {"ink": 7, "muted": 4.5, "accent": 4.5, **{f"series-{i}": 3 for i in range(1, 7)}}
    for colours in schemes:
        paper = luminance(colours["paper"])
        for name, ratio in least.items():
            high, low = sorted((luminance(colours[name]), paper), reverse=True)
            assert (high + 0.05) / (low + 0.05) >= ratio, name
