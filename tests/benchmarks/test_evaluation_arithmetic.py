"""What ``make bench-evaluate`` computes from what it measures, and what it asks the harness."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from benchmarks.evaluate import Bench, parse
from benchmarks.evaluation import pairs, sizes
from benchmarks.evaluation.answers import Answer, compare
from benchmarks.evaluation.contestants import (
    Outcome,
    Place,
    Question,
    item_of,
    seconds_before_requests,
)
from benchmarks.evaluation.cost import made_rows
from benchmarks.evaluation.explained import Machine, Point, explained, weight_bytes
from benchmarks.evaluation.floor import Fed, Work, forward_flops, shared_work
from benchmarks.evaluation.invariance import compare_rows, relative
from benchmarks.evaluation.items import Item, cut_questions
from benchmarks.evaluation.pairs import Cell, spread
from benchmarks.evaluation.passes import Passes, read_passes
from benchmarks.evaluation.share import rates, with_peak
from benchmarks.evaluation.show import curve_lines, floor_seconds, verdicts
from benchmarks.peers.lm_eval_run import compute_exact, compute_f1
from benchmarks.training.bases import Architecture
from benchmarks.training.processes import CommandFailedError

TINY = Architecture(
    hidden=32, layers=2, heads=4, key_value_heads=2, intermediate=48,
    vocabulary=64, tied_head=False,
)  # fmt: skip
XNLI = Item("xnli", "swh_Latn")


def nodes(sequences: list[Fed]) -> tuple[set[Any], set[Any]]:
    """The floor by its definition: every distinct prefix, and those whose logits are read."""
    fed = {s.ids[: i + 1] for s in sequences for i in range(len(s.ids))}
    read = {s.ids[: i + 1] for s in sequences for i in range(s.first_read, len(s.ids))}
    return fed, read


@pytest.mark.parametrize(
    "sequences",
    [
        [Fed((1, 2, 3), 2)],
        [Fed((1, 2, 3), 2), Fed((1, 2, 4, 5), 2), Fed((1, 2, 4, 6), 2)],
        [Fed((1, 2), 1), Fed((1, 2), 1), Fed((1, 2, 9), 1)],
        [Fed((7, 8, 9), 0), Fed((7, 8, 1), 1), Fed((5,), 0)],
        [Fed((7, 8, 9), 2), Fed((7, 8, 9, 4), 0)],
    ],
)
def test_the_floor_is_the_number_of_distinct_prefixes(sequences: list[Fed]) -> None:
    fed, read = nodes(sequences)
    work = shared_work(sequences)
    assert work.tokens == len(fed)
    assert work.rows == len(read)
    assert work.pairs == sum(len(prefix) for prefix in fed)
    assert work.naive_tokens == sum(len(s.ids) for s in sequences)


def test_closed_form_equals_torchs_count_of_a_real_forward_pass() -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=TINY.hidden,
        num_hidden_layers=TINY.layers,
        num_attention_heads=TINY.heads,
        num_key_value_heads=TINY.key_value_heads,
        intermediate_size=TINY.intermediate,
        vocab_size=TINY.vocabulary,
        tie_word_embeddings=False,
        attn_implementation="eager",
    )
    lora = LoraConfig(r=8, target_modules="all-linear", task_type="CAUSAL_LM")
    model = get_peft_model(LlamaForCausalLM(config), lora)
    length = 11
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        model(input_ids=torch.zeros((1, length), dtype=torch.long))
    # Eager attention computes the masked half too, and every row of the head.
    work = Work(tokens=length, pairs=length * length, rows=length)
    assert counter.get_total_flops() == forward_flops(TINY, work, 8)


def outcome(seconds: float, calls: int = 1) -> Outcome:
    return Outcome(
        seconds=seconds, cpu_seconds=2 * seconds, tree_bytes=1, folder=Path(), calls=calls
    )


def cell(adapters: int, ours: list[Outcome], theirs: list[Outcome]) -> Cell:
    place = Place(
        base=Path(), adapters=(Path(),) * adapters, data=Path(), tasks=Path(), work=Path()
    )
    question = Question(name="xnli", items=(XNLI,), samples=2)
    return Cell(question, "fp32", place, 1, ours=ours, theirs=theirs)


def test_a_ratio_is_of_one_harness_call_for_each_adapter() -> None:
    found = cell(5, [outcome(10.0), outcome(20.0)], [outcome(30.0, 2), outcome(100.0, 5)])
    assert found.ratios() == [7.5, 5.0]
    assert found.cpu_ratios() == [7.5, 5.0]


def test_calls_of_few_pairs_are_spread_over_the_adapters() -> None:
    ranks = [Path(str(n)) for n in (8, 16, 32, 64, 128)]
    assert [int(str(p)) for p in spread(ranks)] == [32, 8, 128, 16, 64]
    assert spread(ranks[:1]) == ranks[:1]


def test_the_fastest_batch_size_is_kept_and_much_slower_ones_are_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    takes = {"4": 100.0, "8": 60.0, "16": 95.0, "auto": 70.0}
    limits = []

    def theirs(*_: Any, batch_size: str, trial_seconds: float, **__: Any) -> Outcome:
        limits.append(trial_seconds)
        if takes[batch_size] > trial_seconds:
            raise CommandFailedError("exit code -14\nlast words")
        return outcome(takes[batch_size])

    monkeypatch.setattr(pairs, "run_theirs", theirs)
    monkeypatch.setattr(pairs, "their_answers", lambda folder: {})
    tried = cell(5, [], [])
    pairs.try_batch_sizes(tried, list(takes), lambda _: None)
    assert tried.batch_size == "8"
    assert limits == [pairs.TRIAL_SECONDS, 120.0, 72.0, 72.0]
    assert [entry.get("failed") for entry in tried.tried] == [None, None, "exit code -14", None]
    assert tried.trial is not None
    assert tried.trial[0].seconds == takes["8"]


@pytest.mark.parametrize("calls", [1, 2])
def test_the_best_trial_is_the_call_of_the_first_pair_where_a_pair_has_one(
    calls: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    order: list[str] = []

    def ours(*_: Any) -> Outcome:
        order.append("ours")
        return outcome(10.0)

    def theirs(*_: Any, adapters: Sequence[Path], **__: Any) -> Outcome:
        order.append(f"theirs {len(adapters)}")
        return outcome(30.0, len(adapters))

    monkeypatch.setattr(pairs, "run_ours", ours)
    monkeypatch.setattr(pairs, "run_theirs", theirs)
    monkeypatch.setattr(pairs, "their_answers", lambda folder: {})
    monkeypatch.setattr(pairs, "_examine", lambda *_: None)
    measured = cell(5, [], [])
    measured.calls, measured.trial = calls, (outcome(20.0), {})
    pairs.run_pairs(measured, 2, {}, counter=Any, architecture=Any, say=lambda _: None)  # type: ignore[arg-type]
    called = [f"theirs {calls}"]
    first = [] if calls == 1 else called
    assert order == [*first, "ours", "ours", *called]
    assert measured.ratios() == ([10.0, 15.0] if calls == 1 else [7.5, 7.5])


def test_the_expected_time_counts_what_is_run() -> None:
    one = sizes.SECONDS["mix"]
    line = sizes.Line(question="mix", bits="fp32", calls=1, pairs=3, sizes=3)
    assert line.seconds == 3 * one.ours + (3 + 2) * one.call
    # Of one size there is no trial; two calls a pair are made beside the trials.
    assert replace(line, sizes=1).seconds == 3 * one.ours + 3 * one.call
    assert replace(line, calls=2).seconds == 3 * one.ours + (3 + 6) * one.call
    assert sizes.expected_seconds([line], ["mix"]) < sizes.expected_seconds([line], ["cost"])


def test_tokens_of_the_harness_are_of_one_call_for_each_adapter() -> None:
    ours, theirs = outcome(1.0), [outcome(1.0, 2), outcome(1.0, 1)]
    ours = replace(ours, passes=Passes(((0.0, 40), (1.0, 16))))
    theirs = [replace(o, passes=Passes(((0.0, 30 * o.calls),))) for o in theirs]
    measured = cell(5, [ours], theirs)
    measured.work = {"tokens_one_option_at_a_time": 120, "tokens_fewest": 50}
    assert measured.tokens() == {
        "asked": 120, "fed_lm_eval": 150, "fed_ours": 56, "fewest": 50,
    }  # fmt: skip


COUNTED = """
import sys
sys.path.insert(0, {root!r})
from pathlib import Path
from benchmarks.peers.fed_tokens import count_fed_tokens
count_fed_tokens(Path({out!r}))
assert "torch" not in sys.modules
import torch
from transformers import LlamaConfig, LlamaForCausalLM
sizes = dict(hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=48)
model = LlamaForCausalLM(LlamaConfig(vocab_size=64, **sizes)).eval()
ids = torch.ones((3, 7), dtype=torch.long)
with torch.no_grad():
    model(ids)
    model.generate(ids, max_new_tokens=3, min_new_tokens=3, do_sample=False, pad_token_id=0)
"""


def test_every_pass_of_a_process_is_counted_with_its_padding(tmp_path: Path) -> None:
    out = tmp_path / "fed.json"
    code = COUNTED.format(root=str(Path(__file__).parents[2]), out=str(out))
    subprocess.run([sys.executable, "-W", "ignore", "-c", code], check=True)
    passes = read_passes([out, tmp_path / "none.json"])
    # One pass; then the prompts, and each new token but the last.
    assert [tokens for _, tokens in passes.each] == [21, 21, 3, 3]
    assert (passes.tokens, passes.count) == (48, 4)
    times = [at for at, _ in passes.each]
    assert times == sorted(times)
    assert passes.between(times[1], times[2]).tokens == 24


def test_a_line_through_a_curve_predicts_what_operations_and_bytes_explain() -> None:
    machine = Machine(flops=2e12, bytes=1e10)

    def point(seconds: float, gigaflops: float, gigabytes: float) -> Point:
        return Point(
            seconds=seconds,
            gigaflops={"linear": gigaflops / 2, "attention": gigaflops / 2},
            passes=1,
            gigabytes=gigabytes,
            tokens={"asked": 1, "fed": 1, "fewest": 1},
        )

    first = point(0.0, 4000.0, 10.0)
    assert first.floor(machine) == pytest.approx(2.0 + 1.0)
    floors = {1: (2000.0, 0.0), 2: (2000.0, 20.0), 5: (12000.0, 0.0)}
    seconds = [8 + 2.5 * f for f in (1.0, 3.0, 6.0)]
    points = {x: point(s, *f) for (x, f), s in zip(floors.items(), seconds, strict=True)}
    found = explained(points, machine)
    assert (found["fixed_seconds"], found["seconds_per_floor_second"]) == (8.0, 2.5)
    assert found["largest_error"] == 0.0
    points[5] = replace(points[5], seconds=30.0)
    off = explained(points, machine)
    slope, start = np.polyfit([1.0, 3.0, 6.0], [10.5, 15.5, 30.0], 1)
    assert off["fixed_seconds"] == pytest.approx(start, abs=1e-3)
    assert off["points"]["2"]["predicted_seconds"] == pytest.approx(start + 3 * slope, abs=1e-3)
    assert "at most" in curve_lines("adapters", off)[-1]


def test_weights_of_a_pass_are_those_that_it_multiplies_by() -> None:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        hidden_size=TINY.hidden,
        num_hidden_layers=TINY.layers,
        num_attention_heads=TINY.heads,
        num_key_value_heads=TINY.key_value_heads,
        intermediate_size=TINY.intermediate,
        vocab_size=TINY.vocabulary,
        tie_word_embeddings=False,
    )
    model = LlamaForCausalLM(config)
    own = [p for n, p in model.named_parameters() if "norm" not in n and "embed" not in n]
    assert weight_bytes(TINY, "fp32") == 2 * weight_bytes(TINY, "bf16")
    assert weight_bytes(TINY, "fp32") == sum(p.numel() for p in own) * 4


def test_a_part_that_fails_is_told_and_leaves_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bench = Bench(parse(["--work", str(tmp_path), "--data", str(tmp_path), "--parts", "pairs"]))
    assert bench.parts[:2] == ["mix", "apart"]

    def fails() -> None:
        raise SystemExit("no file")

    assert bench.each("cost", {"a": fails, "b": lambda: {"x": 1}}) == {"b": {"x": 1}}
    assert bench.failed == {"cost: a": "SystemExit: no file"}
    assert "cost: a: FAILED" in capsys.readouterr().err
    with pytest.raises(SystemExit, match="unknown"):
        Bench(parse(["--work", str(tmp_path), "--data", str(tmp_path), "--parts", "mixx"]))


def test_the_same_answers_are_equal_and_others_are_told() -> None:
    mine = Answer(("a b", "a c"), (-1.0, -2.0), "", 1.0)
    near = Answer(("a b", "a c"), (-1.0002, -2.0), "", 1.0)
    assert compare({(8, XNLI): {"0": mine}}, {(8, XNLI): {"0": near}}).found == []
    for other, said in [
        (Answer(("a b", "a c"), (-3.0, -2.0), "", 0.0), "another option"),
        (Answer(("a b", "a c"), (-1.1, -2.0), "", 1.0), "log-likelihoods"),
        (Answer(("a b", "a d"), (-1.0, -2.0), "", 1.0), "other words"),
        (Answer(("a b", "a c"), (-1.0, -2.0), "x", 1.0), "another text"),
    ]:
        assert said in str(compare({(8, XNLI): {"0": mine}}, {(8, XNLI): {"0": other}}).found)
    assert "1 and 0 samples" in compare({(8, XNLI): {"0": mine}}, {}).found[0]
    assert "1 and 1 samples" in compare({(8, XNLI): {"0": mine}}, {(8, XNLI): {"1": mine}}).found[0]


def row(**changes: Any) -> dict[str, Any]:
    return {
        "sample_id": "0",
        "score": 1.0,
        "loglikelihoods": [-10.0, -20.0],
        "text": None,
    } | changes


def test_rows_may_differ_in_the_last_bits_of_a_sum_and_in_nothing_else() -> None:
    key = (8, "bench_xnli_swh_Latn", "0")
    near = compare_rows({key: row()}, {key: row(loglikelihoods=[-10.000001, -20.0])})
    assert near["differences"] == []
    assert near["rows_identical"] == 0
    assert near["largest_relative"] == pytest.approx(1e-7, rel=0.01)
    for change in ({"loglikelihoods": [-10.001, -20.0]}, {"score": 1.0 - 1e-9}, {"text": ""}):
        assert compare_rows({key: row()}, {key: row(**change)})["n_differences"] == 1
    assert compare_rows({key: row()}, {})["differences"]
    nan = {key: row(score=float("nan"))}
    assert compare_rows(nan, {key: row(score=float("nan"))})["rows_identical"] == 1
    assert relative([-1.0], []) == 1.0


def test_stored_evaluations_are_told_apart() -> None:
    assert item_of("belebele", "deu_Latn", "letter") == Item("letters", "deu_Latn")
    assert item_of("belebele", "deu_Latn", "cloze") == Item("sentences", "deu_Latn")
    made = Item("sentences", "zho_Hans")
    assert item_of(f"lm-eval:{made.name}", "zho_Hans", "letter") == made


def test_whole_answers_have_their_own_wording_only_where_they_are_alone() -> None:
    sentences, letters = Item("sentences", "deu_Latn"), Item("letters", "deu_Latn")
    alone = Question(name="sentences", items=(sentences,), samples=1)
    assert alone.our_tasks() == ["belebele"]
    assert "cloze" in alone.prompt()
    mixed = Question(name="mix", items=(letters, sentences), samples=1)
    assert mixed.our_tasks() == ["belebele", "lm-eval:bench_sentences_deu_Latn"]
    assert mixed.prompt() == ["--prompt", "lm-eval", "--no-unconditional"]


def test_the_harness_says_when_its_requests_begin() -> None:
    import datetime

    began = datetime.datetime(2026, 1, 2, 3, 4, 5).timestamp()
    log = "2026-01-02:03:04:09 INFO x\n2026-01-02:03:04:16 INFO [m] Running generate_until requests"
    assert seconds_before_requests(log, began) == 11.0
    assert seconds_before_requests("nothing", began) is None


def test_cut_files_keep_the_first_questions_one_a_paragraph() -> None:
    release = {
        "data": [{"paragraphs": [{"qas": [1, 2]}, {"qas": [3]}]}, {"paragraphs": [{"qas": [4]}]}]
    }
    cut_questions(release, 2)
    kept = [p["qas"] for a in release["data"] for p in a["paragraphs"]]
    assert kept == [[1], [3], []]


def test_made_samples_share_no_beginning_and_have_their_length() -> None:
    words = [f"w{i}" for i in range(3000)]
    rows = list(made_rows(words, 5, length=64, n_options=3))
    assert len({row["context"] for row in rows}) == 5
    assert {len(row["context"].split()) for row in rows} == {64}
    assert {len(set(row["options"])) for row in rows} == {3}
    for left, right in itertools.combinations(rows, 2):
        assert left["context"].split()[0] != right["context"].split()[0]


def test_shares_and_verdicts() -> None:
    rate = rates([(100 * 10**10, 10, 1.0), (300 * 10**10, 30, 1.0)])
    found = with_peak(rate, [3e12, 4e12])
    assert (found["share"], found["share_min"], found["share_max"]) == (0.5, 0.25, 0.75)
    assert floor_seconds({"gigaflops_fewest": 2.0}, 4e9) == 0.5
    met = verdicts({
        "cells": [{"question": "mix", "bits": "fp32", "ratio": {"median": 2.9}}],
        "share_of_peak": {"wide": found},
        "invariance": {"batch size 1": {"differences": []}, "killed": {"differences": ["x"]}},
        "failed": {"cost": "no memory"},
    })  # fmt: skip
    assert met == {
        "mix fp32: 3.0x lm-eval": False,
        "wide: 50% of peak": True,
        "scores the same: batch size 1": True,
        "scores the same: killed": False,
        "cost: ran to its end": False,
    }


def test_squad_metrics_that_are_put_back() -> None:
    # Source: SQuAD's evaluate-v1.1.py on the same pairs.
    assert compute_exact("The cat.", "cat") == 1
    assert compute_f1("a black cat", "the cat sat") == pytest.approx(0.5)
    assert compute_f1("the", "a") == 1
    assert compute_f1("cat", "dog") == 0


def test_yaml_of_every_item_loads_in_the_harness(tmp_path: Path) -> None:
    pytest.importorskip("lm_eval")
    from benchmarks.evaluation.harness_tasks import write_tasks
    from lm_eval.tasks._yaml_loader import load_yaml

    items = [Item(k, "deu_Latn") for k in ("xnli", "letters", "sentences", "xquad", "mlqa")]
    items.append(Item("xcopa", "tur_Latn"))
    write_tasks(items, tmp_path / "rows", tmp_path / "tasks")
    for item in items:
        content = load_yaml(tmp_path / "tasks" / f"{item.name}.yaml", resolve_func=False)
        assert content["task"] == item.name
        assert content["dataset_path"] == "json"
        (split,) = content["dataset_kwargs"]["data_files"]
        assert split == content.get("test_split") or split == content["validation_split"]
        assert content["doc_to_text"] is not None
        assert json.dumps(content["metric_list"])
