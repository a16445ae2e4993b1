"""Checks of a choice's labels: are they balanced, and is a guess worth what is declared."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from maple.certify.certificate import Check
from maple.certify.reading import Reading, gold_index, n_options

_RARE = 0.001
"""Probability below which a deviation from equal shares is no accident."""
_FAR = 0.05
"""How far above an equal share the largest one must be to matter."""
_FEWEST_EXPECTED = 5
"""Items expected of each label below which the chi-square test is not used."""
_ROUNDING = 0.005
"""By which a declared chance level may differ from the options': 0.33 for a third."""


def label_checks(reading: Reading) -> Iterator[Check]:
    """Yields balance and chance."""
    if not reading.is_choice:
        free = "An answer is free text: there are no labels."
        yield Check(name="balance", status="grey", figure="-", message=free)
    else:
        yield _balance(reading)
    yield _chance(reading)


def guess_level(reading: Reading) -> float | None:
    """Expected accuracy of a guess among each item's options; None without options."""
    if not reading.is_choice or reading.main is None:
        return None
    shares = [1 / max(1, n_options(request)) for request in reading.main.requests]
    return sum(shares) / len(shares)


def _balance(reading: Reading) -> Check:
    counts = Counter(index for s in reading.samples if (index := gold_index(s)) is not None)
    guess = guess_level(reading)
    total = counts.total()
    if not total or guess is None:
        message = "No item has the index of an option as its gold."
        return Check(name="balance", status="red", figure="-", message=message)
    assert reading.main is not None
    options = max(n_options(request) for request in reading.main.requests)
    largest = max(counts.values()) / total
    p = _p_of_equal_shares([counts.get(index, 0) for index in range(options)])
    is_far = p is not None and p < _RARE and largest - guess >= _FAR
    listed = ", ".join(f"{index}: {counts[index]:,}" for index in sorted(counts))
    told = "too few items for a test" if p is None else f"chi-square p = {p:.2g}"
    return Check(
        name="balance",
        status="yellow" if is_far else "green",
        figure=f"{100 * largest:.1f}%",
        message=f"Always the commonest label scores {100 * largest:.1f}, a guess "
        f"{100 * guess:.1f}; {told}.",
        examples=(listed,),
    )


def _p_of_equal_shares(counts: list[int]) -> float | None:
    if len(counts) < 2 or sum(counts) / len(counts) < _FEWEST_EXPECTED:
        return None
    from scipy.stats import chisquare

    return float(chisquare(counts).pvalue)


def _chance(reading: Reading) -> Check:
    declared, guess = reading.task.info.chance_level, guess_level(reading)
    if guess is None:
        message = "Not a choice, so no guess is right by chance."
        figure = "-" if declared is None else f"{100 * declared:.1f}"
        return Check(name="chance", status="grey", figure=figure, message=message)
    if declared is None:
        message = f"A guess among the options is right in {100 * guess:.1f}%; nothing is declared."
        return Check(name="chance", status="yellow", figure=f"{100 * guess:.1f}", message=message)
    agrees = abs(declared - guess) <= _ROUNDING
    return Check(
        name="chance",
        status="green" if agrees else "red",
        figure=f"{100 * guess:.1f}" if agrees else f"{100 * guess:.1f} not {100 * declared:.1f}",
        message=f"A guess among the options is right in {100 * guess:.1f}%; "
        f"{100 * declared:.1f}% is declared.",
    )
