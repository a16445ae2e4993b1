"""lm-evaluation-harness's tasks, found by name: the YAML of a task, or of every task of a group.

The harness's index of all its tasks takes longer to build than most plans; a look at the names in
its files takes a fraction of that, and only the files needed are read whole.
"""

from __future__ import annotations

import difflib
import functools
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from maple.errors import UsageError, unknown_name

Json = dict[str, Any]

_NAME = re.compile(r"^[\"']?(?:task|group)[\"']?:[ \t]*[\"']?([^\s\"'#]+)", re.MULTILINE)
MEANS = ("mean", "nanmean")
"""Aggregations of the harness that average over samples."""


@dataclass(frozen=True)
class Leaf:
    """One task of the harness."""

    name: str
    config: Json
    """Its YAML, what groups override included; functions are paths, not imported yet."""
    file: Path | None = None
    """None for a task that stands only in its group's YAML."""
    overrides: Json = field(default_factory=dict)


@dataclass(frozen=True)
class Benchmark:
    """What a study names: one task, or a group of them scored together."""

    name: str
    leaves: tuple[Leaf, ...]
    shots: int | None = None
    """Examples before each question; None: as many as the task says."""

    @property
    def split(self) -> str:
        """The split that the harness scores: the test split, else the validation split."""
        config = self.leaves[0].config
        return str(config.get("test_split") or config.get("validation_split") or "test")

    @property
    def headline(self) -> str:
        """The first metric that is a mean over samples and better when higher."""
        return self._headlines(self.leaves[0])[0]

    @property
    def n_choices(self) -> int | None:
        """Options of every sample, where the YAML lists them."""
        counts = {
            len(c) if isinstance(c := leaf.config.get("doc_to_choice"), list) else None
            for leaf in self.leaves
        }
        return counts.pop() if len(counts) == 1 else None

    def check(self) -> None:
        """Raises ``UsageError`` where a task asks for what Maple's contract cannot carry."""
        for leaf in self.leaves:
            reason = _why_not(leaf.config)
            if not reason and self.headline not in self._headlines(leaf):
                reason = f"it has no {self.headline}, which the first task of the group has"
            if reason:
                raise UsageError(
                    f"{leaf.name}: {reason}. Maple scores samples one by one; run it by "
                    f"`lm_eval --model maple --tasks {leaf.name}` instead."
                )

    @staticmethod
    def _headlines(leaf: Leaf) -> list[str]:
        metrics = leaf.config.get("metric_list") or [
            {"metric": name} for name in _default_metrics(leaf.config)
        ]
        found = [str(m["metric"]) for m in metrics if _is_mean(m)]
        if not found:
            raise UsageError(
                f"{leaf.name}: none of its metrics is a mean over samples, better when higher. "
                f"Run it by `lm_eval --model maple --tasks {leaf.name}` instead."
            )
        return found


def find_benchmark(argument: str) -> Benchmark:
    """Finds ``TASK``, or ``TASK@5`` for five examples before each question.

    Tasks are the harness's own and those of the folders in ``MAPLE_LM_EVAL_TASKS`` (separated
    like ``PATH``), which may also replace one of its own.

    Raises:
        UsageError: no such task; one that Maple cannot carry; the harness is not installed.
    """
    name, at, shots = argument.partition("@")
    if at and not shots.isdecimal():
        raise UsageError(f"{shots!r} after '@' is no number of examples: write {name}@5.")
    folders = os.environ.get("MAPLE_LM_EVAL_TASKS", "")
    return _find(name, int(shots) if at else None, folders)


@functools.cache
def _find(name: str, shots: int | None, folders: str) -> Benchmark:
    harness_version()
    roots = tuple(folder for folder in folders.split(os.pathsep) if folder)
    found = Benchmark(name, tuple(_leaves(name, {}, roots)), shots)
    found.check()
    return found


def harness_version() -> str:
    """The version of the harness. Raises ``UsageError`` where it is not installed."""
    try:
        import lm_eval.tasks  # noqa: F401
    except ImportError as error:
        raise UsageError(
            f"lm-eval:... needs lm-evaluation-harness, which is not here ({error}). Install it: "
            "pip install 'lm-eval>=0.4.13,<0.5'."
        ) from error
    from importlib.metadata import version

    return version("lm_eval")


# ------------------------------------------------------------------------------ names to files


def _declared(roots: tuple[str, ...]) -> dict[str, Path]:
    """Task or group name -> its YAML file; a later folder replaces an earlier one's."""
    import lm_eval.tasks

    found: dict[str, Path] = {}
    for root in (Path(lm_eval.tasks.__file__).parent, *map(Path, roots)):
        found |= _declared_in(root)
    return found


@functools.cache
def _declared_in(root: Path) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for path in sorted(root.glob("**/*.yaml")):
        for name in _NAME.findall(path.read_text(encoding="utf-8", errors="replace")):
            found.setdefault(name, path)
    return found


def _leaves(name: str, overrides: Json, roots: tuple[str, ...]) -> Iterator[Leaf]:
    from lm_eval.tasks._yaml_loader import load_yaml

    path = _declared(roots).get(name)
    if path is None:
        entry = _indexed(name, roots)
        for member in sorted(entry.tags) if entry.yaml_path is None else ():
            yield from _leaves(member, overrides, roots)
        if entry.yaml_path is None:
            return
        path = entry.yaml_path
    config = load_yaml(path, resolve_func=False)
    if "group" in config and "class" not in config:
        yield from _members(config, overrides, roots)
    else:
        yield Leaf(name, {**config, **overrides, "task": name}, path, overrides)


def _members(group: Json, overrides: Json, roots: tuple[str, ...]) -> Iterator[Leaf]:
    own = {"group", "group_alias", "task", "aggregate_metric_list", "metadata"}
    shared = {**{k: v for k, v in group.items() if k not in own}, **overrides}
    members = group.get("task") or []
    for member in [members] if isinstance(members, str) else members:
        if isinstance(member, str):
            yield from _leaves(member, shared, roots)
            continue
        merged = {**shared, **member}
        inner = str(member.get("group") or member.get("task"))
        if inner in _declared(roots):
            merged = {k: v for k, v in merged.items() if k not in ("group", "task")}
            yield from _leaves(inner, merged, roots)
        elif "group" in member:
            yield from _members(member, shared, roots)
        else:
            name = f"{group['group']}::{inner}"
            yield Leaf(name, {**merged, "task": name})


@functools.cache
def _whole_index(folders: tuple[Path, ...]) -> Mapping[str, Any]:
    from lm_eval.tasks._index import TaskIndex

    found: Mapping[str, Any] = TaskIndex.build(folders)
    return found


def _indexed(name: str, roots: tuple[str, ...]) -> Any:
    """The harness's own entry of a name that no file declares: a tag, or an included name."""
    import lm_eval.tasks

    folders = (Path(lm_eval.tasks.__file__).parent, *map(Path, roots))
    # The index takes many seconds, and a misspelt name stands in no file at all.
    entry = _whole_index(folders).get(name) if _is_written(name, folders) else None
    if entry is None:
        raise UsageError(
            unknown_name("task of lm-eval", name, _near(name, _declared(roots)))
            + " `lm_eval ls tasks` prints all; MAPLE_LM_EVAL_TASKS names folders of your own."
        )
    return entry


def _is_written(name: str, folders: Sequence[Path]) -> bool:
    """Whether a name stands in any YAML file, templates (``..._yaml``) among them."""
    paths = (path for folder in folders for path in folder.glob("**/*yaml"))
    return any(name.encode() in path.read_bytes() for path in paths if path.is_file())


def _near(name: str, known: Mapping[str, Path]) -> list[str]:
    return difflib.get_close_matches(name, known, n=8, cutoff=0.5)


# ------------------------------------------------------------------------- what can be carried


def _why_not(config: Json) -> str | None:
    if "class" in config:
        return "it is a Python class and not a YAML task"
    if config.get("doc_to_image") or config.get("doc_to_audio"):
        return "it shows pictures or sound"
    if config.get("unsafe_code"):
        return "it runs code that the model writes"
    kind = config.get("output_type", "generate_until")
    if kind not in ("multiple_choice", "loglikelihood", "generate_until"):
        return f"its requests are of the kind {kind}"
    decoding = config.get("generation_kwargs") or {}
    temperature = float(decoding.get("temperature") or 0)
    if decoding.get("do_sample", temperature > 0) or int(decoding.get("num_beams") or 1) > 1:
        return f"its answers are not decoded greedily ({decoding})"
    return None


def _default_metrics(config: Json) -> Sequence[str]:
    from lm_eval.api.registry import DEFAULT_METRIC_REGISTRY

    found: list[str] = DEFAULT_METRIC_REGISTRY.get(config.get("output_type", "generate_until"), [])
    return found


def _is_mean(metric: Json) -> bool:
    import lm_eval.api.metrics  # noqa: F401
    from lm_eval.api.registry import metric_agg_registry

    if metric.get("higher_is_better") is False:
        return False
    name = metric["metric"]
    if "aggregation" in metric:
        return str(metric["aggregation"]) in MEANS
    default = metric_agg_registry.get(name, None) if isinstance(name, str) else None
    return getattr(default, "__name__", "") in MEANS
