"""Whole fits from Parquet, start included: "auto" beside "batch", and scikit-learn on a sample of 5 % of the rows.

"default" names no algorithm.

Each fit goes on to its stopping rule (Aitken, `--tol` nats a row), or to `--most` M-steps. The table tells passes by
kind, seconds, and the mean log-likelihood of all rows at the end. A pass that only reads is timed besides. Nothing here
holds all rows: tables may be larger than memory. One written with `--file` stays there for the next call.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sklearn.mixture import GaussianMixture as Peer

from bench.results import add_options, recorded
from streamem import GaussianMixture, open_source
from streamem.running.memory import format_bytes

GROUP = 16_384
ALGORITHMS = ("batch", "anderson", "auto", "default")


def table(path: Path, rows: int, d: int, k: int, spread: float) -> None:
    """Rows of k components as float32 columns; means spread so many standard deviations in each feature."""
    rng = np.random.default_rng(0)
    means = (spread * rng.normal(size=(k, d))).astype(np.float32)
    factors = (np.eye(d) + 0.3 * rng.normal(size=(k, d, d)) / np.sqrt(d)).astype(np.float32)
    schema = pa.schema([(f"c{i}", pa.float32()) for i in range(d)])
    with pq.ParquetWriter(path, schema, use_dictionary=False) as writer:
        for first in range(0, rows, GROUP):
            labels = rng.integers(k, size=min(GROUP, rows - first))
            x = rng.standard_normal((len(labels), d), dtype=np.float32)
            for component in range(k):
                own = labels == component
                x[own] = means[component] + x[own] @ factors[component].T
            writer.write_table(pa.table(list(x.T.copy()), schema=schema), row_group_size=GROUP)


def groups(path: str) -> Iterator[NDArray[Any]]:
    """The rows of each row group."""
    file = pq.ParquetFile(path)
    for number in range(file.num_row_groups):
        yield np.column_stack([column.to_numpy() for column in file.read_row_group(number).columns])


def ours(path: str, k: int, algorithm: str, tol: float, most: int, limit: str) -> tuple[str, Any]:
    """A line of the table, and the fit."""
    begun, used, named = time.perf_counter(), time.process_time(), None if algorithm == "default" else algorithm
    settings: dict[str, Any] = {"stopping": "aitken", "tol": tol, "max_iter": most, "memory_limit": limit}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = GaussianMixture(k, random_state=0, **settings).fit(path, algorithm=named)
    taken, used = time.perf_counter() - begun, time.process_time() - used
    kinds = Counter(record.kind for record in model.report_.passes)
    told = ", ".join(f"{count} {kind or 'plain'}" for kind, count in kinds.items())
    return f"| {algorithm} | {kinds.total()} | {told} | {taken:.1f} | {used:.1f} | {model.lower_bound_:.6f} |", model


def peer(path: str, k: int, tol: float, most: int) -> str:
    """The line of scikit-learn, fitted to 5 % of the rows: so many of each row group."""
    begun, used, rng = time.perf_counter(), time.process_time(), np.random.default_rng(0)
    sample = np.concatenate([x[rng.choice(len(x), -(-len(x) // 20), replace=False)] for x in groups(path)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = Peer(k, random_state=0, tol=tol, max_iter=most).fit(sample)
    taken, used = time.perf_counter() - begun, time.process_time() - used
    total, rows = 0.0, 0
    for x in groups(path):
        total, rows = total + float(model.score_samples(x).sum()), rows + len(x)
    return f"| scikit-learn, 5 % | {model.n_iter_} of the sample | | {taken:.1f} | {used:.1f} | {total / rows:.6f} |"


def reading(path: str) -> float:
    """Bytes a second of a pass that only reads."""
    begun, refs = time.perf_counter(), open_source(path).chunks()
    return sum(ref.load().x.nbytes for ref in refs) / (time.perf_counter() - begun)


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m bench whole_fit", description=__doc__)
    add_options(parser)
    parser.add_argument("--rows", type=int, default=2_000_000)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--components", type=int, default=16)
    parser.add_argument("--spread", type=float, default=0.4)
    parser.add_argument("--tol", type=float, default=1e-6)
    parser.add_argument("--limit", default="256MiB")
    parser.add_argument("--algorithms", default="batch,anderson,auto", help=f"of {', '.join(ALGORITHMS)}, with commas")
    parser.add_argument("--most", type=int, default=500, help="M-steps at which a fit ends, converged or not")
    parser.add_argument("--file", type=Path, help="the Parquet file: read, or written where there is none, and kept")
    parser.add_argument("--no-peer", action="store_true", help="leave scikit-learn out")
    options = parser.parse_args()
    if unknown := {*options.algorithms.split(",")} - {*ALGORITHMS}:
        parser.error(f"--algorithms: {', '.join(sorted(unknown))} is none of {', '.join(ALGORITHMS)}")
    rows, d, k = (20_000, 4, 3) if options.quick else (options.rows, options.features, options.components)
    most = 20 if options.quick else options.most
    with recorded("whole_fit", options), tempfile.TemporaryDirectory() as folder:
        file = options.file or Path(folder) / "x.parquet"
        if not file.exists():
            table(file, rows, d, k, options.spread)
        rows, d = (metadata := pq.read_metadata(file)).num_rows, metadata.num_columns
        print(
            f"{rows:,} × {d} float32, K={k} full, {format_bytes(file.stat().st_size)} of Parquet, ", end="", flush=True
        )
        print(
            f"read at {format_bytes(reading(str(file)))} a second by one thread; memory_limit {options.limit}\n",
            flush=True,
        )
        print("| fit | passes | of these | seconds | of processor | log-likelihood of all rows |")
        print("|---|---:|---|---:|---:|---:|")
        for algorithm in options.algorithms.split(","):
            print(ours(str(file), k, algorithm, options.tol, most, options.limit)[0], flush=True)
        if not options.no_peer:
            print(peer(str(file), k, options.tol, most), flush=True)


if __name__ == "__main__":
    main()
