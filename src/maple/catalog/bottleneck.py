"""What the bottleneck adapters share: fields, count, and a directory that loads with one call.

    x ──┬── attention, o_proj ──(houlsby)── + ──┬── FFN, down_proj ──(houlsby)── + ──(pfeiffer)──▶
        └─────────── skip ──────────────────┘   ├───────(parallel)───────────────┤
                                                └───────── skip ─────────────────┘

``peft`` has no bottleneck adapters, so theirs is a directory of our own: the weights in
``adapter_model.safetensors``, and an ``adapter_config.json`` that says so.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import Field

from maple.catalog.contracts import AttachContext, Method, ModelFamily, Quantizer, Shape

if TYPE_CHECKING:
    from torch import nn

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FORMAT = "maple-bottleneck"

Nonlinearity = Literal["relu", "gelu", "silu", "tanh"]
Place = Literal["attention-output", "feed-forward-output", "block-output", "beside-feed-forward"]


class BottleneckMethod(Method):
    """A small network of two layers at one or two places of every block.

    The up-projection begins at zero, so step 0 equals the base; the down-projection begins as
    torch's linear layers do (Kaiming), which at the usual sizes is the spread of 0.01 that
    Houlsby et al. draw with.
    """

    places: ClassVar[tuple[Place, ...]]
    """Where in a block the adapters stand."""

    width: Annotated[int, Field(gt=0)]
    nonlinearity: Nonlinearity = "relu"
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    scale: Annotated[float, Field(gt=0)] = 1.0

    def conflict(self, quantizer: Quantizer, family: ModelFamily) -> str | None:
        """The places are found by Llama's names of the two output projections."""
        absent = sorted({"o_proj", "down_proj"} - set(family.linear))
        if absent:
            return f"the adapters stand after o_proj and down_proj, and there is no {absent[0]}"
        return None

    def trainable_parameters(self, shape: Shape, family: ModelFamily) -> int | None:
        """Two matrices of width x hidden and two biases, at every place of every block."""
        one = 2 * self.width * shape.hidden + self.width + shape.hidden
        return shape.layers * len(self.places) * one

    def attach(self, model: nn.Module, context: AttachContext) -> nn.Module:
        """Hooks new adapters onto the base, which stays the same object.

        Raises:
            TrainingError: the base's blocks have not one o_proj and one down_proj each.
        """
        from maple.catalog.bottleneck_layers import put_on

        put_on(model, self.places, self._settings())
        return model

    def save(self, model: nn.Module, directory: Path) -> None:
        """Writes weights and hyper-parameters, the same bytes every time."""
        from maple.catalog.bottleneck_layers import adapter_tensors, write_tensors

        write_tensors(adapter_tensors(model), directory / WEIGHTS)
        content = {
            # peft repeats an unknown type in its error: this is what it then says.
            "peft_type": f"{FORMAT}: bottleneck adapters are not part of peft; load them with "
            "maple.catalog.bottleneck.load_bottleneck(model, directory)",
            "format": FORMAT,
            "places": list(self.places),
            "base_model_name_or_path": getattr(model, "name_or_path", None),
            **self._settings(),
        }
        text = json.dumps(content, indent=2, sort_keys=True) + "\n"
        (directory / CONFIG).write_text(text, encoding="utf-8")

    def load(self, model: nn.Module, directory: Path) -> nn.Module:
        """Returns the base with the adapters of ``directory`` on it, ready to be evaluated.

        Raises:
            ValueError: they are of other hyper-parameters, or do not fit this base.
        """
        places, settings = _read_config(directory)
        if (places, settings) != (list(self.places), self._settings()):
            raise ValueError(
                f"its hyper-parameters are not those that were asked for: {settings} at {places}, "
                f"not {self._settings()} at {list(self.places)}"
            )
        return load_bottleneck(model, directory)

    def _settings(self) -> dict[str, Any]:
        return {
            "width": self.width,
            "nonlinearity": self.nonlinearity,
            "dropout": self.dropout,
            "scale": self.scale,
        }


def load_bottleneck(model: nn.Module, directory: Path | str) -> nn.Module:
    """Puts stored bottleneck adapters on a model, frozen; returns the same model.

    Args:
        model: a causal language model of ``transformers``, in any number of bits.
        directory: as ``BottleneckMethod.save`` wrote it.

    Raises:
        ValueError: it holds no bottleneck adapters, or the weights are not those of adapters
            for this model.
        TrainingError: the model's blocks have not one o_proj and one down_proj each.
    """
    from safetensors.torch import load_file

    from maple.catalog.bottleneck_layers import fill, put_on

    path = Path(directory)
    places, settings = _read_config(path)
    adapters = put_on(model, places, settings)
    try:
        fill(model, load_file(str(path / WEIGHTS)))
    except ValueError:
        for adapter in adapters:
            adapter.take_off()
        raise
    return model


def _read_config(directory: Path) -> tuple[Any, dict[str, Any]]:
    content = json.loads((directory / CONFIG).read_text(encoding="utf-8"))
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"{directory / CONFIG} is not that of a bottleneck adapter")
    names = ("width", "nonlinearity", "dropout", "scale")
    return content["places"], {name: content[name] for name in names}
