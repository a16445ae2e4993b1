"""Length-sorted token-budget batches; a pure function of the requests, so a resume repeats it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from maple.errors import MapleError

T = TypeVar("T")


def token_budget_batches(
    widths: Sequence[int], rows: Sequence[int], *, max_tokens: int, max_requests: int | None = None
) -> list[list[int]]:
    """Groups requests, longest first, so that rows x longest stays within a budget.

    Args:
        widths: tokens of each request's longest row.
        rows: rows each request needs (its options).
        max_tokens: padded tokens of a batch; a request above it gets a batch of its own.
        max_requests: requests per batch at most; None for no other limit.

    Returns:
        Indices per batch. Ties go by index, so every process makes the same batches.
    """
    batches: list[list[int]] = []
    width = n_rows = 0
    for index in sorted(range(len(widths)), key=lambda i: (-widths[i], i)):
        full = not batches or width * (n_rows + rows[index]) > max_tokens
        if full or (max_requests is not None and len(batches[-1]) >= max_requests):
            batches.append([])
            width, n_rows = widths[index], 0
        batches[-1].append(index)
        n_rows += rows[index]
    return batches


def halving(batch: Sequence[T], call: Callable[[Sequence[T]], list[object]]) -> Iterator[object]:
    """Calls on a batch, and on its halves where memory does not suffice.

    Raises:
        MapleError: a single request does not fit into memory.
    """
    try:
        yield from call(batch)
    except (RuntimeError, MemoryError) as error:
        if not _is_out_of_memory(error):
            raise
        if len(batch) == 1:
            raise MapleError(
                "a single request does not fit into memory. Use a smaller model, fewer bits or a "
                f"machine with more memory. ({error})"
            ) from error
    else:
        return
    _release_memory()
    middle = len(batch) // 2
    yield from halving(batch[:middle], call)
    yield from halving(batch[middle:], call)


def _is_out_of_memory(error: BaseException) -> bool:
    import torch

    # Neither the CPU allocator nor cuBLAS, which takes a workspace of its own, has a class for it.
    said = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    is_known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return is_known or any(text in str(error) for text in said)


def _release_memory() -> None:
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
