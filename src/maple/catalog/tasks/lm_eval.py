"""Any task of lm-evaluation-harness by its name: ``lm-eval:global_mmlu_sw``.

The harness words the prompts and scores the answers; Maple's engine answers, and its store keeps
every sample. See ``docs/lm_eval.md``.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from maple import languages
from maple.catalog import harness, harness_rows
from maple.catalog.contracts import (
    GenerationRequest,
    RankingRequest,
    RankingResponse,
    Request,
    Response,
    Sample,
    Score,
    Task,
    TaskInfo,
)
from maple.catalog.harness import Benchmark
from maple.catalog.tasks import check_split
from maple.errors import CatalogError, MapleError, SourceError, UsageError
from maple.files import Files, environment
from maple.study import PromptSettings

_HELP = (
    "name a task of lm-evaluation-harness, as in lm-eval:global_mmlu_sw. `lm_eval ls tasks` prints "
    "all; docs/lm_eval.md says which Maple can carry."
)


class LmEval(Task):
    """A task of lm-evaluation-harness, named after a colon: ``lm-eval:global_mmlu_sw``.

    A document is worded by the harness, with its own examples and delimiter, and kept as a row::

        {"id": "0", "task": "xnli_sw", "context": "", "delimiter": "", "gold": ["1"],
         "options": ["Naam, sahihi? Ndio, Hata sielewi", ...], "doc": {"premise": "Naam", ...}}

    The prompt is the harness's whatever the study's ``form``; ``template`` still wraps it. The
    number of examples is the task's own, or that of ``lm-eval:TASK@5``.
    """

    info: TaskInfo = TaskInfo(
        version=1,
        licence="each task's own",
        citation="Gao et al. 2024, lm-evaluation-harness (doi 10.5281/zenodo.12608602)",
        chance_level=None,
        languages={},
        headline="the task's own",
        split="test",
        samples={"test": {}},
    )
    _benchmark: Benchmark | None = None

    def __init__(self) -> None:
        self._scorers: dict[str, Any] = {}

    @classmethod
    def with_argument(cls, argument: str) -> Task:
        """``global_mmlu_sw``, or ``global_mmlu_sw@5`` for five examples before each question.

        Raises:
            UsageError: no such task, or one whose requests Maple's contract cannot carry.
        """
        task = cls()
        task._benchmark = harness.find_benchmark(argument)
        task.info = _info(task._benchmark)
        return task

    def paths(self, files: Files, language: str, split: str) -> list[Path]:
        """The snapshot of the documents, made where it is not there yet.

        Raises:
            SourceError: the documents cannot be had, or not in that language.
            UsageError: no task is named, or it has no such split.
        """
        check_split(self.info, "lm-eval", split)
        benchmark = self._named()
        if language not in self.info.languages:
            raise SourceError(
                f"{benchmark.name} is in {', '.join(self.info.languages)}, not in {language}."
            )
        folder = environment.home() / "maple" / "lm-eval"
        path = folder / harness_rows.snapshot_name(benchmark)
        if not path.is_file():
            harness_rows.write_snapshot(benchmark, path)
        return [path]

    def samples(self, files: Files, language: str, split: str) -> Iterator[Sample]:
        """Yields the documents in the harness's order, named by their place, in groups by task."""
        for path in self.paths(files, language, split):
            for row in harness_rows.read_rows(path):
                yield Sample(
                    id=row["id"],
                    fields={"task": row["task"], "row": json.dumps(row, ensure_ascii=False)},
                    gold=tuple(row["gold"]),
                )

    def request(self, sample: Sample, language: str, prompt: PromptSettings) -> Request:
        """The harness's own prompt, in any form.

        Raises:
            UsageError: examples are asked for in the study, or no task is named.
        """
        benchmark = self._named()
        if prompt.shots:
            raise UsageError(
                f"shots: {prompt.shots}: the harness puts its own examples into its prompts. Write "
                f"lm-eval:{benchmark.name}@{prompt.shots}, and set shots: 0."
            )
        row = json.loads(sample.fields["row"])
        if "options" in row:
            return RankingRequest(
                context=row["context"],
                continuations=tuple(row["options"]),
                delimiter=row["delimiter"],
                unconditional=_reads_alone(benchmark, row["task"]),
            )
        return GenerationRequest(
            context=row["context"], stop=tuple(row["stop"]), max_new_tokens=row["max_new_tokens"]
        )

    def score(self, sample: Sample, request: Request, response: Response) -> Score:
        """The harness's metrics of the answer, the first that is a mean over samples ahead.

        Raises:
            MapleError: the harness gives no number for the headline metric, or a log-likelihood
                is not finite.
        """
        row = json.loads(sample.fields["row"])
        scorer = self._scorer(row)
        metrics, filtered = harness_rows.sample_metrics(
            scorer, row, _answers(scorer, row, response)
        )
        headline = self.info.headline
        if not math.isfinite(metrics.get(headline, math.nan)):
            raise MapleError(
                f"sample {sample.id}: the harness gives no {headline} for it, only "
                f"{', '.join(sorted(metrics)) or 'nothing'}. Run it by `lm_eval --model maple`."
            )
        prediction = str(filtered[0]).strip()
        if isinstance(response, RankingResponse):
            values = response.loglikelihoods
            prediction = str(values.index(max(values)))
        return Score(value=metrics[headline], prediction=prediction, metrics=metrics)

    def _named(self) -> Benchmark:
        if self._benchmark is None:
            raise UsageError(_HELP)
        return self._benchmark

    def _scorer(self, row: Mapping[str, Any]) -> Any:
        """The harness's object of the row's task, made once."""
        name = row["task"]
        if name not in self._scorers:
            leaf = next(leaf for leaf in self._named().leaves if leaf.name == name)
            self._scorers[name] = harness_rows.harness_task(leaf, row["doc"])
        return self._scorers[name]


def _reads_alone(benchmark: Benchmark, name: str) -> bool:
    """Whether a task's YAML asks for the one metric that takes options with nothing before them."""
    leaf = next(leaf for leaf in benchmark.leaves if leaf.name == name)
    metrics = [m.get("metric") for m in leaf.config.get("metric_list") or ()]
    return "acc_mutual_info" in metrics


def _answers(scorer: Any, row: Mapping[str, Any], response: Response) -> list[Any]:
    if not isinstance(response, RankingResponse):
        return [response.text]
    pairs: list[Any] = list(zip(response.loglikelihoods, response.is_greedy, strict=True))
    if not all(math.isfinite(value) for value, _ in pairs):
        raise MapleError(
            f"sample {row['id']}: the options got log-likelihoods {response.loglikelihoods}. They "
            "must be finite numbers: run in fp32 or bf16, and check the adapter's weights."
        )
    if "acc_mutual_info" not in scorer._metric_fn_list:
        return pairs
    # With nothing before them the options are already alone.
    alone = response.unconditional or (() if row["context"] else response.loglikelihoods)
    if not alone:
        raise MapleError(f"sample {row['id']}: acc_mutual_info needs the options without context.")
    return pairs + [(value, False) for value in alone]


def _info(benchmark: Benchmark) -> TaskInfo:
    code = _language(benchmark)
    n_choices = benchmark.n_choices if benchmark.headline.startswith("acc") else None
    return TaskInfo(
        version=LmEval.info.version,
        licence=LmEval.info.licence,
        citation=f"{benchmark.name} of lm-evaluation-harness {harness.harness_version()}",
        chance_level=1 / n_choices if n_choices else None,
        languages={code: benchmark.name},
        headline=benchmark.headline,
        split=benchmark.split,
        samples={benchmark.split: {}},
    )


def _language(benchmark: Benchmark) -> str:
    """What ``metadata: {language: ...}`` says, else the end of the name, else the subset's name.

    English where none of them is a language: most of the harness's tasks are.
    """
    config = benchmark.leaves[0].config
    metadata = config.get("metadata")
    said = metadata.get("language") if isinstance(metadata, dict) else None
    if said:
        return languages.find(str(said)).code
    for name in (*_ends(benchmark.name.split("_")), str(config.get("dataset_name") or "")):
        try:
            return languages.find(name).code
        except CatalogError:
            continue
    return "eng_Latn"


def _ends(words: list[str]) -> list[str]:
    """What may name a language at a name's end: ``swh_Latn``, ``ko`` of ``ko_kr``, ``sw``."""
    if len(words) < 2:
        return []
    *_, before, last = words
    has_region = len(words) > 2 and len(before) == len(last) == 2
    ends = [f"{before}_{last}"] * (len(words) > 2) + [before] * has_region
    # Capitals stand for something else, and so does flan_held_in.
    return ends + [last] * (last.islower() and last != "in")
