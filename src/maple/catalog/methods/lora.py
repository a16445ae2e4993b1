"""LoRA: a trained low-rank update beside every adapted weight.

    x ──┬── W (out, in), frozen ───────────────┬── + ── y
        └── dropout ── A (r, in) ── B (out, r) ── * scale
    scale = alpha / r, or alpha / sqrt(r) with rsLoRA

Source: Hu et al. 2021 (arXiv 2106.09685); rsLoRA: Kalajdzievski 2023 (arXiv 2312.03732).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import Field

from maple.catalog.contracts import AttachContext, Method, ModelFamily, Shape

if TYPE_CHECKING:
    from torch import nn


class Lora(Method):
    """Low-rank adapters through ``peft``; zero-initialised B, so step 0 equals the base.

    Source of defaults: Bactrian-X (rank 64, alpha 16, dropout 0.05, targets q, k, v, o).
    """

    rank: Annotated[int, Field(gt=0)] = 64
    alpha: Annotated[float, Field(gt=0)] = 16.0
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.05
    targets: Literal["attention", "all-linear"] | tuple[str, ...] = "attention"
    rslora: bool = False

    def target_modules(self, family: ModelFamily) -> tuple[str, ...]:
        """The module names that receive an adapter in that family."""
        if self.targets == "attention":
            return family.attention
        return family.linear if self.targets == "all-linear" else tuple(self.targets)

    def trainable_parameters(self, shape: Shape, family: ModelFamily) -> int | None:
        """r * (in + out), summed over the adapted modules of every block."""
        widths = family.linear_shapes(shape)
        names = self.target_modules(family)
        if any(name not in widths for name in names):
            return None
        return shape.layers * sum(self.rank * sum(widths[name]) for name in names)

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Wraps the target modules with ``peft``.

        Raises:
            TrainingError: no module of the base has one of the target names.
        """
        from peft import LoraConfig, get_peft_model

        from maple.errors import TrainingError

        targets = list(self.target_modules(context.family))
        config = LoraConfig(
            r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            target_modules=targets,
            use_rslora=self.rslora,
            task_type="CAUSAL_LM",
        )
        try:
            wrapped: nn.Module = get_peft_model(model, config)
        except ValueError as error:
            known = sorted(
                {n.rsplit(".", 1)[-1] for n, m in model.named_modules() if not list(m.children())}
            )
            raise TrainingError(
                f"lora found no module named {targets} in the base. Its modules: {known}. "
                "Set targets to a list of names."
            ) from error
        return wrapped
