"""The exported layout against files that lm-evaluation-harness 0.4.13 writes itself."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lm_eval_oracle
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from maple.errors import StoreError
from maple.evaluate.export import export_lm_eval
from maple.records.rows import PROMPT_SCHEMA, SAMPLE_SCHEMA

XCOPA = [
    {"premise": "Mtu alianguka.", "choice1": "Aliteleza.", "choice2": "Alilala.",
     "question": "cause", "label": 0, "idx": 0, "changed": False},
    {"premise": "Mvua ilinyesha.", "choice1": "Jua liliwaka.", "choice2": "Njia ililowa.",
     "question": "effect", "label": 1, "idx": 1, "changed": False},
    {"premise": "Mlango ulivunjika.", "choice1": "Ulipigwa.", "choice2": "Ulifungwa.",
     "question": "cause", "label": 0, "idx": 2, "changed": False},
]  # fmt: skip
XQUAD = [
    {"id": f"56be{n}", "context": "308 sayı.", "question": "Kaç?",
     "answers": {"text": ["308"], "answer_start": [0]}}
    for n in (9, 1, 5)
]  # fmt: skip
VALUES = [(-1.5, -2.5), (-3.25, -2.0), (-9.0, -8.0)]
TEXTS = [" 308", " 307", " 308 sayı"]


def harness_log(folder: Path, task: str, language: str, documents: Sequence[Any]) -> list[Path]:
    """Runs the harness on canned answers and lets it write its own files."""
    import lm_eval
    from lm_eval.api.model import LM
    from lm_eval.loggers import EvaluationTracker

    class Canned(LM):
        def loglikelihood(self, requests: Any, **_: Any) -> list[tuple[float, bool]]:
            return [(VALUES[r.doc_id][r.idx], False) for r in requests]

        def generate_until(self, requests: Any, **_: Any) -> list[str]:
            return [TEXTS[r.doc_id] for r in requests]

        loglikelihood_rolling = None  # type: ignore[assignment]

    made = lm_eval_oracle.lm_eval_task(task, language, documents)
    made.set_config(key="num_fewshot", value=0)
    made.set_fewshot_seed(0)
    name = lm_eval_oracle.task_name(task, language)
    results = lm_eval.evaluate(lm=Canned(), task_dict={"tasks": {name: made}, "groups": {}})
    tracker = EvaluationTracker(output_path=str(folder))
    tracker.general_config_tracker.log_experiment_args("hf", "pretrained=m", None, None, False)
    samples = results.pop("samples")
    tracker.save_results_aggregated(results=results, samples=samples)
    tracker.save_results_samples(task_name=name, samples=samples[name])
    return sorted(folder.rglob("*.json*"))


def write_store(root: Path, task: str, code: str, documents: Sequence[Any], **spec: Any) -> Path:
    """A store with one finished evaluation whose rows answer as ``Canned`` does, shuffled."""
    name = {"swh_Latn": "sw", "tur_Latn": "tr"}[code]
    asked = lm_eval_oracle.lm_eval_requests(task, name, documents)
    eval_id, prompts_id = f"e{len(list(root.glob('evals/*')))}", f"p-{task}"
    content = {
        "run_id": "r0", "adapter": "none", "task": task, "task_version": 1, "language": code,
        "data": "d", "split": "test",
        "prompt": {"form": "lm-eval", "instruction_language": "english", "template": "plain",
                   "shots": 0},
        "decoding": {"max_new_tokens": None}, "id": eval_id, "prompts": prompts_id,
        "available": 500, **spec,
    }  # fmt: skip
    ids = [str(d.get("idx", d.get("id"))) for d in documents]
    golds = [[str(d["label"])] if task == "xcopa" else d["answers"]["text"] for d in documents]
    prompts = [
        {"sample_id": i, "context": a.arguments[0][0], "gold": g,
         "continuations": [c for _, c in a.arguments] if task == "xcopa" else []}
        for i, g, a in zip(ids, golds, asked, strict=True)
    ]  # fmt: skip
    rows = [_row(task, n, i, g, eval_id) for n, (i, g) in enumerate(zip(ids, golds, strict=True))]
    folder = root / "evals" / eval_id
    folder.mkdir(parents=True)
    (root / "prompts").mkdir(exist_ok=True)
    (folder / "spec.json").write_text(json.dumps(content))
    _table(prompts, PROMPT_SCHEMA, root / "prompts" / f"{prompts_id}.parquet")
    _table(rows[2:], SAMPLE_SCHEMA, folder / "part-0-1.parquet")
    _table(rows[:2][::-1] + rows[2:], SAMPLE_SCHEMA, folder / "part-1-3.parquet")
    (folder / "done").write_text("{}")
    return folder


def _row(task: str, place: int, sample_id: str, gold: list[str], eval_id: str) -> dict[str, Any]:
    shared = {
        "eval_id": eval_id,
        "run_id": "r0",
        "task": task,
        "sample_id": sample_id,
        "gold": gold,
    }
    if task == "xcopa":
        values = VALUES[place]
        right = float(values.index(max(values)) == int(gold[0]))
        names = ("accuracy", "accuracy_per_token", "accuracy_per_character", "accuracy_per_byte")
        metrics = [(name, right) for name in names]
        return {**shared, "loglikelihoods": values, "is_greedy": [False] * 2, "metrics": metrics}
    metrics = [("f1", [1.0, 0.0, 2 / 3][place]), ("exact_match", float(place == 0))]
    return {**shared, "text": TEXTS[place], "finish": "stop", "metrics": metrics}


def _table(rows: list[dict[str, Any]], schema: pa.Schema, path: Path) -> None:
    pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


CASES = [("xcopa", "sw", "swh_Latn", XCOPA), ("xquad", "tr", "tur_Latn", XQUAD)]


@pytest.mark.parametrize(("task", "name", "code", "documents"), CASES, ids=["xcopa", "xquad"])
def test_samples_equal_the_harness_own_but_for_the_document(
    task: str, name: str, code: str, documents: list[Any], tmp_path: Path
) -> None:
    theirs = lines(harness_log(tmp_path / "theirs", task, name, documents)[-1])
    write_store(tmp_path / "store", task, code, documents)
    ours = lines(export_lm_eval(tmp_path / "store", tmp_path / "ours")[1])
    assert [line["doc_id"] for line in ours] == [0, 1, 2]
    for our, their in zip(ours, theirs, strict=True):
        assert set(their) <= set(our)
        assert set(their["metrics"]) <= set(our["metrics"])
        for key in set(their) - {"doc", "doc_hash", "metrics", "f1"}:
            assert our[key] == their[key], key
        if task == "xquad":
            assert our["f1"] == pytest.approx(their["f1"])


@pytest.mark.parametrize(("task", "name", "code", "documents"), CASES, ids=["xcopa", "xquad"])
def test_results_carry_the_harness_aggregates(
    task: str, name: str, code: str, documents: list[Any], tmp_path: Path
) -> None:
    theirs = json.loads(harness_log(tmp_path / "theirs", task, name, documents)[0].read_text())
    write_store(tmp_path / "store", task, code, documents)
    path = export_lm_eval(tmp_path / "store", tmp_path / "ours")[0]
    ours = json.loads(path.read_text(encoding="utf-8"))
    assert set(theirs) <= set(ours)
    our, their = ours["results"][f"{task}_{name}"], theirs["results"][f"{task}_{name}"]
    assert set(their) <= set(our)
    for key in set(their) - {"alias"}:
        assert our[key] == (pytest.approx(their[key]) if "," in key else their[key]), key
    assert ours["n-samples"] == {f"{task}_{name}": {"original": 500, "effective": 3}}
    for part in ("n-shot", "group_subtasks"):
        assert ours[part] == theirs[part]


def test_files_are_named_as_the_harness_names_them(tmp_path: Path) -> None:
    from lm_eval.utils import get_file_datetime, get_file_task_name

    write_store(tmp_path / "store", "xcopa", "swh_Latn", XCOPA)
    write_store(tmp_path / "store", "xquad", "tur_Latn", XQUAD)
    written = export_lm_eval(tmp_path / "store", tmp_path / "ours")
    assert {path.parent for path in written} == {tmp_path / "ours" / "r0"}
    results, *samples = [path.name for path in written]
    assert {get_file_task_name(name) for name in samples} == {"xcopa_sw", "xquad_tr"}
    stamps = {get_file_datetime(name).removesuffix(".json") for name in (results, *samples)}
    assert len(stamps) == 1


def test_prompt_forms_of_one_run_go_into_files_of_their_own(tmp_path: Path) -> None:
    mega = {"form": "mega", "instruction_language": "native", "template": "alpaca", "shots": 0}
    write_store(tmp_path / "store", "xcopa", "swh_Latn", XCOPA)
    write_store(tmp_path / "store", "xcopa", "swh_Latn", XCOPA, prompt=mega)
    written = export_lm_eval(tmp_path / "store", tmp_path / "ours")
    assert len(set(written)) == 4
    aliases = {
        json.loads(path.read_text())["results"]["xcopa_sw"]["alias"] for path in written[::2]
    }
    assert aliases == {"xcopa_sw (lm-eval english plain)", "xcopa_sw (mega native alpaca)"}


def test_english_copa_goes_by_the_harness_name_of_it(tmp_path: Path) -> None:
    folder = write_store(tmp_path / "store", "xcopa", "swh_Latn", XCOPA)
    spec = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps({**spec, "language": "eng_Latn"}))
    assert export_lm_eval(tmp_path / "store", tmp_path / "ours")[1].name.startswith("samples_copa_")


def test_what_is_unfinished_is_left_out(tmp_path: Path) -> None:
    folder = write_store(tmp_path / "store", "xcopa", "swh_Latn", XCOPA)
    (folder / "done").unlink()
    with pytest.raises(StoreError, match=r"no finished evaluation \(1 begun\)"):
        export_lm_eval(tmp_path / "store", tmp_path / "ours")


def test_a_sample_without_its_prompt_is_an_error(tmp_path: Path) -> None:
    folder = write_store(tmp_path / "store", "xcopa", "swh_Latn", XCOPA)
    write_store(tmp_path / "other", "xcopa", "swh_Latn", XCOPA[:1] * 3)
    prompts = tmp_path / "other" / "prompts" / "p-xcopa.parquet"
    (tmp_path / "store" / "prompts" / "p-xcopa.parquet").write_bytes(prompts.read_bytes())
    with pytest.raises(StoreError, match=f"{folder.name}: sample '2' has no prompt"):
        export_lm_eval(tmp_path / "store", tmp_path / "ours")


def test_the_harness_s_own_tools_read_the_files(tmp_path: Path) -> None:
    from lm_eval.utils import (
        get_latest_filename,
        get_results_filenames,
        get_sample_results_filenames,
        make_table,
    )

    write_store(tmp_path / "store", "xcopa", "swh_Latn", XCOPA)
    write_store(tmp_path / "store", "xquad", "tur_Latn", XQUAD)
    written = [str(p) for p in export_lm_eval(tmp_path / "store", tmp_path / "ours")]
    latest = get_latest_filename(get_results_filenames(written))
    assert latest == written[0]
    assert len(get_sample_results_filenames(written)) == 2
    table = make_table(json.loads(Path(latest).read_text(encoding="utf-8")))
    cells = [[cell.strip() for cell in line.split("|")] for line in table.splitlines()]
    values = {(row[5], row[7]) for row in cells if len(row) > 8}
    assert {("acc", "0.6667"), ("exact_match", "0.3333"), ("f1", "0.5556")} <= values


def export_one(tmp_path: Path, folder: Path, **changes: Any) -> tuple[dict[str, Any], Path]:
    """The results file of a store of one evaluation, some of its spec changed."""
    spec = json.loads((folder / "spec.json").read_text())
    (folder / "spec.json").write_text(json.dumps({**spec, **changes}))
    results, samples = export_lm_eval(tmp_path / "store", tmp_path / "ours")
    return json.loads(results.read_text(encoding="utf-8")), samples


@pytest.mark.parametrize(
    ("stop", "limit", "settings"),
    [
        ([], 128, {"until": [], "max_gen_toks": 128}),
        (["\n\n", "."], 256, {"until": ["\n\n", "."]}),
        (None, None, {"until": ["\n"]}),
    ],
)
def test_a_request_s_own_stop_strings_are_written(
    tmp_path: Path, stop: list[str] | None, limit: int | None, settings: dict[str, Any]
) -> None:
    folder = write_store(tmp_path / "store", "xquad", "tur_Latn", XQUAD)
    path = tmp_path / "store" / "prompts" / "p-xquad.parquet"
    rows = pq.read_table(path).to_pylist()
    kept = [{**row, "stop": stop, "max_new_tokens": limit} for row in rows]
    # Stores from before the columns were there have none.
    schema = PROMPT_SCHEMA if stop is not None else pa.schema(list(PROMPT_SCHEMA)[:-2])
    _table(kept, schema, path)
    _, samples = export_one(tmp_path, folder)
    greedy = {"do_sample": False, "temperature": 0.0}
    for line in lines(samples):
        assert line["arguments"]["gen_args_0"]["arg_1"] == {**settings, **greedy}


def test_a_generated_choice_is_an_exact_match_after_a_filter(tmp_path: Path) -> None:
    folder = write_store(tmp_path / "store", "xquad", "tur_Latn", XQUAD)
    answers = [(" A", "0", 1.0), (" Bilmiyorum", "", 0.0), (" B", "1", 0.0)]
    for part in folder.glob("part-*.parquet"):
        part.unlink()
    rows = []
    for document, (text, prediction, value) in zip(XQUAD, answers, strict=True):
        metrics = {"accuracy": value, "extracted": float(bool(prediction))}
        if prediction:
            metrics["accuracy_if_extracted"] = value
        rows.append(
            {"eval_id": "e0", "run_id": "r0", "task": "xnli", "sample_id": document["id"],
             "gold": ["0"], "text": text, "finish": "stop", "prediction": prediction,
             "metrics": list(metrics.items())}
        )  # fmt: skip
    _table(rows, SAMPLE_SCHEMA, folder / "part-0-3.parquet")
    mega = {"form": "mega", "instruction_language": "english", "template": "plain", "shots": 0}
    results, samples = export_one(
        tmp_path, folder, task="xnli", prompt={**mega, "scoring": "generation"}
    )
    ours = results["results"]["xnli_tr"]
    assert ours["alias"] == "xnli_tr (mega english plain generation)"
    third = pytest.approx(1 / 3)
    assert (ours["acc,none"], ours["exact_match,none"], ours["extracted,none"]) == (
        third,
        third,
        pytest.approx(2 / 3),
    )
    # A mean over the two samples that an answer could be taken from.
    assert ours["accuracy_if_extracted,none"] == 0.5
    assert results["configs"]["xnli_tr"]["output_type"] == "generate_until"
    found = [(line["resps"], line["filtered_resps"]) for line in lines(samples)]
    assert found == [([[text]], [prediction]) for text, prediction, _ in answers]


@pytest.mark.parametrize(
    ("task", "code", "name"),
    [
        ("mlqa", "deu_Latn", "mlqa_de_de"),
        ("mlqa:en", "deu_Latn", "mlqa_en_de"),
        ("pawsx", "jpn_Jpan", "paws_ja"),
        ("tydiqa-goldp", "tel_Telu", "tydiqa_goldp_te"),
        ("belebele", "tha_Thai", "belebele_tha_Thai"),
        ("xcopa", "eng_Latn", "copa"),
        ("lm-eval:global_mmlu_sw@5", "swh_Latn", "global_mmlu_sw"),
        ("gone-since", "deu_Latn", "gone_since_de"),
    ],
)
def test_tasks_go_by_the_harness_s_names(tmp_path: Path, task: str, code: str, name: str) -> None:
    import lm_eval.tasks

    folder = write_store(tmp_path / "store", "xcopa", "swh_Latn", XCOPA)
    results, samples = export_one(tmp_path, folder, task=task, language=code)
    assert list(results["results"]) == [name]
    assert samples.name.startswith(f"samples_{name}_")
    root = Path(lm_eval.tasks.__file__).parent
    tasks = {"belebele": "belebele", "mlqa": "mlqa", "paws": "paws-x", "tydiqa": "tydiqa"}
    if (place := tasks.get(name.split("_")[0])) is not None:
        assert (root / place / f"{name}.yaml").is_file()
