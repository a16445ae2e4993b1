"""Answers asked for ahead of their turn, several at once, and kept until they are taken."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from maple.evaluate.encode import EncodedRequest

R = TypeVar("R")


class Ahead(Generic[R]):
    """Runs ``answer`` on requests in threads; equal requests are asked once."""

    def __init__(self, answer: Callable[[EncodedRequest], R], concurrency: int) -> None:
        self._answer = answer
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="ask")
        self._asked: dict[EncodedRequest, Future[R]] = {}
        self._failed = threading.Event()
        self._error: BaseException | None = None

    def expect(self, requests: Iterable[EncodedRequest]) -> None:
        """Begins to ask, in this order; answers that are there are kept, others are forgotten."""
        wanted = list(dict.fromkeys(requests))
        self._asked = {r: self._asked[r] for r in wanted if self.has(r)}
        self._failed.clear()
        self._error = None
        for request in wanted:
            self._begin(request)

    def ask(self, requests: Sequence[EncodedRequest]) -> list[R]:
        """Answers in order of ``requests``; waits for those that are not there yet."""
        futures = [self._begin(r) for r in requests]
        try:
            return [future.result() for future in futures]
        except CalledOffError:
            raise self._error or CalledOffError from None

    def has(self, request: EncodedRequest) -> bool:
        """Whether the answer is there, and is one."""
        future = self._asked.get(request)
        if future is None or not future.done() or future.cancelled():
            return False
        return future.exception() is None

    def settle(self) -> None:
        """Begins nothing more, and waits for what is under way: it may be paid for."""
        self._failed.set()
        for future in self._asked.values():
            future.cancel()
        for future in self._asked.values():
            if not future.cancelled():
                future.exception()

    def close(self) -> None:
        """Ends the threads."""
        self._pool.shutdown(cancel_futures=True)

    def _begin(self, request: EncodedRequest) -> Future[R]:
        if request not in self._asked:
            self._asked[request] = self._pool.submit(self._ask, request)
        return self._asked[request]

    def _ask(self, request: EncodedRequest) -> R:
        try:
            if self._failed.is_set():
                raise CalledOffError
            return self._answer(request)
        except BaseException as error:
            # Here, not where the answer is looked at: this thread would begin the next one before.
            self._error = self._error or error
            self._failed.set()
            raise


class CalledOffError(Exception):
    """Another request failed, so this one was not begun."""
