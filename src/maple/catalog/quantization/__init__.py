"""Catalog entries: quantization, one file each."""
