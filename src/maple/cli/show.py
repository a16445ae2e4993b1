"""Commands that show how something works before a study is run: a prompt, a quantization."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from maple.cli.app import (
    Choices,
    DataDir,
    InstructionLanguage,
    Json,
    PromptForm,
    Scoring,
    Shots,
    Split,
    Template,
    console,
    data_files,
)

if TYPE_CHECKING:
    from rich.table import Table

    from maple.evaluate.encode import Encoder
    from maple.evaluate.shown import ShownPrompt
    from maple.run.show_quantization import LayerError, ShownQuantization
    from maple.study import PromptSettings

app = typer.Typer(help="Show what a model is shown, or what bits do to a base.")

_RULE = "────"


@app.command("prompt")
def show_prompt(
    task: Annotated[str, typer.Argument(help="Task: xcopa, mlqa:de.", show_default=False)],
    language: Annotated[
        str | None,
        typer.Option(
            help="Language: th, tha_Thai; default: the task's only one.", show_default=False
        ),
    ] = None,
    prompt: PromptForm = "mega",
    instruction_language: InstructionLanguage = "english",
    choices: Choices = "letter",
    scoring: Scoring = "ranking",
    shots: Shots = 0,
    template: Template = "plain",
    model: Annotated[
        str | None,
        typer.Option("--model", "--tokenizer", help="Whose chat template to use, for chat."),
    ] = None,
    sample: Annotated[
        str | None, typer.Option(help="Id of a sample, else its place from 1; default: the first.")
    ] = None,
    split: Split = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Print what a model is shown for one sample, to the letter."""
    from maple.evaluate import shown
    from maple.evaluate.prepare import TaskRequest
    from maple.study import PromptSettings

    source = str(data_dir) if data_dir else "hub"
    wanted = TaskRequest(task=task, language=_language(task, language, source), split=split)
    settings = PromptSettings(
        form=prompt,
        instruction_language=instruction_language,
        template=template,
        choices=choices,
        scoring=scoring,
        shots=shots,
    )
    files = data_files(source, Path.cwd())
    found = shown.show_prompt(wanted, files, _encoder(settings, model), sample=sample)
    print(_as_json(found) if as_json else _as_text(found))


@app.command("quantization")
def show_quantization(
    model: Annotated[
        str, typer.Argument(help="Hub repository, directory, atlas-base or atlas-qwen.")
    ],
    quantization: Annotated[str, typer.Option(help="Names, comma-separated, or 'all'.")] = "all",
    layers: Annotated[bool, typer.Option("--layers", help="Every layer, not each kind.")] = False,
    as_json: Json = False,
) -> None:
    """Measure what bits do to a base: bytes, error of every layer, change of the logits."""
    from maple.run import show_quantization as measure

    names, missing = measure.choose_quantizers(quantization)
    files = data_files("hub", Path.cwd())
    found = list(measure.show_quantization(model, names, files))
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    _print_bits(found)
    for one in found:
        _print_layers(one, layers)
    for name, reason in missing.items():
        print(f"not measured: {name}: {reason}")


def _print_bits(found: list[ShownQuantization]) -> None:
    table = _table("compared with fp32", "\nquantization", "bits a\nweight", "linear\nMiB",
                   "base\nMiB", "weights\nerror", "worst\nlayer", "logits\nerror",
                   "same\ntop")  # fmt: skip
    for one in found:
        table.add_row(
            one.quantization,
            f"{one.bits_per_weight:.3f}",
            f"{one.linear_bytes / 2**20:,.1f}",
            f"{one.base_bytes / 2**20:,.1f}",
            f"{one.median_rms_error:.2%}",
            f"{one.worst.rms_error:.2%}",
            f"{one.logits_rms_error:.2%}",
            f"{one.same_top_token:.1%}",
        )
    console().print(table)


def _print_layers(one: ShownQuantization, every: bool) -> None:
    if every:
        table = _table(
            one.quantization, "\nlayer", "bits a\nweight", "\nerror", "largest\ndifference"
        )
        for layer in one.layers:
            bits = 8 * layer.bytes / layer.weights
            table.add_row(
                layer.name, f"{bits:.3f}", f"{layer.rms_error:.2%}", f"{layer.max_error:.3g}"
            )
    else:
        table = _table(one.quantization, "\nlayer", "\nlayers", "bits a\nweight", "median\nerror",
                       "\nworst", "in\nblock", "largest\ndifference")  # fmt: skip
        for kind, layers in one.kinds.items():
            table.add_row(kind, *_kind_cells(layers))
    console().print(table)


def _kind_cells(layers: list[LayerError]) -> list[str]:
    import re
    import statistics

    worst = max(layers, key=lambda layer: layer.rms_error)
    block = re.search(r"\d+", worst.name)
    bits = 8 * sum(layer.bytes for layer in layers) / sum(layer.weights for layer in layers)
    return [
        str(len(layers)),
        f"{bits:.3f}",
        f"{statistics.median(layer.rms_error for layer in layers):.2%}",
        f"{worst.rms_error:.2%}",
        block[0] if block else "",
        f"{max(layer.max_error for layer in layers):.3g}",
    ]


def _table(title: str, first: str, *others: str) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(title=title, title_justify="left", box=box.SIMPLE)
    table.add_column(first, no_wrap=True)
    for heading in others:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _language(task: str, language: str | None, source: str) -> str:
    from maple import languages
    from maple.catalog import load_task
    from maple.errors import UsageError, unknown_name
    from maple.plan.evaluations import task_languages

    codes = task_languages(task, load_task(task), source)
    tags = ", ".join(sorted(languages.find(code).tag for code in codes))
    if language is None and len(codes) == 1:
        return next(iter(codes))
    if language is None:
        raise UsageError(f"name a language of {task} with --language. It has {len(codes)}: {tags}.")
    code = languages.find(language).code
    if code not in codes:
        raise UsageError(unknown_name(f"language of {task}", code, codes))
    return code


def _encoder(settings: PromptSettings, model: str | None) -> Encoder:
    """Only ``chat`` asks a tokenizer for its template; the others need neither it nor torch."""
    from maple.catalog import load_family
    from maple.errors import UsageError
    from maple.evaluate.encode import Encoder

    if settings.template != "chat":
        none: Any = None
        return Encoder(none, load_family("generic"), settings, max_length=0)
    if model is None:
        raise UsageError("a chat template belongs to a tokenizer: name one with --model.")
    tokenizer, family = _tokenizer(model)
    return Encoder(tokenizer, family, settings, max_length=0)


def _tokenizer(model: str) -> tuple[Any, Any]:
    from transformers import AutoTokenizer

    from maple.catalog import family_for
    from maple.errors import SourceError
    from maple.files import Files
    from maple.plan.resolve import Resolver
    from maple.study import ModelRef

    named, resolver = ModelRef(name=model), Resolver(Files())
    source = resolver.model_directory(named) or model
    try:
        tokenizer = AutoTokenizer.from_pretrained(source)
    except (OSError, ValueError) as error:
        raise SourceError(
            f"the tokenizer {model!r} cannot be loaded: {str(error).splitlines()[0]} "
            "Name a directory that holds tokenizer.json, or a Hub repository."
        ) from error
    return tokenizer, family_for(model_type=resolver.model_type(named), model_name=model)


def _as_json(found: ShownPrompt) -> str:
    content = asdict(found) | {
        "prompt": found.prompt.model_dump(mode="json"),
        "files": [str(path) for path in found.files],
        "choices": [{"mark": mark, "text": text} for mark, text in found.choices],
    }
    return json.dumps(content, indent=2, ensure_ascii=False)


def _as_text(found: ShownPrompt) -> str:
    from maple import languages

    settings = found.prompt
    name = languages.find(found.language).name
    how = [
        f"form {settings.form}",
        f"{settings.instruction_language} instructions",
        f"template {settings.template}",
        f"{settings.shots} shots",
        settings.scoring if found.choices else "",
        f"{settings.choices} choices" if settings.choices != "letter" else "",
    ]
    lines = [
        f"task      {found.task}, version {found.version}",
        f"language  {found.language}, {name}",
        f"sample    {found.sample_id}, {found.place} of {found.n_samples} of {found.split}",
        f"prompt    {', '.join(filter(None, how))}",
        f"hash      {found.prompt_hash}",
        *(f"file      {path}" for path in found.files),
        "",
        _rule("context"),
        _with_edges(found.context),
        *(_ranked(found) if found.continuations else _generated(found)),
    ]
    return "\n".join(lines)


def _ranked(found: ShownPrompt) -> list[str]:
    lines = []
    for index, continuation in enumerate(found.continuations):
        mark = ", gold" if str(index) in found.gold else ""
        lines += [_rule(f"continuation {index}{mark}"), _with_edges(continuation)]
    return [*lines, _rule("")]


def _generated(found: ShownPrompt) -> list[str]:
    stops = [json.dumps(text, ensure_ascii=False) for text in found.stop]
    until = f", or {' or '.join(stops)}" if stops else ""
    lines = [_rule("answer"), f"written up to the end token, {found.max_new_tokens} tokens{until}"]
    if not found.choices:
        return [*lines, *(f"gold: {gold}" for gold in found.gold), _rule("")]
    for index, (mark, text) in enumerate(found.choices):
        gold = " (gold)" if str(index) in found.gold else ""
        lines.append(f"choice {index}: {mark}{': ' if mark else ''}{text}{gold}")
    return [*lines, _rule("")]


def _rule(title: str) -> str:
    return f"{_RULE} {title} {_RULE}" if title else _RULE * 3


def _with_edges(text: str) -> str:
    """Shows the spaces and line ends at both ends of a text, which matter and are not seen."""
    inner = text.strip()
    if not inner:
        return _marked(text)
    start = text.index(inner)
    return f"{_marked(text[:start])}{inner}{_marked(text[start + len(inner) :])}"


def _marked(space: str) -> str:
    return space.replace(" ", "␣").replace("\n", "⏎\n").removesuffix("\n")
