"""FourierFT: the update is the inverse Fourier transform of a few trained frequencies.

    dW = scaling * Re(IFFT2(c at n random places))

Source: Gao et al. 2024 (arXiv 2405.03003).
"""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from maple.catalog.contracts import AttachContext
from maple.catalog.peft import PeftMethod, Positive


class Fourierft(PeftMethod):
    """Trained spectral coefficients at places drawn from the run's seed.

    They begin at zero, so that step 0 equals the base; the paper draws them.
    Source of defaults: ``peft`` (1,000 frequencies, scaling 150).
    """

    frequencies: Positive = 1000
    scaling: Annotated[float, Field(gt=0)] = 150.0

    def config(self, targets: list[str], context: AttachContext) -> Any:
        """A ``FourierFTConfig``."""
        from peft import FourierFTConfig

        return FourierFTConfig(
            n_frequency=self.frequencies,
            scaling=self.scaling,
            random_loc_seed=context.seed,
            init_weights=True,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )

    def module_parameters(self, inputs: int, outputs: int) -> int:
        """The coefficients."""
        return self.frequencies
