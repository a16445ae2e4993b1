"""Experiment trackers: what a store holds, written to MLflow, trackio or Weights & Biases.

    store  ->  tracked_runs()  ->  write_study()  ->  Tracker: mlflow.py | trackio.py | wandb.py

The store is read and never changed, so training needs none of these libraries. Writing again
updates what has changed and adds nothing twice.
"""

from maple.trackers.contents import Point, TrackedRun, tracked_runs
from maple.trackers.protocol import TRACKERS, Held, Target, Tracker, open_tracker
from maple.trackers.write import Outcome, write_study

__all__ = [
    "TRACKERS",
    "Held",
    "Outcome",
    "Point",
    "Target",
    "TrackedRun",
    "Tracker",
    "open_tracker",
    "tracked_runs",
    "write_study",
]
