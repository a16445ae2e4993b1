"""How threads wait for one another: spinning where the machine is idle, asleep where it is busy.

Between two products of a pass lie some 50 microseconds. A thread that sleeps through them takes as
long again to wake: writing answers took 1.3 times as long on an idle machine of two cores. One that
spins takes the core from whoever has work: beside two busy processes that took 1.5 and 2.3 times as
long.
"""

from __future__ import annotations

import time
from collections.abc import MutableMapping
from pathlib import Path

_LOAD = Path("/proc/loadavg")
_LOOKS, _APART_SECONDS = 5, 0.004
_SPINS = "20000"
"""Turns of libgomp's loop before a thread sleeps: some 0.2 ms."""


def choose_waiting(environment: MutableMapping[str, str], load: Path = _LOAD) -> None:
    """Says it to OpenMP, which reads it when torch is imported; what a user has set stays.

    No number that is computed depends on it.

    Args:
        environment: of this process and those that it starts.
        load: what the system says of its runnable threads; absent where there is no Linux.
    """
    if {"OMP_WAIT_POLICY", "GOMP_SPINCOUNT"} & environment.keys():
        return
    environment["OMP_WAIT_POLICY"] = "PASSIVE"
    if _is_idle(load):
        environment["GOMP_SPINCOUNT"] = _SPINS


def _is_idle(load: Path) -> bool:
    """Whether nothing else was runnable, most of the times that were looked."""
    alone = 0
    for look in range(_LOOKS):
        if look:
            time.sleep(_APART_SECONDS)
        try:
            # "0.31 0.25 0.20 1/345 6789": runnable of all threads; one of them reads this.
            running = int(load.read_text(encoding="ascii").split()[3].partition("/")[0])
        except (OSError, ValueError, IndexError):
            return False
        alone += running <= 1
    return alone * 2 > _LOOKS
