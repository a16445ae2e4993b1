"""What a study of this size can find: the smallest effect likely to be told from zero."""

from __future__ import annotations

import math

from scipy.special import stdtrit

from maple.analysis.intervals import CONFIDENCE

POWER = 0.8
"""Share of repetitions in which an effect of the named size is told from zero."""


def minimum_detectable(standard_error: float, df: float) -> float:
    """Returns the smallest true effect that a two-sided 5% test finds in ``POWER`` of studies.

    ``(t_0.975 + t_0.8) SE``: a true effect so far from zero that its estimate is beyond the
    critical value four times in five (Bloom 1995). Before any adjustment over many comparisons.

    Args:
        standard_error: of the estimate.
        df: degrees of freedom of its variance.
    """
    df = max(df, 1.0)
    critical = float(stdtrit(df, (1 + CONFIDENCE) / 2)) + float(stdtrit(df, POWER))
    return critical * standard_error


def paired_standard_error(n: int, discordant: float, *, n_languages: int = 1) -> float:
    """Returns the standard error of a paired difference of accuracies before it is measured.

    Args:
        n: samples per language.
        discordant: share of samples that one of the two alone gets right, in 0..1.
        n_languages: languages averaged; counted as independent, which parallel items are not.
    """
    return math.sqrt(discordant / (n * n_languages))


def samples_needed(effect: float, discordant: float) -> int:
    """Returns the samples at which a paired difference of accuracies would be found.

    Args:
        effect: the true difference, in 0..1, not 0.
        discordant: share of samples that one of the two alone gets right, in 0..1.

    Raises:
        ValueError: there is no effect to be found.
    """
    if effect == 0:
        raise ValueError("no number of samples tells an effect of 0 from 0")
    spread = max(discordant - effect**2, 0.0)
    return max(2, math.ceil((minimum_detectable(1.0, math.inf) / effect) ** 2 * spread))
