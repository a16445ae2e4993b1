"""Sample rows become estimates with intervals; nothing here is stored or imports torch."""

from maple.analysis.summary import Summary, summarise

__all__ = ["Summary", "summarise"]
