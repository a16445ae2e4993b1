"""What lies beside the page: LaTeX, figures, model cards."""

import dataclasses
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest
import yaml
from huggingface_hub import ModelCard
from tests.analysis.synthetic import TASKS, Run, StoreBuilder, build_study, draw

from maple.analysis import summarise
from maple.report import cards, latex, page, static, write_report
from maple.report.headline import is_told_apart
from maple.store.read import open_store

BASE, TUNED = Run(method="none", rank=None), Run(rank=8)
SPECIAL = "50% of $x_1 & {y} #2 ~^\\ <b>"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("files")
    build_study(directory, n=30)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(static, "can_draw", lambda: False)
        write_report(directory)
    return directory


def test_each_latex_table_has_as_many_cells_as_columns(study: Path) -> None:
    names = {path.stem for path in (study / "tables").glob("*.tex")}
    assert names == {
        "effects", "costs", "means-xnli", "means-xquad", "scores-xnli", "scores-xquad",
    }  # fmt: skip
    for path in (study / "tables").glob("*.tex"):
        text = path.read_text(encoding="utf-8")
        (format_of,) = re.findall(r"\\begin\{tabular\}\{@\{\}(lr+)@\{\}\}", text)
        lines = [line for line in text.splitlines() if line.endswith(r"\\")]
        assert len(lines) > 2
        assert {len(re.findall(r"(?<!\\)&", line)) + 1 for line in lines} == {len(format_of)}
        assert "\N{MINUS SIGN}" not in text


def test_latex_states_the_effects_in_points_with_their_verdict(study: Path) -> None:
    summary = summarise(open_store(study))
    effect = next(e for e in summary.estimates.effects if e.group == "non-english")
    text = (study / "tables" / "effects.tex").read_text(encoding="utf-8")
    star = "*" if is_told_apart(effect) else ""
    assert f"{100 * effect.value:+.1f}{star} [{100 * effect.low:+.1f}, " in text.replace("$-$", "-")


def test_latex_prints_what_a_study_wrote_as_it_is() -> None:
    assert latex.escape(SPECIAL) == (
        r"50\% of \$x\_1 \& \{y\} \#2 \textasciitilde{}\textasciicircum{}\textbackslash{} "
        r"\textless{}b\textgreater{}"
    )
    assert "\n\\input" not in latex.tabular(["a\n\\input{x}"], [["b"]], "note\n\\input{y}")


def test_every_trained_and_scored_run_has_a_card_that_the_hub_library_reads(study: Path) -> None:
    summary = summarise(open_store(study))
    scored = {s.run_id for s in summary.estimates.scores}
    trained = {r.run_id for r in summary.runs if r.train is not None and r.run_id in scored}
    assert {path.parent.name for path in (study / "cards").glob("*/README.md")} == trained
    for run_id in sorted(trained)[:2]:
        read = ModelCard.load(study / "cards" / run_id / "README.md")
        found = {(e.dataset_type, e.dataset_config): e.metric_value for e in read.data.eval_results}
        mine = [s for s in summary.estimates.scores if s.run_id == run_id]
        assert found == {(s.task, s.language): round(100 * s.score, 2) for s in mine}
        assert read.data.library_name == "peft"
        assert "sw" in read.data.language
        assert f"sha-{run_id}" in read.text


def test_a_card_holds_no_markup_of_the_study(tmp_path: Path) -> None:
    builder = StoreBuilder(tmp_path, name="<b>|\n---\nbase_model: evil")
    tuned = Run(rank=8, model="org/base", parameters={"note": "<script>|x"})
    builder.study([BASE, tuned])
    builder.run(tuned)
    builder.evaluation(tuned, TASKS[0], "swh_Latn", np.array([0.0, 1.0, 1.0]))
    summary = summarise(open_store(tmp_path))
    run = next(r for r in summary.runs if r.train is not None)
    text = cards.card(summary, run, list(summary.estimates.scores))
    assert yaml.safe_load(text.split("---\n")[1])["base_model"] == "org/base"
    assert "<script>" not in re.sub("`[^`]*`", "", text)
    assert not [line for line in text.split("---\n")[2].splitlines() if line == "---"]


def test_figures_as_files_are_vector_drawings_and_the_same_every_time(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs matplotlib")
    builder = StoreBuilder(tmp_path, name="small")
    runs = [BASE, *(Run(rank=rank) for rank in (4, 16))]
    task = dataclasses.replace(TASKS[0], languages=("eng_Latn", "swh_Latn"))
    builder.study(runs, [task])
    for run in runs:
        builder.run(run)
        for code in task.languages:
            builder.evaluation(run, task, code, draw(run, task, code, 20))
    store = open_store(tmp_path)
    summary = summarise(store)
    made = page.make_figures(store, summary)
    assert len(made) > 8
    kept = ("effects", "rank-", "pareto-size")
    figures = [f for name, f in made.items() if name.startswith(kept)]
    paths = static.write_figures(figures, tmp_path / "figures")
    names = {path.stem for path in paths}
    assert names == {"effects", "rank-xnli", "pareto"}
    assert {path.suffix for path in paths} == {".svg", ".pdf"}
    for path in paths:
        if path.suffix == ".pdf":
            assert path.read_bytes().startswith(b"%PDF-")
            continue
        root = ElementTree.parse(path).getroot()
        assert root.tag == "{http://www.w3.org/2000/svg}svg"
        assert not list(root.iter("{http://www.w3.org/2000/svg}image"))
    effects = (tmp_path / "figures" / "effects.svg").read_text(encoding="utf-8")
    assert "tuned against untouched base" in effects
    before = {path: path.read_bytes() for path in paths}
    static.write_figures([f for f in figures if f.id == "effects"], tmp_path / "figures")
    assert {path: path.read_bytes() for path in paths} == before


def test_without_matplotlib_a_report_has_no_figures_as_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    StoreBuilder(tmp_path).study([BASE, TUNED])
    monkeypatch.setattr(static, "can_draw", lambda: False)
    assert write_report(tmp_path).exists()
    assert not (tmp_path / "figures").exists()


@pytest.mark.parametrize("label", ["../../etc/passwd", "xnli (3 shots)", "数据", ".hidden", ""])
def test_a_task_s_label_makes_a_safe_file_name(label: str) -> None:
    assert re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", static.file_name(label))
