"""The forward pass of a step: of one run, or of several whose tokens stand end to end.

    run 0  tokens ─┐
    run 1  tokens ─┼─ frozen base, each run's update on its own tokens ─ head ─ losses by run
    run 2  tokens ─┘

Where attention is fused the rows' padding is left out, and what a run draws for its dropout does
not depend on who else is in the pass. A model that needs rows has them as they were packed.
A run's loss is the sum over its label tokens divided by their number, so its gradient does not
depend on who else is in the pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

from maple.base import LoadedBase, compute_context, label_logits
from maple.data import MicroBatch
from maple.errors import TrainingError

if TYPE_CHECKING:
    import torch
    from torch import nn

    from maple.base.fused import Fusion, Updates


@dataclass(frozen=True)
class Inputs:
    """One forward pass's tokens, of every run that takes part, on the base's device."""

    ids: torch.Tensor
    """(rows, width) int64; flat: one row without padding."""
    positions: torch.Tensor
    """(rows, width) int64, from 0 in every example."""
    predicts: torch.Tensor
    """(rows, width) bool: positions whose next token carries loss."""
    targets: torch.Tensor
    """(label tokens,) int64."""
    labels: tuple[int, ...]
    """Label tokens of each run, in order."""
    bounds: tuple[tuple[int, int], ...]
    """First and last + 1 flattened token of each run."""


def flat_inputs(batches: Sequence[MicroBatch | None], device: torch.device) -> Inputs:
    """The real tokens of several runs' micro-batches, end to end in one row.

    Args:
        batches: one per run; None where a run has none left in this step.
        device: where the tokens go.
    """
    import torch

    present = [b for b in batches if b is not None]
    ends = list(accumulate(0 if b is None else b.n_tokens for b in batches))
    return Inputs(
        ids=torch.cat([_real(b.ids, b) for b in present])[None].to(device),
        positions=torch.cat([_real(b.positions, b) for b in present])[None].to(device),
        predicts=torch.cat([_real(b.predicts, b) for b in present])[None].to(device),
        targets=torch.cat([b.targets for b in present]).to(device),
        labels=tuple(0 if b is None else len(b.targets) for b in batches),
        bounds=tuple(pairwise([0, *ends])),
    )


def _real(table: torch.Tensor, batch: MicroBatch) -> torch.Tensor:
    import torch

    return torch.cat([row[:n] for row, n in zip(table, batch.lengths, strict=True)])


def row_inputs(batch: MicroBatch, device: torch.device) -> Inputs:
    """One run's micro-batch as it is, padded rows."""
    return Inputs(
        ids=batch.ids.to(device),
        positions=batch.positions.to(device),
        predicts=batch.predicts.to(device),
        targets=batch.targets.to(device),
        labels=(len(batch.targets),),
        bounds=((0, batch.ids.numel()),),
    )


class Passes:
    """Forward passes over a base, of one run or of several at once."""

    def __init__(self, model: nn.Module, base: LoadedBase, fusion: Fusion, runs: int) -> None:
        """Takes a fused model and tries it; ``passes`` makes one."""
        from maple.base.fused import plain_head

        self.model = model
        self._base = base
        self._fusion = fusion
        self._runs = runs
        self._head = plain_head(model)
        self._is_flat = self._try_out()

    def _try_out(self) -> bool:
        """Runs two tokens through, without dropout: whether attention needs no rows, and the head
        is the last thing that happens to the logits.
        """
        import torch

        fusion, mode = self._fusion, self.model.training
        probe = torch.zeros(1, 2, dtype=torch.int64)
        whole = Inputs(
            ids=probe.to(self._base.device),
            positions=torch.arange(2)[None].to(self._base.device),
            predicts=(probe == 0).to(self._base.device),
            targets=probe[0].to(self._base.device),
            labels=(2,) + (0,) * (self._runs - 1),
            bounds=((0, 2),) + ((2, 2),) * (self._runs - 1),
        )
        before = fusion.attended
        self.model.eval()
        try:
            with torch.no_grad(), compute_context(self._base):
                self._total(whole, self._keywords(whole, is_flat=False), torch.ones(2))
        finally:
            self.model.train(mode)
        layers = int(getattr(self._base.model.config, "num_hidden_layers", -1))
        return fusion.attended - before == layers

    def losses(
        self, batches: Sequence[MicroBatch | None], counts: Sequence[float]
    ) -> tuple[torch.Tensor, list[float], dict[str, Any]]:
        """Runs the model once and sums the cross-entropies of each run.

        Args:
            batches: one per run; None where a run has none left in this step.
            counts: what each run's sum is divided by in the total.

        Returns:
            The total, for ``backward``; each run's undivided sum, in float32 nats; and the model's
            keyword inputs, for a method's own loss term.

        Raises:
            TrainingError: several runs, and a model whose attention needs padded rows.
        """
        import torch

        is_flat = self._needs_no_rows(batches)
        inputs = self._inputs(batches, is_flat=is_flat)
        keywords = self._keywords(inputs, is_flat=is_flat)
        shares = torch.tensor([1 / c if c else 0.0 for c in counts], dtype=torch.float32)
        per_token = shares.repeat_interleave(torch.tensor(inputs.labels)).to(inputs.ids.device)
        with compute_context(self._base):
            total, losses = self._total(inputs, keywords, per_token)
        sums = [float(part.sum()) for part in losses.detach().split(inputs.labels)]
        return total, sums, keywords

    def _needs_no_rows(self, batches: Sequence[MicroBatch | None]) -> bool:
        longest = max(int(b.positions.max()) + 1 for b in batches if b is not None)
        return self._is_flat and longest <= self._fusion.window

    def _inputs(self, batches: Sequence[MicroBatch | None], *, is_flat: bool) -> Inputs:
        if is_flat:
            return flat_inputs(batches, self._base.device)
        if self._runs > 1:
            raise TrainingError(
                "several runs share a pass only where attention is computed example by example, "
                "and this model's is not."
            )
        (batch,) = (b for b in batches if b is not None)
        return row_inputs(batch, self._base.device)

    def _keywords(self, inputs: Inputs, *, is_flat: bool) -> dict[str, Any]:
        """The model's inputs; attention finds its examples in the layout instead of a mask."""
        from maple.base.fused import find_layout

        fusion = self._fusion
        fusion.rows.bounds = inputs.bounds
        fusion.rows.are_equal = _are_equal(inputs)
        fusion.layout = None
        keywords: dict[str, Any] = {"input_ids": inputs.ids, "use_cache": False}
        if fusion.counts.get("attention"):
            fusion.layout = find_layout(inputs.positions).to(inputs.ids.device)
        if is_flat:
            # A mask of four axes is taken as it is: else the model makes one of tokens x tokens.
            keywords["attention_mask"] = inputs.ids.new_zeros(1, 1, 1, 1)
        return keywords

    def _total(
        self, inputs: Inputs, keywords: dict[str, Any], shares: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        from torch.nn.functional import cross_entropy

        from maple.base.fused import label_cross_entropy, label_hidden

        where = {"positions": inputs.positions, "selected": inputs.predicts}
        if self._head is not None:
            hidden = label_hidden(self.model, self._head, **where, **keywords)
            if hidden is not None:
                return label_cross_entropy(hidden, self._head.weight, inputs.targets, shares)
            self._head = None  # found out on the first tokens, before anything is trained
        logits = label_logits(self.model, **where, **keywords)
        losses = cross_entropy(logits.float(), inputs.targets, reduction="none")
        return (losses * shares).sum(), losses


def _are_equal(inputs: Inputs) -> bool:
    """Whether several runs were given the same tokens, example by example."""
    import torch

    lengths = {stop - start for start, stop in inputs.bounds}
    if len(inputs.bounds) == 1 or len(lengths) > 1:
        return False
    return all(
        torch.equal(table[0, : inputs.bounds[0][1]], table[0, start:stop])
        for table in (inputs.ids, inputs.positions)
        for start, stop in inputs.bounds
    )


@contextmanager
def passes(
    model: nn.Module,
    base: LoadedBase,
    runs: Sequence[Updates],
    generators: Sequence[torch.Generator | None],
) -> Iterator[Passes]:
    """Fuses a model for training, for as long as the block lasts.

    Args:
        model: the base alone for several runs, or with one method's modules on it.
        base: its device and compute dtype.
        runs: each run's low-rank updates; empty where a method has others.
        generators: where each run's dropout draws from; None: torch's own generator.
    """
    from maple.base.fused import Rows, fused

    rows = Rows([(0, 0)] * len(runs), generators)
    with fused(model, runs, rows) as fusion:
        yield Passes(model, base, fusion, len(runs))
