"""``maple eval``: any adapters on one base, matched to it, and exported for other tools."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from tests.run.program import Program
from tests.run.tiny import stored_rows, study, write_study

from maple.store.read import open_store


@pytest.fixture(scope="module")
def trained(
    program: Program, model: Path, data: Path, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A folder with ``data`` and a store ``out`` of two LoRA runs at fp32 and one at nf4."""
    folder = tmp_path_factory.mktemp("trained")
    shutil.copytree(data, folder / "data")
    evaluate = {"tasks": ["xcopa"], "languages": ["sw"], "limit": 3}
    for name, methods, bits in (
        ("a", [{"lora": {"rank": [2, 4]}}], "fp32"),
        ("b", [{"lora": {"rank": 2}}], "nf4"),
    ):
        content = study(model, name=name, methods=methods, quantization=[bits], evaluate=evaluate)
        write_study(folder / f"{name}.yaml", content)
        outcome = program("run", f"{name}.yaml", "--data-dir", "data", "--out", name, cwd=folder)
        assert outcome.code == 0, outcome.err
    return folder


def adapters(trained: Path, store: str = "a") -> list[Path]:
    """Adapters of a store, in the plan's order."""
    runs = open_store(trained / store).runs()
    return [trained / store / "runs" / run.run_id / "adapter" for run in runs]


def arguments(model: Path, *chosen: Path, tasks: str = "xcopa", out: str | Path = "eval") -> list:
    named = [part for path in chosen for part in ("--adapter", path)]
    languages = ["--languages", "sw"]
    return ["eval", model, *named, "--tasks", tasks, *languages, "--data-dir", "data", "--out", out]


def scores(store: Path) -> list[dict]:
    """What was answered, whoever is said to have answered it."""
    keys = ("task", "language", "sample_id", "score", "prediction", "loglikelihoods")
    return [{k: row[k] for k in keys} for row in stored_rows(store)]


def test_several_adapters_on_one_base_score_as_each_alone(
    program: Program, model: Path, trained: Path, tmp_path: Path
) -> None:
    first, second = adapters(trained)
    common = ["--limit", 3, "--template", "bactrian-x"]
    together = tmp_path / "together"
    outcome = program(*arguments(model, first, second, out=together), *common, cwd=trained)
    assert outcome.code == 0, outcome.err
    alone = []
    for n, adapter in enumerate((first, second)):
        out = tmp_path / str(n)
        assert program(*arguments(model, adapter, out=out), *common, cwd=trained).code == 0
        alone += stored_rows(out)
    rows = stored_rows(together)
    assert len({row["run_id"] for row in rows}) == 2
    key = ("run_id", "sample_id")
    alone.sort(key=lambda row: tuple(row[k] for k in key))
    assert rows == alone
    # And as the study itself scored them.
    by_score = sorted(str(s) for s in scores(together))
    assert by_score == sorted(str(s) for s in scores(trained / "a"))
    labels = [run.cell.label for run in open_store(together).runs()]
    assert len(set(labels)) == 2, "two adapters of one rank must be told apart"


def test_an_evaluation_is_not_computed_twice(
    program: Program, model: Path, trained: Path, tmp_path: Path
) -> None:
    call = [*arguments(model, adapters(trained)[0], out=tmp_path / "e"), "--limit", 3]
    assert program(*call, cwd=trained).code == 0
    parts = {p: p.stat().st_mtime_ns for p in (tmp_path / "e").rglob("part-*")}
    assert program(*call, cwd=trained).code == 0
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "e").rglob("part-*")} == parts


def test_an_adapter_of_another_base_is_refused_unless_allowed_and_then_labelled(
    program: Program, model: Path, other_model: Path, trained: Path, tmp_path: Path
) -> None:
    adapter = adapters(trained)[0]
    call = [*arguments(other_model, adapter, out=tmp_path / "e"), "--limit", 2]
    refused = program(*call, cwd=trained)
    assert refused.code == 1
    assert str(adapter) in refused.complaint
    assert "--allow-mismatch" in refused.complaint
    assert not (tmp_path / "e").exists()
    allowed = program(*call, "--allow-mismatch", cwd=trained)
    assert allowed.code == 0, allowed.err
    (run,) = open_store(tmp_path / "e").runs()
    assert "trained on" in run.cell.label
    assert "trained on" in str(run.cell.parameters["mismatch"])
    assert len(stored_rows(tmp_path / "e")) == 2


def test_an_adapter_of_other_bits_is_refused_unless_allowed_and_then_labelled(
    program: Program, model: Path, trained: Path, tmp_path: Path
) -> None:
    adapter = adapters(trained, "b")[0]
    call = [*arguments(model, adapter, out=tmp_path / "e"), "--limit", 2]
    refused = program(*call, "--quantization", "fp32", cwd=trained)
    assert refused.code == 1
    assert "trained on nf4, not on fp32" in refused.complaint
    allowed = program(*call, "--quantization", "fp32", "--allow-mismatch", cwd=trained)
    assert allowed.code == 0, allowed.err
    assert "nf4, not on fp32" in open_store(tmp_path / "e").runs()[0].cell.label
    # Without a wish, the adapter's own bits.
    assert program(*arguments(model, adapter, out=tmp_path / "own"), cwd=trained).code == 0
    assert open_store(tmp_path / "own").runs()[0].cell.quantization == "nf4"


def test_adapters_of_different_bits_do_not_share_a_base(
    program: Program, model: Path, trained: Path, tmp_path: Path
) -> None:
    chosen = [adapters(trained)[0], adapters(trained, "b")[0]]
    outcome = program(*arguments(model, *chosen, out=tmp_path / "e"), cwd=trained)
    assert outcome.code == 1
    assert "fp32, nf4" in outcome.complaint


def _empty(folder: Path) -> None:
    folder.mkdir()


def _broken_card(folder: Path) -> None:
    folder.mkdir()
    (folder / "maple.json").write_text('{"base": ')


def _wrong_card(folder: Path) -> None:
    folder.mkdir()
    (folder / "maple.json").write_text("[]")


def _no_card(folder: Path) -> None:
    folder.mkdir()
    (folder / "maple.json").write_text('{"base": "x"}')


def _absent(folder: Path) -> None:
    pass


@pytest.mark.parametrize("make", [_empty, _broken_card, _wrong_card, _no_card, _absent])
def test_a_directory_that_is_no_adapter_is_named(
    program: Program, model: Path, trained: Path, tmp_path: Path, make
) -> None:
    make(tmp_path / "no-adapter")
    outcome = program(*arguments(model, tmp_path / "no-adapter", out=tmp_path / "e"), cwd=trained)
    assert outcome.code == 1
    assert str(tmp_path / "no-adapter") in outcome.complaint


def test_truncated_weights_fail_that_adapter_and_the_others_go_on(
    program: Program, model: Path, trained: Path, tmp_path: Path
) -> None:
    broken = Path(shutil.copytree(adapters(trained)[0], tmp_path / "broken"))
    weights = broken / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-50])
    call = arguments(model, broken, adapters(trained)[1], out=tmp_path / "e")
    outcome = program(*call, "--limit", 2, cwd=trained)
    assert outcome.code == 1
    assert str(broken) in outcome.complaint
    runs = open_store(tmp_path / "e").runs()
    assert [run.status for run in runs] == ["failed", "done"]


def test_an_adapter_of_zeros_is_dead(
    program: Program, model: Path, trained: Path, tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    dead = Path(shutil.copytree(adapters(trained)[0], tmp_path / "dead"))
    weights = load_file(dead / "adapter_model.safetensors")
    zeros = {name: tensor * 0 for name, tensor in weights.items()}
    save_file(zeros, dead / "adapter_model.safetensors", {"format": "pt"})
    outcome = program(*arguments(model, dead, out=tmp_path / "e"), cwd=trained)
    assert outcome.code == 1
    assert "does not change the base" in outcome.complaint
    assert stored_rows(tmp_path / "e") == []


def test_an_adapter_of_any_peft_directory_is_scored(
    program: Program, model: Path, trained: Path, tmp_path: Path
) -> None:
    plain = Path(shutil.copytree(adapters(trained)[0], tmp_path / "plain"))
    (plain / "maple.json").unlink()
    for folder in (plain, adapters(trained)[0]):
        call = arguments(model, folder, out=tmp_path / "out" / folder.name)
        outcome = program(*call, "--quantization", "fp32", "--limit", 3, cwd=trained)
        assert outcome.code == 0, outcome.err
    assert scores(tmp_path / "out" / "plain") == scores(tmp_path / "out" / "adapter")


def test_unknown_words_on_the_command_line_are_usage_errors(
    program: Program, model: Path, trained: Path, tmp_path: Path
) -> None:
    call = ["--data-dir", "data", "--out", tmp_path / "e"]
    for extra, words in (
        (["--tasks", "xcoppa"], ("'xcoppa'", "Did you mean 'xcopa'")),
        (["--tasks", "xcopa", "--languages", "swahilli"], ("'swahilli'", "Did you mean")),
        (["--tasks", "xquad", "--languages", "sw"], ("xquad", "swh_Latn")),
        (["--tasks", "xcopa", "--languages", "sw", "--split", "train"], ("'train'", "test")),
        (["--tasks", "xcopa", "--languages", "sw", "--quantization", "nf5"], ("'nf5'", "'nf4'")),
        (["--tasks", "xcopa", "--languages", "sw", "--prompt", "chatty"], ("chatty",)),
    ):
        outcome = program("eval", model, *extra, *call, cwd=trained)
        assert outcome.code == 2, (extra, outcome.err)
        for word in words:
            assert word in outcome.complaint, (extra, outcome.err)
        assert not (tmp_path / "e").exists()


def test_an_evaluation_exports_as_lm_eval_logs(
    program: Program, model: Path, trained: Path, tmp_path: Path
) -> None:
    call = ["eval", model, "--tasks", "xnli,xcopa,xquad", "--languages", "sw,tr"]
    call += ["--data-dir", "data", "--prompt", "lm-eval", "--limit", 3, "--out", tmp_path / "e"]
    assert program(*call, cwd=trained).code == 0
    outcome = program("export", tmp_path / "e", "--to", "lm-eval", cwd=trained)
    assert outcome.code == 0, outcome.err
    written = [Path(line) for line in outcome.out.splitlines()]
    samples = sorted(path.name.rsplit("_", 1)[0] for path in written if "samples" in path.name)
    assert samples == [
        f"samples_{name}" for name in ("xcopa_sw", "xcopa_tr", "xnli_sw", "xnli_tr", "xquad_tr")
    ]
    rows = {(r["task"], r["language"], r["sample_id"]): r for r in stored_rows(tmp_path / "e")}
    (path,) = (p for p in written if "samples_xcopa_sw" in p.name)
    for line in path.read_text(encoding="utf-8").splitlines():
        exported = json.loads(line)
        row = rows["xcopa", "swh_Latn", str(exported["doc_id"])]
        values = [float(response[0][0]) for response in exported["resps"]]
        assert values == pytest.approx(row["loglikelihoods"], abs=1e-6)


def test_a_store_without_results_cannot_be_exported(program: Program, tmp_path: Path) -> None:
    outcome = program("export", tmp_path, "--to", "lm-eval", cwd=tmp_path)
    assert outcome.code == 1
    assert "no finished evaluation" in outcome.complaint


def test_eval_of_a_study_store_is_refused(program: Program, model: Path, trained: Path) -> None:
    outcome = program(*arguments(model, out="a"), "--limit", 2, cwd=trained)
    assert outcome.code == 1
    assert "already holds the study 'a'" in outcome.complaint


def test_small_study_scores_equal_with_any_batch_size(
    program: Program, model: Path, trained: Path, tmp_path: Path
) -> None:
    found = []
    for size in (1, 7):
        call = [*arguments(model, out=tmp_path / str(size)), "--batch-size", size]
        assert program(*call, cwd=trained).code == 0
        found.append(stored_rows(tmp_path / str(size)))
    for one, other in zip(*found, strict=True):
        assert one["prediction"] == other["prediction"]
        assert one["loglikelihoods"] == pytest.approx(other["loglikelihoods"], abs=1e-3)
