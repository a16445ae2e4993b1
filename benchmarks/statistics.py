"""Calibration by simulation: ``make bench-statistics``.

    known truth --> sample-level outcomes --> the analysis itself --> coverage, false discoveries,
                                                                       power

Prints a table and, as its last line, one line of JSON. ``docs/statistics.md`` has the figures.
With ``--save FILE`` a run that was cut short goes on where it stopped.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# By its path this folder would come first, and this file would hide Python's own `statistics`.
sys.path[0] = str(ROOT)

import argparse  # noqa: E402
import hashlib  # noqa: E402
import json  # noqa: E402
import time  # noqa: E402
from collections.abc import Iterator, Mapping, Sequence  # noqa: E402
from concurrent.futures import ProcessPoolExecutor  # noqa: E402
from multiprocessing import get_context  # noqa: E402

from benchmarks.calibration.checks import (  # noqa: E402
    half_null_study,
    null_study,
    small_study,
    study_with_effects,
)
from benchmarks.calibration.show import result, table  # noqa: E402
from benchmarks.calibration.tally import tally  # noqa: E402

Job = tuple[str, int, int]
"""Kind, number and seed: all that a study is drawn from."""
Counts = Mapping[str, Sequence[int]]
"""Hits and trials by name."""
SOURCES = ("benchmarks/calibration", "src/maple/analysis")
KINDS = {
    "effects": study_with_effects,
    "small": small_study,
    "null": null_study,
    "half-null": half_null_study,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the simulation; 0 where everything is as demanded, else 1."""
    asked = _parse(arguments)
    began = time.monotonic()
    # By number, then kind: a run that is cut short has as many of each.
    jobs = [
        (kind, number, asked.seed)
        for number in range(asked.first, asked.first + asked.studies)
        for kind in asked.only
    ]
    known = _saved(asked.save) if asked.save else {}
    missing = [job for job in jobs if job not in known]
    for job, found in _drawn(missing, asked.workers):
        known[job] = found
        if asked.save:
            with asked.save.open("a", encoding="utf-8") as file:
                file.write(json.dumps([*job, found]) + "\n")
    counts = tally(known[job] for job in jobs)
    for line in table(counts):
        print(line)
    answer = result(counts) | {
        "studies": asked.studies,
        "seconds": round(time.monotonic() - began),
    }
    print(json.dumps(answer))
    return 0 if answer["as_demanded"] else 1


def _drawn(jobs: Sequence[Job], workers: int) -> Iterator[tuple[Job, Counts]]:
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        yield from zip(jobs, pool.map(_study, jobs, chunksize=4), strict=True)


def _study(job: Job) -> Counts:
    kind, number, seed = job
    return KINDS[kind](number, seed)


def _saved(path: Path) -> dict[Job, Counts]:
    """Returns the studies of a file, begun if it is not there; of the code as it is now."""
    code = hashlib.sha256()
    for source in sorted(x for folder in SOURCES for x in (ROOT / folder).rglob("*.py")):
        code.update(source.read_bytes())
    first = json.dumps({"code": code.hexdigest()})
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    if not lines:
        path.write_text(first + "\n", encoding="utf-8")
    elif lines[0] != first:
        raise SystemExit(f"{path} holds studies of other code: remove it, or save to another file")
    rows = map(json.loads, lines[1:])
    return {(kind, number, seed): counts for kind, number, seed, counts in rows}


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--studies", type=int, default=500, help="of each kind")
    parser.add_argument("--quick", action="store_true", help="20 studies of each kind")
    parser.add_argument("--first", type=int, default=0, help="number of the first study")
    parser.add_argument("--seed", type=int, default=20250101)
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--only", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--save", type=Path, help="file that keeps every study")
    asked = parser.parse_args(arguments)
    if asked.quick:
        asked.studies = min(asked.studies, 20)
    return asked


if __name__ == "__main__":
    sys.exit(main())
