"""Simulated studies of known truth, and how often the analysis holds it."""
