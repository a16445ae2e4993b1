"""Catalog entries: datasets, one file each."""
