"""Memory that a fit of files takes, by VmHWM, over rows and sizes of row groups: it is to stay as it is.

``python -m bench.fit_memory``: float32 rows with 32 features, K = 16, full covariances, k-means to start from, three
iterations, in a process of its own; beyond what it held when a first fit of such a file of 1,000 rows had loaded all
libraries, and beyond what it held after importing the package.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bench.measure import machine, peak_bytes

D, K, ITERATIONS, PIECE_ROWS = 32, 16, 3, 2**17
MIB = 2**20
ROWS, QUICK_ROWS = (400_000, 4_000_000), (20_000, 100_000)
ROW_GROUPS, QUICK_ROW_GROUPS = (2, 8, 32, 128), (2,)
"""MiB."""


def pieces(rows: int) -> Iterator[Any]:
    """Clusters, never more than one piece at a time."""
    rng = np.random.default_rng(0)
    means = rng.normal(size=(K, D)) * 2
    for start in range(0, rows, PIECE_ROWS):
        b = min(PIECE_ROWS, rows - start)
        yield (means[rng.integers(K, size=b)] + rng.normal(size=(b, D))).astype(np.float32)


def write_zarr(path: Path, rows: int) -> None:
    """In chunks of 2 MiB, compressed as Zarr does by itself."""
    import zarr

    array = zarr.create_array(str(path), shape=(rows, D), chunks=(2 * MIB // (4 * D), D), dtype="f4")
    for i, piece in enumerate(pieces(rows)):
        array[i * PIECE_ROWS : i * PIECE_ROWS + len(piece)] = piece


def write_parquet(path: Path, rows: int, group_mib: int) -> None:
    """With dictionaries, as pyarrow does by itself."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    columns = [np.empty(0, np.float32)] * D
    group = group_mib * MIB // (4 * D)
    with pq.ParquetWriter(path, pa.schema([(f"c{j}", pa.float32()) for j in range(D)])) as writer:
        for piece in pieces(rows):
            columns = [np.concatenate(both) for both in zip(columns, piece.T, strict=True)]
            while len(columns[0]) >= group:
                writer.write_table(_table([column[:group] for column in columns]), row_group_size=group)
                columns = [column[group:] for column in columns]
        if len(columns[0]):
            writer.write_table(_table(columns), row_group_size=group)


def _table(columns: list[Any]) -> Any:
    import pyarrow as pa

    return pa.table({f"c{j}": column for j, column in enumerate(columns)})


def worker(first: str, path: str) -> dict[str, float]:
    """A fit of few rows, and that of a file."""
    from streamem import GaussianMixture

    warnings.simplefilter("ignore")  # nothing converges in so few iterations
    imported = peak_bytes()
    model = GaussianMixture(K, random_state=0, max_iter=ITERATIONS, tol=0.0)
    model.fit(first)
    loaded = peak_bytes()
    began = perf_counter()
    model.fit(path)
    return {"seconds": perf_counter() - began, "added": peak_bytes() - loaded, "all": peak_bytes() - imported}


def measure(folder: Path, rows: int, group_mib: int | None) -> str:
    """Three columns of the table."""
    paths = []
    for name, count in (("first", 1000), ("x", rows)):
        paths.append(folder / (f"{name}.zarr" if group_mib is None else f"{name}.parquet"))
        if group_mib is None:
            write_zarr(paths[-1], count)
        else:
            write_parquet(paths[-1], count, group_mib)
    command = [sys.executable, "-m", "bench.fit_memory", "--worker", *map(str, paths)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    found = json.loads(done.stdout.splitlines()[-1])
    return f"{found['added'] / 1e6:.0f} | {found['all'] / 1e6:.0f} | {found['seconds']:.1f}"


def main() -> None:
    """Print the table, or do the work of one line of it."""
    parser = argparse.ArgumentParser(prog="python -m bench.fit_memory", description=__doc__)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--worker", nargs=2, help="fit the first file and then the second, and tell what that took")
    options = parser.parse_args()
    if options.worker:
        print(json.dumps(worker(*options.worker)))
        return
    print(f"{machine()}; VmHWM in MB of a fit, K={K}, d={D}, full, float32\n")
    print(
        "| rows | MB of rows | from | beyond a first fit | beyond imports | seconds |\n|---:|---:|---|---:|---:|---:|"
    )
    groups = QUICK_ROW_GROUPS if options.quick else ROW_GROUPS
    for rows in QUICK_ROWS if options.quick else ROWS:
        for group_mib in (None, *groups):
            with tempfile.TemporaryDirectory() as folder:
                kind = "Zarr" if group_mib is None else f"Parquet, row groups of {group_mib} MiB"
                found = measure(Path(folder), rows, group_mib)
                print(f"| {rows:,} | {rows * D * 4 / 1e6:.0f} | {kind} | {found} |", flush=True)


if __name__ == "__main__":
    main()
