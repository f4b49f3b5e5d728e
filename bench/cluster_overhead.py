"""Worker: what a pass costs besides computing on a large cluster, simulated: many threads whose chunks only wait."""

from __future__ import annotations

import json
import sys
import time
from dataclasses import dataclass
from time import perf_counter
from typing import Any

import numpy as np

from bench.machine import peak_bytes
from streamem import Stats
from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef
from streamem.executors import ThreadsExecutor

PASSES = 3


@dataclass(frozen=True)
class SleepyRef(ChunkRef):
    """A chunk that takes `seconds` to read, and no processor."""

    index: int
    seconds: float
    rows: int = 1000
    nbytes: int = 2**23
    load_nbytes: int = 2**23

    @property
    def start(self) -> int:
        """Index of the first row."""
        return self.index * self.rows

    def load(self) -> Chunk:
        """Wait."""
        time.sleep(self.seconds)
        return Chunk(np.zeros((1, 1)))


class Sum:
    """Statistics of the size of a small mixture's: 16 components of 8 features."""

    def __call__(self, chunk: Chunk, ref: Any) -> Stats:
        """Ones."""
        return Stats(rows=ref.rows, moments=np.ones((16, 45)))


def main(engine: str, chunks: int, seconds: float, workers: int, threads: int) -> dict[str, Any]:
    """Seconds of a pass, the last of three; `ideal` would be chunks · seconds / (workers · threads)."""
    refs = [SleepyRef(index, seconds) for index in range(chunks)]
    ideal = chunks * seconds / (workers * threads)
    before = peak_bytes()
    if engine == "threads":
        with ThreadsExecutor(workers * threads) as executor:
            took = [_timed(executor, refs) for _ in range(PASSES)]
        note = f"ideal {ideal:.2f} s"
    else:
        from distributed import Client, LocalCluster

        from streamem.executors.dask import DaskExecutor

        with (
            LocalCluster(
                n_workers=workers, threads_per_worker=threads, dashboard_address=None, silence_logs=50
            ) as cluster,
            Client(cluster) as client,
            DaskExecutor(client) as executor,
        ):
            took, tasks = [], []
            for _ in range(PASSES):
                seen = _transitions(cluster)
                took.append(_timed(executor, refs))
                tasks.append(_transitions(cluster) - seen)
            moved = sum(client.run(_received).values()) / PASSES / 2**20
        note = f"ideal {ideal:.2f} s, first pass {took[0]:.2f} s; a pass: {tasks[-1]:,} scheduler transitions, "
        note += f"{moved:.2f} MiB between workers"
    return {"seconds": took[-1], "added_bytes": peak_bytes() - before, "note": note}


def _timed(executor: Any, refs: list[SleepyRef]) -> float:
    began = perf_counter()
    stats = executor.reduce(Sum(), refs, lambda done: None)
    assert stats.rows == sum(ref.rows for ref in refs)
    return perf_counter() - began


def _received(dask_worker: Any) -> int:
    return sum(entry["total"] for entry in dask_worker.transfer_incoming_log)


def _transitions(cluster: Any) -> int:
    return int(cluster.scheduler.transition_counter)


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1], **json.loads(sys.argv[2]))))
