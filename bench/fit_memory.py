"""Memory that a fit of files takes, by VmHWM, over rows and sizes of row groups: it is to stay as it is.

``python -m bench.fit_memory``: float32 rows with 32 features, K = 16, full covariances, k-means to start from, three
iterations, in a process of its own; beyond what it held after importing the modules that such a fit imports sooner or
later, beyond a first fit of such a file of 1,000 rows, and beyond what it held after importing the package alone.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from bench.machine import peak_bytes
from bench.results import add_options, recorded

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


def fitted(*paths: str) -> list[float]:
    """Peak bytes after each fit."""
    from streamem import GaussianMixture

    warnings.simplefilter("ignore")  # nothing converges in so few iterations
    peaks: list[float] = []
    model = GaussianMixture(K, random_state=0, max_iter=ITERATIONS, tol=0.0)
    for path in paths:
        model.fit(path, algorithm="batch")
        peaks.append(peak_bytes())
    return peaks


def modules(first: str) -> list[str]:
    """Names of all modules that a fit imports."""
    fitted(first)
    return sorted(sys.modules)


def from_the_package(first: str, path: str) -> list[float]:
    """Bytes beyond a fit of few rows, and beyond importing the package."""
    import streamem  # noqa: F401

    imported = peak_bytes()
    loaded, peak = fitted(first, path)
    return [peak - loaded, peak - imported]


def from_the_modules(path: str) -> list[float]:
    """Bytes beyond importing the modules that standard input names, and seconds."""
    for name in json.loads(sys.stdin.read()):
        with suppress(ImportError):  # some are made by others when these run
            importlib.import_module(name)
    imported, began = peak_bytes(), perf_counter()
    return [fitted(path)[-1] - imported, perf_counter() - began]


TASKS = {task.__name__: task for task in (modules, from_the_package, from_the_modules)}


def in_a_process(task: str, paths: list[Path], stdin: str = "") -> Any:
    """What a task prints."""
    command = [sys.executable, "-m", "bench.fit_memory", "--task", task, *map(str, paths)]
    root = Path(__file__).parents[1]
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, cwd=root, check=False)
    if done.returncode:
        raise RuntimeError(done.stderr[-2000:])
    return json.loads(done.stdout.splitlines()[-1])


def measure(folder: Path, rows: int, group_mib: int | None) -> str:
    """Four columns of the table."""
    paths = []
    for name, count in (("first", 1000), ("x", rows)):
        paths.append(folder / (f"{name}.zarr" if group_mib is None else f"{name}.parquet"))
        if group_mib is None:
            write_zarr(paths[-1], count)
        else:
            write_parquet(paths[-1], count, group_mib)
    names = in_a_process("modules", paths[:1])
    beyond_modules, seconds = in_a_process("from_the_modules", paths[1:], json.dumps(names))
    beyond_first, beyond_package = in_a_process("from_the_package", paths)
    return f"{beyond_modules / 1e6:.0f} | {beyond_first / 1e6:.0f} | {beyond_package / 1e6:.0f} | {seconds:.1f}"


def main() -> None:
    """Print the table, or do the work of one line of it."""
    parser = argparse.ArgumentParser(prog="python -m bench fit_memory", description=__doc__)
    add_options(parser)
    parser.add_argument("--task", nargs="+", help="a task's name and files: what is done in a process of its own")
    options = parser.parse_args()
    if options.task:
        name, *paths = options.task
        print(json.dumps(TASKS[name](*paths)))
        return
    with recorded("fit_memory", options):
        show(options.quick)


def show(quick: bool) -> None:
    """Print a line for every number of rows and kind of file."""
    print(f"VmHWM in MB of a fit, K={K}, d={D}, full, float32\n")
    print("| rows | MB of rows | from | beyond imports | beyond a first fit | beyond `import streamem` | seconds |")
    print("|---:|---:|---|---:|---:|---:|---:|")
    groups = QUICK_ROW_GROUPS if quick else ROW_GROUPS
    for rows in QUICK_ROWS if quick else ROWS:
        for group_mib in (None, *groups):
            with tempfile.TemporaryDirectory() as folder:
                kind = "Zarr" if group_mib is None else f"Parquet, row groups of {group_mib} MiB"
                found = measure(Path(folder), rows, group_mib)
                print(f"| {rows:,} | {rows * D * 4 / 1e6:.0f} | {kind} | {found} |", flush=True)


if __name__ == "__main__":
    main()
