"""Maple's own command line with its tokens counted: ``maple_run.py FED ARGUMENT...``.

FED is the file that ``fed_tokens`` writes at the end. Nothing else is other than in ``maple``.
"""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # it is run by its path

from benchmarks.peers.fed_tokens import count_fed_tokens


def main() -> None:
    fed, *arguments = sys.argv[1:]
    count_fed_tokens(Path(fed))
    from maple.cli import main as maple

    sys.argv = ["maple", *arguments]
    maple()


if __name__ == "__main__":
    main()
