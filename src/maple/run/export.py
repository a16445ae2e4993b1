"""``maple export --to peft|merged``: a trained adapter for other tools, checked before it is kept.

Everything is written under a temporary name beside its place, and renamed when it is whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from maple.base import LoadedBase, compute_context
from maple.catalog import load_quantizer
from maple.catalog.contracts import Method
from maple.errors import MapleError, MismatchError, SourceError, StoreError, UsageError
from maple.evaluate import check_alive, probe_logits
from maple.evaluate.probe import PROBES, largest_difference
from maple.files import Files
from maple.run.adapters import check_match, detach, read_card, strip
from maple.run.cohort import load_model
from maple.run.evaluate import (
    EvaluationRequest,
    adapter_method,
    chosen_quantization,
    resolve_model,
)
from maple.run.loading import peft_type
from maple.run.progress import Progress
from maple.run.train_request import refuse_absent
from maple.store.layout import TEMPORARY
from maple.store.read import open_store
from maple.store.write import KEPT_WITH_ADAPTER
from maple.study import ModelRef

if TYPE_CHECKING:
    import torch

SHARE_OF_LOGIT = {True: 1e-3, False: 0.1}
"""Largest difference that is rounding, as a share of the largest logit: in float32, else.

bfloat16 holds 8 bits, and what is rounded in one layer is carried through all the others.
"""


@dataclass(frozen=True, kw_only=True)
class Adapter:
    """A stored adapter, the method that made it, and the base it belongs on."""

    directory: Path
    card: dict[str, Any]
    method: Method
    model: ModelRef
    quantization: str

    @property
    def is_quantized(self) -> bool:
        """Whether it was trained on integer weights."""
        return load_quantizer(self.quantization).bits < 16


def find_adapter(source: Path, files: Files, *, run: str | None, model: str | None) -> Adapter:
    """Finds the adapter that is meant, and its base.

    Args:
        source: a directory with an adapter, a run's folder, or a store.
        files: where a base on the Hub comes from.
        run: of a store with several trained runs, the id of one or its beginning.
        model: where the base is now; None: where it was when the adapter was trained.

    Raises:
        SourceError: there is no adapter, or its base is not where it was.
        UsageError: of several runs none is named, or none has that id.
        MismatchError: the base is another than the adapter was trained on.
    """
    directory = _adapter_directory(source, run)
    card = read_card(directory)
    own = card.get("base")
    if not (model or own):
        raise SourceError(f"{directory} does not say what base it belongs on: add --model.")
    revision = card.get("base_revision") if model in (None, own) else None
    commit = None if str(revision).startswith("sha256:") else revision
    ref = ModelRef(name=str(model or own), revision=commit)
    refuse_absent(ref.name, files)
    resolved = resolve_model(ref, files)
    request = EvaluationRequest(model=ref.name)
    quantization = chosen_quantization(request, [card], resolved, files)
    if mismatch := check_match(card, resolved, quantization):
        raise MismatchError(
            f"adapter {directory} was {mismatch}. On another base it is not what was trained: "
            "name its own with --model."
        )
    return Adapter(
        directory=directory,
        card=card,
        method=adapter_method(card),
        model=resolved,
        quantization=quantization,
    )


def _adapter_directory(source: Path, run: str | None) -> Path:
    if not source.is_dir():
        raise SourceError(f"{source} is no directory: name a store, or an adapter's directory.")
    if (source / "runs").is_dir():
        return _of_store(source, run)
    if run is not None:
        raise UsageError(f"--run chooses among the runs of a store, and {source} is none.")
    inner = source / "adapter"
    return inner if inner.is_dir() and (source / "spec.json").is_file() else source


def _of_store(source: Path, run: str | None) -> Path:
    store = open_store(source)
    trained = [r for r in store.runs() if r.status == "done" and not r.cell.is_base]
    found = [r for r in trained if r.run_id.startswith(run or "")]
    if len(found) == 1:
        return store.layout.adapter(found[0].run_id)
    listed = "\n".join(f"  {r.run_id}  {r.cell.label}" for r in found or trained)
    if not trained:
        raise SourceError(f"{source} holds no finished run with an adapter.")
    problem = f"no finished run {run!r}" if not found else f"{len(found)} trained runs"
    raise UsageError(f"{source} has {problem}. Name one with --run:\n{listed}")


def export_peft(adapter: Adapter, files: Files, out: Path, *, progress: Progress) -> Path:
    """Copies an adapter as ``peft`` knows it, once plain ``peft`` has loaded the copy.

    Args:
        adapter: as ``find_adapter`` found it.
        files: where its base comes from.
        out: a new directory.
        progress: where to say how far the logits are from those that Maple computes.

    Raises:
        UsageError: ``peft`` has no such method.
        StoreError: ``out`` is there already.
        SourceError: the copy does not load, or gives other logits.
    """
    refuse_existing(out)
    if peft_type(adapter.directory) is None:
        raise UsageError(f"{adapter.directory} is no adapter of peft: {_not_peft(adapter)}.")
    with writing(out) as temporary:
        for file in sorted(adapter.directory.iterdir()):
            if file.is_file() and file.name not in (*KEPT_WITH_ADAPTER, "maple.lock"):
                shutil.copyfile(file, temporary / file.name)
        base = load_model(adapter.model, adapter.quantization, files)
        ours, _ = adapted_logits(adapter, base)
        theirs, plain = _plain_peft(base, temporary)
        difference, largest = largest_difference(ours, theirs), largest_value(ours)
        share = SHARE_OF_LOGIT[adapter.quantization == "fp32"]
        if not difference <= share * largest:
            raise SourceError(
                f"plain peft gives other logits for {adapter.directory} than Maple: {difference:g} "
                f"apart, where {share:.1%} of {largest:g} would be rounding. Nothing is written."
            )
        progress.say(
            f"plain peft gives Maple's logits to {difference:.2g} on {len(PROBES)} probe prompts; "
            f"the largest logit is {largest:.3g}"
        )
        if isinstance(plain, str):
            progress.say(f"  call it within torch.autocast; without, peft itself fails: {plain}")
        elif base.dtype != theirs[0].dtype:
            difference = largest_difference(ours, plain)
            progress.say(f"  to {difference:.2g} where it is not called within torch.autocast")
    return out


def _not_peft(adapter: Adapter) -> str:
    if (adapter.directory / "config.json").is_file():
        return "it is a whole model, which transformers loads; `--to merged` adds its tokenizer"
    return (
        f"peft has no {adapter.card['method']['name']}. "
        "maple.catalog.bottleneck.load_bottleneck(model, directory) loads it on any model"
    )


def _plain_peft(
    base: LoadedBase, directory: Path
) -> tuple[list[torch.Tensor], list[torch.Tensor] | str]:
    """Logits by plain ``peft`` in Maple's precision, and in a plain call's, or why it fails."""
    from peft import PeftModel

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = PeftModel.from_pretrained(base.model, str(directory))
        try:
            as_trained = plain_logits(model, base.tokenizer, base=base)
            try:
                return as_trained, plain_logits(model, base.tokenizer)
            except RuntimeError as error:
                # Of several methods peft multiplies float32 factors with what is bfloat16.
                return as_trained, str(error)
        finally:
            detach(model, base)


def plain_logits(
    model: Any, tokenizer: Any, *, base: LoadedBase | None = None
) -> list[torch.Tensor]:
    """Float32 logits (tokens, vocabulary) of each probe prompt, by one call of the model each.

    Args:
        model: a causal language model, adapted or not.
        tokenizer: its tokenizer.
        base: calls the model in that base's precision; None calls it as it is.
    """
    import torch

    found = []
    device = next(model.parameters()).device
    for text in PROBES:
        ids = torch.tensor([tokenizer(text)["input_ids"]], device=device)
        context = compute_context(base) if base else contextlib.nullcontext()
        with torch.inference_mode(), context:
            logits = model.eval()(input_ids=ids).logits[0]
        # Vectors in front of the text have logits too, which nobody reads.
        found.append(logits[-ids.shape[1] :].float().cpu())
    return found


def adapted_logits(adapter: Adapter, base: LoadedBase) -> tuple[list[torch.Tensor], float]:
    """Probe logits of an adapter on the base it was trained on, and how far it moves them.

    Raises:
        SourceError: the adapter does not load.
        DeadAdapterError: it does not move them.
    """
    untouched = probe_logits(base.model, base)
    again = probe_logits(base.model, base)
    try:
        model = adapter.method.load(base.model, adapter.directory)
    except MapleError:
        raise
    except Exception as error:
        strip(base)
        raise SourceError(
            f"the adapter {adapter.directory} does not load on {adapter.model.name}: {error}."
        ) from error
    try:
        logits = probe_logits(model, base)
    finally:
        detach(model, base)
    noise = largest_difference(untouched, again)
    return logits, check_alive(logits, untouched, noise=noise, what=str(adapter.directory))


def largest_value(logits: list[torch.Tensor]) -> float:
    """The largest absolute logit."""
    return max(float(part.abs().max()) for part in logits)


def refuse_existing(out: Path) -> None:
    """Nothing is ever written over.

    Raises:
        StoreError: ``out`` is a file, or a directory that is not empty.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise StoreError(
            f"{out} is there already, and nothing is overwritten. Choose another --out."
        )


@contextlib.contextmanager
def writing(out: Path) -> Iterator[Path]:
    """Gives a temporary directory beside ``out`` that takes its place where all went well.

    Raises:
        StoreError: the place cannot be written, or something was put there meanwhile.
    """
    temporary = out.with_name(f"{TEMPORARY}{os.getpid()}-{out.name}")
    try:
        temporary.mkdir(parents=True)
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                with file.open("rb") as stream:
                    os.fsync(stream.fileno())
        refuse_existing(out)
        temporary.rename(out)
    except Exception as error:
        # safetensors states the system's error in the text of its own.
        if not isinstance(error, OSError) and "(os error " not in str(error):
            raise
        raise StoreError(
            f"{out} cannot be written ({error}). Choose another --out, or make room."
        ) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
