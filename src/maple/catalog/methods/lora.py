"""LoRA: a trained low-rank update beside every adapted weight.

    x ──┬── W (out, in), frozen ───────────────┬── + ── y
        └── dropout ── A (r, in) ── B (out, r) ── * scale
    scale = alpha / r, or alpha / sqrt(r) with rsLoRA

Source: Hu et al. 2021 (arXiv 2106.09685); rsLoRA: Kalajdzievski 2023 (arXiv 2312.03732).
"""

from __future__ import annotations

from maple.catalog.peft import LoraMethod


class Lora(LoraMethod):
    """Low-rank adapters through ``peft``; zero-initialised B, so step 0 equals the base.

    Source of defaults: Bactrian-X (rank 64, alpha 16, dropout 0.05, targets q, k, v, o).
    """
