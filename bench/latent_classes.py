"""Whole fits of latent classes with a fixed number of iterations, beside StepMix; and over patterns instead of rows.

Both start at random, once, and do the same number of EM iterations: processor and wall seconds of whole fits. Data of
the second table lie in a Zarr store of bytes; its fits do as many iterations with and without patterns, the pass that
finds them included. Fits that go on to the stopping rule take hundreds, which patterns save too.
"""

from __future__ import annotations

import argparse
import importlib
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from bench.results import add_options, recorded
from streamem import LatentClass

Array = NDArray[Any]
K, COLUMNS, ITERATIONS, ON_PATTERNS = 4, 12, (20, 100), 30


def answers(rows: int, levels: int, seed: int = 0) -> Array:
    """(rows, COLUMNS) int8 codes of K classes."""
    rng = np.random.default_rng(seed)
    tables = np.cumsum(rng.dirichlet(np.ones(levels), size=(K, COLUMNS)), axis=2)
    classes = rng.integers(K, size=rows)
    out = np.empty((rows, COLUMNS), dtype=np.int8)
    for j in range(COLUMNS):
        out[:, j] = (rng.random((rows, 1)) > tables[classes, j]).sum(axis=1).clip(max=levels - 1)
    return out


def median_of(run: Callable[[], object], rounds: int) -> Array:
    """Processor and wall seconds of a call, medians of some."""
    taken = []
    for _ in range(rounds):
        begun = np.array([time.process_time(), time.perf_counter()])
        run()
        taken.append(np.array([time.process_time(), time.perf_counter()]) - begun)
    return np.asarray(np.median(taken, axis=0))


def fit(x: Any, **settings: Any) -> LatentClass:
    """One start."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return LatentClass(K, init_params="random", random_state=0, **settings).fit(x)


def beside_peer(rows: int, rounds: int) -> None:
    """The first table: whole fits of few and of many iterations, and what an iteration takes by their difference."""
    x = answers(rows, 4).astype(np.float64)
    runs: dict[str, Callable[[int], object]] = {
        "streamem": lambda iterations: fit(x, tol=0.0, max_iter=iterations, compress=False)
    }
    try:
        peer = importlib.import_module("stepmix").StepMix
        same = {"n_components": K, "measurement": "categorical", "n_init": 1, "random_state": 0, "progress_bar": 0}
        same |= {"abs_tol": 0.0, "rel_tol": 0.0}
        runs["StepMix"] = lambda iterations: peer(**same, max_iter=iterations).fit(x.astype(int))
    except ImportError:
        print("StepMix is missing: pip install stepmix")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for run in runs.values():
            run(1)
        taken = {count: [median_of(partial(run, count), rounds) for run in runs.values()] for count in ITERATIONS}
    few, many = ITERATIONS
    each = [(b - a) / (many - few) for a, b in zip(taken[few], taken[many], strict=True)]
    print(f"| {rows:,} × {COLUMNS} columns of 4 levels, K={K}, processor s (wall s) | {' | '.join(runs)} | ÷ |")
    print(f"|---|{'---:|' * len(runs)}---:|")
    for name, found in {**{f"{count} iterations": own for count, own in taken.items()}, "an iteration": each}.items():
        cells = " | ".join(f"{busy:.4f} ({wall:.4f})" for busy, wall in found)
        busy, wall = found[-1] / found[0]
        print(f"| {name} | {cells} | {busy:.1f} ({wall:.1f}) |", flush=True)


def patterns(rows: int, levels: int) -> None:
    """The second table."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.zarr"
        store = zarr.create_array(path, shape=(rows, COLUMNS), chunks=(min(rows, 2**17), COLUMNS), dtype="int8")
        step = 2**20
        for first in range(0, rows, step):
            store[first : first + step] = answers(min(step, rows - first), levels, seed=first)
        settings = {"tol": 0.0, "max_iter": ON_PATTERNS, "n_categories": levels}
        fit(path, **{**settings, "max_iter": 1}, compress=True)
        found = {}
        print(f"\n| {rows:,} × {COLUMNS} columns of {levels} levels | seconds | iterations | log-likelihood a row |")
        print("|---|---:|---:|---:|")
        for name, compress in (("patterns", True), ("rows", False)):
            begun = time.perf_counter()
            model = fit(path, **settings, compress=compress)
            found[name] = time.perf_counter() - begun
            told = f"{name} ({model.report_.n_patterns or rows:,})"
            print(f"| {told} | {found[name]:.2f} | {model.n_iter_} | {model.lower_bound_:.9f} |", flush=True)
        print(f"| rows ÷ patterns | {found['rows'] / found['patterns']:.1f} | | |")


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m bench latent_classes", description=__doc__)
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    with recorded("latent_classes", options):
        beside_peer(5_000 if options.quick else 100_000, 1 if options.quick else options.rounds)
        patterns(20_000 if options.quick else 10_000_000, 2)


if __name__ == "__main__":
    main()
