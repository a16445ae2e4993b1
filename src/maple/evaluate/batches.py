"""Length-sorted token-budget batches; a pure function of the requests, so a resume repeats it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, TypeVar

from maple.errors import MapleError
from maple.evaluate.prefix_tree import common_length

if TYPE_CHECKING:
    from maple.evaluate.encode import EncodedRequest

T = TypeVar("T")

_LEAST_SHARED = 16
"""Tokens that requests must share for it to matter that they meet in one pass."""


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


def shared_batches(
    sequences: Sequence[Sequence[int]],
    sizes: Sequence[int],
    *,
    max_tokens: int,
    max_requests: int | None = None,
) -> list[list[int]]:
    """Groups requests so that those with a long common beginning meet in one pass, once fed.

    Requests that share at least half of what they do not share with all stand together; such
    groups, and requests within one, go longest first, so that lengths in a pass are alike.

    Args:
        sequences: a sequence of each request, beginning as the others of it do.
        sizes: tokens that each request feeds, alone in a pass.
        max_tokens: tokens of a batch; a request above it gets a batch of its own.
        max_requests: requests per batch at most; None for no other limit.

    Returns:
        Indices per batch. A pure function of the requests: every process makes the same batches.
    """
    order = sorted(range(len(sequences)), key=lambda i: (sequences[i], i))
    alike = [common_length(sequences[a], sequences[b]) for a, b in pairwise(order)]
    by_all = min(alike, default=0)
    groups = [order[:1]]
    for (one, other), same in zip(pairwise(order), alike, strict=True):
        shorter = min(len(sequences[one]), len(sequences[other])) - by_all
        if same - by_all < max(_LEAST_SHARED, shorter / 2):
            groups.append([])
        groups[-1].append(other)
    for group in groups:
        group.sort(key=lambda i: (-sizes[i], i))
    groups.sort(key=lambda group: (-sizes[group[0]], group[0]))
    batches: list[list[int]] = []
    fed = 0
    for group in groups:
        last: int | None = None
        for index in group:
            same = by_all if last is None else common_length(sequences[last], sequences[index])
            full = not batches or fed + sizes[index] - same > max_tokens
            if full or (max_requests is not None and len(batches[-1]) >= max_requests):
                batches.append([])
                fed, same = 0, 0
            batches[-1].append(index)
            fed += sizes[index] - same
            last = index
    return batches


def ranking_batches(
    encoded: Iterable[EncodedRequest], *, max_tokens: int, max_requests: int | None = None
) -> list[list[int]]:
    """Groups encoded rankings by what they share; see ``shared_batches``."""
    first, sizes = [], []
    for request in encoded:
        first.append(request.options[0].ids)
        sizes.append(sum(len(row.ids) for row in request.rows))
    return shared_batches(first, sizes, max_tokens=max_tokens, max_requests=max_requests)


def halving(batch: Sequence[T], call: Callable[[Sequence[T]], list[object]]) -> Iterator[object]:
    """Calls on a batch, and on its halves where memory does not suffice.

    Raises:
        MapleError: a single request does not fit into memory.
    """
    try:
        yield from call(batch)
    except (RuntimeError, MemoryError) as error:
        if not is_out_of_memory(error):
            raise
        if len(batch) == 1:
            raise MapleError(
                "a single request does not fit into memory. Use a smaller model, fewer bits or a "
                f"machine with more memory. ({error})"
            ) from error
    else:
        return
    release_memory()
    middle = len(batch) // 2
    yield from halving(batch[:middle], call)
    yield from halving(batch[middle:], call)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory does not suffice."""
    import torch

    # Neither the CPU allocator nor cuBLAS, which takes a workspace of its own, has a class for it.
    said = ("can't allocate memory", "CUBLAS_STATUS_ALLOC_FAILED")
    is_known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return is_known or any(text in str(error) for text in said)


def release_memory() -> None:
    """Gives back what nothing refers to any more, the device's cached blocks too."""
    import gc

    import torch

    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
