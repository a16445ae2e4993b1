"""Numbers and names as a reader sees them: scores in points (0..100), units spelt out."""

from __future__ import annotations

from collections.abc import Sequence

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"
"""Stands where there is no number."""

_GROUPS = {
    "all": "all languages",
    "non-english": "other than English",
    "english": "English",
    "low-resource": "low-resource (classes 0\N{EN DASH}2)",
    "high-resource": "high-resource (classes 3\N{EN DASH}5)",
}


def points(value: float | None, digits: int = 1) -> str:
    """Returns a score of 0..1 as points: ``0.613`` is ``61.3``."""
    return NOTHING if value is None else f"{100 * value:.{digits}f}".replace("-", MINUS)


def signed(value: float | None, digits: int = 1) -> str:
    """Returns a difference of scores as signed points: ``-0.02`` is ``−2.0``."""
    if value is None:
        return NOTHING
    text = f"{100 * value:+.{digits}f}"
    is_zero = float(text) == 0
    return text.lstrip("+-") if is_zero else text.replace("-", MINUS)


def score_limits(low: float, high: float) -> str:
    """Returns an interval of a score in points: ``[55.1, 66.9]``."""
    return f"[{points(low)}, {points(high)}]"


def limits(low: float, high: float) -> str:
    """Returns an interval of a difference in signed points: ``[−1.0, +3.2]``."""
    return f"[{signed(low)}, {signed(high)}]"


def count(value: float | None) -> str:
    """Returns a whole number with thousands separated."""
    return NOTHING if value is None else f"{value:,.0f}"


def parameters(value: float | None) -> str:
    """Returns a number of parameters: ``8,388,608`` is ``8.39 M``."""
    return _scaled(value, ((1e9, "B"), (1e6, "M"), (1e3, "k")))


def size(value: float | None) -> str:
    """Returns bytes in the binary unit that fits: ``1.5 GiB``."""
    return _scaled(value, ((2**30, "GiB"), (2**20, "MiB"), (2**10, "KiB")), "B")


def rate(value: float | None) -> str:
    """Returns operations per second in the unit that fits: ``412 GFLOP/s``."""
    units = ((1e12, "TFLOP/s"), (1e9, "GFLOP/s"), (1e6, "MFLOP/s"))
    return _scaled(value, units, "FLOP/s")


def energy(joules: float | None) -> str:
    """Returns joules in the unit that fits: ``1.2 kWh``, ``35 Wh``, ``840 J``."""
    return _scaled(joules, ((3.6e6, "kWh"), (3.6e3, "Wh")), "J")


def duration(seconds: float | None) -> str:
    """Returns seconds as ``4.2 s``, ``3 min 20 s`` or ``2 h 05 min``."""
    if seconds is None:
        return NOTHING
    if seconds < 100:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 100:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def group_name(group: str) -> str:
    """Returns what a group of languages is called."""
    return _GROUPS.get(group, group)


def bits_name(quantization: str, bits: float | None) -> str:
    """Returns a quantization with its bits: ``nf4 (4 bits)``."""
    return quantization if bits is None else f"{quantization} ({bits:g} bits)"


def plural(n: int, noun: str) -> str:
    """Returns a count with its noun: ``1 task``, ``3 tasks``."""
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def listed(items: Sequence[str]) -> str:
    """Returns words as a list in a sentence: ``a, b and c``."""
    return " and ".join(filter(None, [", ".join(items[:-1]), *items[-1:]]))


def _scaled(value: float | None, units: Sequence[tuple[float, str]], smallest: str = "") -> str:
    if value is None:
        return NOTHING
    for factor, unit in units:
        if value >= factor:
            return f"{value / factor:.3g} {unit}"
    return f"{value:.0f} {smallest}".rstrip()
