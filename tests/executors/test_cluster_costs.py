"""What a pass on a cluster costs besides computing: memory of client and scheduler, bytes to the client, threads."""

from __future__ import annotations

import gc
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from distributed import Client, LocalCluster
from threadpoolctl import threadpool_info

from helpers import subprocess_jobs
from helpers.clusters import cluster_of
from helpers.fit_bits import fitted
from helpers.lazy_blocks import Rows, lazy_refs
from helpers.watched_source import open_data
from streamem import GaussianMixture, Stats
from streamem.core.chunk import Chunk
from streamem.core.errors import MemoryLimitError
from streamem.core.ports import ChunkDone, ChunkRef
from streamem.executors.dask import IN_FLIGHT_PER_THREAD, DaskExecutor, _Running
from streamem.executors.spans import span_length
from streamem.executors.worker_side import ChunkCache
from streamem.sources.dask_blocks import BlockChunkRef

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]

MB = 10**6


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="VmRSS is Linux's")
@pytest.mark.parametrize("n_chunks", [1_500, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.slow
@pytest.mark.memory
def test_memory_of_client_and_scheduler_is_flat(tmp_path: Path, n_chunks: int) -> None:
    """Twenty passes over many small chunks; client and scheduler are one process here."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(n_chunks * 50, 2)))
    measured = subprocess_jobs.run("cluster_passes", data=tmp_path / "x.npy", chunk_bytes=800, passes=20)
    memory = measured["memory"]
    assert measured["chunks"] == n_chunks
    assert memory[-1] - memory[2] < 10 * MB
    assert max(measured["tasks"]) < 100  # about 30 a pass: nothing is left behind on the scheduler


def test_the_scheduler_holds_no_handles(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It remembers what it sent to each worker, a thousand messages of up to a megabyte, with all objects in them.

    Client and scheduler are this process.
    """
    refs = lazy_refs(24)
    before = handles()
    with DaskExecutor(client) as executor:
        for length in (8, 4, 2):  # each is sent anew
            monkeypatch.setattr("streamem.executors.dask.span_length", lambda *_, length=length: length)
            assert executor.reduce(Rows(), refs, lambda done: None).rows == 50 * len(refs)
    assert handles() <= before


def handles() -> set[int]:
    """Those of lazy blocks that live in this process."""
    return {id(each) for each in gc.get_objects() if isinstance(each, BlockChunkRef)}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="VmRSS is Linux's")
@pytest.mark.parametrize("n_blocks", [1_000, pytest.param(10_000, marks=pytest.mark.long)])
@pytest.mark.slow
@pytest.mark.memory
def test_memory_is_flat_where_runs_of_lazy_blocks_change(n_blocks: int) -> None:
    """In every pass the runs have another length, so that all handles, with their parts of the graph, are sent anew."""
    measured = subprocess_jobs.run("lazy_passes", n_blocks=n_blocks, passes=10)
    memory = measured["memory"]
    assert memory[-1] - memory[2] < 10 * MB + 7 * 150 * n_blocks  # 2,500 for each in each pass, where they were objects


# --- bytes -----------------------------------------------------------------------------------------------------------


@dataclass
class Counter:
    """Bytes from the scheduler to the client."""

    address: str
    received: int = 0
    sockets: list[socket.socket] = field(default_factory=list)


@contextmanager
def counting_proxy(scheduler: str) -> Iterator[Counter]:
    """An address to reach a scheduler by, that counts what comes back."""
    host, port = scheduler.removeprefix("tcp://").split(":")
    server = socket.create_server(("127.0.0.1", 0))
    counter = Counter(f"tcp://127.0.0.1:{server.getsockname()[1]}", sockets=[server])

    def pump(source: socket.socket, target: socket.socket, counts: bool) -> None:
        with suppress(OSError):
            while data := source.recv(2**16):
                counter.received += len(data) * counts
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)

    def serve() -> None:
        with suppress(OSError):
            while True:
                near, _ = server.accept()
                far = socket.create_connection((host, int(port)))
                counter.sockets += [near, far]
                threading.Thread(target=pump, args=(near, far, False), daemon=True).start()
                threading.Thread(target=pump, args=(far, near, True), daemon=True).start()

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield counter
    finally:
        for each in counter.sockets:
            each.close()


class WideStats:
    """A task whose statistics are large."""

    nbytes = 2**20

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        return Stats(rows=chunk.rows, wide=np.full(self.nbytes // 8, chunk.x.sum()))


def test_one_result_a_pass_reaches_the_client(tmp_path: Path) -> None:
    """Not one for each of the hundred chunks, nor one for each task."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(100 * 50, 2)))
    refs = open_data(str(tmp_path / "x.npy"), 800).chunks()
    assert len(refs) == 100
    with (
        cluster_of(2) as (cluster, _),
        counting_proxy(cluster.scheduler_address) as counter,
        Client(counter.address, set_as_default=False) as client,
        DaskExecutor(client) as executor,
    ):
        assert -(-len(refs) // span_length(refs, 2, None)) >= 8
        for _ in range(2):
            before = counter.received
            executor.reduce(WideStats(), refs, lambda done: None)
            assert WideStats.nbytes <= counter.received - before < 2 * WideStats.nbytes


# --- partitions of unequal sizes -------------------------------------------------------------------------------------


def test_one_large_partition_among_small_ones(client: Client, tmp_path: Path) -> None:
    """The bits of threads, of lazy blocks and of row groups; a block that no worker holds is refused with the sum."""
    sizes = [50] * 20 + [60_000] + [50] * 20
    x = np.random.default_rng(0).normal(size=(sum(sizes), 3)) + 4.0 * (np.arange(sum(sizes)) % 2)[:, None]
    with pq.ParquetWriter(
        tmp_path / "x.parquet", (table := pa.table(dict(zip("abc", x.T, strict=True)))).schema
    ) as out:
        for start, rows in zip(np.cumsum([0, *sizes]), sizes, strict=False):
            out.write_table(table.slice(start, rows), row_group_size=rows)
    lazy = dask.array.from_array(x, chunks=((tuple(sizes)), -1))
    model = GaussianMixture(2, random_state=0, max_iter=3, tol=0.0, chunk_bytes=48_000)
    for data in (lazy, tmp_path / "x.parquet"):
        here = fitted(model.fit(data, executor="threads"))
        assert fitted(model.fit(data, executor=client)) == here
    limit = min(each["memory_limit"] for each in client.scheduler_info()["workers"].values())
    huge = dask.array.zeros((20 * 50 + limit // 16, 2), chunks=((*[50] * 20, limit // 16), -1))
    with pytest.raises(
        MemoryLimitError, match=r"worker tcp://.* would need .* to load a chunk.* and has .*smaller chunks"
    ):
        model.fit(huge, executor=client)


# --- threads ---------------------------------------------------------------------------------------------------------


class BlasThreads:
    """How many threads BLAS would use in a task."""

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        pools = [pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"]
        return Stats(tasks=1, threads=sum(pools) / len(pools))


def test_one_blas_thread_a_task_on_the_worker(tmp_path: Path) -> None:
    """A worker of four threads would otherwise run four times as many as it has cores."""
    np.save(tmp_path / "x.npy", np.zeros((1000, 2)))
    refs = open_data(str(tmp_path / "x.npy"), 800).chunks()
    many = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), 4)
    with (
        dask.config.set({"distributed.nanny.pre-spawn-environ": many}),
        LocalCluster(n_workers=1, threads_per_worker=4, dashboard_address=":0") as cluster,
        Client(cluster, set_as_default=False) as client,
        DaskExecutor(client) as executor,
    ):
        stats = executor.reduce(BlasThreads(), refs, lambda done: None)
        assert stats.threads == stats.tasks == len(refs)


# --- what is held and in flight --------------------------------------------------------------------------------------


def test_chunks_kept_on_a_worker_stay_below_their_limit(tmp_path: Path) -> None:
    """The least recently used go first; a chunk larger than the limit is not kept at all."""
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(500, 2)))
    refs = open_data(str(tmp_path / "x.npy"), 800).chunks()
    cache = ChunkCache()
    for ref in [*refs[:3], refs[0], *refs[3:5]]:
        np.testing.assert_array_equal(cache.load("t", ref, 3 * 800).x, ref.load().x)
        assert cache.nbytes == 800 * len(cache._chunks) <= 3 * 800
    assert [index for _, index in cache._chunks] == [0, 3, 4]
    small = ChunkCache()
    small.load("t", refs[0], 799)
    assert (small.nbytes, len(small._chunks)) == (0, 0)
    cache.forget("t")
    assert (cache.nbytes, len(cache._chunks)) == (0, 0)


def test_a_bounded_number_of_tasks_is_in_flight_and_all_rows_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.save(tmp_path / "x.npy", np.zeros((5000, 2)))
    refs = open_data(str(tmp_path / "x.npy"), 800).chunks()
    most, rows = [0], [0]
    add = _Running.add

    def counted(self: _Running[Any], future: Any, item: Any) -> None:
        add(self, future, item)
        most[0] = max(most[0], len(self))

    def told(done: ChunkDone) -> None:
        rows[0] += done.rows

    monkeypatch.setattr(_Running, "add", counted)
    monkeypatch.setattr("streamem.executors.dask.span_length", lambda *_: 1)
    with (
        cluster_of(2, processes=False) as (_, client),
        DaskExecutor(client) as executor,
    ):
        executor.reduce(BlasThreads(), refs, told)
    assert len(refs) == 100
    assert most[0] == IN_FLIGHT_PER_THREAD * 2
    assert rows[0] == 5000
