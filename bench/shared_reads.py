"""What starts and sweeps that share reads cost beside single fits, over a Zarr store larger than what may be kept.

First table: whole fits of a fixed number of iterations with `n_init` starts ÷ one start. Second: a grid of models by
`select`, its reads of the data ÷ those of the longest single fit of the grid, under a memory limit below the store.
`--late MS` makes each chunk come late, as from an object store: reading dominates then.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import zarr

from bench.late_source import Late, LateKind
from bench.results import add_options, recorded
from streamem import GaussianMixture, select
from streamem.running.memory import format_bytes
from streamem.sources import register

STARTS = (1, 4, 8)


def store(folder: Path, rows: int, d: int) -> str:
    """Rows of ten clusters as float32, compressed as Zarr does by default."""
    path = str(folder / "x.zarr")
    array = zarr.create_array(store=path, shape=(rows, d), chunks=(min(rows, 65_536), d), dtype="float32")
    rng = np.random.default_rng(0)
    means = 6.0 * rng.normal(size=(10, d))
    for first in range(0, rows, 65_536):
        n = min(65_536, rows - first)
        array[first : first + n] = means[rng.integers(10, size=n)] + rng.normal(size=(n, d))
    return path


def seconds(run: Callable[[], Any]) -> float:
    """Of one call."""
    begun = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run()
    return time.perf_counter() - begun


def starts(path: Any, rounds: int, iterations: int, limit: str) -> None:
    """The first table."""
    print("| starts | seconds, median of whole fits | ÷ one start |\n|---:|---:|---:|")
    fixed: dict[str, Any] = {"tol": 0.0, "max_iter": iterations, "random_state": 0, "memory_limit": limit}
    fixed |= {"init_params": "random_from_data", "covariance_type": "spherical"}
    runs = {n: lambda n=n: GaussianMixture(2, n_init=n, **fixed).fit(path, algorithm="batch") for n in STARTS}
    runs[1]()
    taken: dict[int, list[float]] = {n: [] for n in STARTS}
    for _ in range(rounds):
        for n, run in runs.items():
            taken[n].append(seconds(run))
    one = float(np.median(taken[1]))
    for n, values in taken.items():
        print(f"| {n} | {np.median(values):.2f} | {np.median(values) / one:.2f} |", flush=True)


def sweep(path: Any, most: int, max_iter: int, limit: str) -> None:
    """The second table."""
    kinds = ("full", "tied", "diag", "spherical")
    estimator = GaussianMixture(random_state=0, tol=1e-3, max_iter=max_iter, memory_limit=limit)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        begun = time.perf_counter()
        found = select(estimator, path, algorithm="batch", n_components=range(2, most + 1), covariance_type=kinds)
        taken = time.perf_counter() - begun
    longest = max(len(one.report_.passes) for one in found.estimators_ if one is not None)
    print("\n| grid | seconds | reads of the data | bytes read | passes of the longest fit | reads ÷ these | best |")
    print("|---|---:|---:|---:|---:|---:|---|")
    best = ", ".join(str(value) for value in found.best_params_.values())
    print(
        f"| {most - 1} × {len(kinds)} | {taken:.1f} | {found.n_reads_:.0f} | {format_bytes(found.bytes_read_)} | "
        f"{longest} | {found.n_reads_ / longest:.2f} | {best} |"
    )


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m bench shared_reads", description=__doc__)
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--most", type=int, default=20, help="components of the largest model of the grid")
    parser.add_argument("--late", type=float, default=0.0, help="milliseconds that each chunk comes late")
    parser.add_argument("--limit", default="64MiB", help="memory_limit of the fits with several starts")
    parser.add_argument("--sweep-limit", default="256MiB", help="memory_limit of the sweep")
    parser.add_argument("--max-iter", type=int, default=60, help="of the fits of the grid")
    parser.add_argument("--part", choices=("both", "starts", "sweep"), default="both")
    options = parser.parse_args()
    rows, most, rounds = (5_000, 3, 1) if options.quick else (options.rows, options.most, options.rounds)
    with recorded("shared_reads", options), tempfile.TemporaryDirectory() as folder:
        path: Any = store(Path(folder), rows, 16)
        if options.late:
            register(LateKind())
            path = Late(path, options.late / 1000.0)
        late = f", each chunk {options.late:g} ms late" if options.late else ""
        print(f"{rows:,} × 16 float32, {format_bytes(4 * 16 * rows)}{late}\n")
        if options.part != "sweep":
            print(f"K=2 spherical, 10 iterations, memory_limit {options.limit}\n")
            starts(path, rounds, 2 if options.quick else 10, options.limit)
        if options.part != "starts":
            print(f"\nsweep: memory_limit {options.sweep_limit}")
            sweep(path, most, 3 if options.quick else options.max_iter, options.sweep_limit)


if __name__ == "__main__":
    main()
