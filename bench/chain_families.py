"""Hidden Markov models of other families than the Gaussian, on one thread and on all: one Baum–Welch iteration."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

from bench.measure import machine
from streamem import GMMHMM, HMM, CategoricalHMM, Mixture, MixtureFamily, PoissonHMM
from streamem.families import AutoregressiveGaussian, Gaussian

ROWS, STEPS, STATES, ITERATIONS, ROUNDS = 400_000, 1000, 5, 6, 3


def cases() -> dict[str, Callable[[int | None, int], Any]]:
    """Name → a fit with so many threads and iterations."""
    rng = np.random.default_rng(0)
    states = np.repeat(rng.integers(STATES, size=ROWS // 10), 10)
    x = 2 * rng.normal(size=(STATES, 4))[states] + rng.normal(size=(ROWS, 4))
    codes, counts = ((rng.integers(4, size=ROWS) + states) % 8)[:, None], rng.poisson(2.0 + states)[:, None]
    lengths, own = [STEPS] * (ROWS // STEPS), {"tol": 0, "random_state": 0}
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
    warnings.simplefilter("ignore")  # nothing converges in so few iterations
    print(f"{machine()}; {ROWS:,} rows in sequences of {STEPS:,}, {STATES} states\n")
    print("| family | one thread, ms | all, ms | ratio |\n|---|---:|---:|---:|")
    for name, fit in cases().items():
        fit(None, 1)
        one, all_cores = seconds(fit, 1), seconds(fit, None)
        print(f"| {name} | {one * 1e3:.0f} | {all_cores * 1e3:.0f} | {one / all_cores:.2f} |", flush=True)


if __name__ == "__main__":
    main()
