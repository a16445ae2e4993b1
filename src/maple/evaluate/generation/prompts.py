"""Waiting prompts, longest first; those that begin alike share a row, their beginning fed once.

    fed        p0 p1 p2 p3 | a4 a5 | b4 b5 b6 | c4
    position    0  1  2  3 |  4  5 |  4  5  6 |  4
    b5 sees     x  x  x  x |       |  x  x    |        the beginning and its own, nothing else

Five questions about one passage, or a question behind the same examples, then cost one reading.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from maple.evaluate.generation.answer import Answer

_MOST_PADDING = 1.25
"""Tokens fed to tokens of prompts, in one pass over several rows."""
_LEAST_SAVING = 32
"""Tokens that a shared row must save: its mask costs a row of plain attention something too."""


@dataclass(frozen=True)
class Bundle:
    """Prompts fed as one row: the beginning they share, then each one's own tokens."""

    answers: tuple[Answer, ...]
    n_shared: int
    """Tokens that all see; 0 of a single prompt."""

    @property
    def n_tokens(self) -> int:
        """Tokens of the row."""
        return self.n_shared + sum(a.n_known - self.n_shared for a in self.answers)

    @property
    def width(self) -> int:
        """Places that the longest of the answers may need."""
        return max(a.width for a in self.answers)

    def branches(self) -> Iterator[tuple[int, int]]:
        """First and last place, the last one excluded, of each prompt's own tokens."""
        begin = self.n_shared
        for answer in self.answers:
            end = begin + answer.n_known - self.n_shared
            yield begin, end
            begin = end


def readings(
    answers: Sequence[Answer], *, max_size: int, max_tokens: int
) -> list[tuple[Bundle, ...]]:
    """Prompts in passes, the widest first; a pass holds rows of about one length.

    Args:
        answers: in any order; what is returned does not depend on it.
        max_size: prompts of one pass at most.
        max_tokens: tokens of one pass at most, padding included; a longer prompt is read alone.
    """
    made: list[list[Bundle]] = []
    for bundle in bundles(answers, max_size=max_size, max_tokens=max_tokens):
        joined = [*made[-1], bundle] if made else []
        padded = len(joined) * max((b.n_tokens for b in joined), default=0)
        fed = sum(b.n_tokens for b in joined)
        size = sum(len(b.answers) for b in joined)
        if joined and size <= max_size and padded <= min(max_tokens, _MOST_PADDING * fed):
            made[-1] = joined
        else:
            made.append([bundle])
    return [tuple(reading) for reading in made]


def bundles(answers: Sequence[Answer], *, max_size: int, max_tokens: int) -> list[Bundle]:
    """Prompts in rows, the widest first, those that begin alike together.

    Args:
        answers: in any order; what is returned does not depend on it.
        max_size: prompts of one row at most.
        max_tokens: tokens of one row at most, where it holds several prompts.
    """
    made: list[Bundle] = []
    known = {a.number: a.known for a in answers}
    # Sorted as words are: prompts that begin alike are neighbours.
    for answer in sorted(answers, key=lambda a: (known[a.number], a.number)):
        joined = _join(made[-1], answer, known) if made and max_size > 1 else None
        if joined and len(joined.answers) <= max_size and joined.n_tokens <= max_tokens:
            made[-1] = joined
        else:
            made.append(Bundle((answer,), 0))
    return sorted(made, key=lambda b: (-b.width, -b.n_tokens, b.answers[0].number))


def _join(bundle: Bundle, answer: Answer, known: dict[int, tuple[int, ...]]) -> Bundle | None:
    """The row with one prompt more, if fewer tokens are fed so."""
    first, last = known[bundle.answers[0].number], known[answer.number]
    # The last token stays each prompt's own: its logits are the ones that are read.
    shortest = min(a.n_known for a in (*bundle.answers, answer)) - 1
    limit = min(shortest, bundle.n_shared or shortest)
    n_shared = next((i for i in range(limit) if first[i] != last[i]), limit)
    joined = Bundle((*bundle.answers, answer), n_shared)
    saved = bundle.n_tokens + answer.n_known - joined.n_tokens
    return joined if saved >= _LEAST_SAVING else None
