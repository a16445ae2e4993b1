"""Runs alpaca_eval's own code in a process of its own: a line of JSON in, a line of JSON out.

    {"do": "rates", "annotations": [...], "gamed": "df_gamed.csv"}
    {"do": "plain", "annotations": [...]}
    {"do": "parse", "ranking": [text, ...], "weighted": [choice, ...]}
    {"do": "switch", "instructions": [...]}
    {"do": "chat", "template": "alpaca_eval_gpt4/alpaca_eval.txt", "rows": [...]}

alpaca_eval 0.6.6 imports ``pkg_resources``, which setuptools no longer ships, and its top package
every client there is; so its modules are imported below an empty top package, with a stand-in for
``pkg_resources``. The code that computes is the package's own.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import sys
import types
import warnings
from pathlib import Path


def import_metrics() -> None:
    spec = importlib.util.find_spec("alpaca_eval")
    package = types.ModuleType("alpaca_eval")
    package.__path__ = list(spec.submodule_search_locations)
    sys.modules["alpaca_eval"] = package
    sys.modules["pkg_resources"] = types.ModuleType("pkg_resources")


def rates(question: dict) -> dict:
    from alpaca_eval.metrics import glm_winrate

    glm_winrate.hf_hub_download = lambda filename, **_: str(
        Path(question["gamed"]).with_name(filename)
    )
    found = glm_winrate.get_length_controlled_winrate(
        question["annotations"], save_weights_dir=None, is_warn_extreme_changes=False
    )
    return {name: float(value) for name, value in found.items()}


def plain(question: dict) -> dict:
    from alpaca_eval.metrics import get_winrate

    found = get_winrate(question["annotations"])
    return {name: float(value) for name, value in found.items()}


def parse(question: dict) -> dict:
    from alpaca_eval.completion_parsers import logprob_parser, ranking_parser

    def tried(parser, completion, **kwargs):
        try:
            found = list(parser(completion, **kwargs))
        except Exception:  # as SingleAnnotator does
            return None
        value = found[0] if len(found) == 1 else None
        return None if value is None or value != value else float(value)

    weighted = {"numerator_token": "m", "denominator_tokens": ["m", "M"], "is_binarize": False}
    return {
        "ranking": [tried(ranking_parser, text) for text in question["ranking"]],
        "weighted": [tried(logprob_parser, choice, **weighted) for choice in question["weighted"]],
    }


def switch(question: dict) -> list[bool]:
    import pandas as pd
    from alpaca_eval.processors import RandomSwitchTwoColumnsProcessor

    frame = pd.DataFrame(
        [{"instruction": i, "output_1": "1", "output_2": "2"} for i in question["instructions"]]
    )
    processor = RandomSwitchTwoColumnsProcessor(
        ["output_1", "output_2"],
        random_seed_columns=("instruction",),
        _switch_column="is_switched_outputs",
        seed=0,
    )
    return [value == "2" for value in processor.preprocess(frame)["output_1"]]


def chat(question: dict) -> list:
    """Messages as ``make_prompts`` and ``prompt_to_chatml`` word them."""
    import pandas as pd
    from alpaca_eval import utils

    folder = Path(sys.modules["alpaca_eval"].__path__[0]) / "evaluators_configs"
    template = (folder / question["template"]).read_text(encoding="utf-8")
    prompts, _ = utils.make_prompts(pd.DataFrame(question["rows"]), template)
    return [utils.prompt_to_chatml(prompt.strip()) for prompt in prompts]


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    import_metrics()
    for line in sys.stdin:
        asked = json.loads(line)
        print(json.dumps(globals()[asked["do"]](asked)), flush=True)
