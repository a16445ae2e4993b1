"""Adapters x task x language -> sample rows; an engine has two calls."""

from maple.evaluate.engine import Engine
from maple.evaluate.prepare import PreparedTask, prepare_task
from maple.evaluate.probe import check_alive, probe_logits, prove_alive
from maple.evaluate.score import Written, score_batches, write_answers

__all__ = [
    "Engine",
    "PreparedTask",
    "Written",
    "check_alive",
    "prepare_task",
    "probe_logits",
    "prove_alive",
    "score_batches",
    "write_answers",
]
