"""Text from prompts: many answers written at once, a finished one replaced by the next prompt.

answer      one answer while it is written
prompts     waiting prompts, longest first, those that begin alike in one row
slots       keys and values of the answers being written
passes      the model's two passes: prompts into slots, one more token for every slot
choice      the next token: the most likely one, or one drawn by the request's own numbers
endings     when an answer is complete, and what of it counts
stream      the order of it all
batched     for models that cannot be told masks and positions: transformers' own loop
"""

from maple.evaluate.generation.batched import generate_batched
from maple.evaluate.generation.choice import draw_key
from maple.evaluate.generation.endings import Endings
from maple.evaluate.generation.passes import Passes, can_continue
from maple.evaluate.generation.stream import Limits, generate_stream

__all__ = [
    "Endings",
    "Limits",
    "Passes",
    "can_continue",
    "draw_key",
    "generate_batched",
    "generate_stream",
]
