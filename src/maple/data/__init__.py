"""Mixture -> rendered, tokenized, packed batches; the same rendering serves evaluation."""

from maple.data.mixture import ExamplePool, draw_epoch, hold_out, load_pools
from maple.data.pack import MicroBatch, pack_rows, to_micro_batches
from maple.data.render import render_conversation, render_instruction
from maple.data.schedule import StepSchedule
from maple.data.tokenize import Example, tokenize_example

__all__ = [
    "Example",
    "ExamplePool",
    "MicroBatch",
    "StepSchedule",
    "draw_epoch",
    "hold_out",
    "load_pools",
    "pack_rows",
    "render_conversation",
    "render_instruction",
    "to_micro_batches",
    "tokenize_example",
]
