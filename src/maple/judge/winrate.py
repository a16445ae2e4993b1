"""AlpacaEval's win rate: the mean preference for the model, in percent.

win_rate        100 * mean(preference - 1)
standard_error  100 * s / sqrt(n), s with n - 1
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from maple.errors import DataError


@dataclass(frozen=True, kw_only=True)
class WinRate:
    """How often a model is preferred to the reference; rates in percent."""

    win_rate: float
    standard_error: float | None
    """Of the win rate; None for a single verdict."""
    n_wins: int
    n_wins_base: int
    """Wins of the reference."""
    n_draws: int
    n_total: int
    """Verdicts that could be read: those in the mean."""
    discrete_win_rate: float
    """Each preference rounded to a win, a loss or a draw first."""


def win_rate(preferences: Sequence[float | None]) -> WinRate:
    """Computes the win rate over the preferences that state one.

    Args:
        preferences: 1 the reference to 2 the model; 0 or 1.5 a draw; None: unparsable, left out.

    Raises:
        DataError: none of them states a preference.
    """
    stated = np.array([value or 1.5 for value in preferences if value is not None], float)
    if not stated.size:
        raise DataError(
            f"none of the {len(preferences)} verdicts states a preference, so there is no win "
            "rate. Read the raw completions in annotations.json: the judge does not follow the "
            "prompt."
        )
    wins = stated - 1
    # Draws are kept out of the rounding, which would send 1.5 to 2.
    rounded = np.where(wins == 0.5, 0.5, np.rint(wins))
    error = 100 * wins.std(ddof=1) / np.sqrt(wins.size) if wins.size > 1 else None
    return WinRate(
        win_rate=float(100 * wins.mean()),
        standard_error=None if error is None else float(error),
        n_wins=int((wins > 0.5).sum()),
        n_wins_base=int((wins < 0.5).sum()),
        n_draws=int((wins == 0.5).sum()),
        n_total=int(wins.size),
        discrete_win_rate=float(100 * rounded.mean()),
    )
