"""Trees: each scored token is predicted from what stands before it in its option, fed once."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from maple.evaluate.batches import shared_batches
from maple.evaluate.prefix_tree import Option, Tree, common_length, prefix_tree

tokens = st.lists(st.integers(1, 3), min_size=2, max_size=9).map(tuple)
# Few distinct tokens, so that options share beginnings of every length, or are one another's.
drawn_options = st.lists(
    tokens.flatmap(lambda ids: st.tuples(st.just(ids), st.integers(1, len(ids) - 1))),
    min_size=1,
    max_size=12,
)


def company(tree: Tree, place: int) -> list[tuple[int, int]]:
    """What a place sees, as (position, token): the way of its segment, and its own tokens."""
    (segment,) = (s for s in tree.segments if s.start <= place < s.start + s.length)
    seen = list(range(segment.start, place + 1))
    while segment.parent >= 0:
        segment = tree.segments[segment.parent]
        seen = [*range(segment.start, segment.start + segment.length), *seen]
    return [(int(tree.positions[p]), int(tree.ids[p])) for p in seen]


@given(drawn_options)
def test_every_token_is_predicted_from_what_stands_before_it_in_its_option(
    options: list[Option],
) -> None:
    tree = prefix_tree(options)
    assert len(tree.ids) == sum(s.length for s in tree.segments)
    for (ids, start), places, own in zip(options, tree.places, tree.tokens, strict=True):
        assert own == ids[start:]
        for index, place in enumerate(places, start=start):
            assert company(tree, int(place)) == list(enumerate(ids[:index]))


@given(drawn_options)
def test_no_more_is_fed_than_the_distinct_options(options: list[Option]) -> None:
    assert len(prefix_tree(options).ids) <= sum(len(f) for f in {ids[:-1] for ids, _ in options})


def test_examples_passages_and_prompts_are_fed_once() -> None:
    examples, passages = tuple(range(100, 140)), [tuple(range(a, a + 30)) for a in (200, 300)]
    options = []
    for number, passage in enumerate((*passages, passages[0])):
        prompt = (*examples, *passage, *range(400 + 20 * number, 410 + 20 * number))
        options += [((*prompt, *range(s, s + 6)), len(prompt)) for s in (500, 600, 700)]
    tree = prefix_tree(options)
    # Five of an option's six tokens are fed.
    assert len(tree.ids) == 40 + 2 * 30 + 3 * (10 + 3 * 5)
    assert tree.longest == 40 + 30 + 10 + 5


def test_a_beginning_too_short_to_save_a_seventh_is_repeated() -> None:
    tree = prefix_tree([((0, *range(s, s + 30)), 1) for s in (100, 200)])
    assert [s.parent for s in tree.segments] == [-1, -1]


def test_letters_add_no_token_to_their_prompt() -> None:
    tree = prefix_tree([((1, 2, 3, letter), 3) for letter in (7, 8, 9)])
    assert tree.ids.tolist() == [1, 2, 3]
    assert [p.tolist() for p in tree.places] == [[2]] * 3


def test_options_inside_one_another_more_often_than_python_recurses() -> None:
    options = [(tuple(range(n)), n - 1) for n in range(2, 1300)]
    tree = prefix_tree(options)
    assert tree.ids.tolist() == list(range(1298))
    assert all(p.tolist() == [n - 2] for n, p in enumerate(tree.places, start=2))


@given(st.lists(tokens, min_size=1, max_size=30), st.integers(4, 40))
def test_batches_hold_every_request_once_and_keep_the_budget(
    sequences: list[tuple[int, ...]], budget: int
) -> None:
    sizes = [len(s) for s in sequences]
    batches = shared_batches(sequences, sizes, max_tokens=budget, max_requests=5)
    assert sorted(i for batch in batches for i in batch) == list(range(len(sequences)))
    assert max(map(len, batches)) <= 5
    for batch in batches:
        least = sum(sizes[i] for i in batch) - sum(sizes[i] for i in batch[1:])
        assert len(batch) == 1 or least <= budget


def test_questions_on_one_passage_meet_in_one_batch() -> None:
    passages = [tuple(range(1000 * n, 1000 * n + 60)) for n in range(8)]
    # The second question on a passage is much longer, and far away in the file.
    short = [(*passage, 1, 2) for passage in passages]
    long = [(*passage, *range(3, 40)) for passage in passages]
    sequences = [*short, *long]
    batches = shared_batches(sequences, [len(s) for s in sequences], max_tokens=250)
    place = {index: number for number, batch in enumerate(batches) for index in batch}
    assert len(batches) > 1
    assert all(place[n] == place[n + 8] for n in range(8))


@given(tokens, tokens)
def test_the_common_length_is_that_of_the_beginning(
    first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    n = common_length(first, second)
    assert first[:n] == second[:n]
    assert first[n : n + 1] != second[n : n + 1] or n == min(len(first), len(second))
