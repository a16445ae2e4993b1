"""Training settings that cannot be with a method or a mixture, told before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from maple.catalog.contracts import Method
from maple.errors import StudyError
from maple.study import Mixture, TrainingSettings


def training_conflict(method: Method, training: TrainingSettings) -> str | None:
    """Why a method cannot be trained with those settings; None when it can."""
    key = training.earlier_parameters
    if key is None or method.last_step_only is None:
        return None
    return f"training.{key} may save other parameters than the last: {method.last_step_only}"


def check_validation(training: TrainingSettings, mixtures: Sequence[Mixture]) -> None:
    """Checks that every mixture has examples in the languages it is validated in.

    Raises:
        StudyError: one does not; held-out examples come from nowhere else.
    """
    if training.validation is None:
        return
    for mixture in mixtures:
        known = sorted({code for part in mixture.parts for code in part.languages})
        absent = [code for code in training.validation.languages if code not in known]
        if absent:
            raise StudyError(
                f"training.validation.languages: mixture {mixture.name!r} has no examples in "
                f"{', '.join(absent)} to hold out; it has {', '.join(known)}. Name languages of "
                "every mixture. A benchmark's data would be a leak."
            )
