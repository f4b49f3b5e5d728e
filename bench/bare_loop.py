"""What all cores of this machine are worth beside one: a loop in the first cache, that shares nothing and waits for
nothing. Shared and virtual machines often give two threads less than twice the work of one, and another share of it
every minute.
"""

from __future__ import annotations

import argparse
import os
from statistics import median
from threading import Thread
from time import perf_counter
from typing import Any

import numba
import numpy as np

from bench.results import add_options, recorded

PASSES, QUICK_PASSES = 20_000, 200
ROUNDS = 5


@numba.njit(nogil=True)  # type: ignore[untyped-decorator]
def _loop(values: Any, passes: int) -> None:
    for _ in range(passes):
        for i in range(values.size):
            values[i] = values[i] * 0.999 + 0.1


def scaling(passes: int = PASSES) -> float:
    """Work of all cores together, by that of one: median of some rounds in turn."""
    cores = len(os.sched_getaffinity(0))
    _seconds(1, 1)  # compiles
    found = []
    for _ in range(ROUNDS):
        alone = _seconds(1, passes)
        found.append(cores * alone / _seconds(cores, passes))
    return median(found)


def _seconds(threads: int, passes: int) -> float:
    running = [Thread(target=_loop, args=(np.ones(2048), passes)) for _ in range(threads)]
    began = perf_counter()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return perf_counter() - began


def main() -> None:
    """Print the ratio."""
    parser = argparse.ArgumentParser(prog="python -m bench bare_loop", description=__doc__)
    add_options(parser)
    options = parser.parse_args()
    with recorded("bare_loop", options):
        found = scaling(QUICK_PASSES if options.quick else PASSES)
        print(f"work of all {len(os.sched_getaffinity(0))} cores ÷ work of one: {found:.2f}")


if __name__ == "__main__":
    main()
