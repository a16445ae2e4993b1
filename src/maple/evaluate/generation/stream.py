"""Continuous batching: a pool of slots, refilled from the waiting prompts as answers finish.

waiting ── read ──> slots ── step, step, step ──> finished answers, in the order they finish
                      ^                     |
                      └── the next prompts ─┘
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from maple.catalog.contracts import GenerationResponse
from maple.errors import MapleError
from maple.evaluate.batches import is_out_of_memory, release_memory
from maple.evaluate.encode import EncodedRequest
from maple.evaluate.generation.answer import Answer
from maple.evaluate.generation.choice import next_tokens
from maple.evaluate.generation.endings import Endings
from maple.evaluate.generation.passes import Passes
from maple.evaluate.generation.prompts import Bundle, readings
from maple.evaluate.generation.slots import Slots, rounded

_READ_AT_ONCE = 4
"""Readings that fill all slots: a larger one would wait while slots stand empty."""
_WORTH_MOVING = 1.25
"""More or shorter slots than there are, as a ratio, before they are laid out anew."""


@dataclass(frozen=True)
class Limits:
    """How much is held and fed at once."""

    max_tokens: int = 8192
    """Places of all slots together."""
    max_requests: int | None = None
    """Slots at most; None: as many as the places allow."""
    read_tokens: int = 2048
    """Tokens of one reading of prompts, padding included; a longer prompt is read alone."""


def generate_stream(
    requests: Sequence[EncodedRequest],
    passes: Passes,
    endings: Endings,
    *,
    limits: Limits,
    wanted: Collection[int] | None = None,
) -> Iterator[tuple[int, GenerationResponse]]:
    """Continues prompts; yields places in ``requests`` and answers, as they finish.

    Which prompts are read together depends on ``requests`` alone, so that a resumed stream rounds
    as an uninterrupted one, where a row's numbers do not depend on the number of rows beside it.
    Where memory does not suffice, the slots are halved and every unfinished answer goes on from the
    tokens it has.

    Args:
        requests: all prompts.
        passes: the model's.
        endings: of its answers.
        limits: how much is held and fed at once.
        wanted: places in ``requests`` to answer; None: all.

    Raises:
        MapleError: a single request does not fit into memory.
    """
    stream = _Stream(requests, passes, endings, limits=limits, wanted=wanted)
    while stream.is_unfinished:
        # Nothing is yielded inside a pass: whoever reads the answers must not inherit its mode.
        for answer in stream.advance():
            yield answer.number, endings.response(answer.request, answer.ids)


class _Stream:
    def __init__(
        self,
        requests: Sequence[EncodedRequest],
        passes: Passes,
        endings: Endings,
        *,
        limits: Limits,
        wanted: Collection[int] | None,
    ) -> None:
        self._passes = passes
        self._endings = endings
        self._limits = limits
        answers = [Answer(n, request) for n, request in enumerate(requests)]
        own = range(len(requests)) if wanted is None else wanted
        self._open = {n: answers[n] for n in own}
        self._max_slots = limits.max_requests or limits.max_tokens
        self._tried = 0
        self._done: list[Answer] = []
        self._line_up(answers)

    @property
    def is_unfinished(self) -> bool:
        return bool(self._open)

    def advance(self) -> list[Answer]:
        """One reading of prompts or one token for every slot; returns what finished by it."""
        import torch

        self._done = []
        try:
            # Slots are written in place, which torch allows to the mode that made them.
            with torch.inference_mode():
                self._make_room()
                newcomers = self._next()
                if newcomers:
                    self._read(newcomers)
                else:
                    self._step()
        except (RuntimeError, MemoryError) as error:
            if not is_out_of_memory(error):
                raise
            self._halve(error)
        return self._done

    def _line_up(self, answers: Sequence[Answer]) -> None:
        """Plans all readings, and makes those that an unfinished answer waits for; frees slots."""
        widest = rounded(max((a.width for a in answers), default=1))
        least = max(1, min(self._max_slots, self._limits.max_tokens // widest))
        planned = readings(
            answers,
            max_size=max(1, least // _READ_AT_ONCE),
            max_tokens=self._limits.read_tokens,
        )
        self._waiting = deque(r for r in planned if self._wanted(r))
        self._slots = Slots(0, 0)

    def _wanted(self, reading: Sequence[Bundle]) -> list[int]:
        """Places among a reading's prompts of those that are not answered yet."""
        answers = [a for bundle in reading for a in bundle.answers]
        return [place for place, a in enumerate(answers) if a.number in self._open]

    def _halve(self, error: BaseException) -> None:
        if self._tried <= 1:
            raise MapleError(
                "a single request does not fit into memory. Use a smaller model, fewer bits or a "
                f"machine with more memory. ({error})"
            ) from error
        self._max_slots = max(1, min(self._max_slots, self._tried) // 2)
        self._line_up(list(self._open.values()))
        release_memory()

    def _make_room(self) -> None:
        """Lays the slots out anew where others would be many more, or much shorter."""
        widths = [a.width for a in self._slots.active]
        widths += [b.width for b in self._waiting[0]] if self._waiting else []
        if not widths:
            return
        length = rounded(max(widths))
        n_slots = min(self._max_slots, max(1, self._limits.max_tokens // length), len(self._open))
        if (
            length > self._slots.length
            or _WORTH_MOVING * length <= self._slots.length
            or (self._waiting and n_slots >= _WORTH_MOVING * self._slots.n_slots)
        ):
            n_slots = max(n_slots, len(self._slots.active))
            self._tried = n_slots
            self._slots = self._slots.moved(n_slots, length)

    def _next(self) -> tuple[Bundle, ...] | None:
        """The prompts to read now, if their answers find slots."""
        free = self._slots.n_slots - len(self._slots.active)
        if not self._waiting or len(self._wanted(self._waiting[0])) > free:
            return None
        return self._waiting.popleft()

    def _read(self, reading: Sequence[Bundle]) -> None:
        chosen = self._wanted(reading)
        answers = [a for bundle in reading for a in bundle.answers]
        self._tried = len(self._slots.active) + len(chosen)
        logits, read = self._passes.read(reading)
        own = [answers[place] for place in chosen]
        over = self._extend(own, next_tokens(logits[chosen], own))
        # The first that are kept take the memory of all slots.
        self._tried = self._slots.n_slots
        going = [place for n, place in enumerate(chosen) if n not in over]
        read.keep(self._slots, [answers[place] for place in going], going)

    def _step(self) -> None:
        active = self._slots.active
        self._tried = len(active)
        over = self._extend(active, next_tokens(self._passes.step(self._slots), active))
        self._slots.remove(over)

    def _extend(self, answers: Sequence[Answer], tokens: Sequence[int]) -> list[int]:
        """Writes a token behind each answer; returns the places of those that are complete."""
        over = []
        for place, (answer, token) in enumerate(zip(answers, tokens, strict=True)):
            answer.ids.append(token)
            if self._endings.is_over(answer.request, answer.ids):
                over.append(place)
                self._done.append(self._open.pop(answer.number))
        return over
