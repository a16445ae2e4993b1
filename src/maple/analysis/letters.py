"""Compact letter display: contenders that share a letter could not be told apart.

Insert and absorb (Piepho 2004): all start in one group; each pair told apart splits the groups that
hold both; a group inside another goes. Two share a letter if and only if they were not told apart.
"""

from __future__ import annotations

import string

import numpy as np
from numpy.typing import NDArray


def letter_groups(is_told_apart: NDArray[np.bool_]) -> list[tuple[int, ...]]:
    """Returns the largest groups within which no pair is told apart, by their first member.

    Args:
        is_told_apart: (k, k), symmetric, False on the diagonal.
    """
    # Groups as bits of whole numbers: a hundred runs make thousands of splits.
    groups = [(1 << len(is_told_apart)) - 1]
    for i, j in np.argwhere(np.triu(is_told_apart, 1)).tolist():
        both = 1 << i | 1 << j
        split = [g for g in groups if g & both == both]
        groups = [g for g in groups if g & both != both]
        for half in dict.fromkeys(g & ~(1 << x) for g in split for x in (i, j)):
            if not any(half & g == half for g in groups):
                groups = [g for g in groups if g & half != g] + [half]
    return sorted(tuple(i for i in range(g.bit_length()) if g >> i & 1) for g in groups if g)


def letters(is_told_apart: NDArray[np.bool_]) -> list[str]:
    """Returns the letters of each contender: ``a``, ``ab``, ``b``; after ``z`` comes ``aa,``.

    Args:
        is_told_apart: (k, k), the contenders from best to worst, so that ``a`` is the best's.
    """
    groups = letter_groups(is_told_apart)
    names = [_name(i) for i in range(len(groups))]
    separator = "," if len(groups) > len(string.ascii_lowercase) else ""
    return [
        separator.join(name for name, group in zip(names, groups, strict=True) if i in group)
        for i in range(len(is_told_apart))
    ]


def _name(number: int) -> str:
    name = ""
    number += 1
    while number:
        number, rest = divmod(number - 1, 26)
        name = string.ascii_lowercase[rest] + name
    return name
