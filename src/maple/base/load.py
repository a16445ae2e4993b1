"""Loads a base model once, quantized as asked, frozen, with its tokenizer."""

from __future__ import annotations

import contextlib
import math
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from maple.base.machine import keep_freed_memory
from maple.catalog import family_for, load_family, load_quantizer, missing_library
from maple.catalog.contracts import ModelFamily, Quantizer
from maple.catalog.stored import as_read_here, other_bits, stored_quantization
from maple.errors import MapleError, SourceError, TrainingError
from maple.startup import import_model_libraries

if TYPE_CHECKING:
    import torch
    from torch import nn
    from transformers import PreTrainedModel, PreTrainedTokenizerBase


@dataclass
class LoadedBase:
    """A frozen base on its device, shared by the runs of a cohort."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    family: ModelFamily
    quantizer: Quantizer
    device: torch.device
    dtype: torch.dtype
    """What products are computed in: bfloat16, or float16 or float32 where asked."""

    @property
    def max_length(self) -> int:
        """Longest sequence the model was made for, in tokens."""
        config: Any = self.model.config
        return int(getattr(config, "max_position_embeddings", None) or 2048)


def load_base(
    source: str,
    *,
    quantization: str,
    device: torch.device,
    name: str | None = None,
    family: str | None = None,
) -> LoadedBase:
    """Loads a base and its tokenizer.

    Args:
        source: directory of the model, as fetched.
        quantization: catalog name.
        device: where the weights go.
        name: what adapters shall name as their base; None: the directory.
        family: catalog name; None: by the config's ``model_type``.

    Raises:
        SourceError: the model cannot be had, or is stored in other bits already.
        TrainingError: the quantization does not run on this machine.
    """
    import torch

    if device.type == "cpu":
        keep_freed_memory()
    quantizer = load_quantizer(quantization)
    dtype = getattr(torch, quantizer.compute_dtype)
    try:
        model, tokenizer = _read(source, quantizer, dtype, quantization=quantization, device=device)
    except MapleError:
        raise
    except (OSError, ValueError) as error:
        raise SourceError(f"the base model {source!r} cannot be loaded: {error}") from error
    except (RuntimeError, ImportError) as error:
        raise TrainingError(f"{quantization} does not load {source!r} here: {error}") from error
    model.requires_grad_(False)
    model.config.use_cache = False
    _keep_end_tokens_only(model)
    model.name_or_path = name or source
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    model_type: str = model.config.model_type
    chosen = load_family(family) if family else family_for(model_type=model_type)
    prepared: Any = quantizer.prepare(model)
    return LoadedBase(prepared, tokenizer, chosen, quantizer, device, dtype)


def _read(
    source: str,
    quantizer: Quantizer,
    dtype: torch.dtype,
    *,
    quantization: str,
    device: torch.device,
) -> tuple[Any, Any]:
    """The model and its tokenizer, unless the checkpoint or the machine forbid those bits."""
    import_model_libraries()
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging as transformers_logging

    transformers_logging.disable_progress_bar()
    own = AutoConfig.from_pretrained(source)
    config = own.to_dict()
    if unfit := other_bits(config, quantization):
        raise SourceError(f"the base model {source!r} cannot be loaded: {unfit}.")
    if absent := missing_library(quantizer):
        raise TrainingError(f"{quantization} does not run here: {absent}.")
    arguments = quantizer.load_kwargs(dtype)
    if stored_quantization(config):
        arguments.pop("quantization_config", None)  # the checkpoint's own holds
        arguments["config"] = as_read_here(own)
    tokenizer = AutoTokenizer.from_pretrained(source)
    model = AutoModelForCausalLM.from_pretrained(
        source, device_map={"": str(device)}, use_safetensors=True, **arguments
    )
    return model, tokenizer


def _keep_end_tokens_only(model: PreTrainedModel) -> None:
    """Forgets a checkpoint's own decoding: its repetition penalty would act on greedy text too."""
    from transformers import GenerationConfig

    own: Any = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id
    )


def let_autocast_choose(model: nn.Module, base: LoadedBase) -> None:
    """Stops adapter layers from lifting their inputs to float32 before autocast lowers them again.

    The numbers are the same; on a bfloat16 base it saves two conversions per adapted layer.
    """
    import torch

    for module in model.modules():
        if hasattr(module, "cast_input_dtype_enabled"):
            vars(module)["cast_input_dtype_enabled"] = base.dtype == torch.float32


def count_parameters(model: nn.Module) -> tuple[int, int]:
    """Trainable and total parameters; a packed weight counts as what it was packed from."""
    trainable = total = 0
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        packed = getattr(parameter, "unpacked_shape", None) or getattr(state, "shape", None)
        total += math.prod(packed or parameter.shape)
        trainable += parameter.numel() if parameter.requires_grad else 0
    return trainable, total


def compute_context(base: LoadedBase) -> AbstractContextManager[Any]:
    """Products in the base's compute dtype while adapters stay float32 masters.

    The frozen weights already are bfloat16, so autocast converts nothing but the adapters.
    """
    import torch

    if base.dtype == torch.float32:
        return contextlib.nullcontext()
    return torch.autocast(base.device.type, dtype=base.dtype)
