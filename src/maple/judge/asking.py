"""All pairs through a judge: what it will take, then every question that has no verdict yet."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from maple.judge.client import Endpoint, StoppedError
from maple.judge.outputs import Pair
from maple.judge.protocols import Protocol
from maple.judge.verdicts import Verdict, VerdictCache, verdict_key

_CHARACTERS_PER_TOKEN = 4
"""Source: OpenAI's rule of thumb for English text."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What the questions without a verdict will take."""

    requests: int
    cached: int
    """Pairs whose verdict is there already."""
    same: int
    """Pairs of equal answers, draws that nobody is asked about."""
    prompt_tokens: int
    """Characters of the messages over 4: a rule of thumb, not the judge's tokenizer."""
    completion_tokens: int
    """At most: the protocol's limit for every request."""

    def cost(self, price_in: float, price_out: float) -> float:
        """In the currency of the prices, which are per million tokens."""
        return (self.prompt_tokens * price_in + self.completion_tokens * price_out) / 1e6

    def __add__(self, other: Estimate) -> Estimate:
        return Estimate(
            requests=self.requests + other.requests,
            cached=self.cached + other.cached,
            same=self.same + other.same,
            prompt_tokens=self.prompt_tokens + other.prompt_tokens,
            completion_tokens=self.completion_tokens + other.completion_tokens,
        )


def estimate(
    pairs: Sequence[Pair], protocol: Protocol, *, judge: str, cache: VerdictCache
) -> Estimate:
    """Counts what ``ask_all`` would send; nothing is sent."""
    waiting = _unanswered(pairs, protocol, judge, cache)
    same = sum(pair.is_same for pair in pairs)
    messages = [m for pair in waiting for m in protocol.messages(pair.instruction, *pair.shown)]
    characters = sum(len(message["content"]) for message in messages)
    return Estimate(
        requests=len(waiting),
        cached=len(pairs) - same - len(waiting),
        same=same,
        prompt_tokens=-(-characters // _CHARACTERS_PER_TOKEN),
        completion_tokens=len(waiting) * int(protocol.settings["max_tokens"]),
    )


def ask_all(
    pairs: Sequence[Pair],
    protocol: Protocol,
    *,
    endpoint: Endpoint,
    cache: VerdictCache,
    concurrency: int = 4,
    on_verdict: Callable[[Verdict], Any] = lambda _: None,
) -> int:
    """Asks about every pair that has no verdict; each one is stored when it comes.

    Args:
        pairs: the answers to be compared.
        protocol: how to ask.
        endpoint: whom to ask.
        cache: where verdicts are kept; a verdict in it is not asked for again.
        concurrency: questions under way at once.
        on_verdict: told of each new verdict, in the order they come.

    Returns:
        How many questions were asked.

    Raises:
        SourceError: the server failed for good; verdicts that came before are stored.
        StoreError: the cache cannot be written.
    """
    waiting = _unanswered(pairs, protocol, endpoint.settings.judge, cache)
    n_asked = 0
    with ThreadPoolExecutor(max_workers=concurrency) as pool:
        futures = [pool.submit(_ask, pair, protocol, endpoint, cache) for pair in waiting]
        try:
            for future in as_completed(futures):
                with suppress(StoppedError):  # the failure that stopped it comes too
                    on_verdict(future.result())
                    n_asked += 1
        except BaseException:
            # What is under way is answered and stored; nothing else begins.
            endpoint.stop()
            pool.shutdown(cancel_futures=True)
            raise
    return n_asked


def _unanswered(
    pairs: Sequence[Pair], protocol: Protocol, judge: str, cache: VerdictCache
) -> list[Pair]:
    found: dict[str, Pair] = {}
    for pair in pairs:
        key = verdict_key(protocol, judge, pair)
        if not pair.is_same and cache.get(key) is None:
            found.setdefault(key, pair)
    return list(found.values())


def _ask(pair: Pair, protocol: Protocol, endpoint: Endpoint, cache: VerdictCache) -> Verdict:
    try:
        verdict = _verdict(pair, protocol, endpoint)
        cache.add(verdict)
    except BaseException:
        # Here, not where the result is looked at: this thread would begin the next one before.
        endpoint.stop()
        raise
    return verdict


def _verdict(pair: Pair, protocol: Protocol, endpoint: Endpoint) -> Verdict:
    judge = endpoint.settings.judge
    answer = endpoint.ask(protocol, protocol.messages(pair.instruction, *pair.shown))
    return Verdict(
        key=verdict_key(protocol, judge, pair),
        judge=judge,
        protocol=protocol.name,
        version=protocol.version,
        instruction=pair.instruction,
        is_switched=pair.is_switched,
        preference=protocol.parse(answer.choice),
        raw=answer.choice,
        prompt_tokens=answer.prompt_tokens,
        completion_tokens=answer.completion_tokens,
        seconds=answer.seconds,
    )
