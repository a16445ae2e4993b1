"""Cohort -> adapters + TrainRecords: one loop for every method."""

from maple.train.calibration import calibration_rows
from maple.train.loop import TrainResult, train_run

__all__ = ["TrainResult", "calibration_rows", "train_run"]
