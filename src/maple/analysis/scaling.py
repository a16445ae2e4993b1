"""Scaling laws: a score or a loss against trainable parameters or training tokens.

line         y = a + b log10 x                least squares over runs, Student's intervals
power law    y = floor + scale · x^-exponent  least squares; only of a loss, of five sizes or more

A run is one draw: its seed, its data order and its test items are in its distance from the curve,
so the interval needs no other source of variance. It is conditional on the form: a curve that
bends puts the bend into the scatter, and the interval is then too wide inside the sizes measured,
and says nothing of sizes outside them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import least_squares

from maple.analysis.intervals import Interval, student_interval, student_p

Values = NDArray[np.float64]
Against = Literal["trainable parameters", "training tokens"]
FEWEST_SIZES = 3
"""Distinct sizes that a line needs; through two anything is a line."""
FEWEST_RUNS = 4
"""Runs that a line needs, so that two degrees of freedom are left for its scatter."""
LEAST_RANGE = 2.0
"""Largest size over smallest that a line needs: what ten times the size adds is not told by runs
that differ by a hundredth, as those do whose seeds drew other examples."""
FEWEST_FOR_POWER = 5
"""Distinct sizes that a power law with a floor needs: it has three parameters."""
_LARGEST_EXPONENT = 3.0


@dataclass(frozen=True, kw_only=True)
class Line:
    """``y = at_mean + per_decade (log10 x - centre)``."""

    per_decade: Interval
    """What a tenfold size adds to y."""
    p: float
    at_mean: Interval
    """y at the centre."""
    centre: float
    """Mean of log10 x."""
    deviation: float
    """Standard deviation of runs around the line."""
    lack_of_fit: float | None
    """p-value of a line against a mean per size; None where no size has two runs."""
    n_runs: int
    n_sizes: int


@dataclass(frozen=True, kw_only=True)
class PowerLaw:
    """``y = floor + scale · (x / centre)^-exponent``."""

    exponent: Interval
    floor: Interval
    scale: float
    """What lies above the floor at the centre."""
    centre: float
    """Geometric mean of x."""
    deviation: float


@dataclass(frozen=True, kw_only=True)
class ScalingFit:
    """One quantity against one size."""

    against: Against
    line: Line | None
    power_law: PowerLaw | None
    why_not: str
    """Why a form is missing; empty where both are there."""


def fit_scaling(
    sizes: Sequence[float], values: Sequence[float], against: Against, *, is_loss: bool
) -> ScalingFit:
    """Fits both forms, as far as the sizes allow.

    Args:
        sizes: per run, above 0.
        values: per run, a score in 0..1 or a loss in nats.
        against: what the sizes are of.
        is_loss: whether smaller is better, and a power law is tried.
    """
    x, y = np.asarray(sizes, float), np.asarray(values, float)
    kept = np.isfinite(x) & np.isfinite(y) & (x > 0)
    x, y = x[kept], y[kept]
    n_sizes = np.unique(x).size
    if n_sizes < FEWEST_SIZES or x.size < FEWEST_RUNS:
        needed = f"a line needs {FEWEST_RUNS} runs of {FEWEST_SIZES} sizes"
        why = f"runs: {x.size}, sizes: {n_sizes}; {needed}"
        return ScalingFit(against=against, line=None, power_law=None, why_not=why)
    if x.max() / x.min() < LEAST_RANGE:
        why = (
            f"the largest size is {x.max() / x.min():.2f} times the smallest; a line needs "
            f"{LEAST_RANGE:g} times"
        )
        return ScalingFit(against=against, line=None, power_law=None, why_not=why)
    line = _line(np.log10(x), y)
    law = _power_law(x, y) if is_loss else "a score is bounded: only a line is fitted"
    if isinstance(law, str):
        return ScalingFit(against=against, line=line, power_law=None, why_not=law)
    return ScalingFit(against=against, line=line, power_law=law, why_not="")


def _line(log_x: Values, y: Values) -> Line:
    centre, n = float(log_x.mean()), y.size
    spread = float(((log_x - centre) ** 2).sum())
    slope = float((log_x - centre) @ y) / spread
    residual = y - y.mean() - slope * (log_x - centre)
    scale = float(residual @ residual) / (n - 2)
    return Line(
        per_decade=student_interval(slope, scale / spread, n - 2),
        p=student_p(slope, scale / spread, n - 2),
        at_mean=student_interval(float(y.mean()), scale / n, n - 2),
        centre=centre,
        deviation=math.sqrt(scale),
        lack_of_fit=_lack_of_fit(log_x, y, residual),
        n_runs=n,
        n_sizes=np.unique(log_x).size,
    )


def _lack_of_fit(log_x: Values, y: Values, residual: Values) -> float | None:
    from scipy.special import fdtrc

    sizes, position = np.unique(log_x, return_inverse=True)
    means = np.bincount(position, y) / np.bincount(position)
    pure = float(((y - means[position]) ** 2).sum())
    free, bend = y.size - sizes.size, sizes.size - 2
    if free < 1 or bend < 1 or pure <= 0:
        return None
    ratio = max(0.0, float(residual @ residual) - pure) / bend / (pure / free)
    return float(fdtrc(bend, free, ratio))


def _power_law(x: Values, y: Values) -> PowerLaw | str:
    n_sizes = np.unique(x).size
    if n_sizes < FEWEST_FOR_POWER or x.size < FEWEST_FOR_POWER + 1:
        return (
            f"sizes: {n_sizes}; a power law with a floor needs {FEWEST_FOR_POWER}, and a run more"
        )
    centre = float(np.exp(np.log(x).mean()))
    log_x = np.log(x / centre)

    def residuals(parameters: Values) -> Values:
        floor, scale, exponent = parameters
        return np.asarray(floor + scale * np.exp(-exponent * log_x) - y)

    spread = float(y.max() - y.min()) or 1.0
    found = min(
        (
            least_squares(
                residuals,
                [y.min() - 0.1 * spread, spread, start],
                bounds=([-np.inf, 0.0, 0.0], [np.inf, np.inf, _LARGEST_EXPONENT]),
                x_scale=[spread, spread, 0.1],
            )
            for start in (0.05, 0.3, 1.0)
        ),
        key=lambda fit: float(fit.cost),
    )
    floor, scale, exponent = map(float, found.x)
    free = x.size - 3
    variance = 2 * float(found.cost) / free
    information = found.jac.T @ found.jac
    is_inside = 1e-4 < exponent < _LARGEST_EXPONENT - 1e-4 and scale > 1e-9
    if not found.success or not is_inside or np.linalg.cond(information) > 1e12:
        return (
            "the power law does not converge: these sizes cannot tell its floor from its exponent"
        )
    covariance = np.linalg.inv(information) * variance
    return PowerLaw(
        exponent=student_interval(exponent, float(covariance[2, 2]), free),
        floor=student_interval(floor, float(covariance[0, 0]), free),
        scale=scale,
        centre=centre,
        deviation=math.sqrt(variance),
    )
