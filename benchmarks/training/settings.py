"""The layouts of the peers that are tried before the pairs; the fastest of each runs in them."""

from __future__ import annotations

from dataclasses import replace

from benchmarks.training.contestants import PeerSetting

TRL = (
    PeerSetting(name="unpacked 1", per_device=1),
    PeerSetting(name="unpacked 2", per_device=2),
    PeerSetting(name="unpacked 4", per_device=4),
    PeerSetting(name="unpacked 8", per_device=8),
    PeerSetting(name="by length 4", per_device=4, sampling="group_by_length"),
    PeerSetting(name="by length 8", per_device=8, sampling="group_by_length"),
    PeerSetting(name="packed bfd 1", per_device=1, packing="bfd"),
    PeerSetting(name="packed bfd 4", per_device=4, packing="bfd"),
    PeerSetting(name="packed wrapped 1", per_device=1, packing="wrapped"),
    PeerSetting(name="packed wrapped 4", per_device=4, packing="wrapped"),
    PeerSetting(name="padding-free 4", per_device=4, padding_free=True),
)
"""The number is the rows of one forward pass; a step holds the same examples in all of them."""

PLAIN = tuple(PeerSetting(name=f"padded {n}", per_device=n) for n in (1, 2, 4, 8, 16))

CUDA_TRL = (
    PeerSetting(name="unpacked 4", per_device=4),
    PeerSetting(name="unpacked 8", per_device=8),
    PeerSetting(name="unpacked 16", per_device=16),
    PeerSetting(name="by length 8", per_device=8, sampling="group_by_length"),
    PeerSetting(name="packed bfd 1", per_device=1, packing="bfd"),
    PeerSetting(name="packed bfd 4", per_device=4, packing="bfd"),
    PeerSetting(name="packed wrapped 4", per_device=4, packing="wrapped"),
)

CUDA_PLAIN = tuple(PeerSetting(name=f"padded {n}", per_device=n) for n in (4, 8, 16))

QUICK_TRL = (TRL[1], TRL[8])
QUICK_PLAIN = (PLAIN[1],)


def in_float32(setting: PeerSetting) -> PeerSetting:
    """The same layout on a float32 base, which is what TRL loads unless told otherwise."""
    return replace(setting, name=f"{setting.name}, float32 base", dtype="float32")
