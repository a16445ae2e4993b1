"""The plan: what is crossed, collapsed, skipped and estimated, at once and without torch."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from maple.errors import CatalogError, MapleError, StudyError
from maple.files import Files
from maple.plan import Plan, make_plan
from maple.study.file import StudySpec

STUDIES = Path(__file__).parents[2] / "studies"
MAPLE = "from maple.cli import main; main()"


def plan_of(**changes: Any) -> Plan:
    """The plan of a small study of a Hub model, planned without the Hub."""
    content: dict[str, Any] = {
        "name": "s",
        "models": ["meta-llama/Llama-2-7b-hf"],
        "methods": ["none", {"lora": {"rank": [8, 16]}}],
        "quantization": ["bf16", "nf4"],
        "mixtures": {"generated": {"multialpaca": 1.0}},
        "evaluate": {"tasks": ["xnli", "xcopa"], "languages": ["sw"]},
    }
    return make_plan(StudySpec.model_validate(content | changes), Files())


def json_plan(study: Path) -> dict[str, Any]:
    """What ``maple plan --json`` prints, with the seconds it took."""
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", MAPLE, "plan", str(study), "--json"],
        capture_output=True,
        text=True,
        check=True,
    )
    plan: dict[str, Any] = json.loads(done.stdout)
    return plan | {"seconds": time.monotonic() - began}


def test_the_papers_study_is_66_runs_that_stand_for_72() -> None:
    plan = json_plan(STUDIES / "maple-paper.yaml")
    cells = plan["cells"]
    # 2 bases x 3 bit widths x (the base itself + 5 ranks x 2 mixtures).
    assert len(cells) == 2 * 3 * (1 + 5 * 2) == 66
    assert sum(cell["stands_for"] for cell in cells) == 2 * 3 * 6 * 2 == 72
    bases = [cell for cell in cells if cell["method"] == "none"]
    assert [cell["stands_for"] for cell in bases] == [2] * 6
    assert len({cell["run_id"] for cell in cells}) == 66
    assert len({cell["label"] for cell in cells}) == 66
    assert [c["runs"] for c in plan["cohorts"]] == [11] * 6
    assert plan["skipped"] == []
    per_task = {t: [e["language"] for e in plan["evaluations"] if e["task"] == t]
                for t in ("xnli", "xcopa", "xquad")}  # fmt: skip
    assert {task: len(codes) for task, codes in per_task.items()} == {
        "xnli": 15, "xcopa": 12, "xquad": 12,
    }  # fmt: skip


def test_the_papers_lora_sizes_are_the_closed_form() -> None:
    plan = json_plan(STUDIES / "maple-paper.yaml")
    per_rank = {"meta-llama/Llama-2-7b-hf": 1_048_576, "mistralai/Mistral-7B-v0.1": 851_968}
    totals = {"meta-llama/Llama-2-7b-hf": 6_738_415_616, "mistralai/Mistral-7B-v0.1": 7_241_732_096}
    for cell in plan["cells"]:
        rank = cell["parameters"].get("rank", 0)
        assert cell["trainable_parameters"] == rank * per_rank[cell["model"]]
        assert cell["total_parameters"] == totals[cell["model"]]


def test_planning_takes_a_second_and_no_torch() -> None:
    seconds = statistics.median(
        json_plan(STUDIES / "maple-paper.yaml")["seconds"] for _ in range(3)
    )
    print(f"maple plan: {seconds:.2f} s")
    assert seconds < 3
    code = (
        "import sys; from maple.cli import app\n"
        "try: app(['plan', sys.argv[1], '--json'])\n"
        "except SystemExit as end: assert not end.code\n"
        "heavy = {'torch', 'transformers', 'peft', 'bitsandbytes'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(STUDIES / "maple-paper.yaml")],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("study", sorted(STUDIES.glob("*.yaml")), ids=lambda p: p.stem)
def test_every_study_that_comes_along_can_be_read(study: Path) -> None:
    from maple.study.file import load_study

    assert load_study(study).name == study.stem


def test_the_base_is_one_run_whatever_the_mixtures_and_seeds() -> None:
    plan = plan_of(mixtures={"a": {"multialpaca": 1.0}, "b": {"alpaca": 1.0}}, seeds=[0, 1, 2])
    none = [cell for cell in plan.cells if cell.run.method.name == "none"]
    lora = [cell for cell in plan.cells if cell.run.method.name == "lora"]
    assert [cell.stands_for for cell in none] == [6, 6]
    assert len(lora) == 2 * 2 * 2 * 3
    assert {cell.stands_for for cell in lora} == {1}


def test_the_same_mixture_under_two_names_is_trained_once() -> None:
    plan = plan_of(mixtures={"a": {"multialpaca": 1.0}, "b": {"multialpaca": 1.0}})
    lora = [cell for cell in plan.cells if cell.run.method.name == "lora"]
    assert [cell.stands_for for cell in lora] == [2] * 4


def test_full_fine_tuning_of_four_bits_is_skipped_with_its_reason() -> None:
    plan = plan_of(methods=["full"], quantization=["bf16", "int8", "nf4"])
    assert [cell.run.quantization for cell in plan.cells] == ["bf16"]
    assert [skip.cell for skip in plan.skipped] == [
        "meta-llama/Llama-2-7b-hf · full · int8",
        "meta-llama/Llama-2-7b-hf · full · nf4",
    ]
    assert all("4-bit" in s.reason or "8-bit" in s.reason for s in plan.skipped)


def test_levels_cross_and_labels_tell_them_apart() -> None:
    plan = plan_of(
        methods=[{"lora": {"rank": [8, 16], "alpha": [16, 32], "targets": "all-linear"}}],
        quantization=["bf16"],
    )
    assert len(plan.cells) == 4
    labels = [cell.label for cell in plan.cells]
    assert len(set(labels)) == 4
    assert all("alpha=" in label and "targets" not in label for label in labels)


def test_a_list_of_targets_is_one_level_and_a_list_of_lists_crosses() -> None:
    def targets(value: Any) -> list[Any]:
        plan = plan_of(methods=[{"lora": {"targets": value}}], quantization=["bf16"])
        return [cell.run.method.parameters["targets"] for cell in plan.cells]

    assert targets(["q_proj", "v_proj"]) == [["q_proj", "v_proj"]]
    assert targets([["q_proj"], "all-linear"]) == [["q_proj"], "all-linear"]
    assert targets(["attention", "all-linear"]) == ["attention", "all-linear"]


def test_two_revisions_of_one_name_are_two_cohorts() -> None:
    names = [{"name": "org/base", "revision": revision} for revision in ("a" * 40, "b" * 40)]
    plan = plan_of(models=names, methods=["none"], quantization=["bf16"])
    cohorts = list(plan.cohorts())
    assert [cohort.cells[0].run.model.revision for cohort in cohorts] == ["a" * 40, "b" * 40]


def test_a_language_or_task_named_twice_is_scored_once() -> None:
    evaluate = {"tasks": ["xnli", "xnli"], "languages": ["sw", "swh_Latn", "Swahili"]}
    plan = plan_of(evaluate=evaluate)
    assert [(e.task, e.language) for e in plan.evaluations] == [("xnli", "swh_Latn")]


def test_the_choices_of_a_study_reach_its_prompt() -> None:
    assert "choices" not in plan_of().as_json()["prompt"]
    evaluate = {"tasks": ["belebele"], "languages": ["sw"], "prompt": {"choices": "cloze"}}
    plan = plan_of(evaluate=evaluate)
    assert plan.prompt().choices == plan.as_json()["prompt"]["choices"] == "cloze"


def test_a_task_without_a_language_says_so_and_english_is_added() -> None:
    evaluate = {"tasks": ["xnli", "xquad"], "languages": ["sw"], "english": ["xquad"]}
    plan = plan_of(evaluate=evaluate)
    assert [(m.task, m.language) for m in plan.missing] == [("xquad", "swh_Latn")]
    assert "no such language" in plan.missing[0].reason
    assert [(e.task, e.language, e.english_only) for e in plan.evaluations] == [
        ("xnli", "swh_Latn", False),
        ("xquad", "eng_Latn", True),
    ]


def test_unresolved_commits_are_noted() -> None:
    (note,) = (note for note in plan_of().notes if "provisional" in note)
    assert "meta-llama/Llama-2-7b-hf, multialpaca" in note


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"methods": ["lorra"]}, CatalogError, ["no method 'lorra'", "Did you mean 'lora'"]),
        ({"methods": [{"lora": {"rank": 0}}]}, StudyError, ["rank = 0", "greater than 0"]),
        ({"methods": [{"lora": {"rank": [8, "big"]}}]}, StudyError, ["rank", "'big'", "integer"]),
        ({"methods": [{"lora": {"rnak": 8}}]}, StudyError, ["'rnak'", "Did you mean 'rank'"]),
        ({"methods": [{"lora": {"rnak": [8]}}]}, StudyError, ["'rnak'", "Did you mean 'rank'"]),
        ({"methods": [{"lora": {"rank": []}}]}, StudyError, ["rank = []", "nothing to run"]),
        ({"methods": [{"lora": {"dropout": 1.5}}]}, StudyError, ["dropout = 1.5", "less than 1"]),
        ({"quantization": ["nf5"]}, CatalogError, ["no quantization 'nf5'", "'nf4'"]),
        ({"mixtures": {"m": {"multalpaca": 1}}}, CatalogError, ["'multalpaca'", "'multialpaca'"]),
        (
            {"mixtures": {"m": {"multialpaca": {"wieght": 2}}}},
            StudyError,
            ["mixture 'm'", "'wieght'", "Did you mean 'weight'"],
        ),
        (
            {"mixtures": {"m": {"multialpaca": {"languages": ["sw"]}}}},
            StudyError,
            ["mixture 'm'", "multialpaca has no swh_Latn"],
        ),
        ({"mixtures": {"m": {"jsonl": {"path": "x"}}}}, StudyError, ["mixture 'm'", "languages:"]),
        ({"evaluate": {"tasks": ["xnlli"]}}, CatalogError, ["no task 'xnlli'", "'xnli'"]),
        (
            {"evaluate": {"tasks": ["xnli"], "languages": ["swahilli"]}},
            CatalogError,
            ["'swahilli'", "'swahili' (swh_Latn)"],
        ),
        (
            {"evaluate": {"tasks": ["xnli"], "languages": ["sw", "et"]}},
            StudyError,
            ["no task of the study has 'et' (est_Latn)", "xnli: the benchmark has no such"],
        ),
        ({"models": [{"name": "x", "family": "lama"}]}, CatalogError, ["'lama'", "'llama'"]),
    ],
)
def test_what_cannot_be_planned_names_key_and_next_step(
    changes: dict[str, Any], error: type[MapleError], words: list[str]
) -> None:
    with pytest.raises(error) as caught:
        plan_of(**changes)
    assert caught.value.exit_code == 2
    for word in words:
        assert word in str(caught.value)


def test_run_ids_are_the_same_in_every_process_and_under_every_hash_seed() -> None:
    code = (
        "import json, sys; sys.path.insert(0, sys.argv[1])\n"
        "from tests.plan.test_plan import plan_of\n"
        "print(json.dumps([cell.run.id for cell in plan_of().cells]))"
    )
    found = [
        subprocess.run(
            [sys.executable, "-c", code, str(STUDIES.parent)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1")
    ]
    assert found[0] == found[1]
    assert json.loads(found[0]) == [cell.run.id for cell in plan_of().cells]
