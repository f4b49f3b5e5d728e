"""Hidden Markov models of other families than the Gaussian, on one thread and on all: one Baum–Welch iteration."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from bench.results import add_options, recorded
from streamem import GMMHMM, HMM, CategoricalHMM, Mixture, MixtureFamily, PoissonHMM
from streamem.families import AutoregressiveGaussian, Gaussian

ROWS, QUICK_ROWS, STEPS, STATES, ITERATIONS, ROUNDS = 400_000, 10_000, 1000, 5, 6, 3


def cases(rows: int) -> dict[str, Callable[[int | None, int], Any]]:
    """Name → a fit with so many threads and iterations."""
    rng = np.random.default_rng(0)
    states = np.repeat(rng.integers(STATES, size=rows // 10), 10)
    x = 2 * rng.normal(size=(STATES, 4))[states] + rng.normal(size=(rows, 4))
    codes, counts = ((rng.integers(4, size=rows) + states) % 8)[:, None], rng.poisson(2.0 + states)[:, None]
    lengths = [STEPS] * (rows // STEPS)
    own: dict[str, Any] = {"tol": 0, "random_state": 0}
    return {
        "categorical": lambda t, n: CategoricalHMM(STATES, n_iter=n, n_threads=t, **own).fit(codes, lengths),
        "Poisson": lambda t, n: PoissonHMM(STATES, n_iter=n, n_threads=t, **own).fit(counts, lengths),
        "mixtures of two": lambda t, n: GMMHMM(STATES, 2, n_iter=n, n_threads=t, **own).fit(x, lengths),
        "autoregressive": lambda t, n: HMM(AutoregressiveGaussian(), STATES, n_iter=n, n_threads=t, **own).fit(
            x, lengths
        ),
        "a mixture of mixtures (no chain)": lambda t, n: Mixture(
            MixtureFamily(Gaussian("diag"), 2), STATES, max_iter=n, n_threads=t, **own
        ).fit(x),
    }


def seconds(fit: Callable[[int | None, int], Any], threads: int | None) -> float:
    """Median difference of a long and a short fit, by that in iterations."""
    found = []
    for _ in range(ROUNDS):
        times = []
        for count in (1, 1 + ITERATIONS):
            began = perf_counter()
            fit(threads, count)
            times.append(perf_counter() - began)
        found.append((times[1] - times[0]) / ITERATIONS)
    return median(found)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench chain_families", description=__doc__)
    add_options(parser)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # nothing converges in so few iterations
    with recorded("chain_families", options):
        show(QUICK_ROWS if options.quick else ROWS)


def show(rows: int) -> None:
    """Print a line for every family."""
    print(f"{rows:,} rows in sequences of {STEPS:,}, {STATES} states\n")
    print("| family | one thread, ms | all, ms | ratio |\n|---|---:|---:|---:|")
    for name, fit in cases(rows).items():
        fit(None, 1)
        one, all_cores = seconds(fit, 1), seconds(fit, None)
        print(f"| {name} | {one * 1e3:.0f} | {all_cores * 1e3:.0f} | {one / all_cores:.2f} |", flush=True)


if __name__ == "__main__":
    main()
