"""Whether a task is left off once its comparison is decided, and by what rule."""

from __future__ import annotations

from itertools import pairwise
from typing import Annotated, Literal

from pydantic import Field, field_validator

from maple.errors import StudyError
from maple.study.content import Frozen

MOST_LOOKS = 10
BASE = "base"
"""``against``: the untouched base of the same model at the same bits."""

Alpha = Annotated[float, Field(gt=0, lt=0.5)]
Points = Annotated[float, Field(gt=0, le=100)]
Share = Annotated[float, Field(gt=0, le=1)]


class EarlyLook(Frozen):
    """Looks at a paired difference while a task is scored; ``docs/early_look.md`` has the method.

    Source of the fractions: four equally spaced looks, the usual plan of a group-sequential trial
    (Jennison & Turnbull 2000, chapter 2); more gain little.
    """

    alpha: Alpha = Field(0.05, description="Two-sided error that is spent, over all looks.")
    divide: Literal["grid", "none"] | Annotated[int, Field(gt=0)] = Field(
        "grid",
        description="grid: alpha is of all comparisons together, each gets an equal share "
        "(Bonferroni); a number: of so many, for a study that may grow to them; none: alpha is of "
        "each comparison.",
    )
    looks: tuple[Share, ...] = Field(
        (0.25, 0.5, 0.75, 1.0),
        min_length=2,
        max_length=MOST_LOOKS,
        description="Shares of samples.",
    )
    futility_points: Points | None = Field(
        None,
        description="Stop too once the difference cannot be more than so many points (0 to 100).",
    )
    against: str = Field(
        BASE, min_length=1, description="base, or the id of a run of the study: scored first."
    )

    @field_validator("looks")
    @classmethod
    def _rise_to_all(cls, value: tuple[float, ...]) -> tuple[float, ...]:
        if any(b <= a for a, b in pairwise(value)) or value[-1] != 1.0:
            raise ValueError(
                "looks are shares of the samples that rise and end with 1, such as "
                "[0.25, 0.5, 0.75, 1]"
            )
        return value

    def alpha_of_each(self, comparisons: int) -> float:
        """The error that one of the comparisons may spend.

        Raises:
            StudyError: there are more than ``divide`` says.
        """
        if self.divide == "none":
            return self.alpha
        if self.divide == "grid":
            return self.alpha / max(1, comparisons)
        if comparisons > self.divide:
            raise StudyError(
                f"early_look.divide shares alpha among {self.divide} comparisons, and there are "
                f"{comparisons} (runs compared x tasks x languages): state at least so many, or "
                "grid."
            )
        return self.alpha / self.divide

    def rule(self, *, comparisons: int, against: str, limit: int | None) -> EarlyLookRule:
        """The rule of one comparison.

        Args:
            comparisons: of the whole grid.
            against: id of the evaluation to compare with.
            limit: samples that were asked for; None: the whole split.

        Raises:
            StudyError: as ``alpha_of_each`` does.
        """
        return EarlyLookRule(
            alpha=self.alpha_of_each(comparisons),
            looks=self.looks,
            futility_points=self.futility_points,
            against=against,
            limit=limit,
        )


class EarlyLookRule(Frozen):
    """The rule that one evaluation was stopped by, or could have been: part of its identity."""

    alpha: Alpha = Field(description="Two-sided error that this comparison may spend.")
    looks: tuple[Share, ...]
    futility_points: Points | None
    against: str = Field(description="Id of the evaluation that it is compared with.")
    limit: int | None = Field(description="Samples that were asked for; None: the whole split.")
