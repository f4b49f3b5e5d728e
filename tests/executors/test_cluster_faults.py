"""Workers that are killed, stopped, starved, that join and leave: the same bits, or an error that names the chunk."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import Any

import dask
import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from distributed import Client

from helpers.clusters import cluster_of
from helpers.fit_bits import fitted
from helpers.watched_source import WatchedSource, open_data
from streamem import GaussianMixture, Stats
from streamem.conformance.probes import ignore
from streamem.core.chunk import Chunk
from streamem.core.errors import ClusterError, SourceError, WorkerLostError
from streamem.core.ports import ChunkRef
from streamem.executors import ThreadsExecutor
from streamem.executors.dask import DaskExecutor

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]
ROWS, CHUNK_ROWS, FEATURES = 6000, 100, 3
CHUNK_BYTES = CHUNK_ROWS * FEATURES * 8
UNLUCKY = 17
IMPATIENT = {"distributed.comm.timeouts.connect": "1s"}
"""Who wants something of a worker that has died asks for 30 s, unless told otherwise."""
MIB = 2**20


@pytest.fixture
def refs(tmp_path: Path) -> Any:
    """Sixty chunks."""
    x = np.random.default_rng(0).normal(size=(ROWS, FEATURES))
    zarr.create_array(store=str(tmp_path / "x.zarr"), shape=x.shape, chunks=(CHUNK_ROWS, FEATURES), dtype="f8")[:] = x
    return open_data(str(tmp_path / "x.zarr"), CHUNK_BYTES).chunks()


@dataclass
class Count:
    """A task that counts rows, slowly; on one chunk something happens to its process, once or always."""

    harm: Callable[[], object]
    flag: Path
    always: bool = False

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        time.sleep(0.01)
        if ref.index == UNLUCKY and (self.always or not self.flag.exists()):
            self.flag.touch()
            self.harm()
        return Stats(rows=chunk.rows, x=chunk.x.sum(axis=0))


def kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def stop() -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def devour() -> None:
    """More memory than a worker is allowed; held until its nanny has seen it."""
    hoard = np.ones(900 * MIB // 8)
    time.sleep(30)
    hoard.sum()


def nothing() -> None:
    """No harm."""


def undisturbed(refs: Any, tmp_path: Path) -> Stats:
    with ThreadsExecutor(1) as threads:
        return threads.reduce(Count(nothing, tmp_path / "never"), refs, lambda done: None)


@pytest.mark.variations(1, 3)
@pytest.mark.parametrize("harm", [kill, stop, devour], ids=["killed", "stopped", "out of memory"])
def test_a_worker_that_fails_changes_no_bit(refs: Any, tmp_path: Path, harm: Callable[[], object]) -> None:
    flag = tmp_path / "done"
    with (
        dask.config.set({"distributed.scheduler.worker-ttl": "3s"}),
        cluster_of(2, memory_limit=600 * MIB) as (_, client),
        DaskExecutor(client) as executor,
    ):
        found = executor.reduce(Count(harm, flag), refs, lambda done: None)
        assert flag.exists()
        assert found == executor.reduce(Count(nothing, flag), refs, lambda done: None)
    assert found == undisturbed(refs, tmp_path)


class DyingWorkers:
    """A chunk's process dies at each of the first times that the chunk is worked on."""

    def __init__(self, folder: Path, deaths: dict[int, int]) -> None:
        self._folder, self._deaths = folder, deaths

    def __call__(self, ref: ChunkRef) -> None:
        for death in range(self._deaths.get(ref.index, 0)):
            flag = self._folder / f"{ref.index}.{death}"
            if not flag.exists():
                flag.touch()
                kill()


@contextmanager
def unforgiving() -> Iterator[Client]:
    """Two workers of a cluster that blames every death on all that the worker had."""
    settings = {"distributed.scheduler.allowed-failures": 0, **IMPATIENT}
    with dask.config.set(settings), cluster_of(2) as (_, client):
        yield client


@pytest.mark.parametrize("call", ["sum", *(pytest.param(name, marks=pytest.mark.slow) for name in ("results", "file"))])
def test_every_worker_dies_once_and_more(refs: Any, tmp_path: Path, call: str) -> None:
    """Time is all that it costs, in sums, in results and in files that workers write: what ends a call is that
    nothing is finished between deaths."""
    (flags := tmp_path / "flags").mkdir()
    path = str(tmp_path / "x.zarr")
    watched = WatchedSource(open_data(path, CHUNK_BYTES), DyingWorkers(flags, {3: 2, 40: 1}))
    with unforgiving() as client:
        if call == "sum":
            with DaskExecutor(client) as executor:
                found = executor.reduce(Count(nothing, tmp_path / "never"), watched.chunks(), ignore)
            assert found == undisturbed(refs, tmp_path)
        else:
            model = GaussianMixture(2, random_state=0, max_iter=2, init_params="random_from_data")
            model.set_params(chunk_bytes=CHUNK_BYTES).fit(path, executor="threads")
            out = tmp_path / "y.parquet" if call == "file" else None
            labels = model.predict(watched, out=out, executor=client)
            labels = labels if out is None else pq.read_table(out)["label"].to_numpy()
            np.testing.assert_array_equal(labels, model.predict(path, executor="threads"))
    assert len(list(flags.iterdir())) == 3


def test_results_that_are_lost_before_anybody_looks_are_made_again(refs: Any, tmp_path: Path) -> None:
    """All workers die while the call holds the first of their results: the others had been finished and are no more."""
    over = Event()
    with dask.config.set(IMPATIENT), cluster_of(2) as (cluster, client), DaskExecutor(client) as executor:

        def all_die(_: Any) -> None:
            if over.is_set():
                return
            over.set()
            sums = [future for key, future in list(client.futures.items()) if str(key).startswith("streamem-run")]
            until(lambda: all(future.status == "finished" for future in sums))
            for nanny in list(cluster.workers.values()):
                os.kill(nanny.pid, signal.SIGKILL)
            until(lambda: any(future.status == "lost" for future in sums))

        found = executor.reduce(Count(nothing, tmp_path / "never"), refs, all_die)
    assert over.is_set()
    assert found == undisturbed(refs, tmp_path)


def until(true: Callable[[], bool]) -> None:
    """Wait for something, a minute at most."""
    for _ in range(6000):
        if true():
            return
        time.sleep(0.01)
    raise TimeoutError


class Footprints:
    """Chunks that were read, on whatever worker, as bytes of a file."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __call__(self, ref: ChunkRef) -> None:
        time.sleep(0.01)
        with self._file.open("ab", buffering=0) as file:
            file.write(b".")

    @property
    def count(self) -> int:
        """How many."""
        return self._file.stat().st_size if self._file.exists() else 0


@pytest.mark.variations(1, 1)
@pytest.mark.slow
@pytest.mark.parametrize("allowed", [0, 3])
def test_workers_are_killed_all_through_a_fit(refs: Any, tmp_path: Path, allowed: int) -> None:
    """By turns, as machines on loan go: the sums that they held are made again."""
    path, model = str(tmp_path / "x.zarr"), GaussianMixture(2, random_state=0, max_iter=6, tol=0.0)
    model.set_params(init_params="random_from_data", chunk_bytes=CHUNK_BYTES)
    here, killed, over = fitted(model.fit(path, executor="threads")), list[int](), Event()
    read = Footprints(tmp_path / "read")

    def reap() -> None:
        while not over.wait(0.01):
            if read.count < 25 * (len(killed) + 1):
                continue
            # A worker that dies before it is known takes its nanny along.
            known = [
                nanny.pid for nanny in cluster.workers.values() if nanny.worker_address in cluster.scheduler.workers
            ]
            if len(known) == 2:
                killed.append(sorted(known)[len(killed) % 2])
                with suppress(ProcessLookupError):
                    os.kill(killed[-1], signal.SIGKILL)

    settings = {"distributed.scheduler.allowed-failures": allowed, **IMPATIENT}
    with dask.config.set(settings), cluster_of(2) as (cluster, client):
        reaper = Thread(target=reap)
        reaper.start()
        try:
            there = fitted(model.fit(WatchedSource(open_data(path, CHUNK_BYTES), read), executor=client))
        finally:
            over.set()
            reaper.join()
    assert there == here
    assert len(killed) >= 4


def test_a_chunk_that_kills_every_worker_is_named(refs: Any, tmp_path: Path) -> None:
    """After as many deaths as Dask allows; the cluster then still works."""
    with (
        dask.config.set({"distributed.scheduler.allowed-failures": 1}),
        cluster_of(2) as (_, client),
        DaskExecutor(client) as executor,
    ):
        with pytest.raises(WorkerLostError, match=r"chunk 16 .* to chunk 19 .*workers died again and again"):
            executor.reduce(Count(kill, tmp_path / "flag", always=True), refs, lambda done: None)
        assert executor.reduce(Count(nothing, tmp_path / "flag"), refs, lambda done: None).rows == ROWS


def poison(ref: ChunkRef) -> None:
    if ref.index == UNLUCKY:
        raise ValueError("poison")


def test_a_poison_chunk_is_named_and_the_cluster_lives(refs: Any, tmp_path: Path) -> None:
    path = str(tmp_path / "x.zarr")
    gm = GaussianMixture(2, random_state=0, max_iter=2, init_params="random_from_data")
    with cluster_of(2) as (_, client):
        with pytest.raises(SourceError, match=r"chunk 17 \(rows 1700–1799\) cannot be read: ValueError: poison"):
            gm.fit(WatchedSource(open_data(path, CHUNK_BYTES), poison), executor=client)
        there = fitted(gm.fit(open_data(path, CHUNK_BYTES), executor=client))
    assert there == fitted(gm.fit(open_data(path, CHUNK_BYTES), executor="threads"))


@dataclass
class KillOnce:
    """Kills the process that reads the unlucky chunk, once."""

    flag: Path

    def __call__(self, ref: ChunkRef) -> None:
        if ref.index == UNLUCKY and not self.flag.exists():
            self.flag.touch()
            kill()


@pytest.mark.parametrize("suffix", ["parquet", pytest.param("zarr", marks=pytest.mark.slow)])
def test_a_worker_killed_while_it_writes_results(refs: Any, tmp_path: Path, suffix: str) -> None:
    data = str(tmp_path / "x.zarr")
    gm = GaussianMixture(2, random_state=0, max_iter=2, init_params="random_from_data", chunk_bytes=CHUNK_BYTES)
    gm.fit(data, executor="threads")
    out, flag = tmp_path / f"labels.{suffix}", tmp_path / "killed"
    with dask.config.set(IMPATIENT), cluster_of(2) as (_, client):
        gm.predict(WatchedSource(open_data(data, CHUNK_BYTES), KillOnce(flag)), out=out, executor=client)
    assert flag.exists()
    labels = zarr.open_array(out)[:] if suffix == "zarr" else pq.read_table(out)["label"].to_numpy()
    np.testing.assert_array_equal(labels, gm.predict(data, executor="threads"))
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


class Unreadable:
    """A task that cannot be unpickled."""

    def __reduce__(self) -> Any:
        return (int, ("not a number",))


def test_what_cannot_be_unpickled_is_not_called_a_lost_scheduler(refs: Any) -> None:
    with (
        cluster_of(1) as (_, client),
        DaskExecutor(client) as executor,
        pytest.raises(ClusterError, match="could not be unpickled"),
    ):
        executor.reduce(Unreadable(), refs, lambda done: None)  # type: ignore[arg-type]


def test_workers_join_and_leave_in_the_middle_of_a_pass(refs: Any, tmp_path: Path) -> None:
    sizes: list[int] = []
    with cluster_of(1) as (cluster, client), DaskExecutor(client) as executor:
        plan = {2: 3, 5: 1, 10: 2}
        done = 0

        def scale(_: Any) -> None:
            nonlocal done
            done += 1
            if done in plan:
                cluster.scale(plan[done])
                client.wait_for_workers(plan[done]) if plan[done] > 1 else time.sleep(0.5)
                sizes.append(len(client.scheduler_info()["workers"]))

        found = [executor.reduce(Count(nothing, tmp_path / "never"), refs, scale) for _ in range(2)]
    assert len(set(sizes)) > 1
    assert found == [undisturbed(refs, tmp_path)] * 2
