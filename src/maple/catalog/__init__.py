"""Everything a study may name: one file per entry, file name = entry name."""

from maple.catalog.load import (
    entry_names,
    family_for,
    load_dataset,
    load_family,
    load_method,
    load_quantizer,
    load_task,
    missing_library,
)

__all__ = [
    "entry_names",
    "family_for",
    "load_dataset",
    "load_family",
    "load_method",
    "load_quantizer",
    "load_task",
    "missing_library",
]
