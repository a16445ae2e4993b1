"""``maple train``: one run without a study file, through the same code as ``maple run``.

    DIR/.maple/runs/<id>/   a store of one run while it trains: its checkpoint, its record
    DIR/                    at the end the adapter, as PEFT knows it, and what is kept of the run

``maple.json`` is put in its place last: a directory that has one is finished.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from maple.base import describe_machine
from maple.catalog import load_method
from maple.errors import StoreError
from maple.files import Files
from maple.plan import Resolver
from maple.records import TrainRecord
from maple.run.adapters import detach, load_alive
from maple.run.cell import run_cell
from maple.run.cohort import Failure, attempt, load_model
from maple.run.context import CohortContext
from maple.run.progress import Progress
from maple.run.train_request import ChosenRun, TrainRequest, choose_run
from maple.store.layout import TEMPORARY
from maple.store.write import KEPT_WITH_ADAPTER, StoreWriter, open_for_writing
from maple.study import RunSpec

_HIDDEN = ".maple"
_CARD = "maple.json"
_LOCK = "maple.lock"


@dataclass(frozen=True, kw_only=True)
class TrainedAdapter:
    """A finished directory, or why it is not finished."""

    out: Path
    run: RunSpec
    base: str
    """The directory or Hub repository of the base."""
    record: TrainRecord | None = None
    losses: tuple[float, float] | None = None
    """Of the first and the last step."""
    failure: Failure | None = None
    """The run's label and its error; the checkpoint stays."""


def train_one(
    request: TrainRequest, files: Files, out: Path, *, progress: Progress
) -> TrainedAdapter:
    """Trains one adapter into a directory; goes on where an earlier call was stopped.

    Args:
        request: the run.
        files: where data comes from; its lock should lie in ``out``.
        out: the adapter's directory: new, empty, or one that this run was begun in.
        progress: where to show what happens.

    Returns:
        What was trained; the same, untouched, where it was finished before.

    Raises:
        MapleError: the request cannot be, the data is broken, or ``out`` holds something else.
    """
    _refuse_foreign(out)
    with progress:
        chosen = choose_run(request, files)
        run = chosen.run
        if (out / _CARD).is_file():
            _refuse_other(run, _read(out / "spec.json"), f"{out} holds a finished adapter")
            progress.say(f"{run.label} ({run.id}): trained already")
            shutil.rmtree(out / _HIDDEN, ignore_errors=True)
            return _outcome(out, run, files)
        for begun in sorted(out.glob(f"{_HIDDEN}/runs/*")):
            # One that failed before its first checkpoint has nothing to lose.
            if any(begun.glob("checkpoint/*")):
                _refuse_other(run, _read(begun / "spec.json"), f"{out} holds an unfinished run")
        with open_for_writing(out / _HIDDEN) as store:
            failure = _train(chosen, files, store, progress)
            if failure is None:
                _publish(store, run.id, out)
    if failure is not None:
        return TrainedAdapter(out=out, run=run, base=_place(run, files), failure=failure)
    shutil.rmtree(out / _HIDDEN, ignore_errors=True)
    return _outcome(out, run, files)


def _train(
    chosen: ChosenRun, files: Files, store: StoreWriter, progress: Progress
) -> Failure | None:
    run = chosen.run
    progress.say(f"{run.label} ({run.id})")
    for note in chosen.notes:
        progress.say(f"  {note}")
    base = load_model(run.model, run.quantization, files)
    context = CohortContext(base=base, files=files, store=store, progress=progress)
    store.begin_run(run, describe_machine(base.device))

    def train_and_prove() -> None:
        context.untouched()
        run_cell(run, context)
        method = load_method(run.method.name, run.method.parameters)
        detach(load_alive(method, store.layout.adapter(run.id), run.label, context), base)

    return attempt(run, train_and_prove, store, progress)


def _refuse_foreign(out: Path) -> None:
    """Nothing that is not ours is written into.

    Raises:
        StoreError: ``out`` is a file, or a directory that ``maple train`` did not begin.
    """
    if out.is_dir():
        held = sorted(p.name for p in out.iterdir() if p.name != _LOCK)
        ours = (out / _HIDDEN).is_dir() or (
            (out / _CARD).is_file() and (out / "spec.json").exists()
        )
        if held and not ours:
            raise StoreError(
                f"{out} holds {', '.join(held[:3])}, and not what `maple train` began. Nothing is "
                "overwritten: choose another --out."
            )
    elif out.exists():
        raise StoreError(f"{out} is a file, and an adapter is a directory. Choose another --out.")


def _refuse_other(run: RunSpec, stored: Mapping[str, Any], what: str) -> None:
    if stored.get("id") == run.id:
        return
    old, new = _flat(stored), _flat({"id": run.id, **run.model_dump(mode="json")})
    differing = [
        f"{key} {old.get(key)!r}, not {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if key not in {"id", "mixture.name"} and old.get(key) != new.get(key)
    ]
    raise StoreError(
        f"{what} of another kind: {'; '.join(differing[:4])}. Nothing is overwritten: choose "
        "another --out, or delete that one."
    )


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(content, dict | list):
        return {prefix: content}
    pairs = content.items() if isinstance(content, dict) else enumerate(content)
    flat: dict[str, Any] = {}
    for key, value in pairs:
        flat |= _flat(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def _publish(store: StoreWriter, run_id: str, out: Path) -> None:
    """Gives the run's files their place in ``out``, the card last."""
    folder, adapter = store.layout.run(run_id), store.layout.adapter(run_id)
    named = {p.relative_to(adapter): p for p in adapter.rglob("*") if p.is_file()}
    named |= {Path(n): folder / n for n in KEPT_WITH_ADAPTER if (folder / n).is_file()}
    for relative in sorted(named, key=lambda name: name.name == _CARD):
        target = out / relative
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f"{TEMPORARY}{target.name}")
        temporary.unlink(missing_ok=True)
        _link(named[relative], temporary)
        temporary.replace(target)


def _link(source: Path, target: Path) -> None:
    # A second name for the same bytes: a fully tuned model is not written twice.
    with contextlib.suppress(OSError):
        os.link(source, target)
        return
    shutil.copyfile(source, target)


def _outcome(out: Path, run: RunSpec, files: Files) -> TrainedAdapter:
    import pyarrow.parquet as pq

    known = {field.name for field in fields(TrainRecord)}
    stored = _read(out / "train.json").items()
    record = TrainRecord(**{key: value for key, value in stored if key in known})
    with pq.ParquetFile(out / "curve.parquet") as curve:
        losses = curve.read(["loss"])["loss"].to_pylist()
    ends = (losses[0], losses[-1])
    return TrainedAdapter(out=out, run=run, base=_place(run, files), record=record, losses=ends)


def _place(run: RunSpec, files: Files) -> str:
    return str(Resolver(files).model_directory(run.model) or run.model.name)


def _read(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise StoreError(
            f"{path} cannot be read ({error}): the directory is not whole. Choose another --out."
        ) from error
    if not isinstance(content, dict):
        raise StoreError(f"{path} is no JSON object. Choose another --out.")
    return content
