"""Dawid–Skene beside crowd-kit: whole fits of a data frame of votes with text, and what an iteration takes.

Both begin from the votes and do as many iterations. A second table fits ten times as many votes of a Parquet file, in
the order of their items: the peak memory of the process after it beside that after a tenth.
"""

from __future__ import annotations

import argparse
import importlib
import resource
import tempfile
import time
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from bench.results import add_options, recorded
from streamem import DawidSkene

K, RATERS, VOTES_AN_ITEM, ITERATIONS = 5, 500, 5, (3, 8)
LABELS = np.array(["bird", "cat", "dog", "fish", "fox"])


def votes(count: int, first_item: int = 0, seed: int = 0) -> pa.Table:
    """So many votes with text, five on each item, by raters who are right in 50 to 95 % of their votes."""
    rng = np.random.default_rng(seed)
    item = np.repeat(np.arange(count // VOTES_AN_ITEM), VOTES_AN_ITEM)
    truth, rater = rng.integers(K, size=len(item)), rng.integers(RATERS, size=len(item))
    truth = truth[item]
    right = rng.random(len(item)) < np.linspace(0.5, 0.95, RATERS)[rater]
    label = np.where(right, truth, rng.integers(K, size=len(item)))
    items = pc.utf8_lpad(pa.array(first_item + item).cast(pa.string()), 8, "0")  # rising: see `starts_of_ids`
    return pa.table({"task": items, "worker": pa.array(rater).cast(pa.string()), "label": LABELS[label]})


def fit(data: Any, iterations: int) -> DawidSkene:
    """A fit of so many iterations."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return DawidSkene(item="task", rater="worker", tol=0.0, max_iter=iterations).fit(data)


def seconds_of(run: Callable[[], object], rounds: int) -> float:
    """Wall seconds of a call, the median of some."""
    taken = []
    for _ in range(rounds):
        begun = time.perf_counter()
        run()
        taken.append(time.perf_counter() - begun)
    return float(np.median(taken))


def beside_peer(count: int, rounds: int) -> None:
    """The first table."""
    frame = votes(count).to_pandas().sample(frac=1.0, random_state=0, ignore_index=True)
    runs: dict[str, Callable[[int], object]] = {"streamem": lambda iterations: fit(frame, iterations)}
    try:
        peer = importlib.import_module("crowdkit.aggregation.classification.dawid_skene").DawidSkene
        runs["crowd-kit"] = lambda iterations: peer(n_iter=iterations - 1, tol=-np.inf).fit(frame)
    except ImportError as error:
        print(f"crowd-kit is missing ({error}): pip install crowd-kit")
    fit(frame[:1000], 2)
    taken = {count: [seconds_of(partial(run, count), rounds) for run in runs.values()] for count in ITERATIONS}
    few, many = ITERATIONS
    each = [(b - a) / (many - few) for a, b in zip(taken[few], taken[many], strict=True)]
    print(f"| {count:,} votes of {RATERS} raters, K={K}, seconds | {' | '.join(runs)} | ÷ |")
    print(f"|---|{'---:|' * len(runs)}---:|")
    for name, found in {**{f"{count} iterations": own for count, own in taken.items()}, "an iteration": each}.items():
        print(f"| {name} | {' | '.join(f'{own:.4f}' for own in found)} | {found[-1] / found[0]:.1f} |", flush=True)


def from_parquet(count: int) -> None:
    """The second table."""
    print("\n| votes in Parquet | seconds | iterations | peak memory, MiB |\n|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory() as folder:
        for size in (count // 10, count):
            path, step = Path(folder) / f"{size}.parquet", 500_000
            with pq.ParquetWriter(path, votes(10).schema) as writer:
                for first in range(0, size, step):
                    writer.write_table(votes(min(step, size - first), first // VOTES_AN_ITEM, seed=first))
            begun = time.perf_counter()
            model = fit(path, 5)
            taken, peak = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"| {size:,} | {taken:.1f} | {model.n_iter_} | {peak:.0f} |", flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m bench raters", description=__doc__)
    add_options(parser)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with recorded("raters", options):
        from_parquet(100_000 if options.quick else 10_000_000)
        beside_peer(20_000 if options.quick else 1_000_000, 1 if options.quick else options.rounds)


if __name__ == "__main__":
    main()
