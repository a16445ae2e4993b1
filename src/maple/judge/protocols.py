"""How a judge is asked and how its answer is read: AlpacaEval's two protocols.

    pairwise   AlpacaEval 1.0, ``alpaca_eval_gpt4``: rank the two answers in a Python list
    weighted   AlpacaEval 2.0, ``weighted_alpaca_eval_gpt4_turbo``: one token, ``m`` or ``M``, whose
               probability is the preference

A preference is a number from 1 (the answer shown first) to 2 (the one shown second).
"""

from __future__ import annotations

import ast
import hashlib
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import resources
from typing import Any

from maple.errors import UsageError, unknown_name

PROTOCOLS = ("pairwise", "weighted")
"""Names of the protocols there are."""

Message = dict[str, str]

_TURN = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>", re.DOTALL)
_FIELD = re.compile(r"\{(instruction|output_1|output_2)\}")
_FIRST, _SECOND = "m", "M"
_AS_PUBLISHED = {
    ("pairwise", "gpt-4"): "alpaca_eval_gpt4",
    ("weighted", "gpt-4-1106-preview"): "weighted_alpaca_eval_gpt4_turbo",
}


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """One way to ask a judge."""

    name: str
    template: str
    """The turns between ChatML marks, with ``{instruction}``, ``{output_1}``, ``{output_2}``."""
    settings: Mapping[str, Any]
    """Request parameters. Source: AlpacaEval's configuration of the same judge."""
    parse: Callable[[Mapping[str, Any]], float | None]
    """A choice of the chat completion, as JSON, to a preference; None: it states none."""

    @property
    def version(self) -> str:
        """Hash of everything that is asked: another wording has other verdicts."""
        text = "\0".join([self.name, self.template, repr(sorted(self.settings.items()))])
        return hashlib.sha256(text.encode()).hexdigest()[:12]

    def messages(self, instruction: str, first: str, second: str) -> list[Message]:
        """Words the question about two answers, the first one shown above the second."""
        fields = {"instruction": instruction, "output_1": first, "output_2": second}
        # The turns are cut before the texts are put in: an answer may hold a mark or a field.
        return [
            {"role": role, "content": _FIELD.sub(lambda f: fields[f[1]], content).strip()}
            for role, content in _TURN.findall(self.template)
        ]


def load_protocol(name: str) -> Protocol:
    """Returns a protocol by its name.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in PROTOCOLS:
        raise UsageError(unknown_name("judge protocol", name, PROTOCOLS))
    template = resources.files("maple.judge") / "prompts" / f"{name}.txt"
    is_weighted = name == "weighted"
    weighted = {"max_tokens": 1, "temperature": 1, "logprobs": True, "top_logprobs": 5}
    return Protocol(
        name=name,
        template=template.read_text(encoding="utf-8"),
        settings=weighted if is_weighted else {"max_tokens": 100, "temperature": 0},
        parse=_read_weighted if is_weighted else _read_ranking,
    )


def annotator_name(protocol: str, judge: str) -> str:
    """What a judge is called in ``annotations.json``: AlpacaEval's name only for its own judge."""
    slug = re.sub(r"[^\w.-]+", "-", judge).strip("-")
    return _AS_PUBLISHED.get((protocol, judge), f"maple-{protocol}-{slug}")


def _read_ranking(choice: Mapping[str, Any]) -> float | None:
    """The rank given to ``model_1``: 1 prefers the first answer, 2 the second."""
    try:
        ranking = ast.literal_eval((choice.get("message") or {}).get("content") or "")
        ranks = [entry["rank"] for entry in ranking if entry["model"] == "model_1"]
    except (ValueError, TypeError, KeyError, SyntaxError, MemoryError, RecursionError):
        return None
    return float(ranks[0]) if ranks and ranks[0] in (1, 2) else None


def _read_weighted(choice: Mapping[str, Any]) -> float | None:
    """``2 - p(m) / (p(m) + p(M))`` over the alternatives of the one token."""
    positions = (choice.get("logprobs") or {}).get("content") or []
    if len(positions) != 1:
        return None
    # Tokens must match to the letter; of one that comes twice the later counts, as in AlpacaEval.
    found = {
        entry["token"]: float(entry["logprob"])
        for entry in positions[0].get("top_logprobs") or []
        if entry["token"] in (_FIRST, _SECOND)
    }
    if not found:
        return None
    first, second = (found.get(token, -math.inf) for token in (_FIRST, _SECOND))
    highest = max(first, second)
    if not math.isfinite(highest):
        return None
    total = highest + math.log(sum(math.exp(value - highest) for value in (first, second)))
    return 2 - math.exp(first - total)
