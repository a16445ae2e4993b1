"""The reference engine: two calls, log-likelihoods and text, on a loaded model.

Options are ranked in fused passes without padding (``ranking.py``) wherever the model can be fused.
Elsewhere they are fed behind their prompt as branches of one row (``branches.py``) if the model can
be told so; rows are padded at the right, where causal attention cannot see. Only scored positions
reach the head, and their log-softmax and sums are float32 whatever the dtype.
Answers are written by continuous batching (``generation/``).
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from maple.base import LoadedBase, compute_context, label_logits, let_autocast_choose
from maple.catalog.contracts import GenerationResponse, RankingResponse
from maple.evaluate.batches import halving, token_budget_batches
from maple.evaluate.branches import Row, added_mask, padded_tables, plain_rows, seen
from maple.evaluate.encode import EncodedRequest
from maple.evaluate.generation import (
    Endings,
    Limits,
    Passes,
    can_continue,
    generate_batched,
    generate_stream,
)
from maple.evaluate.ranking import FusedRanking, responses

if TYPE_CHECKING:
    import torch
    from torch import nn

_PADDED_TOKENS = 8192
"""Of one pass of padded rows."""
_SLOT_BYTES = 1 << 29
"""Of the keys and values of all answers that are being written, where a pass is less."""
_LOGIT_ROWS = 1024
"""Scored positions whose float32 log-softmax is held at once."""


class Engine:
    """Answers encoded requests with one model: the base, or the base with an adapter on it."""

    def __init__(self, model: nn.Module, base: LoadedBase) -> None:
        self.model = model.eval()
        self.base = base
        let_autocast_choose(model, base)
        self._pad = int(base.tokenizer.pad_token_id or 0)
        self._takes_masks = takes_masks(model)

    def loglikelihoods(self, requests: Sequence[EncodedRequest]) -> list[RankingResponse]:
        """Scores the options of each request as one batch, halved while memory does not suffice.

        Returns:
            In order of ``requests``: natural-log likelihoods summed over each option's tokens.
        """
        return cast(list[RankingResponse], list(halving(requests, self._rank)))

    def generate(self, requests: Sequence[EncodedRequest]) -> list[GenerationResponse]:
        """Continues each prompt; see ``generate_stream``.

        Returns:
            In order of ``requests``: text up to its first stop string.
        """
        found = dict(self.generate_stream(requests))
        return [found[place] for place in range(len(requests))]

    def generate_stream(
        self,
        requests: Sequence[EncodedRequest],
        *,
        limits: Limits | None = None,
        wanted: Collection[int] | None = None,
    ) -> Iterator[tuple[int, GenerationResponse]]:
        """Continues prompts, many at once; yields answers as they finish.

        Args:
            requests: all prompts, in any order; which are read together depends on them alone.
            limits: how much is held and fed at once.
            wanted: places in ``requests`` to answer; None: all.

        Returns:
            Places in ``requests``, each with its answer.

        Raises:
            MapleError: a single request does not fit into memory.
        """
        limits = limits or Limits()
        endings = Endings(self.base.tokenizer, self.end_ids())
        if self._passes is not None:
            limits = replace(limits, max_tokens=max(limits.max_tokens, self._places()))
            return generate_stream(requests, self._passes, endings, limits=limits, wanted=wanted)
        return generate_batched(
            requests, self.model, self.base, endings, limits=limits, wanted=wanted
        )

    def _places(self) -> int:
        """Tokens whose keys and values take ``_SLOT_BYTES``: of a small model, more than a pass."""
        config: Any = self.base.model.config.get_text_config()
        heads = config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // heads
        kept = getattr(config, "num_key_value_heads", None) or heads
        width = 2 * config.num_hidden_layers * kept * size
        return int(_SLOT_BYTES // (width * self.base.dtype.itemsize))

    @cached_property
    def _passes(self) -> Passes | None:
        """Made at the first prompt, while the adapter is on the base; None: by transformers."""
        if not self._takes_masks:
            return None
        passes = Passes(self.model, self.base)
        return passes if can_continue(passes) else None

    def _rank(self, requests: Sequence[EncodedRequest]) -> list[object]:
        if self._takes_masks and self._fused is not None:
            found = self._fused(requests)
            if found is not None:
                return list(found[0])
        # A batch is measured in tokens fed once; padded rows of it may be many more.
        parts = token_budget_batches(
            [r.width for r in requests],
            [len(r.rows) for r in requests],
            max_tokens=_PADDED_TOKENS,
        )
        answers: dict[int, object] = {}
        for part in parts:
            padded = self._rank_padded([requests[i] for i in part])
            answers |= dict(zip(part, padded, strict=True))
        return [answers[i] for i in range(len(requests))]

    @cached_property
    def _fused(self) -> FusedRanking | None:
        """Made at the first ranking, while the adapter is on the base."""
        updates = {}
        # Where nobody has imported it no layer is its, and its import takes seconds.
        if "peft" in sys.modules:
            from maple.base.fused import peft_updates

            updates = peft_updates(self.model)
        ranking = FusedRanking(self.model, self.base, [updates])
        return ranking if ranking.works else None

    def _rank_padded(self, requests: Sequence[EncodedRequest]) -> list[RankingResponse]:
        import torch

        rows = self._rows(requests)
        ids, positions = padded_tables(rows, self._pad)
        scored = np.zeros(ids.shape, dtype=bool)
        for number, row in enumerate(rows):
            scored[number, [place for option in row.targets for place, _ in option]] = True
        device = self.base.device
        with torch.inference_mode(), compute_context(self.base):
            logits = label_logits(
                self.model,
                input_ids=torch.from_numpy(ids).to(device),
                positions=torch.from_numpy(positions).to(device),
                selected=torch.from_numpy(scored).to(device),
                use_cache=False,
                **self._mask(rows, ids.shape[1]),
            )
        # Logits come in row-major order of what is scored; several tokens may share a place.
        order = np.cumsum(scored.ravel()).reshape(scored.shape) - 1
        places = [(n, p) for n, row in enumerate(rows) for o in row.targets for p, _ in o]
        tokens = [token for row in rows for option in row.targets for _, token in option]
        values, greedy = _token_scores(
            logits,
            torch.tensor([order[place] for place in places], device=device),
            torch.tensor(tokens, device=device),
        )
        return responses(requests, values, greedy)

    def _rows(self, requests: Sequence[EncodedRequest]) -> list[Row]:
        """Branched where the model takes positions and a mask of ours, and sees far enough."""
        rows = [row for request in requests for row in request.rows]
        window = getattr(self.base.model.config, "sliding_window", None)
        if self._takes_masks and (window is None or max(len(row.ids) for row in rows) <= window):
            return rows
        options = [[(o.ids, o.start) for o in request.options] for request in requests]
        return [row for each in options for row in plain_rows(each)]

    def _mask(self, rows: Sequence[Row], width: int) -> dict[str, torch.Tensor]:
        """The branches' attention mask, (rows, 1, width, width); none where all rows are plain."""
        import torch

        sees = seen(rows, width)
        if sees is None:
            return {}
        mask = torch.from_numpy(sees).to(self.base.device)[:, None]
        return {"attention_mask": added_mask(mask, self.base.dtype)}

    def end_ids(self) -> set[int]:
        """Token ids that end an answer: the tokenizer's EOS and the generation config's."""
        config: Any = getattr(self.model, "generation_config", None)
        configured = getattr(config, "eos_token_id", None)
        ids = configured if isinstance(configured, list) else [configured]
        return {int(i) for i in [*ids, self.base.tokenizer.eos_token_id] if i is not None}


def takes_masks(model: nn.Module) -> bool:
    """Whether a model can be told who sees whom, and at which position each token stands.

    Not so: position by bias (BLOOM) or by recurrence, kernels that only know lengths, and virtual
    tokens in front, which our masks know nothing of.
    """
    own: Any = model
    kernel = getattr(own.config, "_attn_implementation", None)
    base = own.get_base_model() if hasattr(own, "get_base_model") else own
    names = inspect.signature(base.forward).parameters
    adapter = getattr(own, "active_peft_config", None)
    return (
        kernel in ("sdpa", "eager")
        and {"position_ids", "attention_mask"} <= set(names)
        and not getattr(adapter, "is_prompt_learning", False)
    )


def _token_scores(
    logits: torch.Tensor, places: torch.Tensor, targets: torch.Tensor
) -> tuple[list[float], list[bool]]:
    """Log-probability of each target at its row of logits, and whether it is the most likely."""
    import torch

    values: list[float] = []
    greedy: list[bool] = []
    for start in range(0, len(targets), _LOGIT_ROWS):
        rows = logits[places[start : start + _LOGIT_ROWS]].float()
        wanted = targets[start : start + _LOGIT_ROWS]
        chosen = rows.gather(1, wanted[:, None])[:, 0]
        values += (chosen - torch.logsumexp(rows, dim=-1)).double().tolist()
        greedy += (rows.argmax(dim=-1) == wanted).tolist()
    return values, greedy
