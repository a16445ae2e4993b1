import numpy as np
import pytest

from maple.analysis import contrasts
from maple.analysis.groups import LanguageGroup
from maple.analysis.means import mean_over_languages
from maple.analysis.modes import Mode
from maple.analysis.panel import Panel

RUNS = ("a", "b", "c")
MODE = Mode(label="t", task="t", settings={}, evaluations={})


def panel(kind: str, seed: int = 0) -> Panel:
    """Three languages of 20..40 items: parallel, apart or overlapping; some answers missing."""
    rng = np.random.default_rng(seed)
    sizes = (30, 30, 30) if kind == "parallel" else (20, 30, 40)
    starts = {"parallel": (0, 0, 0), "apart": (0, 20, 50), "overlapping": (0, 10, 5)}
    firsts = starts[kind.removesuffix(" with gaps")]
    scores, items = {}, {}
    for number, (size, first) in enumerate(zip(sizes, firsts, strict=True)):
        matrix = rng.random((len(RUNS), size))
        if kind.endswith("with gaps"):
            matrix[rng.random(matrix.shape) < 0.2] = np.nan
            matrix[number, :] = np.nan if number < 2 else matrix[number, :]
        scores[f"l{number}"], items[f"l{number}"] = matrix, np.arange(first, first + size)
    return Panel(mode=MODE, run_ids=RUNS, scores=scores, items=items)


KINDS = ("parallel", "apart", "overlapping", "apart with gaps", "overlapping with gaps")
GROUPS = [
    LanguageGroup(kind="all", name="all", languages=("l0", "l1", "l2")),
    LanguageGroup(kind="all", name="two", languages=("l1", "l2", "elsewhere")),
    LanguageGroup(kind="all", name="one", languages=("l2",)),
    LanguageGroup(kind="all", name="none", languages=("elsewhere",)),
]
WEIGHTS = [{"a": 1.0}, {"a": 1.0, "b": -1.0}, {"a": 0.0, "c": 1.0}, {"a": 1.0, "unknown": -1.0}]


@pytest.mark.parametrize("kind", KINDS)
def test_many_means_at_once_are_those_taken_one_by_one(kind: str) -> None:
    answers = panel(kind)
    found = contrasts.group_means(answers, WEIGHTS, GROUPS)
    compared = 0
    for weights, of_groups in zip(WEIGHTS, found, strict=True):
        for group, mean in zip(GROUPS, of_groups, strict=True):
            parts = answers.contrasts(group.languages, weights)
            if not parts:
                assert mean is None
                continue
            expected = mean_over_languages(parts)
            assert mean is not None
            assert (mean.n_samples, mean.n_languages) == (
                expected.n_samples,
                expected.n_languages,
            )
            assert (mean.value, mean.variance, mean.df) == pytest.approx(
                (expected.value, expected.variance, expected.df)
            )
            compared += 1
    assert compared >= 8


def test_blocks_give_what_one_block_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = panel("overlapping with gaps")
    whole = contrasts.group_means(answers, WEIGHTS, GROUPS)
    monkeypatch.setattr(contrasts, "NUMBERS_AT_ONCE", 1)
    assert contrasts.group_means(answers, WEIGHTS, GROUPS) == whole


def test_a_language_counts_as_answered_where_all_runs_share_an_item() -> None:
    matrix = np.array([[1.0, np.nan, 0.0], [np.nan, 1.0, np.nan], [1.0, 1.0, 1.0]])
    answers = Panel(mode=MODE, run_ids=RUNS, scores={"l": matrix}, items={"l": np.arange(3)})
    assert answers.answered(["l", "m"], ["a", "c"]) == {"l"}
    assert answers.answered(["l"], ["a", "b"]) == set()
    assert answers.answered(["l"], ["a", "unknown"]) == set()
