"""The story of one run: train it, load what was stored, prove it alive, score it."""

from __future__ import annotations

from maple.catalog import load_method
from maple.catalog.contracts import AttachContext, Method
from maple.plan.estimate import activation_bytes, shape_from_config
from maple.run.adapters import adapter_card, adapter_hash, detach, load_alive, strip
from maple.run.context import CohortContext
from maple.run.record import RunCheckpoints, RunMeter, show_steps, train_record
from maple.run.scoring import is_scored, score_model
from maple.study import RunSpec, TrainingSettings
from maple.train import calibration_rows, train_run
from maple.train.activations import Activations, choose_activations, free_bytes


def run_cell(run: RunSpec, context: CohortContext) -> None:
    """Trains a run unless it is stored, then scores whatever of it is not.

    Raises:
        MapleError: the run cannot go on; what is stored stays.
    """
    method = load_method(run.method.name, run.method.parameters)
    if not context.store.is_run_done(run.id):
        train_cell(run, method, context)
    adapter = adapter_hash(run, context.store)
    if is_scored(run.id, adapter, context):
        return
    if not run.is_trained:
        score_model(context.base.model, run.id, adapter, context)
        return
    # From the bytes that were stored: what is scored is what is kept.
    model = load_alive(method, context.store.layout.adapter(run.id), run.label, context)
    try:
        score_model(model, run.id, adapter, context)
    finally:
        detach(model, context.base)


def train_cell(run: RunSpec, method: Method, context: CohortContext) -> None:
    """Trains one run from its checkpoint, or from nothing, and stores adapter and record."""
    import torch

    if run.training is None or run.mixture is None:
        context.store.finish_run(run.id, None, [])
        return
    if context.prepared:
        context.untouched()
    schedule = context.schedule(run.mixture, run.training, run.seed)
    torch.manual_seed(run.seed)
    base = context.base
    attach = AttachContext(
        family=base.family,
        quantizer=base.quantizer,
        seed=run.seed,
        calibration=lambda: calibration_rows(schedule, base),
    )
    try:
        model = method.attach(base.model, attach)
    except Exception:
        strip(base)
        raise
    try:
        meter = RunMeter(model, base, show_steps(context.progress, schedule.total_steps))
        result = train_run(
            model,
            base,
            method,
            schedule,
            settings=run.training,
            checkpoints=RunCheckpoints(context.store, run.id),
            on_step=meter,
            activations=_activations(run.training, context),
        )
        card = adapter_card(run, base)
        directory = context.store.save_adapter(run.id, lambda to: method.save(model, to), card)
    finally:
        detach(model, base)
    record = train_record(run.id, result, schedule, directory, meter=meter)
    context.store.finish_run(run.id, record, result.curve)
    context.progress.end(f"loss {result.curve[0].loss:.3f} -> {record.final_loss:.3f}")


def _activations(settings: TrainingSettings, context: CohortContext) -> Activations:
    """What becomes of activations on this device, said where it is not the fastest."""
    base = context.base
    shape = shape_from_config(base.model.config.to_dict())
    kept, inputs = activation_bytes(settings, shape) if shape else (None, None)
    chosen = choose_activations(
        settings,
        kept=kept,
        inputs=inputs,
        free=free_bytes(base.device),
        on_gpu=base.device.type == "cuda",
    )
    if chosen != "keep" and settings.gradient_checkpointing == "auto":
        context.progress.say(f"  activations do not fit in what is free: {chosen}")
    return chosen
