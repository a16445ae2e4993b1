"""The choice language by language, and whether a single language made it.

A mean over languages can be carried by one of them. So each is left out in turn: where another
configuration is then told to be ahead, or little is left of the gain over the base, that is said.
"""

from __future__ import annotations

from collections.abc import Sequence

from scipy.special import stdtrit

from maple.analysis.intervals import Interval
from maple.analysis.recommend_case import Case
from maple.analysis.recommend_gates import configured_means
from maple.analysis.recommend_joint import Configured, simultaneous
from maple.analysis.recommend_next import WORTH
from maple.analysis.recommend_refusals import named
from maple.analysis.recommend_result import InLanguage


def by_language(case: Case, chosen: str) -> tuple[InLanguage, ...]:
    """Returns the chosen configuration in each language, its gains with limits of all at once.

    Args:
        case: with means measured.
        chosen: the name of a member.
    """
    confidence = 1 - (1 - case.request.confidence) / len(case.found.languages)
    found = []
    for code in case.found.languages:
        means = _means(case, [code])
        gain = _gain(case, means, chosen, confidence)
        score = float(means.values[means.names.index(chosen)])
        found.append(InLanguage(language=code, score=score, gain=gain))
    return tuple(found)


def rests_on(case: Case, chosen: str) -> list[str]:
    """Returns in words which single languages the choice rests on; nothing where on none.

    Args:
        case: with means measured, and gains over the bases.
        chosen: the name of a member.
    """
    languages = case.found.languages
    if len(languages) < 2:
        return []
    confidence = 1 - (1 - case.request.confidence) / len(languages)
    notes = []
    for code in languages:
        means = _means(case, [other for other in languages if other != code])
        notes += _on_rival(case, means, chosen, code, confidence)
        notes += _on_gain(case, means, chosen, code)
    return notes


def _on_rival(
    case: Case, means: Configured, chosen: str, code: str, confidence: float
) -> list[str]:
    """Whether without a language another is told to be ahead."""
    others = [name for name in case.against if name in case.order and name != chosen]
    if not others:
        return []
    ahead = means.difference(chosen, others) @ means.values
    place = int(ahead.argmax())
    if ahead[place] < WORTH:  # looked at first: the limits below are the dear part
        return []
    among = means.subset([chosen, *others])
    family = simultaneous(among, among.difference(chosen, others), confidence)
    if family.at_least[place] <= 0:
        return []
    label, lead = case.found.labels[others[place]], 100 * float(ahead[place])
    return [
        f"without {named([code])}, {label} would be {lead:.1f} points ahead of it: the choice "
        "rests on that language"
    ]


def _on_gain(case: Case, means: Configured, chosen: str, code: str) -> list[str]:
    """Whether without a language little is left of the gain over the base."""
    whole, rest = case.gains.of(chosen), _gain(case, means, chosen, case.request.confidence)
    if whole is None or rest is None or rest.excludes_zero or rest.value > whole[0].value / 2:
        return []
    low, high = 100 * rest.low, 100 * rest.high
    return [
        f"without {named([code])}, its gain over its base would be {100 * rest.value:+.1f} points "
        f"[{low:+.1f}, {high:+.1f}]: the gain rests on that language"
    ]


def _means(case: Case, languages: Sequence[str]) -> Configured:
    return configured_means(case.found.within(languages), case.request)


def _gain(case: Case, means: Configured, chosen: str, confidence: float) -> Interval | None:
    """The chosen one's gain over its base, with limits that hold with a confidence by itself."""
    base = case.bases.get(chosen)
    if base is None:
        return None
    estimate, covariance, df = means.contrast(means.difference(base, [chosen]))
    value, error = float(estimate[0]), float(covariance[0, 0]) ** 0.5
    reach = float(stdtrit(df[0], (1 + confidence) / 2)) * error
    return Interval(value, value - reach, value + reach)
