"""What a pass is made of: reading, computing, and how far they overlap; and how it grows with rows, chunks and threads.

``python -m bench.passes``: rows of float32 with 32 features, K = 16, full covariances; one E-step over all rows.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from time import perf_counter, sleep
from typing import Any

import numpy as np

from bench.machine import peak_bytes
from bench.mixtures import draw
from bench.results import add_options, recorded
from streamem import GaussianMixture, ReadOptions, open_source
from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef
from streamem.core.stats import Stats
from streamem.estimators.making import model_of
from streamem.executors.threads import ThreadsExecutor
from streamem.running.fit import EStep

D, K, ROUNDS, TURNS = 32, 16, 5, 9
LATE_S = 0.02


class Read:
    """A task that does nothing with a chunk."""

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        return Stats(rows=chunk.rows)


@dataclass(frozen=True)
class Again(ChunkRef):
    """A chunk at another place of the plan: the same rows, so that any number of them can be had."""

    ref: Any
    index: int
    start: int

    @property
    def in_memory(self) -> bool:
        return bool(self.ref.in_memory)

    def load(self) -> Chunk:
        chunk: Chunk = self.ref.load()
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ref, name)


@dataclass(frozen=True)
class Late(ChunkRef):
    """A chunk that a slow disk or a network hands over after `LATE_S`: reading is waiting then, not work."""

    ref: Any

    def fetched(self) -> Any:
        fetched = self.ref.fetched()
        if fetched is self.ref:
            return self
        sleep(LATE_S)
        return fetched

    def load(self) -> Chunk:
        sleep(LATE_S)
        chunk: Chunk = self.ref.load()
        return chunk

    def __getattr__(self, name: str) -> Any:
        return getattr(self.ref, name)


def repeated(refs: Sequence[ChunkRef], n_rows: int) -> Iterator[Again]:
    """The chunks again and again until there are so many rows."""
    index = start = 0
    while start < n_rows:
        ref = refs[index % len(refs)]
        yield Again(ref, index, start)
        index, start = index + 1, start + ref.rows


def e_step(x: Any, means: Any) -> EStep:
    """The task of a pass after two iterations from a start, with the arithmetic that a fit has chosen by then."""
    model = GaussianMixture(
        K,
        max_iter=2,
        tol=0.0,
        weights_init=np.full(K, 1 / K),
        means_init=means,
        precisions_init=np.repeat(np.eye(D)[None], K, axis=0),
    ).fit(x)
    fitted = model._now()
    assert fitted.state is not None
    return EStep(model_of(model, fitted), fitted.state.params, None)


def seconds(task: Any, refs: Sequence[Any], threads: int, forget: Sequence[Path] = ()) -> float:
    """Of one pass, the median of some; before each, the system forgets what it has cached of the files."""
    return in_turn([(task, refs, forget)], threads, ROUNDS)[0]


def in_turn(passes: Sequence[tuple[Any, Sequence[Any], Sequence[Path]]], threads: int, rounds: int) -> list[float]:
    """Of passes (task, chunks, files to forget) that take turns: a busy minute is a busy one for all of them."""
    taken: list[list[float]] = [[] for _ in passes]
    with ThreadsExecutor(threads) as executor:
        for _ in range(rounds):
            for (task, refs, forget), own in zip(passes, taken, strict=True):
                drop_from_cache(forget)
                began = perf_counter()
                executor.reduce(task, refs, lambda done: None)
                own.append(perf_counter() - began)
    return [median(own[1:]) for own in taken]


def drop_from_cache(folders: Sequence[Path]) -> None:
    """Every file below."""
    for folder in folders:
        for path in [folder] if folder.is_file() else [p for p in folder.rglob("*") if p.is_file()]:
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def overlap(n: int, threads: int) -> str:
    """Stores with a warm and a cold page cache beside the same rows in memory."""
    import pyarrow as pa
    import pyarrow.parquet as pq
    import zarr

    x, means = draw(n, D, K, 2.0, "float32")
    task = e_step(x[: 20 * D * K], means)
    lines = ["| rows from | read, s | in memory, s | pass, s | pass ÷ larger | pass ÷ sum | pass ÷ in memory |"]
    lines.append("|---|---:|---:|---:|---:|---:|---:|")
    with tempfile.TemporaryDirectory(dir=os.environ.get("STREAMEM_BENCH_FOLDER")) as name:
        store, table = Path(name) / "x.zarr", Path(name) / "x.parquet"
        rows = 2**21 // (4 * D)
        zarr.create_array(store=str(store), shape=x.shape, chunks=(rows, D), dtype="f4")[:] = x
        columns = pa.table({f"c{i}": x[:, i] for i in range(D)})
        pq.write_table(columns, table, row_group_size=rows, use_dictionary=False)
        in_memory = open_source(x).chunks()
        for path in (store, table):
            refs = open_source(str(path)).chunks()
            late = [Late(ref) for ref in refs]
            for how, plan, forget in (("warm cache", refs, []), ("cold cache", refs, [path]), ("late", late, [])):
                passes = [(task, in_memory, []), (Read(), plan, forget), (task, plan, forget)]
                compute, read, taken = in_turn(passes, threads, TURNS)
                larger, both = taken / max(read, compute), taken / (read + compute)
                lines.append(
                    f"| {path.suffix[1:]}, {how} | {read:.3f} | {compute:.3f} | {taken:.3f} | {larger:.2f} | "
                    f"{both:.2f} | {taken / compute:.2f} |"
                )
    return "\n".join(lines)


def scaling(most_rows: int, threads: int) -> str:
    """Rows, chunks and threads one by one."""
    x, means = draw(65_536, D, K, 2.0, "float32")
    task = e_step(x[: 20 * D * K], means)
    refs = open_source(x).chunks()
    lines = ["| pass of | threads | seconds | million rows/s | memory added, MiB |", "|---|---:|---:|---:|---:|"]
    seconds(task, list(repeated(refs, 100_000)), threads)
    before = peak_bytes()

    def line(what: str, rows: int, plan: Sequence[Any], with_threads: int) -> None:
        taken = seconds(task, plan, with_threads)
        added = (peak_bytes() - before) / 2**20
        lines.append(f"| {what} | {with_threads} | {taken:.3f} | {rows / taken / 1e6:.2f} | {added:.1f} |")

    rows = 100_000
    while rows <= most_rows:
        line(f"{rows:,} rows", rows, list(repeated(refs, rows)), threads)
        rows *= 10
    for rows_of_chunk in (1_024, 4_096, 16_384, 65_536):
        small = open_source(x, options=ReadOptions(chunk_bytes=rows_of_chunk * 4 * D)).chunks()
        line(f"1,000,000 rows in chunks of {rows_of_chunk:,}", 1_000_000, list(repeated(small, 1_000_000)), threads)
    for count in sorted({1, 2, threads}):
        line("1,000,000 rows", 1_000_000, list(repeated(refs, 1_000_000)), count)
    return "\n".join(lines)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(prog="python -m bench passes", description=__doc__)
    add_options(parser)
    parser.add_argument("--rows", type=int, default=2_000_000, help="of the stores")
    parser.add_argument("--most-rows", type=int, default=10**8, help="of the longest pass")
    options = parser.parse_args()
    threads = len(os.sched_getaffinity(0))
    warnings.simplefilter("ignore")
    with recorded("passes", options):
        print(overlap(40_000 if options.quick else options.rows, threads), "\n")
        print(scaling(100_000 if options.quick else options.most_rows, threads))


if __name__ == "__main__":
    main()
