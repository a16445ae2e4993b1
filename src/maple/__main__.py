"""``python -m maple`` is the command line."""

from maple.cli import main

main()
