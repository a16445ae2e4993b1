"""Weighted data sets and languages -> the examples of an epoch, the same for every method.

A pool is one language of one data set. An epoch takes ``weight x rows`` examples of each pool;
``examples`` then thins the epoch to that many, every pool by the same factor. Which rows, and in
what order, depends on the seed and the data alone.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from maple.catalog import load_dataset
from maple.catalog.contracts import Conversation
from maple.errors import DataError
from maple.files import Files
from maple.startup import without_collection
from maple.study import Mixture


@dataclass(frozen=True)
class ExamplePool:
    """All the conversations of one language of one data set."""

    dataset: str
    language: str
    weight: float
    conversations: tuple[Conversation, ...]

    @property
    def key(self) -> str:
        """Names the pool in seeds, so that adding a pool leaves the others' draws alone."""
        return f"{self.dataset}/{self.language}"


def load_pools(mixture: Mixture, files: Files) -> list[ExamplePool]:
    """Reads every language of every data set of a mixture.

    Raises:
        DataError: a file breaks its format, or the mixture holds no example at all.
        SourceError: a file cannot be had.
    """
    pools = []
    # Rows have no cycles, and looking for some is a third of the time of reading them.
    with without_collection():
        for part in mixture.parts:
            dataset = load_dataset(part.dataset, part.options)
            for language in part.languages:
                rows = tuple(dataset.conversations(files, language))
                pools.append(ExamplePool(part.dataset, language, part.weight, rows))
    if not any(pool.conversations for pool in pools):
        named = ", ".join(pool.key for pool in pools) or "no data set"
        raise DataError(f"mixture {mixture.name!r} is empty: {named} gave no example.")
    return pools


def hold_out(
    pools: Sequence[ExamplePool], languages: Sequence[str], examples: int
) -> tuple[list[ExamplePool], list[ExamplePool]]:
    """Takes examples of some languages out of a mixture: the same ones for every seed.

    Which rows depends on their prompts alone: the lowest of their hashes. A prompt that is held
    out is left to train on nowhere, with whatever response and under whatever language.

    Args:
        pools: the mixture's pools.
        languages: canonical codes.
        examples: how many prompts of each language.

    Returns:
        The pools without what was taken, and one pool per language of what was.

    Raises:
        DataError: a language has too few prompts to leave any to train on.
    """
    held: dict[str, list[Conversation]] = {}
    for language in languages:
        found = _distinct(pools, language)
        if len(found) <= examples:
            raise DataError(
                f"training.validation holds out {examples} examples of {language}, and the "
                f"mixture has {len(found)} different prompts in it: none would be left to train "
                "on. Lower training.validation.examples or leave the language out."
            )
        held[language] = [found[key] for key in sorted(found)[:examples]]
    prompts = {_prompt(row) for rows in held.values() for row in rows}
    left = [
        replace(p, conversations=tuple(c for c in p.conversations if _prompt(c) not in prompts))
        for p in pools
    ]
    return left, [ExamplePool("held-out", code, 1.0, tuple(rows)) for code, rows in held.items()]


def _distinct(pools: Sequence[ExamplePool], language: str) -> dict[bytes, Conversation]:
    """One row for each prompt of a language, by the prompt's hash."""
    found: dict[bytes, Conversation] = {}
    for pool in pools:
        for row in pool.conversations if pool.language == language else ():
            key = hashlib.sha256(repr(_prompt(row)).encode()).digest()
            # Of several responses the first in text order: not of upstream's order.
            if key not in found or row.response < found[key].response:
                found[key] = row
    return found


def _prompt(row: Conversation) -> tuple[Any, ...]:
    return (row.instruction, row.input, row.turns)


def draw_epoch(
    pools: Sequence[ExamplePool], *, examples: int | None, seed: int, epoch: int = 0
) -> list[tuple[int, int]]:
    """Draws one epoch as (pool, row) pairs in training order.

    Args:
        pools: the mixture's pools.
        examples: thin the epoch to this many; None keeps ``weight x rows`` of every pool.
        seed: the run's seed. The same rows are drawn in every epoch, in another order.
        epoch: counted from 0.

    Returns:
        Indices into ``pools`` and into that pool's conversations; a row repeats only where a
        pool's share exceeds its rows.
    """
    quotas = _quotas(pools, examples)
    drawn = [
        (index, row)
        for index, (pool, quota) in enumerate(zip(pools, quotas, strict=True))
        for row in _rows(pool, quota, seed)
    ]
    order = _generator(seed, f"epoch {epoch}").permutation(len(drawn))
    return [drawn[i] for i in order]


def _quotas(pools: Sequence[ExamplePool], examples: int | None) -> list[int]:
    """Whole numbers of examples per pool, by largest remainder."""
    wanted = np.array([pool.weight * len(pool.conversations) for pool in pools])
    if examples is not None:
        wanted *= examples / wanted.sum()
    quotas = np.floor(wanted).astype(int)
    short = round(float(wanted.sum())) - int(quotas.sum())
    # Stable order, so that equal remainders go to the first pool on every machine.
    for index in np.argsort(quotas - wanted, kind="stable")[:short]:
        quotas[index] += 1
    return [int(q) for q in quotas]


def _rows(pool: ExamplePool, quota: int, seed: int) -> list[int]:
    if not pool.conversations:
        return []
    rows: list[int] = []
    turn = 0
    while len(rows) < quota:
        shuffled = _generator(seed, f"{pool.key} {turn}").permutation(len(pool.conversations))
        rows += [int(r) for r in shuffled[: quota - len(rows)]]
        turn += 1
    return rows


def _generator(seed: int, purpose: str) -> np.random.Generator:
    # PCG64 and a hash of the purpose: stable over processes, platforms and pools.
    digest = hashlib.sha256(f"{seed} {purpose}".encode()).digest()
    return np.random.Generator(np.random.PCG64(int.from_bytes(digest[:16], "big")))
