"""What an engine is: two calls on encoded requests, whatever computes the answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from maple.catalog.contracts import GenerationResponse, RankingResponse
from maple.evaluate.encode import EncodedRequest


class ScoringEngine(Protocol):
    """Answers encoded requests for one model: the base, or the base with an adapter on it.

    ``maple.evaluate.Engine`` is the reference; others are held against it (``maple.engines``).
    """

    def loglikelihoods(self, requests: Sequence[EncodedRequest]) -> list[RankingResponse]:
        """Scores the options of each request.

        Returns:
            In order of ``requests``: natural-log likelihoods summed over each option's tokens.
        """

    def generate(self, requests: Sequence[EncodedRequest]) -> list[GenerationResponse]:
        """Continues each prompt.

        Returns:
            In order of ``requests``: text up to its first stop string.
        """
