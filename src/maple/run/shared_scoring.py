"""Several adapters of one base scored in shared passes; whatever is left is scored in turn.

    load adapter 0, prove it alive, keep its factors, take it off ─┐
    load adapter 1, ...                                            ├─ one pass a batch ─ rows of 0
    the base: nothing to keep                                     ─┘                   └ rows of 1

Each model's rows are what they are when it is scored alone, in the same batches, with its own
files; so a kill, or an adapter that does not load, costs the others nothing.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maple.catalog import load_method
from maple.catalog.contracts import GenerationResponse, Method, RankingResponse
from maple.errors import MapleError
from maple.evaluate import PreparedTask, score_batches
from maple.evaluate.batches import halving
from maple.evaluate.encode import EncodedRequest
from maple.evaluate.ranking import FusedRanking
from maple.records import SampleRecord
from maple.run.adapters import adapter_hash, detach, load_alive
from maple.run.context import CohortContext
from maple.run.scoring import PART_SECONDS, evaluation_facts, evaluation_spec
from maple.store.write import StoreWriter
from maple.study import EvalSpec, RunSpec

if TYPE_CHECKING:
    from torch import nn

    from maple.base.fused import Updates

MOST_MODELS = 8
"""Models that share a pass at most: their activations are in memory together."""

SMALL_TOKENS = 1024
"""A task of fewer tokens is scored in shared passes unasked, on a processor. Measured there, five
adapters together took 1/1.35 of their time in turn at 55 tokens a pass, 1/1.17 at 215 and 1/1.09 at
870 (bfloat16; 1/1.43 and 1/1.30 on 4 bits), and as long in passes that fill the processor."""


@dataclass(frozen=True)
class Subject:
    """A model to score: an adapter's directory, or the base alone."""

    run_id: str
    adapter: str
    """Hash of the adapter's bytes, or ``none``."""
    label: str
    method: Method | None = None
    directory: Path | None = None


def subjects_of(runs: Iterable[RunSpec], store: StoreWriter) -> list[Subject]:
    """Those of a study's runs that may share passes: trained low-rank runs, and the base."""
    found = []
    for run in runs:
        method = load_method(run.method.name, run.method.parameters)
        if not run.is_trained:
            found.append(Subject(run.id, "none", run.label))
        elif method.shares_passes:
            directory = store.layout.adapter(run.id)
            found.append(Subject(run.id, adapter_hash(run, store), run.label, method, directory))
    return found


def share_scoring(
    subjects: Sequence[Subject], context: CohortContext, *, asked: bool | None = None
) -> None:
    """Scores in shared passes whatever several subjects have not answered and gain by sharing.

    Subjects that cannot share, and those that fail, are left as they are.

    Args:
        subjects: of one base; each began in the store.
        context: the base, and what is asked of all.
        asked: share every ranking (True) or none (False); None: where it is known to gain and
            rows are bit-equal either way, which is on a processor, in small passes.

    Raises:
        StoreError: nothing can be stored.
    """
    if asked is False or context.engine is not None or not _keeps_rows_apart(context):
        return
    if context.looks is not None:  # each ends at a look of its own
        return
    waiting = [p for p in context.prepared if sum(_is_open(s, p, context) for s in subjects) > 1]
    tasks = [p for p in waiting if asked or _is_small(p, context)]
    open_subjects = [s for s in subjects if any(_is_open(s, p, context) for p in tasks)]
    loaded = [(s, u) for s in open_subjects if (u := _updates(s, context)) is not None]
    for start in range(0, len(loaded), MOST_MODELS):
        stack = loaded[start : start + MOST_MODELS]
        if len(stack) > 1:
            for prepared in tasks:
                _score_stack(stack, prepared, context)


def _keeps_rows_apart(context: CohortContext) -> bool:
    """LLM.int8 chooses its 16-bit columns over a whole pass: rows depend on their neighbours."""
    quantizer = context.base.quantizer
    return not (quantizer.library == "bitsandbytes" and quantizer.bits == 8)


def _is_small(prepared: PreparedTask, context: CohortContext) -> bool:
    if context.base.device.type != "cpu" or prepared.generates or len(prepared.batches) > 1:
        return False
    encoded = prepared.encoded
    return sum(len(row.ids) for request in encoded for row in request.rows) <= SMALL_TOKENS


def _is_open(subject: Subject, prepared: PreparedTask, context: CohortContext) -> bool:
    spec = evaluation_spec(prepared, subject.run_id, subject.adapter)
    return not prepared.generates and not context.store.has_all(spec.id, len(prepared.sample_ids))


def _updates(subject: Subject, context: CohortContext) -> Updates | None:
    """A subject's low-rank updates by the base's layers; None where it is anything else, or fails
    to load, which it will again in its turn and be stored as failed.
    """
    if subject.method is None or subject.directory is None:
        return {}
    context.untouched()
    try:
        model = load_alive(subject.method, subject.directory, subject.label, context)
    except MapleError:
        return None
    try:
        return low_rank_alone(model, context.base.dtype)
    finally:
        detach(model, context.base)


def low_rank_alone(model: nn.Module, dtype: Any) -> Updates | None:
    """A loaded adapter's updates by the base's layers, if they are all that it changes.

    Args:
        model: the base with the adapter on it.
        dtype: what products are computed in; the factors are kept in it.
    """
    from peft import PeftModel
    from peft.tuners.tuners_utils import BaseTunerLayer
    from torch import nn

    from maple.base.fused import LowRank, peft_updates

    if not isinstance(model, PeftModel) or list(model.peft_config) != [model.active_adapter]:
        return None
    config: Any = model.peft_config[model.active_adapter]
    names = ("modules_to_save", "trainable_token_indices", "target_parameters")
    begun_plainly = getattr(config, "init_lora_weights", None) in (True, False, "gaussian")
    if not begun_plainly or any(getattr(config, name, None) for name in names):
        return None
    if getattr(config, "bias", "none") != "none":  # put into the base's own layers
        return None
    found = peft_updates(model)
    layers = [m for m in model.modules() if isinstance(m, BaseTunerLayer)]
    head = model.get_output_embeddings()
    if any(layer not in found or layer is head for layer in layers):
        return None

    def kept(factor: nn.Parameter) -> nn.Parameter:
        return nn.Parameter(factor.detach().to(dtype), requires_grad=False)

    return {
        layer.get_base_layer(): tuple(LowRank(kept(u.a), kept(u.b), u.scale) for u in updates)  # type: ignore[operator]
        for layer, updates in found.items()
    }


def _score_stack(
    stack: Sequence[tuple[Subject, Updates]], prepared: PreparedTask, context: CohortContext
) -> None:
    """Scores one task, those together that miss the same samples of it."""
    alike: dict[frozenset[str], list[tuple[EvalSpec, Updates]]] = {}
    wanted = set(prepared.sample_ids)
    for subject, updates in stack:
        if not _is_open(subject, prepared, context):
            continue
        spec = evaluation_spec(prepared, subject.run_id, subject.adapter)
        context.store.write_prompts(prepared.prompts_id, prepared.prompts)
        stored = context.store.begin_evaluation(spec, evaluation_facts(prepared))
        alike.setdefault(frozenset(stored & wanted), []).append((spec, updates))
    for done, members in alike.items():
        if len(members) < 2:
            continue
        runs = [updates for _, updates in members]
        ranking = FusedRanking(context.base.model, context.base, runs)
        if not ranking.works or ranking.window < max(e.width for e in prepared.encoded):
            return
        _store_rows([s for s, _ in members], SharedPasses(ranking), prepared, done, context)


def _store_rows(
    specs: Sequence[EvalSpec],
    shared: SharedPasses,
    prepared: PreparedTask,
    kept: frozenset[str],
    context: CohortContext,
) -> None:
    total = len(prepared.sample_ids)
    name = f"{prepared.name} {prepared.language}, {len(specs)} models"
    context.progress.begin(name, total, "samples", done=len(kept))
    streams = [
        score_batches(
            shared.member(number), prepared, eval_id=spec.id, run_id=spec.run_id, stored=kept
        )
        for number, spec in enumerate(specs)
    ]
    waiting: list[list[SampleRecord]] = [[] for _ in specs]
    said = began = time.monotonic()
    for found in zip(*streams, strict=True):
        for rows, own in zip(found, waiting, strict=True):
            own += rows
        context.progress.advance(len(found[0]))
        if time.monotonic() - said >= PART_SECONDS:
            _flush(specs, waiting, context)
            said = time.monotonic()
    _flush(specs, waiting, context)
    seconds = (time.monotonic() - began) / len(specs)
    for spec in specs:
        context.store.finish_evaluation(
            spec.id, samples=total, limit=prepared.limit, seconds=seconds
        )
    context.progress.end(f"{len(specs)} models in shared passes")


def _flush(
    specs: Sequence[EvalSpec], waiting: list[list[SampleRecord]], context: CohortContext
) -> None:
    for spec, own in zip(specs, waiting, strict=True):
        context.store.add_samples(spec.id, own)
        own.clear()


class SharedPasses:
    """Hands each model its answers from passes that all make together, in step."""

    def __init__(self, ranking: FusedRanking) -> None:
        """Takes a ranking of several models."""
        self._ranking = ranking
        self._ready: list[deque[list[RankingResponse]]] = [deque() for _ in range(ranking.models)]

    def member(self, number: int) -> _Member:
        """One model's engine. All members must ask for the same requests in the same order."""
        return _Member(self, number)

    def answer(self, number: int, requests: Sequence[EncodedRequest]) -> list[RankingResponse]:
        """One model's answers; the first that asks makes the pass for all."""
        if not self._ready[number]:
            by_request: Any = list(halving(requests, self._pass))
            for model, queue in enumerate(self._ready):
                queue.append([answers[model] for answers in by_request])
        found = self._ready[number].popleft()
        assert len(found) == len(requests)
        return found

    def _pass(self, requests: Sequence[EncodedRequest]) -> list[object]:
        found = self._ranking(requests)
        assert found is not None  # no request is wider than the window
        return list(zip(*found, strict=True))


@dataclass(frozen=True)
class _Member:
    shared: SharedPasses
    number: int

    def loglikelihoods(self, requests: Sequence[EncodedRequest]) -> list[RankingResponse]:
        return self.shared.answer(self.number, requests)

    def generate(self, requests: Sequence[EncodedRequest]) -> list[GenerationResponse]:
        raise MapleError("shared passes rank; answers are generated in turn.")
