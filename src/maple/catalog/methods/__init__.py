"""Catalog entries: methods, one file each."""
