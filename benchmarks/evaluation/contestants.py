"""Maple and the harness over the same items: how each is started, and what it left."""

from __future__ import annotations

import datetime
import os
import re
import shutil
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.evaluation.items import HARNESS_PREFIX, SENTENCES, Item
from benchmarks.evaluation.passes import Passes, read_passes
from benchmarks.training.processes import Timed, contestant_environment, run_timed

PEER = Path(__file__).parents[1] / "peers" / "lm_eval_run.py"
OURS = PEER.with_name("maple_run.py")
DTYPES = {"fp32": "float32", "bf16": "bfloat16"}
"""Maple's quantizer -> the harness's ``dtype=``."""
PEER_SECONDS = 1500
TRIAL_GIGABYTES = 24


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where and on what both sides run."""

    base: Path
    adapters: tuple[Path, ...]
    data: Path
    """Links to the release files that are scored."""
    tasks: Path
    """YAML files for the harness."""
    work: Path
    threads: int | None = None

    def env(self) -> dict[str, str]:
        env = contestant_environment(self.work, device="cpu", threads=self.threads)
        return env | {"MAPLE_LM_EVAL_TASKS": str(self.tasks)}


@dataclass(frozen=True, kw_only=True)
class Question:
    """Items that are asked together, of so many samples each."""

    name: str
    items: tuple[Item, ...]
    samples: int

    def our_tasks(self) -> list[str]:
        """Maple's tasks; whole answers beside letters are asked by the harness's YAML.

        One ``maple eval`` takes one wording, and the lm-eval wording has no whole answers.
        """
        found = {i.task: None for i in self.items if i.kind != SENTENCES or self.is_cloze}
        if not self.is_cloze:
            found |= {f"lm-eval:{i.name}": None for i in self.items if i.kind == SENTENCES}
        return list(found)

    @property
    def is_cloze(self) -> bool:
        """Whether only whole answers are asked, which Maple words itself then."""
        return all(item.kind == SENTENCES for item in self.items)

    def prompt(self) -> list[str]:
        """Maple's options for the wording; ``accuracy_pmi`` is no metric of the harness's YAML."""
        if self.is_cloze:
            return ["--prompt", "mega", "--choices", "cloze", "--no-unconditional"]
        return ["--prompt", "lm-eval", "--no-unconditional"]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One side over one question and one or more adapters."""

    seconds: float
    """From the first process's start until the last scores were on the disk."""
    cpu_seconds: float
    tree_bytes: int
    folder: Path
    calls: int = 1
    before_requests: float | None = None
    """The harness: seconds of a call before its first request, by its own log."""
    passes: Passes = field(default_factory=Passes)
    """What was really fed, padding included."""

    def as_json(self) -> dict[str, Any]:
        found = {k: v for k, v in asdict(self).items() if k not in ("folder", "passes")}
        return found | {"tokens_fed": self.passes.tokens, "passes": self.passes.count}


def maple_command(*arguments: str) -> list[str]:
    """The installed command beside this Python."""
    return [str(Path(sys.executable).with_name("maple")), *arguments]


def eval_command(
    place: Place,
    out: Path,
    *,
    tasks: Sequence[str],
    bits: str,
    options: Sequence[str] = (),
    adapters: Sequence[Path] | None = None,
) -> list[str]:
    """A ``maple eval``; languages are those that the data directory has files of."""
    command = [sys.executable, str(OURS), str(_fed(out)), "eval", str(place.base)]
    command += ["--tasks", ",".join(tasks)]
    command += ["--data-dir", str(place.data), "--out", str(out), "--quantization", bits]
    for adapter in place.adapters if adapters is None else adapters:
        command += ["--adapter", str(adapter)]
    return [*command, *options]


def run_maple(command: Sequence[str], place: Place, out: Path) -> Outcome:
    """Runs one ``maple`` command to its end; its passes are known of ``maple eval``."""
    _fed(out).unlink(missing_ok=True)
    timed = run_timed(command, place.env(), out.with_suffix(".log"))
    return _outcome([timed], out, "evals/*/done", passes=read_passes([_fed(out)]))


def _fed(out: Path) -> Path:
    """The file that a process writes its counts to, beside what it writes else."""
    return out.with_name(f"{out.name}.fed.json")


def run_ours(question: Question, place: Place, bits: str) -> Outcome:
    """One ``maple eval`` with every adapter."""
    out = place.work / "scratch" / "ours"
    shutil.rmtree(out, ignore_errors=True)
    options = [*question.prompt(), "--limit", str(question.samples)]
    command = eval_command(place, out, tasks=question.our_tasks(), bits=bits, options=options)
    return run_maple(command, place, out)


def run_theirs(
    question: Question,
    place: Place,
    bits: str,
    *,
    batch_size: str,
    adapters: Sequence[Path] | None = None,
    trial_seconds: float | None = None,
) -> Outcome:
    """One ``lm_eval`` after another, one an adapter.

    Args:
        question: what is asked.
        place: where, and of which adapters where ``adapters`` names none.
        bits: of the base.
        batch_size: as the harness takes it.
        adapters: fewer of them.
        trial_seconds: after which a trial of a batch size ends; it also has less memory.

    Raises:
        CommandFailedError: a call did not end well.
    """
    folder = place.work / "scratch" / "theirs"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    timed: list[Timed] = []
    waits = []
    limits = (round(trial_seconds), TRIAL_GIGABYTES) if trial_seconds else (PEER_SECONDS, 0)
    for adapter in place.adapters if adapters is None else adapters:
        out = folder / adapter.name
        command = [sys.executable, str(PEER), str(_fed(out)), *map(str, limits)]
        command += ["--model", "hf", "--device", "cpu", "--batch_size", batch_size]
        command += ["--model_args", f"pretrained={place.base},peft={adapter},dtype={DTYPES[bits]}"]
        command += ["--tasks", ",".join(item.name for item in question.items)]
        command += ["--include_path", str(place.tasks), "--limit", str(question.samples)]
        command += ["--output_path", str(out), "--log_samples"]
        if batch_size == "auto":
            command += ["--max_batch_size", "16"]
        log = folder / f"{adapter.name}.log"
        timed.append(run_timed(command, place.env(), log))
        waits.append(seconds_before_requests(log.read_text(errors="replace"), timed[-1].began))
    known = [wait for wait in waits if wait is not None]
    mean = sum(known) / len(known) if known else None
    passes = read_passes(sorted(folder.glob("*.fed.json")))
    return _outcome(timed, folder, "*/**/results_*.json", before=mean, passes=passes)


_REQUESTS = re.compile(r"^(\d{4}-\d\d-\d\d[ T:]\d\d:\d\d:\d\d).*Running \w+ requests", re.MULTILINE)


def seconds_before_requests(log: str, began: float) -> float | None:
    """Seconds from a call's start to its first request, to a second; None where unsaid.

    Args:
        log: what the harness said, each line with its time.
        began: of the process, in seconds since the epoch.
    """
    found = _REQUESTS.search(log)
    if not found:
        return None
    text = found[1][:10] + " " + found[1][11:]
    return datetime.datetime.fromisoformat(text).timestamp() - began


def _outcome(
    timed: Sequence[Timed],
    folder: Path,
    pattern: str,
    *,
    passes: Passes,
    before: float | None = None,
) -> Outcome:
    """Sums the processes of one side up.

    Raises:
        SystemExit: nothing was written.
    """
    written = [os.stat(path).st_mtime for path in folder.glob(pattern)]
    if not written:
        raise SystemExit(f"{folder} holds no scores: see the log beside it")
    # The next call starts when the one before has ended, so only the last one's end is cut off.
    after = timed[-1].began + timed[-1].seconds - max(written)
    return Outcome(
        seconds=sum(t.seconds for t in timed) - after,
        cpu_seconds=sum(t.cpu_seconds for t in timed),
        tree_bytes=max(t.tree_bytes for t in timed),
        folder=folder,
        calls=len(timed),
        before_requests=round(before, 1) if before is not None else None,
        passes=passes,
    )


def item_of(task: str, language: str, choices: str) -> Item:
    """The item of a stored evaluation.

    Args:
        task: Maple's name.
        language: its code.
        choices: letter or cloze.
    """
    if task.startswith("lm-eval:"):
        kind, _, code = task.removeprefix(f"lm-eval:{HARNESS_PREFIX}").partition("_")
        return Item(kind, code)
    if task == "belebele":
        return Item(SENTENCES if choices == "cloze" else "letters", language)
    return Item(task, language)
