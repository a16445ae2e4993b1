"""Tasks left off once decided: by the same rows, whatever was killed and however many worked."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import pickle
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from rich.console import Console
from tests.run.tiny import small_study, stored_rows, write_data, write_study

from maple.analysis.compare import compare
from maple.analysis.compare_read import Opened, Side
from maple.analysis.early_looks import looked_at
from maple.analysis.modes import find_modes
from maple.analysis.summary import Summary, summarise
from maple.errors import MapleError, StudyError, UsageError
from maple.evaluate.sequential import boundary, repeated_interval, z_value
from maple.files import Files
from maple.plan import Cohort, Evaluation, Plan, make_plan
from maple.report import write_report
from maple.report.status import status_table
from maple.run import Progress, evaluate_models, run_study
from maple.run.cohort import Failure, StudyJob, Workplace
from maple.run.context import CohortContext
from maple.run.early_look import in_phases, looks_of_plan
from maple.run.evaluate import EvaluationRequest
from maple.run.local import StudyOutcome
from maple.run.nursery import Nursery
from maple.run.scoring import score_model
from maple.store.read import StoredEvaluation, open_store
from maple.store.write import StoreWriter
from maple.study import EarlyLook, PromptSettings
from maple.study.file import load_study
from maple.watch.state import Watcher

SAMPLES = 80
LOOK = {"alpha": 0.1, "divide": "none", "looks": [0.25, 0.5, 1.0], "futility_points": 26.0}

BOTH = ("xcopa", "xquad")
"""A task whose options are ranked, and one whose answers are written."""
TWO = ["none", {"lora": {"rank": [2, 4]}}]


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with enough samples for several looks."""
    return write_data(tmp_path_factory.mktemp("many"), samples=SAMPLES)


def content(model: Path, look: dict[str, Any] | None = LOOK, **changes: Any) -> dict[str, Any]:
    made = small_study(model, methods=["none", {"lora": {"rank": 2}}])
    made["training"] = made["training"] | {"max_steps": 3, "learning_rate": 0.3}
    made["evaluate"] = {
        "tasks": ["xnli", "xcopa", "xquad"],
        "languages": ["tr"],
        "decoding": {"max_new_tokens": 4},
    } | ({"early_look": look} if look else {})
    made["evaluate"] |= changes
    return made


def do(folder: Path, data: Path, made: dict[str, Any], *, workers: int = 1) -> tuple[Path, str]:
    """Runs a study here; returns its store and what was said."""
    folder.mkdir(exist_ok=True, parents=True)
    study = load_study(write_study(folder / "study.yaml", made | {"data": str(data)}))
    said = io.StringIO()
    progress = Progress(Console(file=said, width=200))
    outcome: StudyOutcome = run_study(
        study, Files(directory=data), folder / "out", workers=workers, progress=progress
    )
    assert outcome.failures == (), said.getvalue()
    return outcome.out, said.getvalue()


@pytest.fixture(scope="module")
def looked(model: Path, many: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a study with early looks, some of which stop."""
    return do(tmp_path_factory.mktemp("looked"), many, content(model))[0]


def by_look(out: Path) -> dict[str, StoredEvaluation]:
    """The evaluations with a rule, by task."""
    return {e.task: e for e in open_store(out).evaluations() if e.spec.get("early_look")}


def scores_of(out: Path, eval_id: str) -> dict[str, float]:
    rows = open_store(out).query("SELECT * FROM samples", eval_ids=[eval_id]).to_pylist()
    return {row["sample_id"]: row["score"] for row in rows}


def rows_in(out: Path, *tasks: str) -> list[dict[str, Any]]:
    return [row for row in stored_rows(out) if row["task"] in tasks]


@pytest.fixture(scope="module")
def summary(looked: Path) -> Summary:
    return summarise(open_store(looked))


def copied(looked: Path, to: Path, *, evaluations: bool = True) -> Path:
    """A copy of the store to go on in, with its trained runs."""
    ignored = shutil.ignore_patterns("*.html", "tables", *([] if evaluations else ["evals"]))
    shutil.copytree(looked, to / "out", ignore=ignored)
    return to


def test_a_look_stops_what_is_decided_by_the_rows_it_has(looked: Path) -> None:
    """Each decision, taken again from the stored rows in ten lines."""
    stops = set()
    for task, evaluation in by_look(looked).items():
        rule, looks = evaluation.spec["early_look"], evaluation.spec["looks"]
        own, other = scores_of(looked, evaluation.eval_id), scores_of(looked, rule["against"])
        about = f"{evaluation.spec['data']}\0{task}\0{evaluation.language}\0"
        order = sorted(other, key=lambda name: hashlib.sha256((about + name).encode()).digest())
        assert len(order) == SAMPLES
        bounds = boundary(rule["alpha"], [0.25, 0.5, 1.0])
        for number, count in enumerate((20, 40, 80)):
            seen = np.array([own[name] - other[name] for name in order[:count]])
            z, _ = z_value(seen)
            furthest = max(map(abs, repeated_interval(seen, bounds[number])))
            if abs(z) >= bounds[number] or furthest <= 0.26 or count == SAMPLES:
                break
        assert set(own) == set(order[:count]), "the first by their hash, and no other"
        assert (looks["look"], looks["samples"]) == (number + 1, count)
        assert (evaluation.is_done, evaluation.n_samples) == (True, count)
        assert looks["is_part"] == (count < SAMPLES)
        assert looks["difference"] == pytest.approx(seen.mean())
        stops.add(count)
    assert len(stops) > 1, "looks that all end alike would show little"
    assert min(stops) < SAMPLES


def test_off_is_as_ever_and_a_part_holds_the_rows_of_the_whole(
    model: Path, many: Path, looked: Path, tmp_path: Path
) -> None:
    folder = copied(looked, tmp_path, evaluations=False)
    whole, _ = do(folder, many, content(model, None, tasks=list(BOTH)))
    assert by_look(whole) == {}
    plain = {e.eval_id for e in open_store(whole).evaluations()}
    stored = [e for e in open_store(looked).evaluations() if e.task in BOTH]
    before = {e.eval_id for e in stored if "looks" not in e.spec}
    assert before < plain, "the base is scored as without early looks"
    everything = {(r["run_id"], r["task"], r["sample_id"]): r for r in stored_rows(whole)}
    kept = ("prediction", "score", "text", "is_greedy")
    for row in rows_in(looked, *BOTH):
        other = everything[row["run_id"], row["task"], row["sample_id"]]
        assert {k: row[k] for k in kept} == {k: other[k] for k in kept}
        assert row["loglikelihoods"] == pytest.approx(other["loglikelihoods"], rel=1e-5)
    # What is answered wholly needs no look.
    _, said = do(folder, many, content(model, tasks=list(BOTH)))
    assert "stored already" in said
    assert by_look(whole) == {}


def test_a_resumed_look_ends_as_an_uninterrupted_one(
    model: Path, many: Path, looked: Path, tmp_path: Path
) -> None:
    folder = copied(looked, tmp_path)
    lost = 0
    for evaluation in by_look(looked).values():
        directory = folder / "out" / "evals" / evaluation.eval_id
        (directory / "done").unlink()
        spec = json.loads((directory / "spec.json").read_text())
        spec.pop("looks")
        (directory / "spec.json").write_text(json.dumps(spec))
        parts = sorted(directory.glob("part-*"))
        for part in parts[len(parts) // 2 :]:
            part.unlink()
            lost += 1
    assert lost > 2
    out, said = do(folder, many, content(model))
    assert "stopped at look" in said
    assert stored_rows(out) == stored_rows(looked)
    assert by_look(out).keys() == by_look(looked).keys()
    for task, evaluation in by_look(out).items():
        assert evaluation.spec == by_look(looked)[task].spec
    _, said = do(folder, many, content(model))
    assert "stored already" in said


def test_runs_dealt_to_several_places_store_what_one_process_stores(
    model: Path, many: Path, looked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As workers do, each from its own copy of the job; with one adapter more, to train."""
    dealt: list[tuple[int, list[bool]]] = []

    def deal(
        job: StudyJob,
        cohorts: Sequence[Cohort],
        store: StoreWriter,
        said: Progress,
        *,
        nursery: Nursery,
        count: int,
    ) -> list[Failure]:
        runs = [(cell.run, cohort) for cohort in cohorts for cell in cohort.cells]
        dealt.append((count, [run.is_trained for run, _ in runs]))
        places = [Workplace(pickle.loads(pickle.dumps(job)), store, said) for _ in range(count)]
        ends = [places[n % count].do(run, c, run.label) for n, (run, c) in enumerate(runs)]
        return [end for end in ends if end is not None]

    monkeypatch.setattr("maple.run.local.deal_runs", deal)
    folder = copied(looked, tmp_path, evaluations=False)
    made = content(model, tasks=["xcopa"]) | {"methods": TWO}
    out, said = do(folder, many, made, workers=2)
    assert dealt == [(1, [False]), (2, [True, True])], "the base comes first, alone"
    assert "error 0.1 in each of 2 comparisons" in said
    before = rows_in(looked, "xcopa")
    ids = {row["eval_id"] for row in before}
    assert [row for row in stored_rows(out) if row["eval_id"] in ids] == before
    specs = {e.eval_id: e.spec for e in open_store(out).evaluations()}
    one = by_look(looked)["xcopa"]
    assert specs[one.eval_id] == one.spec
    assert sum("looks" in spec for spec in specs.values()) == 2


def test_what_others_are_compared_with_comes_first(model: Path, many: Path, tmp_path: Path) -> None:
    def planned(against: str) -> Plan:
        made = content(model, LOOK | {"against": against, "divide": "grid"}) | {"methods": TWO}
        path = write_study(tmp_path / "study.yaml", made | {"data": str(many)})
        return make_plan(load_study(path), Files(directory=many))

    base, small, large = (cell.run for cell in planned("base").cells)
    looks = looks_of_plan(planned("base"))
    assert looks is not None
    assert {k: v.id for k, v in looks.against.items()} == {small.id: base.id, large.id: base.id}
    assert looks.comparisons == 2 * 3
    named = planned(small.id)
    looks = looks_of_plan(named)
    assert looks is not None
    assert {k: v.id for k, v in looks.against.items()} == {large.id: small.id}
    phases = in_phases(list(named.cohorts()), looks)
    ids = [[cell.run.id for cohort in phase for cell in cohort.cells] for phase in phases]
    assert ids == [[small.id], [base.id, large.id]]


def test_a_run_without_its_comparison_fails_and_says_so(
    model: Path, many: Path, looked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copied(looked, tmp_path, evaluations=False)
    made = content(model, tasks=["xcopa"])
    study = load_study(write_study(folder / "study.yaml", made | {"data": str(many)}))

    def broken(scored: Any, run_id: str, adapter: str, context: CohortContext) -> None:
        if adapter == "none":
            raise MapleError("no base today")
        score_model(scored, run_id, adapter, context)

    monkeypatch.setattr("maple.run.cell.score_model", broken)
    progress = Progress(Console(file=io.StringIO()))
    outcome = run_study(study, Files(directory=many), folder / "out", workers=1, progress=progress)
    assert ["no base today" in error for _, error in outcome.failures] == [True, False]
    assert "is not finished in this store" in outcome.failures[1][1]
    assert stored_rows(folder / "out") == [], "nothing is scored in vain"


def test_a_part_is_in_no_score_mean_or_delta(looked: Path, summary: Summary) -> None:
    parts = [e for e in by_look(looked).values() if e.spec["looks"]["is_part"]]
    assert parts
    estimates = summary.estimates
    shown = {(s.task, s.run_id) for s in (*estimates.scores, *estimates.means, *estimates.deltas)}
    for part in parts:
        assert (part.task, part.run_id) not in shown
        gap = next(g for g in summary.gaps if (g.task, g.run_id) == (part.task, part.run_id))
        assert gap.reason.startswith("stopped at early look")
        assert gap.n_stored == part.n_samples
    assert not any(e.run_id == parts[0].run_id for e in estimates.run_effects)
    assert {(e.task, e.is_part) for e in summary.early_looks} == {
        (e.task, e.spec["looks"]["is_part"]) for e in by_look(looked).values()
    }


def test_the_report_and_its_tables_say_what_is_a_part(looked: Path, summary: Summary) -> None:
    text = write_report(looked).read_text()
    section = text[text.index('id="early-looks"') :]
    section = section[: section.index("</section>")]
    assert section.count("<b>part</b>") == 1 + sum(e.is_part for e in summary.early_looks)
    table = (looked / "tables" / "early_looks.csv").read_text().splitlines()
    assert len(table) == 1 + len(summary.early_looks)
    assert {"is_part", "alpha", "spent", "estimate", "low", "high", "p"} <= set(table[0].split(","))


def test_every_view_of_a_store_marks_its_parts(looked: Path) -> None:
    parts = {e.task for e in by_look(looked).values() if e.spec["looks"]["is_part"]}
    assert 0 < len(parts) < 3
    scores = Watcher(looked).look()["scores"]
    assert {s["task"] for s in scores if s["is_part"]} == parts
    screen = io.StringIO()
    Console(file=screen, width=200).print(status_table(looked))
    assert f"3 of 3 task-languages, {len(parts)} stopped at an early look" in screen.getvalue()
    opened = Opened(open_store(looked))
    base, lora = (Side(opened=opened, runs=(run,)) for run in opened.runs)
    (pair,) = compare([(base, lora)]).pairs
    assert {cell.task for cell in pair.cells} == {"xnli", "xcopa", "xquad"} - parts
    (note,) = (note for note in pair.notes if "stopped at an early look" in note)
    assert all(f"{task} tur_Latn" in note for task in parts)


def test_of_a_rule_that_grew_with_its_study_the_least_error_counts(looked: Path) -> None:
    store = open_store(looked)
    runs, found = store.runs(), store.evaluations()
    (one, *_) = (e for e in found if e.spec.get("looks", {}).get("is_part"))
    small = {"alpha": 0.01}
    again = dataclasses.replace(
        one,
        eval_id="f" * 16,
        spec={
            **one.spec,
            "early_look": one.spec["early_look"] | small,
            "looks": one.spec["looks"] | small,
        },
    )
    modes, aside = find_modes([*found, again], runs)
    rows = looked_at([*found, again], modes, aside)
    assert len(rows) == 3
    assert [row.alpha for row in rows if row.task == one.task] == [0.01]


def test_an_adapter_is_looked_at_against_the_base_scored_first(
    model: Path, many: Path, looked: Path, tmp_path: Path
) -> None:
    (adapter,) = looked.glob("runs/*/adapter")

    def call(**changes: Any) -> StudyOutcome:
        request = EvaluationRequest(
            model=str(model),
            adapters=(adapter,),
            evaluations=(Evaluation(task="xcopa", language="tur_Latn", english_only=False),),
            prompt=PromptSettings(template="bactrian-x"),
            early_look=EarlyLook(**LOOK),
        )
        request = EvaluationRequest(**(vars(request) | changes))
        progress = Progress(Console(file=io.StringIO()))
        return evaluate_models(request, Files(directory=many), tmp_path, progress=progress)

    with pytest.raises(UsageError, match="name at least one --adapter"):
        call(adapters=())
    with pytest.raises(UsageError, match="no --adapter is"):
        call(early_look=EarlyLook(against="elsewhere"))
    with pytest.raises(UsageError, match="--share-passes"):
        call(share_passes=True)
    assert call().n_done == 2
    (found,), before = by_look(tmp_path).values(), by_look(looked)["xcopa"].spec["looks"]
    assert found.spec["looks"] == before
    labels = [run.cell.method for run in open_store(tmp_path).runs()]
    assert labels == ["none", "lora"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"against": "0" * 16}, "no run of this study"), ({"divide": 2}, "and there are 3")],
)
def test_a_plan_refuses_what_the_study_cannot_have(
    model: Path, many: Path, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    made = content(model, LOOK | changes) | {"data": str(many)}
    with pytest.raises(StudyError, match=message):
        make_plan(load_study(write_study(tmp_path / "study.yaml", made)), Files(directory=many))
