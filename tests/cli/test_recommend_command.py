"""``maple recommend`` as a user reads it, on stores of known truth, at 80 columns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from tests.analysis.synthetic import RANKING, Run, StoreBuilder, Task, draw
from typer.testing import CliRunner

from maple.cli import app
from maple.errors import CatalogError, UsageError

CODES = ("eng_Latn", "swh_Latn", "tha_Thai")
TASKS = (Task(name=RANKING, chance_level=1 / 3, headline="accuracy", languages=CODES),)
RUNS = (
    Run(method="none", rank=None),
    *(Run(rank=rank, seed=seed) for rank in (4, 16, 64) for seed in (0, 1)),
)
PLATEAU = {None: 0.4, 4: 0.5, 16: 0.7, 64: 0.7}
Truth = Callable[[Run, Task, str], float]


def build(directory: Path, truth: Truth, n: int = 300) -> Path:
    builder = StoreBuilder(directory)
    builder.study(RUNS, TASKS)
    for run in RUNS:
        builder.run(run, steps=2)
        for code in CODES:
            builder.evaluation(run, TASKS[0], code, draw(run, TASKS[0], code, n, truth))
    return directory


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    def truth(run: Run, task: Task, code: str) -> float:
        # Rank 64 is as good as 16 in Swahili and Thai, and pays for it in English.
        if code == "eng_Latn":
            return 0.5 if run.rank == 16 and not run.is_base else 0.8
        return PLATEAU[None if run.is_base else run.rank]

    return build(tmp_path_factory.mktemp("store"), truth)


def maple(*arguments: object) -> tuple[int, str]:
    runner = CliRunner(env={"COLUMNS": "80", "TERM": "dumb"})
    result = runner.invoke(app, ["recommend", *map(str, arguments)], catch_exceptions=False)
    return result.exit_code, result.stdout


def test_the_smallest_of_the_best_is_recommended_in_lines_that_fit(store: Path) -> None:
    code, text = maple(store, "--languages", "sw,Thai")
    assert code == 0
    assert text.startswith("recommended for Swahili, Thai: lora rank=16\n")
    assert max(map(len, text.splitlines())) <= 80
    words = " ".join(text.split())
    for said in (
        "with 95% confidence nothing that fits is better",
        "over its untouched base, mean over xnli",
        "smallest first: least memory",
        "costs memory +0 B, training +0.0 s, adapter +188 KiB",
    ):
        assert said in words


def test_english_that_shall_be_kept_changes_the_answer(store: Path) -> None:
    code, text = maple(store, "--languages", "swh_Latn,tha_Thai", "--keep-english", "10", "--json")
    content = json.loads(text)
    assert (code, content["recommended"]["label"]) == (0, "lora rank=64")
    assert content["recommended"]["english"]["status"] == "within"
    verdicts = {c["label"]: c["verdict"] for c in content["candidates"]}
    assert verdicts["lora rank=16"] == "loses English"


def test_a_refusal_says_why_and_what_to_run_and_exits_with_1(store: Path) -> None:
    code, text = maple(store, "--languages", "sw,yo")
    assert code == 1
    words = " ".join(text.split())
    assert words.startswith("no recommendation for Swahili, Yoruba:")
    assert "Yoruba (yor_Latn) is not evaluated" in words
    assert "the study has English (eng_Latn), Swahili (swh_Latn), Thai (tha_Thai)" in words
    assert "for Swahili (swh_Latn) there are data: ask for these alone" in words
    assert "what to run next:" in words


def test_memory_that_nothing_fits_is_refused_with_what_is_needed(store: Path) -> None:
    code, text = maple(store, "--languages", "sw", "--memory", "100MB")
    assert code == 1
    assert "the smallest, lora rank=4, needs 0.931 GiB" in " ".join(text.split())


def test_a_study_in_which_tuning_does_nothing_gets_no_recommendation(tmp_path: Path) -> None:
    code, text = maple(build(tmp_path, lambda run, task, code: 0.6, n=100), "--languages", "all")
    assert code == 1
    assert "no configuration is told to be above its untouched base" in " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (("sw", "--memory", "24"), UsageError, "no amount of memory"),
        (("sw", "--tasks", "xnl"), UsageError, "no evaluated task 'xnl'"),
        (("sw", "--keep-english", "-1"), UsageError, "keep-english"),
        (("klingonish",), CatalogError, "The study has: eng_Latn \\(English\\), swh_Latn"),
        ((" , ",), UsageError, "names none"),
    ],
)
def test_arguments_that_cannot_be_are_refused(
    store: Path, arguments: tuple[str, ...], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        maple(store, "--languages", *arguments)
