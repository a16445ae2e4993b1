"""What ``make bench-evaluate`` computes from what it measures, and what it asks the harness."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
from benchmarks.evaluation.answers import Answer, compare
from benchmarks.evaluation.contestants import (
    Outcome,
    Place,
    Question,
    item_of,
    seconds_before_requests,
)
from benchmarks.evaluation.cost import made_rows
from benchmarks.evaluation.floor import Fed, Work, forward_flops, shared_work
from benchmarks.evaluation.invariance import compare_rows, relative
from benchmarks.evaluation.items import Item, cut_questions
from benchmarks.evaluation.pairs import Cell
from benchmarks.evaluation.share import shares
from benchmarks.evaluation.show import floor_seconds, verdicts
from benchmarks.peers.lm_eval_run import compute_exact, compute_f1
from benchmarks.training.bases import Architecture

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
    assert mixed.prompt() == ["--prompt", "lm-eval"]


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
    found = shares([(100, 10, 1.0), (300, 30, 1.0)], peak=400.0)
    assert (found["share"], found["share_min"], found["share_max"]) == (0.5, 0.25, 0.75)
    assert floor_seconds({"gigaflops_fewest": 2.0}, 4e9) == 0.5
    met = verdicts({
        "cells": [{"question": "mix", "bits": "fp32", "ratio": {"median": 2.9}}],
        "share_of_peak": {"wide": found},
        "invariance": {"batch size 1": {"differences": []}, "killed": {"differences": ["x"]}},
    })  # fmt: skip
    assert met == {
        "mix fp32: 3.0x lm-eval": False,
        "wide: 50% of peak": True,
        "scores the same: batch size 1": True,
        "scores the same: killed": False,
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
