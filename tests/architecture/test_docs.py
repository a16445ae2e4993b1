"""What pages name is there: links, headings, files, `make` targets, commands, options."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import typer.main

from maple.cli import app

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
FOLDERS = "src|tests|docs|studies|scripts|benchmarks"
ABSENT = {"docs/known_gaps.md": {"--ray"}}
"""Options that a page names because they are not there."""
OF_OTHERS = {
    "--apply_chat_template", "--batch_size", "--config", "--include_path", "--log_samples",
    "--model_args", "--output_path", "--use_cache",
}  # fmt: skip
"""lm-evaluation-harness's options."""


@cache
def commands() -> dict[str, set[str]]:
    """Options by command: ``eval``, ``show prompt``."""
    found: dict[str, set[str]] = {}

    def add(command: Any, name: str) -> None:
        for child in getattr(command, "commands", {}).values():
            add(child, f"{name} {child.name}".strip())
        options = [text for p in command.params for text in (*p.opts, *p.secondary_opts)]
        found[name] = {"--help", *(text for text in options if text.startswith("--"))}

    add(typer.main.get_command(app), "")
    return found


@cache
def script_options() -> set[str]:
    """Options that a benchmark or a script declares."""
    texts = [p.read_text(encoding="utf-8") for f in ("benchmarks", "scripts")
             for p in (ROOT / f).rglob("*.py")]  # fmt: skip
    return {option for text in texts for option in re.findall(r'"(--[a-z][\w-]*)"', text)}


def unfenced(text: str) -> str:
    return re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)


def anchors(page: Path) -> set[str]:
    """What a heading is called in a link, as GitHub makes it."""
    headings = re.findall(r"^#+ (.*)$", unfenced(page.read_text(encoding="utf-8")), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", heading.strip().lower()) for heading in headings)
    return {text.replace(" ", "-") for text in kept}


def called(text: str) -> Iterator[tuple[str, list[str]]]:
    """Every ``maple COMMAND`` of a page with the options on its line."""
    names = sorted(filter(None, commands()), key=len, reverse=True)
    pattern = re.compile(rf"\bmaple ({'|'.join(names)})(?![\w-])([^`#|;\n]*)")
    for name, rest in pattern.findall(text.replace("\\\n", " ")):
        yield name, options(rest)


def options(text: str) -> list[str]:
    return re.findall(r"(?<![\w-])--[a-z][\w-]*", text)


@pytest.mark.parametrize("name", NAMES)
def test_every_link_leads_somewhere(name: str) -> None:
    page = ROOT / name
    for target in re.findall(r"\]\(([^)\s]+)\)", unfenced(page.read_text(encoding="utf-8"))):
        if "://" in target:
            continue
        file, _, anchor = target.partition("#")
        other = page.parent / file if file else page
        assert other.exists(), target
        assert not anchor or anchor in anchors(other), target


@pytest.mark.parametrize("name", NAMES)
def test_commands_have_the_options_that_a_page_gives_them(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    for command, given in called(text):
        unknown = set(given) - commands()[command] - ABSENT.get(name, set())
        assert not unknown, f"maple {command} {unknown}"
    known = {*set().union(*commands().values()), *script_options(), *OF_OTHERS}
    assert not set(options(text)) - known - ABSENT.get(name, set())


@pytest.mark.parametrize("name", NAMES)
def test_files_and_targets_that_a_page_names_are_there(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    paths = re.findall(rf"`((?:{FOLDERS})/[\w./-]*\w)`", text)
    # An upper-case name stands for one of the reader's own.
    assert not [p for p in paths if not (ROOT / p).exists() and not re.search(r"[A-Z]{3}", p)]
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE)
    assert set(re.findall(r"(?:^\$? ?|`)make ([a-z-]+)", text, re.MULTILINE)) <= set(targets)


def test_the_readme_names_every_command() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    told = {name for name, _ in called(text)} | {"quickstart", "schema", "atlas", "show"}
    assert set(commands()) - told <= {"", "atlas build", "atlas train-base"}


def test_the_list_of_commands_cuts_no_sentence_and_every_option_is_explained() -> None:
    command: Any = typer.main.get_command(app)
    for name, child in command.commands.items():
        # What is left of 80 columns beside the longest name.
        assert not child.get_short_help_str(80 - 6 - len("quickstart")).endswith("..."), name
        for one in (child, *getattr(child, "commands", {}).values()):
            assert all(p.help for p in one.params if p.name != "help"), (name, one.name)
