"""``maple judge``: AlpacaEval's win rates, from verdicts asked for or published.

OUT/verdicts.jsonl                            every verdict, for all models and judges
OUT/<model or run id>/model_outputs.json      of a store: its answers in AlpacaEval's JSON
OUT/<model or run id>/<annotator>/annotations.json, win_rate.json
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from maple.cli.app import DataDir, Json, data_files

if TYPE_CHECKING:
    from maple.files import Files
    from maple.judge import (
        Annotation,
        Estimate,
        GamedBaselines,
        Output,
        Pair,
        Protocol,
        VerdictCache,
    )

app = typer.Typer()

_HUB = "tatsu-lab/alpaca_eval"
_REFERENCES = {
    "pairwise": ("text_davinci_003", "alpaca_eval.json"),
    "weighted": ("gpt4_1106_preview", "alpaca_eval_gpt4_baseline.json"),
}
"""The baseline of each protocol: its name and its file in the Hub's data set."""

_Outputs = Annotated[
    Path, typer.Argument(help="model_outputs.json of AlpacaEval, or a store with alpaca-eval.")
]
_Reference = Annotated[
    Path | None,
    typer.Option(help="Outputs compared with, in the same JSON; default: AlpacaEval's."),
]
_Annotations = Annotated[
    Path | None, typer.Option(help="Published verdicts to compute from; no judge is asked.")
]
_Judge = Annotated[str | None, typer.Option(help="Model at OPENAI_BASE_URL that judges.")]
_Prompt = Annotated[
    Literal["pairwise", "weighted"],
    typer.Option(help="AlpacaEval 1.0's ranking, or 2.0's one token weighted by its probability."),
]
_Gamed = Annotated[Path | None, typer.Option(help="df_gamed.csv; default: from the Hub.")]
_Difficulty = Annotated[
    Path | None, typer.Option(help="instruction_difficulty.csv, where df_gamed.csv lacks it.")
]
_Out = Annotated[
    Path | None, typer.Option(help="Where to write; default: <store>/alpaca_eval or runs/judge.")
]
_Yes = Annotated[bool, typer.Option("--yes", help="Send the requests without asking first.")]
_First = Annotated[int | None, typer.Option(min=1, help="Only the first so many instructions.")]
_Concurrency = Annotated[int, typer.Option(min=1, help="Requests under way at once.")]
_Rate = Annotated[float | None, typer.Option(min=0.001, help="Requests sent, at most.")]
_PriceIn = Annotated[
    float | None, typer.Option(min=0, help="Price of a million prompt tokens, for the cost told.")
]
_PriceOut = Annotated[
    float | None, typer.Option(min=0, help="Price of a million completion tokens.")
]


@dataclass(frozen=True, kw_only=True)
class _Options:
    """What the command was asked, less what is judged."""

    reference: Path | None
    judge: str | None
    prompt: str
    gamed: Path | None
    difficulty: Path | None
    yes: bool
    limit: int | None
    concurrency: int
    requests_per_minute: float | None
    prices: tuple[float | None, float | None]
    as_json: bool

    def say(self, text: str) -> None:
        """Prints a line; beside JSON it goes to standard error."""
        print(text, file=sys.stderr if self.as_json else sys.stdout, flush=True)


@app.command()
def judge(
    outputs: _Outputs,
    reference: _Reference = None,
    annotations: _Annotations = None,
    judge: _Judge = None,
    prompt: _Prompt = "weighted",
    gamed: _Gamed = None,
    difficulty: _Difficulty = None,
    data_dir: DataDir = None,
    out: _Out = None,
    yes: _Yes = False,
    limit: _First = None,
    concurrency: _Concurrency = 4,
    requests_per_minute: _Rate = None,
    price_in: _PriceIn = None,
    price_out: _PriceOut = None,
    as_json: Json = False,
) -> None:
    """Compare AlpacaEval answers with those of a reference.

    By a judge, a model behind an OpenAI-compatible server, or by published verdicts.
    """
    from maple.cli.answers import file_outputs, is_store, store_outputs

    options = _Options(
        reference=reference,
        judge=judge,
        prompt=prompt,
        gamed=gamed,
        difficulty=difficulty,
        yes=yes,
        limit=limit,
        concurrency=concurrency,
        requests_per_minute=requests_per_minute,
        prices=(price_in, price_out),
        as_json=as_json,
    )
    _check(options, annotations)
    from_store = is_store(outputs)
    folder = out or (outputs / "alpaca_eval" if from_store else Path("runs/judge"))
    files = data_files(str(data_dir) if data_dir else "hub", folder)
    sets = store_outputs(outputs, folder, files) if from_store else file_outputs(outputs)
    if annotations is not None:
        judged = _published(annotations, sets, options)
        targets = {name: out / name if out else None for name in judged}
    else:
        judged = _asked(sets, options, folder, files)
        targets = {name: folder / name for name in judged}
    _finish(judged, targets, options, files)


def _check(options: _Options, annotations: Path | None) -> None:
    from maple.errors import UsageError

    if annotations is None and options.judge is None:
        raise UsageError(
            "nothing to judge by: name a model with --judge, asked at OPENAI_BASE_URL, or "
            "published verdicts with --annotations."
        )
    if annotations is not None and options.judge is not None:
        raise UsageError("--annotations and --judge are two sources of verdicts: choose one.")


# ---------------------------------------------------------------------------------- verdicts


def _published(
    path: Path, sets: dict[str, list[Output]], options: _Options
) -> dict[str, list[Annotation]]:
    from maple.errors import DataError
    from maple.judge import read_annotations

    every = read_annotations(path)
    judged = {}
    for name, outputs in sets.items():
        texts = {output.instruction: output.output for output in outputs}
        own = [a for a in every if a.pair.model.generator == outputs[0].generator]
        other = sum(texts.get(a.pair.instruction) != a.pair.model.output for a in own)
        if other < len(own):
            judged[name] = own[: options.limit]
        if own and other:
            options.say(
                f"note: {other} of {len(own)} verdicts are about other answers of "
                f"{outputs[0].generator} than those named."
            )
    if not judged:
        models = sorted({a.pair.model.generator for a in every})
        raise DataError(
            f"{path} holds no verdict about the answers of "
            f"{', '.join(o[0].generator for o in sets.values())}: it is about {', '.join(models)}. "
            "Name the annotations of the same outputs."
        )
    return judged


def _asked(
    sets: dict[str, list[Output]], options: _Options, folder: Path, files: Files
) -> dict[str, list[Annotation]]:
    from maple.judge import VerdictCache, annotate, annotator_name, load_protocol, pair_outputs

    judge = str(options.judge)
    baseline, protocol = _reference(options, files), load_protocol(options.prompt)
    pairs = {n: pair_outputs(baseline, o, limit=options.limit) for n, o in sets.items()}
    for name, outputs in sets.items():
        if len(pairs[name]) < min(len(outputs), options.limit or len(outputs)):
            options.say(f"note: {name}: {len(pairs[name])} of {len(outputs)} have a reference.")
    cache = VerdictCache(folder / "verdicts.jsonl")
    _ask([pair for found in pairs.values() for pair in found], protocol, cache, options)
    annotator = annotator_name(protocol.name, judge)
    return {
        name: annotate(found, protocol, judge=judge, annotator=annotator, cache=cache)
        for name, found in pairs.items()
    }


def _reference(options: _Options, files: Files) -> list[Output]:
    from maple.errors import SourceError
    from maple.judge import read_outputs

    if options.reference is not None:
        return read_outputs(options.reference)
    name, file = _REFERENCES[options.prompt]
    local = [f"alpaca_eval/results/{name}/model_outputs.json", f"alpaca_eval/{file}", file]
    try:
        path = files.find(local=local, repo=_HUB, patterns=[file])[0]
    except SourceError as error:
        raise SourceError(
            f"the outputs of the reference {name} cannot be had: {error} Or name a reference's "
            "outputs with --reference."
        ) from error
    return read_outputs(path, generator=name)


def _ask(pairs: Sequence[Pair], protocol: Protocol, cache: VerdictCache, options: _Options) -> None:
    """Says what it will take, has it confirmed, and asks."""
    from rich.console import Console

    from maple.judge import Endpoint, EndpointSettings, ask_all, estimate
    from maple.run import Progress

    judge = str(options.judge)
    found = estimate(pairs, protocol, judge=judge, cache=cache)
    options.say(
        f"{judge} ({protocol.name}): {found.requests} requests ({found.cached} verdicts kept from "
        f"before, {found.same} equal answers), about {found.prompt_tokens:,} prompt tokens "
        f"(characters / 4) and at most {found.completion_tokens:,} completion tokens"
        f"{_cost(found, options)}"
    )
    if not found.requests:
        return
    settings = EndpointSettings(judge=judge, requests_per_minute=options.requests_per_minute)
    endpoint = Endpoint(settings)
    _confirm(found.requests, options)
    with Progress(Console(soft_wrap=True, stderr=options.as_json)) as progress:
        progress.begin("judge", found.requests, "verdicts")
        ask_all(
            pairs,
            protocol,
            endpoint=endpoint,
            cache=cache,
            concurrency=options.concurrency,
            on_verdict=lambda _: progress.advance(1),
        )
        progress.end()


def _cost(found: Estimate, options: _Options) -> str:
    price_in, price_out = options.prices
    if price_in is None and price_out is None:
        return "; no cost without --price-in and --price-out"
    return f"; cost about {found.cost(price_in or 0.0, price_out or 0.0):,.2f}"


def _confirm(requests: int, options: _Options) -> None:
    from maple.errors import UsageError

    if options.yes:
        return
    if not sys.stdin.isatty():
        raise UsageError(
            f"{requests} requests would be sent and nobody can be asked whether to. Nothing was "
            "sent. Pass --yes to send them, or --limit for fewer."
        )
    typer.confirm("Send them?", abort=True, err=options.as_json)


# ----------------------------------------------------------------------------------- results


def _finish(
    judged: dict[str, list[Annotation]],
    targets: dict[str, Path | None],
    options: _Options,
    files: Files,
) -> None:
    from maple.cli.answers import slug
    from maple.judge import summarise, worded, write_annotations
    from maple.judge.outputs import write_json

    gamed, why_not = _gamed(options, files)
    results = []
    for name, own in judged.items():
        result, target = summarise(own, gamed, why_not), targets[name]
        if target is not None:
            target = target / slug(own[0].annotator or "annotations")
            write_annotations(target / "annotations.json", own)
            write_json(target / "win_rate.json", result)
            result = {**result, "written": str(target)}
        results.append(result)
        options.say(worded(result))
    if options.as_json:
        print(json.dumps({"results": results}, indent=2, ensure_ascii=False))
    if any(result["win_rate"] is None for result in results):
        raise typer.Exit(1)


def _gamed(options: _Options, files: Files) -> tuple[GamedBaselines | None, str]:
    """The gamed baselines, or why there is no length-controlled win rate."""
    from maple.errors import SourceError
    from maple.judge import read_gamed

    def find(name: str) -> Path:
        return files.find(local=[f"alpaca_eval/{name}", name], repo=_HUB, patterns=[name])[0]

    try:
        gamed = options.gamed or find("df_gamed.csv")
    except SourceError as error:
        return None, (
            "AlpacaEval's df_gamed.csv is missing (and instruction_difficulty.csv, for one without "
            f"that column): {error} Or name the files with --gamed and --difficulty."
        )
    difficulty = options.difficulty
    if difficulty is None:
        with suppress(SourceError):  # read_gamed says so where it is needed
            difficulty = find("instruction_difficulty.csv")
    return read_gamed(gamed, difficulty), ""
