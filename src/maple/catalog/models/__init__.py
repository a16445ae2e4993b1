"""Catalog entries: models, one file each."""
