"""lm-evaluation-harness's own command line: ``lm_eval_run.py FED SECONDS GIGABYTES ARGUMENT...``.

One thing is put back: transformers 5 has no ``data.metrics.squad_metrics`` any more, which the
harness's XQuAD imports. The tokens it feeds are counted into the file FED. And it ends itself after
SECONDS, or beyond GIGABYTES of address space, so that a batch size that does not fit costs no other
process its memory.
"""

from __future__ import annotations

import collections
import resource
import signal
import string
import sys
import types
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # it is run by its path

from benchmarks.peers.fed_tokens import count_fed_tokens

_ARTICLES = ("a", "an", "the")
_MODULE = "transformers.data.metrics.squad_metrics"


def words(text: str) -> list[str]:
    """SQuAD v1.1: lower case, no ASCII punctuation, no English articles."""
    kept = "".join(c for c in text.lower() if c not in string.punctuation)
    # The script's pattern \b(a|an|the)\b, which parts words at white space and other letters alike.
    import re

    return re.sub(rf"\b({'|'.join(_ARTICLES)})\b", " ", kept).split()


def compute_exact(gold: str, predicted: str) -> int:
    return int(words(gold) == words(predicted))


def compute_f1(gold: str, predicted: str) -> float:
    left, right = words(gold), words(predicted)
    if not left or not right:
        return int(left == right)
    same = sum((collections.Counter(left) & collections.Counter(right)).values())
    if same == 0:
        return 0
    precision, recall = same / len(right), same / len(left)
    return 2 * precision * recall / (precision + recall)


def restore_squad_metrics() -> None:
    """Puts the removed module back where it is not there."""
    import importlib.util

    try:
        if importlib.util.find_spec(_MODULE) is not None:
            return
    except ModuleNotFoundError:
        pass
    module: Any = types.ModuleType(_MODULE)
    module.compute_f1, module.compute_exact = compute_f1, compute_exact
    parent: Any = types.ModuleType(_MODULE.rpartition(".")[0])
    parent.squad_metrics = module
    sys.modules[parent.__name__], sys.modules[_MODULE] = parent, module


def main() -> None:
    fed, seconds, gigabytes, *arguments = sys.argv[1:]
    count_fed_tokens(Path(fed))
    signal.alarm(int(seconds))
    if int(gigabytes):
        limit = int(gigabytes) * 2**30
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
    restore_squad_metrics()
    from lm_eval.__main__ import cli_evaluate

    sys.argv = ["lm_eval", *arguments]
    cli_evaluate()


if __name__ == "__main__":
    main()
