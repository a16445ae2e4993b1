"""What the pages of ``docs/`` show works as it stands there."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import pytest
import yaml
from tests.run.program import Program

from maple.store.read import open_store

DOCS = Path(__file__).parents[2] / "docs"
ENTRIES = {
    "add_a_method": "methods/my_scales.py",
    "add_a_dataset": "datasets/my_proverbs.py",
    "add_a_quantizer": "quantization/my_round6.py",
}


def blocks(page: str, language: str) -> list[str]:
    """The fenced blocks of a page in one language."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    found: list[str] = re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    return found


@pytest.fixture(scope="module")
def here(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the catalog, the data and the study of the pages."""
    folder = tmp_path_factory.mktemp("pages")
    for page, name in ENTRIES.items():
        (code,) = blocks(page, "python")
        path = folder / "my-catalog" / name
        assert f"`my-catalog/{name}`" in (DOCS / f"{page}.md").read_text(encoding="utf-8")
        path.parent.mkdir(parents=True)
        path.write_text(code, encoding="utf-8")
    shutil.copytree(data / "xcopa", folder / "data" / "xcopa")
    (folder / "data" / "proverbs").mkdir()
    (rows,) = blocks("add_a_dataset", "tsv")
    for language in ("sw", "tr"):
        (folder / "data" / "proverbs" / f"{language}.tsv").write_text(rows, encoding="utf-8")
    (study,) = blocks("add_a_dataset", "yaml")
    (folder / "toy.yaml").write_text(study, encoding="utf-8")
    return folder


def test_the_pages_method_data_set_and_quantizer_run_together(
    program: Program, here: Path, model: Path
) -> None:
    study = (here / "toy.yaml").read_text(encoding="utf-8")
    (here / "tiny.yaml").write_text(study.replace("atlas-base", str(model)), encoding="utf-8")
    environment = {"MAPLE_CATALOG": "my-catalog"}
    outcome = program("run", "tiny.yaml", cwd=here, environment=environment)
    assert outcome.code == 0, outcome.err
    assert "4 runs done, 0 failed. report: runs/toy/report.html" in outcome.out
    runs = open_store(here / "runs" / "toy").runs()
    assert [(run.cell.method, run.cell.quantization) for run in runs] == [
        ("none", "bf16"),
        ("my-scales", "bf16"),
        ("none", "my-round6"),
        ("my-scales", "my-round6"),
    ]
    # What the page's closed form promises is what was trained.
    plan = program("plan", "tiny.yaml", cwd=here, environment=environment)
    for run in runs:
        if run.train is not None:
            assert f"{run.train.trainable_parameters:,}" in plan.out


def test_the_pages_entries_are_listed(program: Program, here: Path) -> None:
    for page, name in ENTRIES.items():
        kind, _, file = name.partition("/")
        environment = {"MAPLE_CATALOG": "my-catalog"}
        outcome = program("list", kind, cwd=here, environment=environment)
        assert Path(file).stem.replace("_", "-") in outcome.out, page


def test_every_study_on_the_pages_can_be_planned(program: Program, here: Path) -> None:
    for page in ("quickstart", "add_a_method"):
        for number, block in enumerate(blocks(page, "yaml")):
            content = yaml.safe_load(block)
            if "name" not in content:
                rest = {"name": "part", "data": "data", "models": ["atlas-base"]}
                rest["mixtures"] = {"proverbs": {"my-proverbs": 1.0}}
                content = rest | content
            file = here / f"{page}-{number}.yaml"
            file.write_text(yaml.safe_dump(content), encoding="utf-8")
            environment = {"MAPLE_CATALOG": "my-catalog"}
            outcome = program("plan", file, cwd=here, environment=environment)
            assert outcome.code == 0, outcome.err


def test_links_between_pages_lead_somewhere() -> None:
    for page in DOCS.rglob("*.md"):
        for target in re.findall(r"\]\(([^)#]+)[^)]*\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"
