"""Maple: which parameter-efficient fine-tuning, for which languages, at what cost."""

__version__ = "0.1.0"
