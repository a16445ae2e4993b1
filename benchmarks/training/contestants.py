"""Maple, TRL and a plain loop over one grid of ranks: how each is started, and what it left."""

from __future__ import annotations

import json
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import yaml

from benchmarks.training.processes import Timed, contestant_environment, run_timed
from benchmarks.training.rows import MIXTURE, Rows

PEERS = Path(__file__).parents[1] / "peers"
WEIGHTS = "adapter_model.safetensors"


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is the same for all contestants."""

    ranks: tuple[int, ...]
    examples: int
    batch_size: int
    max_length: int
    alpha: int = 16
    dropout: float = 0.05
    learning_rate: float = 3e-4
    seed: int = 0

    def training(self) -> dict[str, Any]:
        """The ``training`` block of a study, and what draws the peers' rows."""
        return {
            "learning_rate": self.learning_rate,
            "epochs": 1,
            "examples": self.examples,
            "batch_size": self.batch_size,
            "max_length": self.max_length,
            "warmup_steps": 0,
            "scheduler": "constant",
        }


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and on what a grid is run."""

    base: Path
    bits: str
    rows: Rows
    data: Path
    work: Path
    device: str
    threads: int | None = None
    workers: int | None = None

    def env(self) -> dict[str, str]:
        return contestant_environment(self.work, device=self.device, threads=self.threads)


@dataclass(frozen=True, kw_only=True)
class PeerSetting:
    """One way to lay a peer's batches out. ``accumulation`` 0: as many as make the batch."""

    name: str
    per_device: int
    packing: str | None = None
    padding_free: bool = False
    sampling: str = "sequential"
    dtype: str = "bfloat16"

    @property
    def keeps_order(self) -> bool:
        """Whether its first step sees the same examples as ours."""
        return self.packing is None and self.sampling == "sequential"

    def accumulation(self, recipe: Recipe, rows: Rows) -> int:
        """Forward passes of a step, so that it holds the batch's examples (on average, packed)."""
        per_step = float(recipe.batch_size)
        if self.packing == "wrapped":
            per_step *= sum(rows.lengths) / recipe.max_length / rows.n_examples
        elif self.packing:
            per_step *= rows.packed_rows(recipe.max_length) / rows.n_examples
        return max(1, round(per_step / self.per_device))


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What one training saw, by the trainer's own count."""

    label_tokens: int
    steps: int
    first_loss: float
    last_loss: float
    training_seconds: float
    cuda_peak_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One contestant over one grid."""

    saved_seconds: float
    """From the first process's start until the last adapter was on the disk."""
    ended_seconds: float
    """Until the last process had ended."""
    cpu_seconds: float
    """Processor time of all its processes."""
    tree_bytes: int
    process_bytes: int
    trained: dict[int, Trained]
    """By rank."""
    curves: dict[int, list[dict[str, float]]] | None = None
    """Ours: tokens and seconds of each step, by rank."""

    def rate(self, n_examples: int) -> float:
        """Real examples per second over the whole grid."""
        return n_examples * len(self.trained) / self.saved_seconds

    def as_json(self) -> dict[str, Any]:
        """Without the curves."""
        return asdict(replace(self, curves=None))


def run_ours(recipe: Recipe, place: Place, *, tag: str = "ours") -> Outcome:
    """``maple run`` on a study of the grid, with no tasks to score."""
    folder = fresh(place.work / "scratch" / tag)
    study, out = folder / "study.yaml", folder / "store"
    study.write_text(yaml.safe_dump(study_content(recipe, place)), encoding="utf-8")
    maple = Path(sys.executable).with_name("maple")
    command = [str(maple), "run", str(study), "--data-dir", str(place.data), "--out", str(out)]
    if place.workers:
        command += ["--workers", str(place.workers)]
    timed = run_timed(command, place.env(), folder / "log.txt")
    curves = {}
    for adapter in sorted(out.glob("runs/*/adapter")):
        rank = int(json.loads((adapter / "adapter_config.json").read_text())["r"])
        curves[rank] = read_curve(adapter.parent / "curve.parquet")
    trained = {rank: trained_of(curve, place.device) for rank, curve in curves.items()}
    return outcome([timed], out, trained, recipe.ranks, curves=curves)


def study_content(recipe: Recipe, place: Place) -> dict[str, Any]:
    """The study that ours is run on."""
    lora = {
        "rank": list(recipe.ranks),
        "alpha": recipe.alpha,
        "dropout": recipe.dropout,
        "targets": "all-linear",
    }
    return {
        "name": "bench-train",
        "models": [str(place.base)],
        "methods": [{"lora": lora}],
        "quantization": [place.bits],
        "mixtures": {"alpaca-5": MIXTURE},
        "training": recipe.training(),
        "seeds": [recipe.seed],
        "evaluate": {"tasks": []},
    }


def read_curve(path: Path) -> list[dict[str, float]]:
    """The rows of a stored curve."""
    import pyarrow.parquet as pq

    rows: list[dict[str, float]] = pq.read_table(path).to_pylist()
    return rows


def trained_of(curve: Sequence[Mapping[str, float]], device: str) -> Trained:
    """What our own curve says of one run."""
    peak = int(max(row["peak_memory_bytes"] for row in curve))
    return Trained(
        label_tokens=int(sum(row["label_tokens"] for row in curve)),
        steps=len(curve),
        first_loss=curve[0]["loss"],
        last_loss=curve[-1]["loss"],
        training_seconds=sum(row["step_seconds"] for row in curve),
        cuda_peak_bytes=peak if device == "cuda" else None,
    )


def run_trl(recipe: Recipe, place: Place, setting: PeerSetting) -> Outcome:
    """One process per rank, one after another."""
    folder = fresh(place.work / "scratch" / "trl")
    timed: list[Timed] = []
    trained: dict[int, Trained] = {}
    for rank in recipe.ranks:
        config = peer_config(recipe, place, setting, folder / str(rank)) | {"rank": rank}
        timed.append(run_peer("trl_run.py", config, place, folder / f"{rank}.json"))
        trained |= read_report(config["report"])
    return outcome(timed, folder, trained, recipe.ranks)


def run_plain(recipe: Recipe, place: Place, setting: PeerSetting) -> Outcome:
    """One process for all ranks."""
    folder = fresh(place.work / "scratch" / "plain")
    config = peer_config(recipe, place, setting, folder / "out") | {"ranks": list(recipe.ranks)}
    timed = run_peer("padded_loop.py", config, place, folder / "config.json")
    return outcome([timed], folder, read_report(config["report"]), recipe.ranks)


def peer_config(recipe: Recipe, place: Place, setting: PeerSetting, out: Path) -> dict[str, Any]:
    """Everything a peer's script is told but its rank."""
    is_cut = setting.padding_free and not setting.packing
    return {
        "model": str(place.base),
        "rows": str(place.rows.token_file if is_cut else place.rows.text_file),
        "out": str(out),
        "report": f"{out}.report.json",
        "bits": place.bits,
        "device": place.device,
        "accumulation": setting.accumulation(recipe, place.rows),
        **{k: v for k, v in asdict(setting).items() if k != "name"},
        **{k: v for k, v in asdict(recipe).items() if k != "ranks"},
    }


def run_peer(script: str, config: Mapping[str, Any], place: Place, file: Path) -> Timed:
    """Starts a peer's script with its configuration in a file."""
    file.write_text(json.dumps(config, indent=1), encoding="utf-8")
    command = [sys.executable, str(PEERS / script), str(file)]
    return run_timed(command, place.env(), file.with_suffix(".log"))


def read_report(path: str) -> dict[int, Trained]:
    """What a peer said of its trainings, by rank."""
    found = json.loads(Path(path).read_text(encoding="utf-8"))
    return {int(rank): Trained(**content) for rank, content in found.items()}


def outcome(
    timed: Sequence[Timed],
    folder: Path,
    trained: dict[int, Trained],
    ranks: Sequence[int],
    *,
    curves: dict[int, list[dict[str, float]]] | None = None,
) -> Outcome:
    """Sums a contestant's processes up.

    Raises:
        SystemExit: an adapter is missing, so the grid was not trained.
    """
    saved = [path.stat().st_mtime for path in folder.rglob(WEIGHTS)]
    if len(saved) != len(ranks) or set(trained) != set(ranks):
        raise SystemExit(f"{folder} holds {len(saved)} adapters of {sorted(trained)}, not {ranks}")
    end = max(saved)
    assert end <= time.time()
    return Outcome(
        saved_seconds=end - timed[0].began,
        ended_seconds=timed[-1].began + timed[-1].seconds - timed[0].began,
        cpu_seconds=sum(t.cpu_seconds for t in timed),
        tree_bytes=max(t.tree_bytes for t in timed),
        process_bytes=max(t.process_bytes for t in timed),
        trained=trained,
        curves=curves,
    )


def fresh(folder: Path) -> Path:
    """An empty folder of that name; what was in it is gone."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
