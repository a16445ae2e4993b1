"""Ranking in fused passes: no padding, shared beginnings once, several models on one base at once.

    batch -> tree of tokens (``prefix_tree``) -> one flat row a model, end to end
          -> base up to its head (``base/fused``) -> log-probabilities of the scored tokens -> sums

Whatever a model does not let be fused is ranked by the engine's padded rows instead.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from maple.base import LoadedBase, compute_context
from maple.catalog.contracts import RankingResponse
from maple.evaluate.encode import EncodedRequest
from maple.evaluate.prefix_tree import Tree, prefix_tree

if TYPE_CHECKING:
    import torch
    from torch import nn

    from maple.base.fused import Updates


class FusedRanking:
    """Ranks with one model, or with several that are updates of one base."""

    def __init__(self, model: nn.Module, base: LoadedBase, runs: Sequence[Updates]) -> None:
        """Finds what can be fused, and tries it on a few tokens.

        Args:
            model: the base alone for several models, or with one method's modules on it.
            base: its device and compute dtype.
            runs: each model's low-rank updates.
        """
        from maple.base.fused import ScoringFusion, plain_head

        self._model = model
        self._base = base
        self.models = len(runs)
        """How many there are."""
        self._fusion = ScoringFusion(model, runs, base.dtype)
        self._head = plain_head(model)
        self.works = self._try_out()
        """Whether attention and head can be fused, so that this may be used at all."""

    @property
    def window(self) -> float:
        """Tokens that a sequence may have: those of the narrowest sliding window."""
        return self._fusion.fusion.window

    def _try_out(self) -> bool:
        fusion = self._fusion.fusion
        if self._head is None or not fusion.counts.get("attention"):
            return False
        before = fusion.attended
        answered = self._pass(prefix_tree([((0, 0, 0), 1)]))
        layers = int(getattr(self._base.model.config, "num_hidden_layers", -1))
        return answered is not None and fusion.attended - before == layers

    def __call__(self, requests: Sequence[EncodedRequest]) -> list[list[RankingResponse]] | None:
        """Scores the options of each request as one pass.

        Returns:
            Per model, in order of ``requests``; None where a sequence is longer than a sliding
            window, which fused attention does not know.
        """
        options = [(o.ids, o.start) for request in requests for o in request.options]
        tree = prefix_tree(options, least_tokens=_LEAST_TOKENS)
        if tree.longest > self.window:
            return None
        answered = self._pass(tree)
        assert answered is not None
        return [responses(requests, values, greedy) for values, greedy in answered]

    def _pass(self, tree: Tree) -> list[tuple[list[float], list[bool]]] | None:
        """Each model's log-probabilities of the tree's tokens; None where the head is not last."""
        import torch

        from maple.base.fused import label_hidden, token_scores, tree_layout

        assert self._head is not None
        device, dtype = self._base.device, self._base.dtype
        read, rows = np.unique(np.concatenate(tree.places), return_inverse=True)
        selected = np.zeros((self.models, len(tree.ids)), dtype=bool)
        selected[:, read] = True

        def stacked(values: Any) -> torch.Tensor:
            return torch.from_numpy(np.tile(values, self.models))[None].to(device)

        with torch.inference_mode(), compute_context(self._base), self._fusion.on() as fusion:
            fusion.layout = tree_layout(
                tree.segments, copies=self.models, dtype=dtype, device=device
            )
            hidden = label_hidden(
                self._model,
                self._head,
                positions=stacked(tree.positions),
                selected=torch.from_numpy(selected.reshape(1, -1)).to(device),
                input_ids=stacked(tree.ids),
                # A mask of four axes is taken as it is: else the model makes one of its own.
                attention_mask=torch.zeros((1, 1, 1, 1), dtype=dtype, device=device),
                use_cache=False,
            )
            if hidden is None:
                return None
            places = torch.from_numpy(rows).to(device)
            tokens = torch.tensor([t for own in tree.tokens for t in own], device=device)
            found = [
                token_scores(own, self._head.weight, places, tokens)
                for own in torch.split(hidden, len(read))
            ]
        return [(values.double().tolist(), greedy.tolist()) for values, greedy in found]


_LEAST_TOKENS = 16
"""Products of fewer rows run in other kernels, which add up in another order: a score would depend
on how many other tokens are in its pass."""


def responses(
    requests: Sequence[EncodedRequest], values: Sequence[float], greedy: Sequence[bool]
) -> list[RankingResponse]:
    """Sums the scored tokens of each option, given one after another in order of the requests."""
    place = 0
    found = []
    for request in requests:
        sums, flags, counts = [], [], []
        for option in request.options:
            end = place + len(option.ids) - option.start
            sums.append(float(sum(values[place:end])))
            flags.append(all(greedy[place:end]))
            counts.append(end - place)
            place = end
        found.append(
            RankingResponse(
                loglikelihoods=tuple(sums), is_greedy=tuple(flags), n_tokens=tuple(counts)
            )
        )
    return found
