"""The only place that knows the order: plan, load, train, evaluate, store."""

from maple.run.evaluate import evaluate_models
from maple.run.local import StudyOutcome, run_study
from maple.run.progress import Progress

__all__ = ["Progress", "StudyOutcome", "evaluate_models", "run_study"]
