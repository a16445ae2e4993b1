"""Floating-point operations of a LoRA training step, in closed form.

    per token and linear layer   2 in out   forward          (a multiply and an add)
                                 2 in out   backward to its input
    its adapter of rank r        2 r (in + out) forward, twice that backward (weights and input)
    per attended pair            4 heads head_dim forward (scores, values), 8 backward
    per label token              4 hidden vocabulary: the head forward and backward to its input

The frozen weights have no gradient, and nothing flows back to the frozen embeddings: in the first
block q, k and v need no gradient of their input, nor do the adapters beside them. What need not be
done is not counted: padding, logits nobody reads, recomputation, the masked half of attention.
"""

from __future__ import annotations

from benchmarks.training.bases import Architecture
from benchmarks.training.rows import Step

_AFTER_EMBEDDINGS = ("q_proj", "k_proj", "v_proj")


def step_flops(architecture: Architecture, step: Step, rank: int) -> int:
    """Operations of one optimiser step with an adapter of that rank on every linear layer."""
    per_token = 0
    for block in range(architecture.layers):
        for name, (inputs, outputs) in architecture.linear_widths().items():
            base, down, up = 2 * inputs * outputs, 2 * inputs * rank, 2 * rank * outputs
            needs_input_gradient = block > 0 or name not in _AFTER_EMBEDDINGS
            per_token += base + 2 * down + 3 * up
            per_token += (base + down) if needs_input_gradient else 0
    attention = 12 * architecture.layers * architecture.heads * architecture.head_dim
    head = 4 * architecture.hidden * architecture.vocabulary
    return step.tokens * per_token + step.pairs * attention + step.label_tokens * head
