"""Cohort -> adapters + TrainRecords: one loop for every method."""

from maple.train.loop import TrainResult, train_run

__all__ = ["TrainResult", "train_run"]
