"""Is a benchmark whole and read as declared: checks of every task in every language."""
