"""The base model: loaded once, frozen, quantized; and what training and scoring share of it."""

from maple.base.head import label_logits
from maple.base.load import (
    LoadedBase,
    compute_context,
    count_parameters,
    let_autocast_choose,
    load_base,
)
from maple.base.machine import (
    describe_machine,
    is_on_cpu,
    peak_memory_bytes,
    select_device,
)
from maple.base.peak import peak_flops_per_second

__all__ = [
    "LoadedBase",
    "compute_context",
    "count_parameters",
    "describe_machine",
    "is_on_cpu",
    "label_logits",
    "let_autocast_choose",
    "load_base",
    "peak_flops_per_second",
    "peak_memory_bytes",
    "select_device",
]
