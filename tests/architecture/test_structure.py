"""The rules of the house that a tool can check: layers, sizes, what imports what."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.analysis.synthetic import build_study

from maple.catalog import entry_names

ROOT = Path(__file__).parents[2]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
TENSORS = ("torch", "transformers", "peft")


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def test_the_layers_and_contracts_are_kept() -> None:
    code = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    done = subprocess.run(
        [sys.executable, "-c", code, "--no-cache"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout
    assert "0 broken" in done.stdout


def test_a_file_has_400_lines_at_most() -> None:
    sizes = {path.name: len(path.read_text(encoding="utf-8").splitlines()) for path in SOURCES}
    assert len(sizes) > 60
    assert not {name: size for name, size in sizes.items() if size > 400}


def test_a_function_has_60_lines_at_most() -> None:
    long = [
        f"{path.name}: {function.name}"
        for path in SOURCES
        for function in functions(path)
        if (function.end_lineno or 0) - function.lineno >= 60
    ]
    assert not long


def test_the_library_does_not_print() -> None:
    printing = [
        f"{path.name}:{node.lineno}"
        for path in SOURCES
        if path.parent.name != "cli"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "print"
    ]
    assert not printing


def test_a_story_of_a_run_names_no_method() -> None:
    text = (ROOT / "src" / "maple" / "run" / "cell.py").read_text(encoding="utf-8")
    loop = (ROOT / "src" / "maple" / "train" / "loop.py").read_text(encoding="utf-8")
    strings = [
        node.value
        for node in (*ast.walk(ast.parse(text)), *ast.walk(ast.parse(loop)))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    ]
    assert not set(strings) & set(entry_names("methods"))


def test_no_contract_of_the_catalog_asks_for_more_than_six_members() -> None:
    import inspect

    from maple.catalog import contracts

    for name in ("ModelFamily", "Quantizer", "Dataset", "Task"):
        contract = getattr(contracts, name)
        members = {m for m in vars(contract) if not m.startswith("_")} | set(
            inspect.get_annotations(contract)
        )
        assert len(members - {"model_config", "model_fields", "model_computed_fields"}) <= 6, name


# -------------------------------------------------------------------- what imports no tensors


def run_command(*arguments: str, cwd: Path = ROOT) -> tuple[str, list[str]]:
    """Runs the command line; returns its output and the modules it had loaded at its end."""
    code = (
        "import json, sys\n"
        "from maple.cli import main\n"
        f"sys.argv = ['maple', *{list(arguments)!r}]\n"
        "try:\n"
        "    main()\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "print('\\n' + json.dumps([m for m in sys.modules if '.' not in m]))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=cwd,
        env={**os.environ, "HF_HUB_OFFLINE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    output, _, modules = done.stdout.rstrip().rpartition("\n")
    return output, json.loads(modules)


@pytest.mark.parametrize(
    "command",
    [
        ("--help",),
        ("schema",),
        ("plan", "studies/maple-paper.yaml", "--json"),
        ("plan", "studies/maple-paper.yaml"),
        *((("list", kind, "--json")) for kind in ("methods", "tasks", "quantization", "languages")),
    ],
    ids=" ".join,
)
def test_a_command_that_computes_nothing_imports_no_tensors(command: tuple[str, ...]) -> None:
    output, modules = run_command(*command)
    assert output
    assert not set(TENSORS) & set(modules)


def test_the_paper_is_planned_in_under_a_second_of_processor_time() -> None:
    seconds = []
    for _ in range(3):
        before = os.times()
        output, _ = run_command("plan", "studies/maple-paper.yaml", "--json")
        after = os.times()
        children = ("children_user", "children_system")
        seconds.append(sum(getattr(after, c) - getattr(before, c) for c in children))
        assert len(json.loads(output)["cells"]) == 66
    assert min(seconds) < 1.0


def test_a_report_is_written_without_importing_tensors(tmp_path: Path) -> None:
    build_study(tmp_path, n=12)
    output, modules = run_command("report", str(tmp_path))
    assert "report.html" in output
    assert (tmp_path / "report.html").stat().st_size > 10_000
    assert not set(TENSORS) & set(modules)
