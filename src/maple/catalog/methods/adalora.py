"""AdaLoRA: LoRA as a singular value decomposition, whose rank moves to where it counts.

    dW = P diag(e) Q * alpha / r;   e is pruned to a budget, by smoothed |weight * gradient|
    loss += penalty * mean |P^T P - I|, |Q Q^T - I|

Source: Zhang et al. 2023 (arXiv 2303.10512).
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field, model_validator

from maple.catalog.contracts import AttachContext, TrainingHooks
from maple.catalog.peft import Dropout, PeftMethod, Positive

if TYPE_CHECKING:
    import torch
    from torch import nn

Share = Annotated[float, Field(ge=0, lt=1)]


class Adalora(PeftMethod):
    """Begins at ``initial_rank`` everywhere and ends at ``rank`` on average.

    Source of defaults: ``peft`` (12 and 8, smoothing 0.85, penalty 0.5). Where its warm-up and end
    are steps, and zero, ours are shares of the run: the paper's differ from task to task.
    """

    last_step_only: ClassVar[str | None] = (
        "adalora's ranks come down to their last number only as the run ends"
    )

    rank: Positive = 8
    initial_rank: Positive = 12
    alpha: Annotated[float, Field(gt=0)] = 8.0
    dropout: Dropout = 0.0
    warmup_share: Share = 0.1
    final_share: Share = 0.3
    interval: Positive = 1
    penalty: Annotated[float, Field(ge=0)] = 0.5

    @model_validator(mode="after")
    def _shrinks(self) -> Adalora:
        if self.initial_rank <= self.rank or self.warmup_share + self.final_share >= 1:
            raise ValueError("initial_rank must exceed rank, and the two shares leave time between")
        return self

    def config(self, targets: list[str], context: AttachContext) -> Any:
        """An ``AdaLoraConfig`` whose steps are set when the length of the run is known."""
        from peft import AdaLoraConfig

        return AdaLoraConfig(
            init_r=self.initial_rank,
            target_r=self.rank,
            lora_alpha=self.alpha,  # type: ignore[arg-type]
            lora_dropout=self.dropout,
            deltaT=self.interval,
            orth_reg_weight=self.penalty,
            total_step=1,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """P, e and Q at the rank they begin with."""
        return self.initial_rank * (inputs + outputs + 1)

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Wraps the target modules.

        Raises:
            TrainingError: no module of the base has one of the target names.
        """
        wrapped = super().attach(model, context)
        for name, parameter in wrapped.named_parameters():
            if "ranknum" in name:  # a count; peft lets it learn on a bfloat16 base
                parameter.requires_grad_(False)
        return wrapped

    def save(self, model: nn.Module, directory: Path) -> None:
        """Writes the adapter at the ranks it ended with."""
        with warnings.catch_warnings():
            # peft takes a layer whose rank has gone to zero for one that was not gathered.
            warnings.simplefilter("ignore")
            super().save(model, directory)

    def hooks(self, model: nn.Module, total_steps: int) -> TrainingHooks:
        """Re-allocates the ranks and keeps P and Q near orthogonal."""
        wrapped: Any = model
        config = wrapped.peft_config["default"]
        # The first pruning needs one step's gradients before it.
        config.total_step = max(total_steps, 2)
        config.tfinal = min(int(self.final_share * total_steps), config.total_step - 2)
        config.tinit = int(self.warmup_share * total_steps)
        return _Allocation(wrapped, self.penalty)


class _Allocation(TrainingHooks):
    """``peft``'s allocator around our steps; its running importances are the state."""

    def __init__(self, model: Any, penalty: float) -> None:
        self._tuner = model.base_model
        self._config = model.peft_config["default"]
        self._penalty = penalty
        named = list(model.named_parameters())
        self._wide = [p for n, p in named if "lora_A" in n]
        self._tall = [p for n, p in named if "lora_B" in n]

    def extra_loss(self, batch: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """The mean distance of P and Q from orthonormal, in the Frobenius norm."""
        import torch

        covariances = [p @ p.T for p in self._wide] + [p.T @ p for p in self._tall]
        distances = [torch.norm(c - torch.eye(len(c), device=c.device)) for c in covariances]
        return self._penalty * torch.stack(distances).mean()

    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> None:
        """Reads the gradients of the step and prunes to the budget of the moment."""
        self._tuner.update_and_allocate(step)

    def state_dict(self) -> dict[str, Any]:
        """The importances, and which singular values are in use."""
        allocator = self._tuner.rankallocator
        kept = {"exp_avg_ipt": allocator.exp_avg_ipt, "exp_avg_unc": allocator.exp_avg_unc}
        tensors = {f"{kind}/{n}": t for kind, all_of in kept.items() for n, t in all_of.items()}
        return tensors | {"rank_pattern": self._config.rank_pattern}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Puts them back."""
        allocator = self._tuner.rankallocator
        self._config.rank_pattern = state["rank_pattern"]
        for key, value in state.items():
            kind, slash, name = key.partition("/")
            if slash:
                getattr(allocator, kind)[name] = value
                allocator.ipt[name] = value  # overwritten before it is read
