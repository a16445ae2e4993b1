"""The reference engine: two calls, log-likelihoods and greedy text, on a loaded model.

A request's options are fed behind their prompt as branches of one row (``branches.py``) wherever
the model can be told so. Rows are padded at the right, where causal attention cannot see; only
scored positions reach the head, and their log-softmax and sums are float32 whatever the dtype.
Rows of a generation batch are padded at the left and masked.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from maple.base import LoadedBase, compute_context, label_logits, let_autocast_choose
from maple.catalog.contracts import GenerationResponse, RankingResponse
from maple.evaluate.batches import halving
from maple.evaluate.branches import Row, plain_rows
from maple.evaluate.encode import EncodedRequest

if TYPE_CHECKING:
    import torch
    from torch import nn

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
        """Continues each prompt greedily as one batch, halved while memory does not suffice.

        Returns:
            In order of ``requests``: text up to its first stop string.
        """
        return cast(list[GenerationResponse], list(halving(requests, self._generate)))

    def _rank(self, requests: Sequence[EncodedRequest]) -> list[object]:
        import torch

        rows = self._rows(requests)
        width = max(len(row.ids) for row in rows)
        ids = np.full((len(rows), width), self._pad, dtype=np.int64)
        positions = np.tile(np.arange(width), (len(rows), 1))
        scored = np.zeros((len(rows), width), dtype=bool)
        for number, row in enumerate(rows):
            ids[number, : len(row.ids)] = row.ids
            positions[number, : len(row.ids)] = row.positions
            scored[number, [place for option in row.targets for place, _ in option]] = True
        device = self.base.device
        with torch.inference_mode(), compute_context(self.base):
            logits = label_logits(
                self.model,
                input_ids=torch.from_numpy(ids).to(device),
                positions=torch.from_numpy(positions).to(device),
                selected=torch.from_numpy(scored).to(device),
                use_cache=False,
                **self._mask(rows, width),
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
        return list(_ranking_responses(requests, values, greedy))

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

        if all(row.is_plain for row in rows):
            return {}
        sees = np.tile(np.tri(width, dtype=bool), (len(rows), 1, 1))
        for number, row in enumerate(rows):
            for begin, end in row.branches[1:]:
                sees[number, begin:end, row.n_shared : begin] = False
        mask = torch.from_numpy(sees).to(self.base.device)[:, None]
        # Added to the attention scores, in their dtype: a bool mask is not taken by all kernels.
        dtype = self.base.dtype
        added = torch.zeros(mask.shape, dtype=dtype, device=mask.device)
        return {"attention_mask": added.masked_fill(~mask, torch.finfo(dtype).min)}

    def _generate(self, requests: Sequence[EncodedRequest]) -> list[object]:
        import torch

        width = max(len(r.prompt) for r in requests)
        ids = np.full((len(requests), width), self._pad, dtype=np.int64)
        mask = np.zeros((len(requests), width), dtype=np.int64)
        for row, request in enumerate(requests):
            ids[row, width - len(request.prompt) :] = request.prompt
            mask[row, width - len(request.prompt) :] = 1
        device = self.base.device
        model: Any = self.model
        stopping = _StopOnText(self, requests, width)
        with torch.inference_mode(), compute_context(self.base):
            output = model.generate(
                input_ids=torch.from_numpy(ids).to(device),
                attention_mask=torch.from_numpy(mask).to(device),
                max_new_tokens=max(r.max_new_tokens for r in requests),
                do_sample=False,
                num_beams=1,
                use_cache=True,
                pad_token_id=self._pad,
                stopping_criteria=[stopping],
            )
        # Behind a finished row stands padding until the longest is done, and padding may be EOS.
        rows = zip(requests, output[:, width:].tolist(), stopping.lengths, strict=True)
        return [self._answer(request, ids[:length]) for request, ids, length in rows]

    def _answer(self, request: EncodedRequest, ids: list[int]) -> GenerationResponse:
        """Cuts one row of a request's own tokens at EOS and at the first stop string."""
        ends = self.end_ids()
        end = next((i for i, token in enumerate(ids) if token in ends), None)
        kept = ids[:end]
        text = str(self.base.tokenizer.decode(kept, skip_special_tokens=True))
        cuts = [place for s in request.stop if s and (place := text.find(s)) >= 0]
        stopped = bool(cuts) or end is not None
        return GenerationResponse(
            text=text[: min(cuts)] if cuts else text,
            finish="stop" if stopped else "length",
            n_tokens=len(kept),
        )

    def end_ids(self) -> set[int]:
        """Token ids that end an answer: the tokenizer's EOS and the generation config's."""
        config: Any = getattr(self.model, "generation_config", None)
        configured = getattr(config, "eos_token_id", None)
        ids = configured if isinstance(configured, list) else [configured]
        return {int(i) for i in [*ids, self.base.tokenizer.eos_token_id] if i is not None}


class _StopOnText:
    """Tells ``generate`` which rows have written a stop string or reached their own limit."""

    def __init__(self, engine: Engine, requests: Sequence[EncodedRequest], width: int) -> None:
        self._engine = engine
        self._requests = requests
        self._width = width
        self.lengths: list[int | None] = [None] * len(requests)
        """New tokens of each row when it was done; None while, or where EOS ended it."""

    def __call__(self, input_ids: torch.Tensor, scores: Any, **_: Any) -> torch.Tensor:
        import torch

        tokenizer = self._engine.base.tokenizer
        new = input_ids[:, self._width :].tolist()
        for row, (request, ids) in enumerate(zip(self._requests, new, strict=True)):
            if self.lengths[row] is None:
                text = tokenizer.decode(ids, skip_special_tokens=True)
                is_full = len(ids) >= request.max_new_tokens
                if is_full or any(s and s in text for s in request.stop):
                    self.lengths[row] = len(ids)
        done = [length is not None for length in self.lengths]
        return torch.tensor(done, device=input_ids.device)


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


def _ranking_responses(
    requests: Sequence[EncodedRequest], values: list[float], greedy: list[bool]
) -> list[RankingResponse]:
    place = 0
    responses = []
    for request in requests:
        sums, flags, counts = [], [], []
        for option in request.options:
            end = place + len(option.ids) - option.start
            sums.append(float(sum(values[place:end])))
            flags.append(all(greedy[place:end]))
            counts.append(end - place)
            place = end
        responses.append(
            RankingResponse(
                loglikelihoods=tuple(sums), is_greedy=tuple(flags), n_tokens=tuple(counts)
            )
        )
    return responses
