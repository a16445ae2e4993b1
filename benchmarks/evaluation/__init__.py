"""What ``benchmarks/evaluate.py`` is made of."""
