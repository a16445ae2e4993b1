"""One answer while it is written."""

from __future__ import annotations

from dataclasses import dataclass, field

from maple.evaluate.encode import EncodedRequest


@dataclass(eq=False)
class Answer:
    """A request and the tokens written for it so far."""

    number: int
    """The request's place among those asked for."""
    request: EncodedRequest
    ids: list[int] = field(default_factory=list)

    @property
    def known(self) -> tuple[int, ...]:
        """Prompt and answer: what is fed where the answer was given up for lack of memory."""
        return (*self.request.prompt, *self.ids)

    @property
    def n_known(self) -> int:
        """Tokens of the prompt and of the answer so far."""
        return len(self.request.prompt) + len(self.ids)

    @property
    def width(self) -> int:
        """Tokens that the answer can come to need a place for."""
        return len(self.request.prompt) + self.request.max_new_tokens
