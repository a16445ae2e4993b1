"""A small version of ``make bench-statistics``: fixed draws, loose bounds."""

import json
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from benchmarks.calibration.checks import null_study, small_study
from benchmarks.calibration.show import is_met, result, table
from benchmarks.calibration.tally import Count, tally
from benchmarks.calibration.world import Settings, draw_world

N_STUDIES = 16


@pytest.fixture(scope="module")
def counts() -> Mapping[str, Count]:
    return tally(small_study(number, 7) for number in range(N_STUDIES))


def pooled(counts: Mapping[str, Count], words: str) -> Count:
    """The counts of all names that have the words, but for power."""
    total = Count()
    for name, count in counts.items():
        if words in name and not name.startswith("power"):
            total.hits += count.hits
            total.trials += count.trials
    return total


def test_intervals_of_slopes_hold_the_truth(counts: Mapping[str, Count]) -> None:
    found = pooled(counts, "slope on rank or bits")
    assert found.trials > 500
    assert 0.93 <= found.rate <= 0.995


def test_intervals_of_effects_hold_the_truth(counts: Mapping[str, Count]) -> None:
    found = pooled(counts, "effect")
    assert found.trials > 100
    assert found.rate >= 0.91


def test_intervals_of_gaps_hold_the_truth(counts: Mapping[str, Count]) -> None:
    found = pooled(counts, "gap closed")
    assert found.trials > 2000
    assert 0.92 <= found.rate <= 0.98


def test_intervals_of_the_mixed_model_hold_the_truth(counts: Mapping[str, Count]) -> None:
    found = pooled(counts, "mixed model")
    assert found.trials > 70
    assert found.rate >= 0.9


def test_nothing_is_declared_where_nothing_is() -> None:
    null = Settings(
        ranks=(4, 16), bits=(16, 4), n_tasks=2, n_languages=6, n_samples=50, is_null=True
    )
    found = tally(null_study(number, 7, null) for number in range(N_STUDIES))
    assert {count.trials for count in found.values()} == {N_STUDIES}
    # Of 16 draws of a 5% event, five or more come in 0.1% of cases.
    assert all(count.hits < 5 for count in found.values()), found


def test_simulated_scores_have_the_mean_that_is_called_the_truth() -> None:
    settings = Settings(ranks=(4, 64), bits=(16,), n_seeds=1, n_tasks=3, n_languages=6)
    world = draw_world(replace(settings, n_samples=6000), np.random.default_rng(0))
    for task, panel in enumerate(world.panels):
        seen = np.stack([panel.scores[c].mean(axis=1) for c in world.languages], axis=1)
        # 6,000 scores of deviation 0.5 or less: four standard errors are 0.026.
        assert np.abs(seen - world.expected[:, task]).max() < 0.026
    # Rank 64 is four doublings above rank 4, but for the effect of its seed.
    gain = world.without_seed[2] - world.without_seed[1]
    assert gain == pytest.approx(4 * world.rank_slopes)


def test_a_rate_outside_the_bounds_is_called_so() -> None:
    fine, low, false = Count(), Count(), Count()
    for _ in range(100):
        fine.add(19, 20)
        low.add(17, 20)
        false.add(3, 20)
    assert is_met("slope", fine)
    assert is_met("slope", low) is False
    assert is_met("null: a winner", false) is False
    assert is_met("power: all", low) is None
    answer = result({"slope": low, "null: a winner": fine})
    assert answer["as_demanded"] is False
    assert answer["missed"] == ["slope", "null: a winner"]
    assert sum("NOT MET" in line for line in table({"slope": low, "power: b": low})) == 1


def test_a_run_goes_on_with_the_studies_that_were_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "path", sys.path.copy())  # the script puts its root there
    from benchmarks.statistics import _saved, main

    file = tmp_path / "studies"
    assert _saved(file) == {}
    kept = ["half-null", 0, 20250101, {"slope": [19, 20]}]
    with file.open("a") as saved:
        saved.write(json.dumps(kept) + "\n")
    asked = ["--studies", "1", "--only", "half-null", "--save", str(file)]
    assert main(asked) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["coverage"]["slope"][0] == 0.95
    header, row = file.read_text().splitlines()
    file.write_text("\n".join([header.replace('": "', '": "other '), row]) + "\n")
    with pytest.raises(SystemExit, match="other code"):
        main(asked)


def test_studies_are_the_unit_of_the_standard_error() -> None:
    count = Count()
    for hits in (10, 20, 20, 20):
        count.add(hits, 20)
    # As many trials are as good as the four studies they came from.
    rates = np.array([10, 20, 20, 20]) / 20
    assert count.standard_error == pytest.approx(rates.std() / 2)
