"""Passes over the data until a fit is within 1e-6 nats a row of where it ends, by algorithm; and where it ends.

Every seed draws a start; all algorithms begin there, but for "auto" from k-means, which first exchanges components on
the sample. A fit runs to its stopping rule (Aitken, 1e-9 nats a row), and the passes are counted until the
log-likelihood of its parameters first comes within 1e-6 of the final one; passes of mini-batches and of proposals that
were turned down count. A fit reaches the best maximum known where it is within 1e-4 nats a row of the best of all fits
of that case: at its end, and after as many passes as "auto" took in the median.
"""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.results import add_options, recorded
from streamem import GaussianHMM, GaussianMixture, LatentClass

Array = NDArray[Any]
MARKS = {"batch": "o", "squarem": "s", "anderson": "^", "auto": "D"}
ALGORITHMS = tuple(MARKS)
SHARES = "batch ÷ auto", "at the best in the end", "after as many passes as auto"
NEAR, SAME = 1e-6, 1e-4
TOL, MOST = 1e-9, 1500


@dataclass(frozen=True)
class Case:
    """Data, the estimator with a start from a seed, and arguments of `fit`.

    `make` takes the seed and the start of mixtures.
    """

    name: str
    data: Callable[[int], Array]
    make: Callable[[int, str], Any]
    arguments: Callable[[int], dict[str, Any]] = lambda n: {}


def gaussians(k: int, d: int, spread: float) -> Callable[[int], Array]:
    """Rows of k components, whose means spread so many standard deviations in each feature."""

    def draw(n: int) -> Array:
        rng = np.random.default_rng(0)
        means = spread * rng.normal(size=(k, d))
        factors = np.eye(d) + 0.3 * rng.normal(size=(k, d, d)) / np.sqrt(d)
        labels = rng.integers(k, size=n)
        noise = rng.normal(size=(n, d))
        return means[labels] + np.einsum("nij,nj->ni", factors[labels], noise)

    return draw


def answers(n: int) -> Array:
    """(n, 8) codes of four latent classes."""
    rng = np.random.default_rng(0)
    tables = np.cumsum(rng.dirichlet(np.full(3, 0.8), size=(4, 8)), axis=2)
    classes = rng.integers(4, size=n)
    return np.stack([(rng.random((n, 1)) > tables[classes, j]).sum(axis=1).clip(max=2) for j in range(8)], axis=1)


def chain(n: int) -> Array:
    """Steps of sequences of 50, with three states that overlap."""
    rng, moves = np.random.default_rng(0), np.cumsum(np.full((3, 3), 0.1) + 0.7 * np.eye(3), axis=1)
    states = np.zeros(n, dtype=np.int64)
    for t in range(1, n):
        states[t] = (rng.random() > moves[states[t - 1]]).sum() if t % 50 else rng.integers(3)
    return np.array([[0.0, 0.0], [2.0, 0.0], [1.0, 2.0]])[states] + rng.normal(size=(n, 2))


def mixture(k: int) -> Callable[[int, str], Any]:
    """Of Gaussians with full covariances."""
    settings: dict[str, Any] = {"tol": TOL, "max_iter": MOST, "stopping": "aitken"}
    return lambda seed, start: GaussianMixture(k, init_params=start, random_state=seed, **settings)


CASES = [
    Case("separated, K=5 d=4", gaussians(5, 4, 3.0), mixture(5)),
    Case("overlapping, K=3 d=3", gaussians(3, 3, 1.5), mixture(3)),
    Case("high-dimensional, K=4 d=50", gaussians(4, 50, 0.3), mixture(4)),
    Case(
        "latent classes, K=4, 8 columns",
        answers,
        lambda seed, start: LatentClass(4, n_init=1, tol=TOL, max_iter=MOST, random_state=seed, compress=False),
    ),
    Case(
        "Gaussian HMM, K=3 d=2",
        chain,
        lambda seed, start: GaussianHMM(3, tol=TOL, n_iter=MOST, stopping="aitken", random_state=seed),
        lambda n: {"lengths": [50] * (n // 50)},
    ),
]


@dataclass(frozen=True)
class Run:
    """One fit: passes until it was near its end, and log-likelihoods in nats a row: of each pass, and of the end."""

    near: int
    trace: list[float]
    end: float

    def after(self, passes: int) -> float:
        """The best log-likelihood that so many passes have told."""
        return max(self.trace[:passes])


def run(case: Case, x: Array, seed: int, start: str, algorithm: str) -> Run:
    """Fit, and count."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a fit that meets MOST
        model = case.make(seed, start).fit(x, algorithm=algorithm, **case.arguments(len(x)))
    passes, end = model.report_.passes, float(model.lower_bound_)
    trace = [-np.inf if record.kind == "stepwise" else float(record.log_likelihood) for record in passes]
    return Run(next(number for number, value in enumerate(trace, 1) if value >= end - NEAR), trace, end)


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    add_options(parser)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--rows", type=int, default=20_000)
    parser.add_argument("--only", default="")
    parser.add_argument("--algorithms", default=",".join(ALGORITHMS), help='with commas; "batch" and "auto" among them')
    parser.add_argument("--start", default="random_from_data", help="init_params of the mixtures")
    parser.add_argument("--picture", type=Path, help="write a picture of the passes")
    options = parser.parse_args()
    rows, seeds = (10_000, 2) if options.quick else (options.rows, options.seeds)
    algorithms = options.algorithms.split(",")
    if not {"batch", "auto"} <= {*algorithms} <= {*ALGORITHMS}:
        parser.error(f"--algorithms takes some of {', '.join(ALGORITHMS)}, batch and auto among them")
    with recorded("acceleration", options):
        print(f"{rows:,} rows, {seeds} seeds: passes to within {NEAR:g} nats a row of the end, median (most)\n")
        head = *algorithms, *SHARES
        print(f"| case | {' | '.join(head)} |\n|---|{'---|' * len(head)}")
        chosen = [case for case in CASES if options.only in case.name]
        found = {case.name: measured(case, rows, seeds, options.start, algorithms) for case in chosen}
    if options.picture:
        draw(found, options.picture)


def measured(case: Case, rows: int, seeds: int, start: str, algorithms: Sequence[str]) -> dict[str, list[Run]]:
    """All fits of a case; prints its line."""
    x = case.data(rows)
    runs = {name: [run(case, x, seed, start, name) for seed in range(seeds)] for name in algorithms}
    best = max(one.end for every in runs.values() for one in every)
    medians = {name: median(one.near for one in own) for name, own in runs.items()}
    cells = [f"{medians[name]:g} ({max(one.near for one in own)})" for name, own in runs.items()]
    passes = int(np.ceil(medians["auto"]))
    at_end = ", ".join(f"{sum(one.end > best - SAME for one in own)}" for own in runs.values())
    by_then = ", ".join(f"{sum(one.after(passes) > best - SAME for one in own)}" for own in runs.values())
    fewer = medians["batch"] / medians["auto"]
    print(f"| {case.name} | {' | '.join(cells)} | {fewer:.1f} | {at_end} | {by_then} (pass {passes}) |", flush=True)
    return runs


def draw(found: dict[str, dict[str, list[Run]]], path: Path) -> None:
    """Passes of each fit, by case and algorithm: equal ones side by side, and their median."""
    import matplotlib.pyplot as plt  # only for a picture
    from matplotlib.ticker import ScalarFormatter

    figure, axes = plt.subplots(figsize=(9, 5), layout="constrained")
    for place, name in enumerate(next(iter(found.values()))):
        color = f"C{place}"
        for i, runs in enumerate(found.values()):
            near = sorted(one.near for one in runs[name])
            middle = i + 0.2 * (place - 1.5)
            x = middle + 0.14 * ((np.arange(len(near)) + 0.5) / len(near) - 0.5)
            axes.plot(x, near, MARKS[name], color=color, ms=5, alpha=0.6, label=name if i == 0 else None)
            axes.hlines(median(near), middle - 0.09, middle + 0.09, color=color, lw=2)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(ScalarFormatter())
    axes.set_xticks(range(len(found)), [name.replace(", ", "\n") for name in found], fontsize=8)
    axes.set_ylabel("passes to within 1e-6 nats a row of the end")
    axes.set_title("Passes over the data: one mark a start, in the order of their passes; lines are medians")
    axes.grid(axis="y", alpha=0.3)
    axes.legend(title="algorithm")
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main()
