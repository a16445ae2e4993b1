"""Trains the Atlas base model from its generator: `python scripts/train_atlas_base.py --out DIR
--minutes 40`.
"""

import argparse
import json
from pathlib import Path
from typing import Any

from maple.atlas.pretrain import Recipe, train_base


def main() -> None:
    """Reads the arguments and trains."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--out", type=Path, required=True, help="directory for weights, tokenizer and curve.jsonl"
    )
    parser.add_argument(
        "--minutes", type=float, default=Recipe.minutes, help="wall time of training"
    )
    parser.add_argument(
        "--steps", type=int, default=0, help="train so many steps instead: reproducible"
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--peak-lr", type=float, default=Recipe.peak_lr)
    parser.add_argument("--start", type=Path, default=None, help="a base to train on from")
    arguments = parser.parse_args()
    recipe = Recipe(
        minutes=arguments.minutes,
        steps=arguments.steps,
        seed=arguments.seed,
        peak_lr=arguments.peak_lr,
        start=arguments.start,
    )
    train_base(recipe, arguments.out, _show)


def _show(row: dict[str, Any]) -> None:
    print(json.dumps(row, ensure_ascii=False), flush=True)


if __name__ == "__main__":
    main()
