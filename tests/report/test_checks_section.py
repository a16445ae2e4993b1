"""The report's section of output checks."""

from __future__ import annotations

import csv
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from tests.analysis.synthetic import TASKS, Run, StoreBuilder

from maple.report import write_report

BASE, TUNED = Run(method="none", rank=None), Run()
GENERATED = TASKS[1]
N = 96


def found(n: int, name: str, n_found: int, **others: bool) -> list[dict[str, bool]]:
    """The checks of n answers, one of which finds something in the first of them."""
    return [{name: i < n_found, **others} for i in range(n)]


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("store")
    builder = StoreBuilder(directory)
    builder.study([BASE, TUNED])
    scores = (np.arange(N) >= 48).astype(float)
    for run, n_failed in ((BASE, 12), (TUNED, 0)):
        builder.run(run)
        for code, n_found in (("swh_Latn", n_failed), ("yor_Latn", 3 * n_failed)):
            checks = found(N, "not_extracted", n_found, empty=False)
            builder.evaluation(run, GENERATED, code, scores, checks=checks)
    write_report(directory)
    return directory


class Section(HTMLParser):
    """The text of the section of output checks, a list entry per element."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        start = html.find('<section id="checks"')
        self.is_there = start >= 0
        if self.is_there:
            self.feed(html[start : html.index("</section>", start)])

    def handle_data(self, data: str) -> None:
        if data.strip():
            self.texts.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(self.texts)


def section(directory: Path) -> Section:
    return Section((directory / "report.html").read_text(encoding="utf-8"))


def test_failures_to_extract_are_named_with_what_they_cost(store: Path) -> None:
    # 48 of 96 are right, all of them among the 84 that named an option: 57.1.
    text = section(store).text
    assert re.search(
        r"Swahili swh_Latn : 12 of 96 answers named no option; they count as wrong in the score "
        r"of 50\.0\. Over those that did name one it is 57\.1\.",
        text,
    )
    assert text.index("36 of 96 answers") < text.index("12 of 96 answers")
    assert "0 of 96" not in text


def test_languages_stand_worst_first_with_the_mean_over_runs_and_its_range(store: Path) -> None:
    text = section(store).text
    assert "By language, the worst first: mean over runs" in text
    table = text[text.index("By language") :]
    assert table.index("Yoruba") < table.index("Swahili")
    # 36 and 0 of 96; 12 and 0 of 96.
    assert re.search(r"Yoruba yor_Latn 0\.0 \[0\.0, 0\.0\] 18\.8 \[0\.0, 37\.5\]", table)
    assert re.search(r"Swahili swh_Latn 0\.0 \[0\.0, 0\.0\] 6\.2 \[0\.0, 12\.5\]", table)


def test_runs_show_their_mean_over_languages(store: Path) -> None:
    text = section(store).text
    table = text[text.index("By run") : text.index("By language")]
    assert re.search(r"25\.0 \[12\.5, 37\.5\]", table)
    assert "named no option" in table
    assert "copied the prompt" not in table


def test_every_rate_is_in_the_table_beside_the_page(store: Path) -> None:
    with (store / "tables" / "checks.csv").open(encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == 2 * 2 * 2
    (row,) = (r for r in rows if r["language_name"] == "Yoruba" and int(r["n_found"]))
    assert (row["check"], row["n_found"], row["n"], row["rate"]) == (
        "not_extracted", "36", "96", "0.375",
    )  # fmt: skip


def test_the_page_links_to_the_section(store: Path) -> None:
    assert 'href="#checks"' in (store / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("is_ranked", [True, False])
def test_there_is_no_section_where_nothing_was_checked(tmp_path: Path, is_ranked: bool) -> None:
    builder = StoreBuilder(tmp_path)
    builder.study([BASE])
    builder.run(BASE)
    builder.evaluation(BASE, TASKS[not is_ranked], "swh_Latn", np.ones(5))
    write_report(tmp_path)
    assert not section(tmp_path).is_there
    assert 'href="#checks"' not in (tmp_path / "report.html").read_text(encoding="utf-8")
    header = (tmp_path / "tables" / "checks.csv").read_text(encoding="utf-8")
    assert header.startswith("task,run_id,run,language,")
    assert header.count("\n") == 1


def test_clean_answers_get_one_sentence_and_no_grid(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    builder.study([BASE])
    builder.run(BASE)
    checks = found(5, "empty", 0)
    builder.evaluation(BASE, GENERATED, "swh_Latn", np.ones(5), checks=checks)
    write_report(tmp_path)
    text = section(tmp_path).text
    assert "No check found anything in 5 answers." in text
    assert "By language" not in text


def test_a_check_of_a_strange_name_is_text_and_one_run_gets_its_interval(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path)
    builder.study([BASE])
    builder.run(BASE)
    checks = found(5, "<script>alert(1)</script>", 2)
    builder.evaluation(BASE, GENERATED, "swh_Latn", np.ones(5), checks=checks)
    write_report(tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert(1)" not in page
    text = section(tmp_path).text
    assert "with its 95% interval; 5 answers" in text
    # Wilson's interval of 2 of 5.
    assert "40.0 [11.8, 76.9]" in text
    assert "By run" not in text
