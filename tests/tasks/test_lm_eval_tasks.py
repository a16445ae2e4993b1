"""``lm-eval:TASK``: the harness's task through our engine, equal to the harness's own run of it."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from maple.base import LoadedBase
from maple.catalog import load_task
from maple.catalog.contracts import GenerationRequest, RankingRequest
from maple.catalog.harness import Benchmark, Leaf
from maple.catalog.tasks.lm_eval import _language
from maple.errors import SourceError, StudyError, UsageError
from maple.evaluate import Engine, prepare_task, score_batches
from maple.evaluate.encode import Encoder
from maple.evaluate.prepare import TaskRequest
from maple.files import Files
from maple.plan.evaluations import select_evaluations
from maple.records import SampleRecord
from maple.study import PromptSettings

QUESTIONS = [
    {"q": "Taja mji mkuu wa Kenya.", "options": ["Nairobi", "Mombasa ya Pwani"], "answer": 0},
    {"q": "3 + 4?", "options": ["nane", "saba"], "answer": 1},
    {"q": "Anga ni ", "options": ["bluu", "ya kijani kabisa"], "answer": 0},
    {"q": "说出肯尼亚的首都。", "options": ["内罗毕", "三"], "answer": 1},
]
SHOWN = [{"q": f"Swali {n}", "options": [f"jibu {n}", "hapana"], "answer": n % 2} for n in range(5)]
CHOICE = """
dataset_path: json
test_split: test
fewshot_split: train
output_type: multiple_choice
doc_to_text: "Swali: {{q}}\\nJibu:"
doc_to_choice: "{{options}}"
doc_to_target: answer
metric_list:
  - {metric: acc, aggregation: mean, higher_is_better: true}
  - {metric: acc_norm, aggregation: mean, higher_is_better: true}
  - {metric: acc_mutual_info, aggregation: mean, higher_is_better: true}
metadata: {version: 1.0}
"""
ANSWER = """
dataset_path: json
test_split: test
output_type: generate_until
doc_to_text: !function words.ask
doc_to_target: "{{options[answer]}}"
generation_kwargs: {until: ["\\n", "."], do_sample: false, max_gen_toks: 12}
metric_list:
  - {metric: exact_match, aggregation: mean, higher_is_better: true, ignore_case: true}
filter_list:
  - {name: whole, filter: [{function: take_first}]}
  - name: first-word
    filter: [{function: regex, regex_pattern: "(\\\\w+)"}, {function: take_first}]
"""
GROUP = """
group: both_sw
task: [weather_sw, {task: weather_two, task_alias: two, num_fewshot: 1}]
aggregate_metric_list: [{metric: acc, weight_by_size: true}]
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Tasks of the user's own over local files, and caches of their own."""
    import datasets

    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    root = tmp_path / "tasks"
    root.mkdir()
    files = {}
    for name, rows in (("test", QUESTIONS), ("train", SHOWN)):
        files[name] = tmp_path / f"{name}.jsonl"
        files[name].write_text("".join(json.dumps(row) + "\n" for row in rows))
    data = json.dumps({"data_files": {name: str(path) for name, path in files.items()}})
    for name, text in (("weather_sw", CHOICE), ("weather_two", CHOICE), ("open_de", ANSWER)):
        lines = f"task: {name}\ndataset_kwargs: {data}\n{text}"
        (root / f"{name}.yaml").write_text(lines, encoding="utf-8")
    (root / "both.yaml").write_text(GROUP)
    (root / "words.py").write_text("def ask(doc):\n    return f\"Antwort auf {doc['q']}\"\n")
    monkeypatch.setenv("MAPLE_LM_EVAL_TASKS", str(root))
    return root


def own_rows(
    base: LoadedBase, task: str, language: str, **prompt: Any
) -> tuple[list[SampleRecord], list[Any]]:
    settings = PromptSettings(form="lm-eval", **prompt)
    encoder = Encoder(base.tokenizer, base.family, settings, max_length=base.max_length)
    wanted = TaskRequest(task=task, language=language)
    prepared = prepare_task(wanted, Files(), encoder, max_tokens=2048)
    engine = Engine(base.model, base)
    rows = [r for rs in score_batches(engine, prepared, eval_id="e", run_id="r") for r in rs]
    order = [sample.id for sample in prepared.samples]
    return sorted(rows, key=lambda r: order.index(r.sample_id)), list(prepared.requests)


def their_samples(base: LoadedBase, folder: Path, task: str, **options: Any) -> dict[str, Any]:
    """The harness's own run, with its own Hugging Face engine."""
    import lm_eval
    from lm_eval.models.huggingface import HFLM
    from lm_eval.tasks import TaskManager

    engine = HFLM(
        pretrained=base.model, tokenizer=base.tokenizer, softmax_dtype="float32", batch_size=3
    )
    manager = TaskManager(include_path=str(folder), include_defaults=False)
    found = lm_eval.simple_evaluate(
        model=engine, tasks=[task], task_manager=manager, bootstrap_iters=0, **options
    )
    assert found is not None
    return found


@pytest.fixture(scope="module")
def base(shared_base: Callable[..., LoadedBase]) -> LoadedBase:
    return shared_base("llama")


@pytest.mark.parametrize(("name", "shots"), [("weather_sw", None), ("weather_sw@2", 2)])
def test_a_choice_is_scored_as_by_the_harness(
    base: LoadedBase, folder: Path, name: str, shots: int | None
) -> None:
    rows, _ = own_rows(base, f"lm-eval:{name}", "swh_Latn")
    theirs = their_samples(base, folder, "weather_sw", num_fewshot=shots)
    samples = theirs["samples"]["weather_sw"]
    assert len(rows) == len(samples) == len(QUESTIONS)
    for row, sample in zip(rows, samples, strict=True):
        values = [value for value, _ in sample["filtered_resps"]]
        assert [*row.loglikelihoods, *row.unconditional] == pytest.approx(values, abs=1e-3)
        assert row.metrics == {m: sample[m] for m in sample["metrics"]}
        assert row.score == sample["acc"]
    mean = sum(row.score for row in rows) / len(rows)
    assert mean == theirs["results"]["weather_sw"]["acc,none"]


def test_options_are_scored_alone_only_where_the_yaml_asks_for_it(
    base: LoadedBase, folder: Path
) -> None:
    asking = (folder / "weather_sw.yaml").read_text(encoding="utf-8")
    lines = [line for line in asking.splitlines() if "acc_mutual_info" not in line]
    lines[0] = "task: weather_three_sw"
    (folder / "three.yaml").write_text("\n".join(lines), encoding="utf-8")
    rows, _ = own_rows(base, "lm-eval:weather_three_sw", "swh_Latn")
    asked, _ = own_rows(base, "lm-eval:weather_sw", "swh_Latn")
    assert {row.unconditional for row in rows} == {()}
    assert all(len(row.unconditional) == 2 for row in asked)
    assert [row.loglikelihoods for row in rows] == [row.loglikelihoods for row in asked]


def test_generated_answers_are_scored_as_by_the_harness(base: LoadedBase, folder: Path) -> None:
    rows, requests = own_rows(base, "lm-eval:open_de", "deu_Latn")
    assert {(r.stop, r.max_new_tokens) for r in requests} == {(("\n", "."), 12)}
    samples = their_samples(base, folder, "open_de")["samples"]["open_de"]
    whole = [s for s in samples if s["filter"] == "whole"]
    words = [s for s in samples if s["filter"] == "first-word"]
    for row, first, second in zip(rows, whole, words, strict=True):
        assert row.text == first["resps"][0][0]
        assert row.metrics == {
            "exact_match": first["exact_match"],
            "exact_match,first-word": second["exact_match"],
        }


def test_a_right_answer_scores_one_and_a_wrong_one_none(folder: Path) -> None:
    from maple.catalog.contracts import GenerationResponse, RankingResponse

    task = load_task("lm-eval:weather_sw")
    samples = list(task.samples(Files(), "swh_Latn", "test"))
    request = task.request(samples[1], "swh_Latn", PromptSettings())
    assert isinstance(request, RankingRequest)
    values = {1.0: (-9.0, -1.0), 0.0: (-1.0, -9.0)}
    for wanted, pair in values.items():
        response = RankingResponse(
            loglikelihoods=pair,
            is_greedy=(False, False),
            n_tokens=(1, 1),
            unconditional=(-5.0, -5.0),
        )
        score = task.score(samples[1], request, response)
        assert (score.value, score.metrics["acc"]) == (wanted, wanted)
    task = load_task("lm-eval:open_de")
    sample = next(task.samples(Files(), "deu_Latn", "test"))
    asked = task.request(sample, "deu_Latn", PromptSettings())
    assert isinstance(asked, GenerationRequest)
    for text, wanted in (("nairobi", 1.0), ("Nairobi ni", 0.0)):
        response = GenerationResponse(text=text, finish="stop", n_tokens=1)
        score = task.score(sample, asked, response)
        assert (score.metrics["exact_match"], score.prediction) == (wanted, text)


def test_a_group_is_its_tasks_one_after_another(base: LoadedBase, folder: Path) -> None:
    rows, requests = own_rows(base, "lm-eval:both_sw", "swh_Latn")
    assert [row.sample_id for row in rows] == [
        *(f"weather_sw/{n}" for n in range(4)),
        *(f"weather_two/{n}" for n in range(4)),
    ]
    theirs = their_samples(base, folder, "both_sw")
    # What the group overrides holds for its task: one example, and none for the other.
    assert [r.context.count("Swali:") for r in requests] == [1] * 4 + [2] * 4
    samples = [s for name in ("weather_sw", "weather_two") for s in theirs["samples"][name]]
    assert [r.context for r in requests] == [s["arguments"][0][0] for s in samples]
    mean = sum(row.score for row in rows) / len(rows)
    assert mean == pytest.approx(theirs["results"]["both_sw"]["acc,none"])


def test_a_snapshot_is_scored_without_the_data(folder: Path, tmp_path: Path) -> None:
    task = load_task("lm-eval:weather_sw")
    (first,) = task.paths(Files(), "swh_Latn", "test")
    fingerprint = Files().fingerprint([first])
    wanted = list(load_task("lm-eval:weather_sw").samples(Files(), "swh_Latn", "test"))
    # A local file with other content is another benchmark; the one before is still there.
    (tmp_path / "test.jsonl").write_text(json.dumps(QUESTIONS[0]) + "\n")
    (second,) = load_task("lm-eval:weather_sw").paths(Files(), "swh_Latn", "test")
    assert first != second
    assert first.is_file()
    assert Files().fingerprint([second]) != fingerprint
    assert len(wanted) == 4


def test_data_that_cannot_be_had_is_a_source_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "test.jsonl").unlink()
    with pytest.raises(SourceError, match=r"weather_sw: its data \(json\) cannot be had"):
        load_task("lm-eval:weather_sw").paths(Files(), "swh_Latn", "test")


def test_information_is_read_off_the_yaml(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = load_task("lm-eval:weather_sw").info
    assert dict(info.languages) == {"swh_Latn": "weather_sw"}
    assert (info.headline, info.split, info.chance_level) == ("acc", "test", None)
    text = (folder / "weather_sw.yaml").read_text().replace('"{{options}}"', "[A, B, C]")
    text = text.replace("version: 1.0", "language: French").replace("weather_sw", "weather_3")
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "weather_3.yaml").write_text(text)
    monkeypatch.setenv(
        "MAPLE_LM_EVAL_TASKS", os.pathsep.join([str(folder), str(tmp_path / "more")])
    )
    info = load_task("lm-eval:weather_3").info
    assert dict(info.languages) == {"fra_Latn": "weather_3"}
    assert info.chance_level == pytest.approx(1 / 3)


def test_tasks_of_the_harness_itself_are_found_without_its_index() -> None:
    info = load_task("lm-eval:global_mmlu_sw").info
    assert dict(info.languages) == {"swh_Latn": "global_mmlu_sw"}
    assert (info.headline, info.chance_level) == ("acc", 0.25)
    # The YAML's dataset_name says it where the name does not end in it.
    info = load_task("lm-eval:afrimmlu_direct_amh_prompt_1").info
    assert list(info.languages) == ["amh_Ethi"]
    named = {
        "belebele_tha_Thai": "tha_Thai",
        "mmmlu_ko_kr": "kor_Hang",
        "flan_held_in": "eng_Latn",
        "arc_easy": "eng_Latn",
    }
    for name, code in named.items():
        assert _language(Benchmark(name, (Leaf(name, {}),))) == code, name


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("wikitext", "requests are of the kind loglikelihood_rolling.*lm_eval --model maple"),
        ("humaneval", "runs code that the model writes"),
        ("arc_easy@five", "no number of examples: write arc_easy@5"),
    ],
)
def test_what_cannot_be_carried_says_why(name: str, message: str) -> None:
    with pytest.raises(UsageError, match=f"lm-eval:{name}: .*{message}"):
        load_task(f"lm-eval:{name}")


def test_examples_are_the_harness_s_own(folder: Path) -> None:
    task = load_task("lm-eval:weather_sw")
    sample = next(task.samples(Files(), "swh_Latn", "test"))
    with pytest.raises(UsageError, match=r"shots: 3: .*lm-eval:weather_sw@3"):
        task.request(sample, "swh_Latn", PromptSettings(shots=3))


def test_the_plain_name_asks_for_a_task() -> None:
    task = load_task("lm-eval")
    assert not task.info.languages
    with pytest.raises(UsageError, match="lm-eval:global_mmlu_sw"):
        task.paths(Files(), "eng_Latn", "test")


def test_a_study_that_names_no_task_of_it_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(StudyError, match=r"lm-eval.*lm-eval:"):
        select_evaluations(
            ["lm-eval"], "all", data=str(tmp_path), split=None, files=Files(directory=tmp_path)
        )


def test_a_study_scores_it_in_its_own_language(folder: Path, tmp_path: Path) -> None:
    chosen = select_evaluations(
        ["lm-eval:weather_sw"],
        "all",
        data=str(tmp_path),
        split=None,
        files=Files(directory=tmp_path),
    )
    assert [(e.task, e.language) for e in chosen] == [("lm-eval:weather_sw", "swh_Latn")]


def test_a_group_of_the_harness_runs_over_the_hub_s_rows(
    base: LoadedBase, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import lm_eval.tasks

    import datasets

    subjects = ["STEM", "Business", "STEM", "Medical", "Other", "Humanities", "Social Sciences"]
    rows = [
        {"question": f"Swali {n}?", "answer": "ABCD"[n % 4], "subject_category": subject,
         **{f"option_{letter}": f"jibu {letter}{n}" for letter in "abcd"}}
        for n, subject in enumerate(subjects)
    ]  # fmt: skip
    table = datasets.Dataset.from_list(rows)
    loaded: list[tuple[Any, ...]] = []

    def load(path: str, name: str | None = None, **_: Any) -> dict[str, Any]:
        loaded.append((path, name))
        return {"test": table, "dev": table}

    monkeypatch.setattr(datasets, "load_dataset", load)
    found, requests = own_rows(base, "lm-eval:global_mmlu_sw", "swh_Latn")
    assert set(loaded) == {("CohereForAI/Global-MMLU-Lite", "sw")}
    path = Path(lm_eval.tasks.__file__).parent / "global_mmlu" / "default" / "sw"
    theirs = their_samples(base, path, "global_mmlu_sw")
    samples = [s for name in theirs["group_subtasks"]["global_mmlu_sw"]
               for s in theirs["samples"][name]]  # fmt: skip
    assert len(found) == len(samples) == len(rows)
    assert [r.context for r in requests] == [s["arguments"][0][0] for s in samples]
    for row, sample in zip(found, samples, strict=True):
        values = [value for value, _ in sample["filtered_resps"]]
        assert row.loglikelihoods == pytest.approx(values, abs=1e-3)
        assert row.metrics == {"acc": sample["acc"]}
        assert row.gold == (str("ABCD".index(sample["target"])),)
    assert 0 < sum(row.score for row in found) < len(rows)
