"""Trains a shipped base of Atlas from its generator, whole: `python scripts/train_atlas_base.py
atlas-base OUT`. `maple atlas train-base` does the same and can be told to stop sooner.
"""

import json
import sys
from pathlib import Path

from maple.atlas.pretrain import chosen_recipe, train_base


def main() -> None:
    """Reads the name of the base and the directory to write, and trains."""
    name, out = sys.argv[1:]
    train_base(
        chosen_recipe(name),
        Path(out),
        lambda row: print(json.dumps(row, ensure_ascii=False), flush=True),
    )


if __name__ == "__main__":
    main()
