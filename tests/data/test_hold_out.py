"""Held-out examples: chosen by content, of stated languages, and trained on nowhere."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.tiny_models import make_pools, settings

from maple.base import LoadedBase
from maple.catalog.contracts import Conversation
from maple.data import ExamplePool, StepSchedule, hold_out
from maple.errors import DataError
from maple.study import TrainingSettings


def pool(language: str, rows: int, dataset: str = "made-up") -> ExamplePool:
    made = tuple(
        Conversation(id=str(n), language=language, instruction=f"{language} {n}?", response=f"{n}")
        for n in range(rows)
    )
    return ExamplePool(dataset, language, 1.0, made)


def instructions(pools: list[ExamplePool]) -> set[str]:
    return {c.instruction for p in pools for c in p.conversations}


def test_so_many_examples_of_each_stated_language_are_taken_out() -> None:
    pools = [pool("swh_Latn", 20), pool("zho_Hans", 20), pool("deu_Latn", 20)]
    left, held = hold_out(pools, ["swh_Latn", "zho_Hans"], 5)
    assert [(p.language, len(p.conversations)) for p in held] == [("swh_Latn", 5), ("zho_Hans", 5)]
    assert [len(p.conversations) for p in left] == [15, 15, 20]
    assert [(p.key, p.weight) for p in left] == [(p.key, p.weight) for p in pools]
    assert not instructions(left) & instructions(held)
    assert instructions(left) | instructions(held) == instructions(pools)


def test_which_are_taken_depends_on_their_content_and_not_on_their_order() -> None:
    plain = pool("swh_Latn", 30)
    rows = list(plain.conversations)
    random.Random(0).shuffle(rows)
    renumbered = tuple(replace(row, id=f"other {n}") for n, row in enumerate(rows))
    split = [
        replace(plain, conversations=renumbered[:7]),
        replace(pool("swh_Latn", 0, "second"), conversations=renumbered[7:]),
    ]
    first = instructions(hold_out([plain], ["swh_Latn"], 6)[1])
    assert instructions(hold_out(split, ["swh_Latn"], 6)[1]) == first
    # Fixed by stored runs' identities: another choice must raise LOOP_VERSION.
    assert first == {f"swh_Latn {n}?" for n in PINNED}


PINNED = (4, 9, 10, 11, 17, 18)


def test_a_prompt_that_is_held_out_is_trained_on_nowhere() -> None:
    plain = pool("swh_Latn", 8)
    copies = tuple(replace(c, response="another", language="deu_Latn") for c in plain.conversations)
    other = ExamplePool("second", "deu_Latn", 1.0, copies)
    left, held = hold_out([plain, other, plain], ["swh_Latn"], 3)
    assert [len(p.conversations) for p in left] == [5, 5, 5]
    assert [len(p.conversations) for p in held] == [3]
    assert not instructions(left) & instructions(held)


@pytest.mark.parametrize("rows", [0, 3, 4])
def test_too_few_examples_to_leave_one_to_train_on_are_refused(rows: int) -> None:
    with pytest.raises(DataError, match=rf"holds out 4 examples of swh_Latn.*has {rows} diff"):
        hold_out([pool("swh_Latn", rows), pool("zho_Hans", 9)], ["swh_Latn"], 4)


def test_no_step_of_any_seed_sees_a_held_out_example(
    shared_base: Callable[..., LoadedBase],
) -> None:
    base = shared_base()
    held = {"languages": ["sw", "th"], "examples": 2, "every": 1}
    wanted: TrainingSettings = settings(validation=held, max_steps=None, epochs=2)
    kept = []
    for seed in (0, 1):
        schedule = StepSchedule(
            make_pools(), wanted, seed=seed, tokenizer=base.tokenizer, family=base.family
        )
        apart = {schedule._example(p, c).ids for p in schedule.held_out for c in p.conversations}
        assert len(apart) == 4
        steps = range(1, schedule.total_steps + 1)
        assert not apart & {e.ids for step in steps for e in schedule.examples(step)}
        kept.append(apart)
        assert schedule.n_examples == 8 * 4 - 4
    assert kept[0] == kept[1]
