"""Every estimate of a large store: seconds, processor seconds and peak memory of ``summarise``.

    python benchmarks/summarise.py DIR [--runs 100 --tasks 6 --languages 40 --samples 1000]

Writes the store first where it is not there, then summarises it in a process of its own. The last
line is JSON. Exit code 1 where it took more than 30 s or 4 GiB.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# Run by its path this folder would come first, and its statistics.py would hide Python's own.
sys.path[:] = [str(ROOT), *(p for p in sys.path if Path(p).resolve() != ROOT / "benchmarks")]

from benchmarks.large_store import Size, write_store  # noqa: E402
from maple.analysis import summarise  # noqa: E402
from maple.analysis.processes import cores  # noqa: E402
from maple.store.read import open_store  # noqa: E402

SECONDS, GIBIBYTES = 30.0, 4.0


def measure(directory: Path) -> dict[str, float]:
    """Summarises a store and returns what it took, other processes included."""
    began = time.perf_counter()
    summary = summarise(open_store(directory))
    seconds = time.perf_counter() - began
    own, others = map(resource.getrusage, (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {
        "seconds": round(seconds, 2),
        "processor_seconds": round(sum(u.ru_utime + u.ru_stime for u in (own, others)), 2),
        # At most: every one of them as large as the largest, and all at once.
        "peak_gibibytes": round((own.ru_maxrss + cores() * others.ru_maxrss) / 2**20, 2),
        "rows": sum(score.n for score in summary.estimates.scores),
        "estimates": len(summary.estimates.scores) + len(summary.estimates.deltas),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--measure", action="store_true", help=argparse.SUPPRESS)
    for name in Size.__dataclass_fields__:
        parser.add_argument(f"--{name}", type=int, default=getattr(Size(), name))
    asked = vars(parser.parse_args())
    directory, is_child = asked.pop("directory"), asked.pop("measure")
    if is_child:
        print(json.dumps(measure(directory)))
        return 0
    write_store(directory, Size(**asked))
    command = [sys.executable, __file__, str(directory), "--measure"]
    found = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    result = json.loads(found.splitlines()[-1])
    is_met = result["seconds"] < SECONDS and result["peak_gibibytes"] < GIBIBYTES
    print(f"{'met' if is_met else 'NOT met'}: under {SECONDS:g} s and {GIBIBYTES:g} GiB")
    print(json.dumps({**asked, **result, "met": is_met}))
    return 0 if is_met else 1


if __name__ == "__main__":
    sys.exit(main())
