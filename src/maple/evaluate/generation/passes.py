"""The model's two passes: prompts into slots, and one more token for every slot.

Both give logits at the last token of each answer only. Masks and positions are ours: a mask of four
dimensions is taken by transformers as it is, so nothing is derived or checked again at every token.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from maple.base import LoadedBase, compute_context, label_logits
from maple.evaluate.branches import added_mask, padded_tables, seen
from maple.evaluate.encode import EncodedRequest
from maple.evaluate.generation.answer import Answer
from maple.evaluate.generation.attention import is_ours, slot_attention
from maple.evaluate.generation.prompts import Bundle
from maple.evaluate.generation.slots import Slots, rounded

if TYPE_CHECKING:
    import torch
    from torch import nn

_SLIDING = "sliding_attention"
_KINDS = {"full_attention", _SLIDING}
"""Attention whose mask follows from positions; chunks and recurrence have other rules."""


class Passes:
    """Runs one model, adapted or not, over prompts and over slots."""

    def __init__(self, model: nn.Module, base: LoadedBase) -> None:
        from maple.base.fused import ScoringFusion, peft_updates

        # Low-rank updates go through fewer calls than peft's layers make; other methods' stay.
        self._fusion = ScoringFusion(model, [peft_updates(model)], base.dtype)
        self.model = model
        self.base = base
        config: Any = base.model.config
        kinds = getattr(config, "layer_types", None)
        self._kinds: frozenset[str] | None = None if kinds is None else frozenset(kinds)
        window = getattr(config, "sliding_window", None)
        slides = self._kinds is None or _SLIDING in self._kinds
        self._window: int | None = window if slides else None
        self._pad = int(base.tokenizer.pad_token_id or 0)

    @property
    def has_known_attention(self) -> bool:
        """Whether masks made of positions say all that the model's layers want to know."""
        return self._kinds is None or self._kinds <= _KINDS

    def read(self, newcomers: Sequence[Bundle]) -> tuple[torch.Tensor, Read]:
        """Feeds prompts, one row a bundle.

        Returns:
            Logits (answers, vocabulary) that follow each prompt, bundle by bundle, and what
            ``Slots.put`` takes.
        """
        import torch
        from transformers.cache_utils import DynamicCache

        rows = [_Row(bundle) for bundle in newcomers]
        ids, positions = padded_tables(rows, self._pad)
        last = np.zeros(ids.shape, dtype=bool)
        for number, row in enumerate(rows):
            last[number, [end - 1 for _, end in row.branches]] = True
        device = self.base.device
        # Without the config: layers made by it would keep a window's last tokens only.
        cache: Any = DynamicCache()
        with compute_context(self.base), self._fusion.on():
            logits = label_logits(
                self.model,
                input_ids=torch.from_numpy(ids).to(device),
                positions=torch.from_numpy(positions).to(device),
                selected=torch.from_numpy(last).to(device),
                past_key_values=cache,
                use_cache=True,
                **self._branch_mask(rows, positions),
            )
        layers = [(layer.keys, layer.values) for layer in cache.layers]
        return logits, Read(layers, *(t.to(device) for t in _places(rows)))

    def step(self, slots: Slots) -> torch.Tensor:
        """Feeds every slot's newest token: logits (slots, vocabulary) of the one after it."""
        import torch

        device = self.base.device
        newest = torch.tensor([[a.ids[-1]] for a in slots.active], device=device)
        places = [a.n_known - 1 for a in slots.active]
        # Our attention wants a slot's memory in one block; torch's takes a view of its beginning.
        whole = is_ours(self.base)
        width = slots.length if whole else min(slots.length, rounded(max(places) + 1))
        with compute_context(self.base), self._fusion.on(), slot_attention(self.base):
            at = torch.tensor(places, device=device)
            behind = (at[:, None] - torch.arange(width, device=device))[:, None, None]
            return label_logits(
                self.model,
                input_ids=newest,
                positions=at[:, None],
                selected=torch.ones_like(newest, dtype=torch.bool),
                past_key_values=slots.cache(at, width),
                use_cache=True,
                attention_mask=self._mask(behind >= 0, behind),
            )

    def _branch_mask(self, rows: Sequence[_Row], positions: np.ndarray[Any, Any]) -> dict[str, Any]:
        """What each token of a row sees; nothing where causal attention says it already."""
        import torch

        sees = seen(rows, positions.shape[1])
        if sees is None:
            return {}
        behind = positions[:, :, None] - positions[:, None, :]
        device = self.base.device
        return {
            "attention_mask": self._mask(
                torch.from_numpy(sees).to(device)[:, None],
                torch.from_numpy(behind).to(device)[:, None],
            )
        }

    def _mask(self, sees: torch.Tensor, behind: torch.Tensor) -> Any:
        """The mask that attention adds, of each kind of layer where kinds differ.

        Args:
            sees: (rows, 1, tokens, places) bool, in a layer that sees everything.
            behind: (rows, 1, tokens, places) by how many positions a place is earlier.
        """
        dtype = self.base.dtype
        if self._window is None:
            return added_mask(sees, dtype)
        near = added_mask(sees & (behind < self._window), dtype)
        if self._kinds is None:
            return near
        far = added_mask(sees, dtype)
        return {kind: near if kind == _SLIDING else far for kind in self._kinds}


class Read:
    """Keys and values of prompts just read, and where in them each answer's stand."""

    def __init__(self, layers: list[Any], rows: torch.Tensor, places: torch.Tensor) -> None:
        self._layers = layers
        self._rows = rows
        self._places = places

    def keep(self, slots: Slots, answers: Sequence[Answer], chosen: Sequence[int]) -> None:
        """Puts those answers that go on into slots; ``chosen`` are their places among all read."""
        import torch

        if not answers:
            return
        index = torch.tensor(chosen, device=self._rows.device)
        longest = max(a.n_known - 1 for a in answers)
        places = self._places[index, :longest]
        slots.put(answers, self._layers, self._rows[index], places)


class _Row:
    """A bundle's tokens, their positions, and each prompt's own part."""

    def __init__(self, bundle: Bundle) -> None:
        known = [a.known for a in bundle.answers]
        self.n_shared = bundle.n_shared
        self.ids = [*known[0][: self.n_shared], *(t for k in known for t in k[self.n_shared :])]
        self.positions = [
            *range(self.n_shared),
            *(p for k in known for p in range(self.n_shared, len(k))),
        ]
        self.branches = list(bundle.branches())


def _places(rows: Sequence[_Row]) -> tuple[torch.Tensor, torch.Tensor]:
    """Row of each answer, (answers,), and where in it its tokens stand, (answers, longest)."""
    import torch

    owners = [n for n, row in enumerate(rows) for _ in row.branches]
    own = [
        [*range(row.n_shared), *range(begin, end)] for row in rows for begin, end in row.branches
    ]
    longest = max(map(len, own))
    return torch.tensor(owners), torch.tensor([p + [0] * (longest - len(p)) for p in own])


_PROMPTS = ((3, 5, 4, 6, 3, 7), (3, 5, 4, 6, 4), (6, 4, 3))
"""Two that begin alike, and one alone."""
_TOLERANCE = {"float32": 1e-3}
"""Largest relative difference of logits, in norm; 16 bits round, and int8 rounds by the batch."""


def can_continue(passes: Passes) -> bool:
    """Whether a model continues slots as it continues a prompt alone, proven on three prompts.

    Signatures do not tell: recurrent layers, caches of another shape and positions by bias take the
    same arguments and give other numbers.
    """
    import torch

    if not passes.has_known_attention:
        return False
    size = int(passes.base.model.config.vocab_size)
    answers = [
        Answer(n, EncodedRequest(prompt=tuple(t % size for t in ids), max_new_tokens=3))
        for n, ids in enumerate(_PROMPTS)
    ]
    try:
        with torch.inference_mode():
            found = _continued(passes, answers)
            expected = [_plain(passes, answer) for answer in answers]
    except (TypeError, ValueError, RuntimeError, AttributeError, KeyError, IndexError):
        return False
    allowed = _TOLERANCE.get(str(passes.base.dtype).removeprefix("torch."), 0.2)
    return all(
        bool((ours[n].float() - e.float()).norm() <= allowed * e.float().norm().clamp_min(1e-12))
        for n, plain in enumerate(expected)
        for ours, e in zip(found, plain, strict=True)
    )


def _continued(passes: Passes, answers: Sequence[Answer]) -> list[torch.Tensor]:
    """Logits (answers, vocabulary) after the prompts, and after each of two tokens in slots."""
    slots = Slots(len(answers), max(a.width for a in answers))
    pair = Bundle((answers[0], answers[1]), 4)
    logits, read = passes.read([pair, Bundle((answers[2],), 0)])
    found = [logits]
    size = logits.shape[-1]
    _write(answers, 5 % size)
    read.keep(slots, answers, range(len(answers)))
    for _ in range(2):
        found.append(passes.step(slots))
        _write(answers, 3 % size)
    return found


def _write(answers: Sequence[Answer], token: int) -> None:
    for answer in answers:
        answer.ids.append(token)


def _plain(passes: Passes, answer: Answer) -> list[torch.Tensor]:
    """Logits after a prompt and after each token behind it, by one pass without a cache."""
    import torch

    ids = torch.tensor([answer.known[:-1]], device=passes.base.device)
    model: Any = passes.model
    with compute_context(passes.base):
        logits = model(input_ids=ids, use_cache=False).logits[0]
    return list(logits[len(answer.request.prompt) - 1 :])
