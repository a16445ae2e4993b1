"""Which example is drawn when: the same for every method, process and machine."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from tests.tiny_models import make_pools, settings

from maple.base import LoadedBase
from maple.catalog.contracts import Conversation
from maple.data import ExamplePool, StepSchedule, draw_epoch, load_pools
from maple.data.schedule import TokenCache
from maple.errors import DataError
from maple.files import Files
from maple.study import Mixture, MixturePart, TrainingSettings

Bases = Callable[..., LoadedBase]


def pool(name: str, rows: int, weight: float = 1.0, dataset: str = "made-up") -> ExamplePool:
    made = tuple(
        Conversation(id=str(n), language=name, instruction=f"{name} {n}?", response=f"{n}")
        for n in range(rows)
    )
    return ExamplePool(dataset, name, weight, made)


def make_schedule(
    base: LoadedBase,
    pools: list[ExamplePool],
    wanted: TrainingSettings,
    *,
    seed: int = 0,
    cache: TokenCache | None = None,
) -> StepSchedule:
    return StepSchedule(
        pools, wanted, seed=seed, tokenizer=base.tokenizer, family=base.family, cache=cache
    )


# ------------------------------------------------------------------------------------- draws


def test_an_epoch_holds_every_row_once_at_weight_one() -> None:
    pools = [pool("swh_Latn", 7), pool("zho_Hans", 5)]
    drawn = draw_epoch(pools, examples=None, seed=3)
    assert Counter(drawn) == Counter((p, r) for p, n in ((0, 7), (1, 5)) for r in range(n))


def test_weights_share_an_epoch_out_and_repeat_rows_only_above_one() -> None:
    pools = [pool("swh_Latn", 10, 0.5), pool("zho_Hans", 4, 2.5), pool("deu_Latn", 3)]
    drawn = draw_epoch(pools, examples=None, seed=3)
    per_pool = Counter(p for p, _ in drawn)
    assert per_pool == {0: 5, 1: 10, 2: 3}
    repeats = Counter(drawn)
    assert {repeats[1, r] for r in range(4)} == {2, 3}
    assert max(repeats[0, r] for r in range(10)) == 1


def test_examples_thins_every_pool_by_the_same_factor() -> None:
    pools = [pool("swh_Latn", 100), pool("zho_Hans", 50), pool("deu_Latn", 3)]
    drawn = draw_epoch(pools, examples=51, seed=3)
    assert Counter(p for p, _ in drawn) == {0: 33, 1: 17, 2: 1}


def test_epochs_draw_the_same_rows_in_another_order() -> None:
    pools = [pool("swh_Latn", 40, 0.5)]
    first, second = (draw_epoch(pools, examples=None, seed=0, epoch=e) for e in (0, 1))
    assert sorted(first) == sorted(second)
    assert first != second


def test_another_pool_leaves_the_rows_drawn_from_the_others_alone() -> None:
    swahili, chinese = pool("swh_Latn", 40, 0.5), pool("zho_Hans", 40, 0.5)
    alone = draw_epoch([swahili], examples=None, seed=0)
    both = draw_epoch([swahili, chinese], examples=None, seed=0)
    assert sorted(alone) == sorted((p, r) for p, r in both if p == 0)


def test_seeds_draw_differently() -> None:
    pools = [pool("swh_Latn", 40)]
    assert draw_epoch(pools, examples=None, seed=0) != draw_epoch(pools, examples=None, seed=1)


def test_an_empty_pool_beside_a_full_one_is_passed_over() -> None:
    drawn = draw_epoch([pool("swh_Latn", 0), pool("zho_Hans", 4)], examples=3, seed=0)
    assert [p for p, _ in drawn] == [1, 1, 1]


def test_draws_do_not_depend_on_the_process_or_its_hash_seed() -> None:
    code = (
        "from tests.tiny_models import make_pools\n"
        "from maple.data import draw_epoch\n"
        "print(draw_epoch(make_pools(), examples=20, seed=5, epoch=1))\n"
    )
    here = str(draw_epoch(make_pools(), examples=20, seed=5, epoch=1))
    for hash_seed in ("0", "1"):
        done = subprocess.run(
            [sys.executable, "-c", code],
            env={"PYTHONHASHSEED": hash_seed, "PATH": ""},
            cwd=Path(__file__).parents[2],
            capture_output=True,
            text=True,
            check=True,
        )
        assert done.stdout.strip() == here


def test_draws_are_those_of_the_first_release() -> None:
    # Run identities promise that these examples were seen: a change must raise LOOP_VERSION.
    drawn = draw_epoch([pool("swh_Latn", 6), pool("zho_Hans", 4)], examples=None, seed=0)
    assert [p for p, _ in drawn] == [0, 1, 0, 0, 0, 0, 1, 1, 1, 0]
    assert [r for _, r in drawn] == [2, 3, 4, 1, 3, 5, 2, 0, 1, 0]


# ------------------------------------------------------------------------------------- steps


def test_steps_cut_the_epochs_into_batches(shared_base: Bases) -> None:
    base, pools = shared_base(), [pool("swh_Latn", 10)]
    wanted = settings(batch_size=4, epochs=2, max_steps=None)
    schedule = make_schedule(base, pools, wanted)
    assert schedule.total_steps == 6
    assert [len(schedule.examples(step)) for step in range(1, 7)] == [4, 4, 2, 4, 4, 2]
    expected = [r for e in (0, 1) for _, r in draw_epoch(pools, examples=None, seed=0, epoch=e)]
    seen = [e for step in range(1, 7) for e in schedule.examples(step)]
    assert seen == [schedule.example(0, row) for row in expected]


def test_a_step_is_the_same_whichever_was_asked_for_before(shared_base: Bases) -> None:
    base = shared_base()
    wanted = settings(batch_size=3, epochs=3, max_steps=None)
    forwards, backwards = (make_schedule(base, make_pools(), wanted) for _ in range(2))
    steps = range(1, forwards.total_steps + 1)
    expected = {step: forwards.examples(step) for step in steps}
    assert {step: backwards.examples(step) for step in reversed(steps)} == expected


@pytest.mark.parametrize(
    "change",
    [
        {"learning_rate": 1.0},
        {"micro_batch_tokens": 7},
        {"weight_decay": 1.0},
        {"scheduler": "linear"},
    ],
)
def test_settings_of_the_optimiser_leave_the_batches_alone(
    shared_base: Bases, change: dict[str, object]
) -> None:
    # So every method and every rate of a study is shown the same examples in the same order.
    base = shared_base()
    plain = make_schedule(base, make_pools(), settings())
    other = make_schedule(base, make_pools(), settings(**change))
    assert all(plain.examples(step) == other.examples(step) for step in (1, 2, 3))


def test_examples_without_a_response_token_are_dropped_and_counted(shared_base: Bases) -> None:
    base = shared_base()
    long = replace(pool("swh_Latn", 1).conversations[0], instruction="neno " * 200)
    mixed = pool("swh_Latn", 5)
    mixed = replace(mixed, conversations=(*mixed.conversations, long))
    schedule = make_schedule(base, [mixed], settings(max_length=64))
    assert schedule.dropped_examples == 1
    assert schedule.n_examples == 5
    seen = [e for step in range(1, schedule.total_steps + 1) for e in schedule.examples(step)]
    assert all(e.n_labels for e in seen)


def test_a_mixture_without_any_response_token_is_refused(shared_base: Bases) -> None:
    with pytest.raises(DataError, match=r"max_length 4.*Raise training\.max_length"):
        make_schedule(shared_base(), make_pools(), settings(max_length=4))


def test_a_cohort_cache_keeps_files_of_the_same_data_set_apart(shared_base: Bases) -> None:
    # Two mixtures of one study may name two files of the jsonl data set.
    base = shared_base()
    cache: TokenCache = {}
    one = [pool("swh_Latn", 4, dataset="jsonl")]
    changed = tuple(replace(c, response="other " + c.response) for c in one[0].conversations)
    two = [replace(one[0], conversations=changed)]
    made = [make_schedule(base, pools, settings(), cache=cache) for pools in (one, two)]
    alone = make_schedule(base, two, settings())
    assert made[1].examples(1) == alone.examples(1)
    assert made[1].examples(1) != made[0].examples(1)


def test_a_cohort_tokenizes_an_example_once(shared_base: Bases) -> None:
    base = shared_base()
    cache: TokenCache = {}
    first = make_schedule(base, make_pools(), settings(), cache=cache)
    n_cached = len(cache)
    second = make_schedule(base, make_pools(), settings(learning_rate=1.0), cache=cache)
    assert len(cache) == n_cached
    assert first.examples(1)[0] is second.examples(1)[0]


# ------------------------------------------------------------------------------------- pools


def test_pools_are_the_languages_of_each_part(tmp_path: Path) -> None:
    row = '{"instruction": "Taja.", "input": "", "output": "Nairobi", "language": "%s"}\n'
    (tmp_path / "rows.jsonl").write_text(row % "sw" + row % "de" + row % "sw", encoding="utf-8")
    part = MixturePart(
        dataset="jsonl",
        weight=0.5,
        languages=("swh_Latn", "deu_Latn"),
        options={"path": "rows.jsonl"},
    )
    pools = load_pools(Mixture(name="mine", parts=(part,)), Files(directory=tmp_path))
    assert [(p.key, p.weight, len(p.conversations)) for p in pools] == [
        ("jsonl/swh_Latn", 0.5, 2),
        ("jsonl/deu_Latn", 0.5, 1),
    ]


def test_a_mixture_without_examples_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text("", encoding="utf-8")
    part = MixturePart(dataset="jsonl", languages=("swh_Latn",), options={"path": "rows.jsonl"})
    with pytest.raises(DataError):
        load_pools(Mixture(name="mine", parts=(part,)), Files(directory=tmp_path))
