"""Cohort -> adapters + TrainRecords: one loop for every method."""

from maple.train.calibration import calibration_rows
from maple.train.loop import train_run, train_together
from maple.train.trainee import Trainee, TrainResult

__all__ = ["TrainResult", "Trainee", "calibration_rows", "train_run", "train_together"]
