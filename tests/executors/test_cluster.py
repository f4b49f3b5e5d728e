"""The same fit on a Dask cluster: the same bits as on threads, errors that name their chunk; a killed worker."""

from __future__ import annotations

import os
import pickle
import shutil
import signal
import time
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import dask
import dask.array
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from distributed import Client, wait
from sklearn.base import clone

from helpers.clusters import cluster_of
from helpers.fit_bits import fitted
from streamem import GaussianMixture, Stats
from streamem.algorithms import AutoEM, StepwiseEM
from streamem.conformance import ExecutorSuite
from streamem.conformance.probes import Sums, ignore, make_refs, sum_by_hand
from streamem.core.chunk import Chunk
from streamem.core.errors import (
    ClusterError,
    MemoryLimitError,
    NonFiniteError,
    OutputError,
    ParameterError,
    SourceError,
)
from streamem.core.ports import ChunkRef
from streamem.executors.dask import DaskExecutor
from streamem.executors.spans import span_length
from streamem.executors.worker_side import CACHE
from streamem.sinks import ResultLayout, open_parted_sink
from streamem.sources import ReadOptions, open_source

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]
ROWS, CHUNK_ROWS, FEATURES = 6000, 200, 3


@pytest.fixture
def path(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, FEATURES)) + 3.0 * rng.integers(3, size=(ROWS, 1))
    store = zarr.create_array(store=str(tmp_path / "x.zarr"), shape=x.shape, chunks=(CHUNK_ROWS, FEATURES), dtype="f8")
    store[:] = x
    return str(tmp_path / "x.zarr")


def mixture(**settings: Any) -> GaussianMixture:
    chosen = {"n_components": 3, "random_state": 0, "max_iter": 4, "chunk_bytes": CHUNK_ROWS * FEATURES * 8}
    return GaussianMixture(**{**chosen, **settings})


@pytest.mark.variations(3, 5)
@pytest.mark.parametrize("kind", ["zarr", "array", "dask array", "chunked features", "unknown chunks"])
def test_same_bits_as_threads(client: Client, path: str, kind: str) -> None:
    whole = zarr.open_array(path)[:]
    lazy = dask.array.from_array(whole, chunks=(CHUNK_ROWS, -1)) * 2.0
    data = {
        "zarr": path,
        "array": whole,
        "dask array": lazy,
        "chunked features": lazy.rechunk((CHUNK_ROWS, 2)),
        "unknown chunks": lazy[lazy[:, 0] > -1.0],
    }
    here = mixture(n_init=2).fit(data[kind], executor="threads")
    there = mixture(n_init=2).fit(data[kind], executor=client)
    assert there.report_.setting["workers"] == 2
    assert fitted(here) == fitted(there)
    assert ("joined by rechunk" in str(there.report_)) == (kind == "chunked features")
    assert here.score(data[kind], executor="threads") == there.score(data[kind], executor=client)
    there_labels = np.asarray(there.predict(data[kind], executor=client))
    np.testing.assert_array_equal(np.asarray(here.predict(data[kind], executor="threads")), there_labels)


ALGORITHMS: dict[str, Any] = {
    "small batches": StepwiseEM(passes=2, batch_rows=300),
    "large batches": StepwiseEM(passes=1, batch_rows=5000),
    "blocks": "incremental",
}
MINI_BATCHES = [
    pytest.param(name, kind, marks=() if kind == "zarr" or name == "large batches" else pytest.mark.slow)
    for name in ALGORITHMS
    for kind in ("zarr", "array", "persisted")
]


@pytest.mark.variations(2, 4)
@pytest.mark.parametrize(("name", "kind"), MINI_BATCHES)
def test_mini_batches_give_the_bits_of_threads(client: Client, path: str, kind: str, name: str) -> None:
    algorithm = ALGORITHMS[name]
    whole = zarr.open_array(path)[:]
    lazy = dask.array.from_array(whole, chunks=(CHUNK_ROWS, -1))
    data = {"zarr": path, "array": whole, "persisted": lazy}[kind]
    threads = mixture().fit(data, executor="threads", algorithm=algorithm)
    cluster = mixture().fit(client.persist(lazy) if kind == "persisted" else data, executor=client, algorithm=algorithm)
    assert threads.means_.tobytes() == cluster.means_.tobytes()
    assert threads.n_iter_ == cluster.n_iter_


ACCELERATED: dict[str, Any] = {
    "squarem": "squarem",
    "anderson": "anderson",
    "auto": AutoEM(StepwiseEM(passes=1, batch_rows=1200, final_pass=False)),
}


@pytest.mark.variations(1, 3)
@pytest.mark.parametrize("name", ACCELERATED)
def test_accelerated_fits_have_the_bits_of_threads(client: Client, path: str, name: str) -> None:
    """With rows enough for the mini-batches of "auto", and components that overlap."""
    twice = np.concatenate([zarr.open_array(path)[:]] * 2)
    model = mixture(n_components=4, max_iter=15, tol=1e-9, chunk_bytes=4000 * FEATURES * 8)
    here, there = (
        clone(model).fit(twice, executor=where, algorithm=ACCELERATED[name]) for where in ("threads", client)
    )
    assert fitted(here) == fitted(there)
    assert {record.kind for record in there.report_.passes} > {"plain"}


@pytest.mark.parametrize("n_workers", [1, 4])
def test_same_bits_on_any_number_of_workers(path: str, n_workers: int) -> None:
    with cluster_of(n_workers, threads_per_worker=2, processes=False) as (_, client):
        there = mixture().fit(path, executor=client)
    assert there.report_.setting["threads"] == 2 * n_workers
    assert fitted(there) == fitted(mixture().fit(path, executor="threads"))


def cached_chunks() -> int:
    return len(CACHE._chunks)


def test_chunks_kept_by_workers_are_those_of_one_plan(client: Client, path: str) -> None:
    """A wide answer is made from smaller chunks of the same data; none may be one that a fit has left behind."""
    gm = mixture(n_components=12, chunk_bytes=3 * CHUNK_ROWS * FEATURES * 8).fit(path, executor=client)
    there = gm.predict_proba(path, executor=client)
    np.testing.assert_array_equal(there, gm.predict_proba(path, executor="threads"))
    assert gm.score(path, executor=client) == gm.score(path, executor="threads")
    deadline = time.monotonic() + 10
    while any(client.run(cached_chunks).values()) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert sum(client.run(cached_chunks).values()) == 0


def test_the_active_client_is_used_and_threads_on_request(client: Client, path: str) -> None:
    with client.as_current():
        assert "workers" not in mixture().fit(path, executor="threads").report_.setting
    with Client(client.scheduler.address):
        assert mixture().fit(path).report_.setting["workers"] == 2
    assert "workers" not in mixture().fit(path).report_.setting


# --- persisted collections -------------------------------------------------------------------------------------------


class TestDask(ExecutorSuite):
    """The laws that need no view into the workers; two of them in the words of a cluster."""

    shares_memory = False

    @pytest.fixture(autouse=True)
    def _choose(self, client: Client) -> None:
        self.client = client

    def make_executor(self) -> DaskExecutor:
        return DaskExecutor(self.client)

    def test_every_chunk_is_told_once(self) -> None:
        """Spans of chunks are told, not single ones: all rows and bytes once."""
        refs, told = make_refs(40), []
        with self.make_executor() as executor:
            executor.reduce(Sums(), refs, told.append)
        assert sum(done.rows for done in told) == sum(ref.rows for ref in refs)
        assert sum(done.nbytes for done in told) == sum(ref.nbytes for ref in refs)

    def test_an_error_in_a_load_surfaces(self) -> None:
        """As an error that names the chunk; the cluster goes on to work. All chunks of an executor are of one plan."""
        for position in (0, 4, 8):
            failing = rf"chunk {position} .*PlantedError: planted"
            with self.make_executor() as executor, pytest.raises(SourceError, match=failing):
                executor.reduce(Sums(), make_refs(9, fail_at=position), ignore)
        with self.make_executor() as executor:
            assert executor.reduce(Sums(), make_refs(9), ignore) == sum_by_hand(make_refs(9))


def received_bytes(client: Client) -> int:
    """What workers got from each other so far."""
    logs = client.run(lambda dask_worker: sum(entry["total"] for entry in dask_worker.transfer_incoming_log))
    return sum(logs.values())


@pytest.fixture
def fair_client() -> Iterator[Client]:
    """Of a cluster whose workers do not steal from each other: a busy machine would make them."""
    with (
        dask.config.set({"distributed.scheduler.work-stealing": False}),
        cluster_of(2) as (_, client),
    ):
        yield client


@pytest.mark.slow
def test_persisted_blocks_are_used_where_they_lie(fair_client: Client) -> None:
    """A block moves once at most, to a worker that has become idle, and stays there as a copy: not in every pass."""
    lazy = dask.array.random.default_rng(0).normal(size=(480_000, 20), chunks=(24_000, 20)) * 2.0
    settings, client = {"chunk_bytes": "4MiB", "covariance_type": "diag"}, fair_client
    with client.as_current():
        persisted = lazy.persist(scheduler=client)
        wait(persisted)
        before = received_bytes(client)
        there = mixture(**settings).fit(persisted, executor=client)
        moved = received_bytes(client) - before
        here = mixture(**settings).fit(persisted, executor="threads")
    assert fitted(here) == fitted(there) == fitted(mixture(**settings).fit(lazy, executor="threads"))
    assert len(there.report_.passes) > 4
    assert moved < 1.1 * lazy.nbytes
    labels = there.predict(persisted + 0.0, executor=client)
    np.testing.assert_array_equal(
        np.asarray(client.compute(labels).result()), here.predict(lazy.compute(scheduler="sync"))
    )


def test_weights_of_a_persisted_collection(client: Client, path: str) -> None:
    whole, weight = zarr.open_array(path)[:], np.random.default_rng(0).uniform(0, 2, ROWS)
    with client.as_current():
        persisted = dask.array.from_array(whole, chunks=(700, -1)).persist(scheduler=client)
        there = mixture().fit(persisted, sample_weight=weight, executor=client)
        assert fitted(there) == fitted(mixture().fit(persisted, sample_weight=weight, executor="threads"))


def test_of_arrays_each_worker_gets_its_own_rows_only(path: str) -> None:
    x, weight = zarr.open_array(path)[:], np.arange(float(ROWS))
    options = ReadOptions(chunk_bytes=CHUNK_ROWS * FEATURES * 8)
    refs = open_source(x, weight=weight, options=options).chunks()
    travelling = [pickle.dumps(ref) for ref in refs]
    assert len(refs) == ROWS // CHUNK_ROWS
    assert sum(map(len, travelling)) < 1.5 * (x.nbytes + weight.nbytes)
    for ref, sent in zip(refs, travelling, strict=True):
        here, there = ref.load(), pickle.loads(pickle.dumps(pickle.loads(sent))).load()
        np.testing.assert_array_equal(here.x, there.x)
        np.testing.assert_array_equal(here.weight, there.weight)


def test_results_of_a_persisted_collection(client: Client, path: str, tmp_path: Path) -> None:
    with client.as_current():
        persisted = dask.array.from_array(zarr.open_array(path)[:], chunks=(700, -1)).persist(scheduler=client)
        gm = mixture().fit(persisted, executor=client)
        gm.score_samples(persisted, out=tmp_path / "density.zarr", executor=client)
        with Client(client.scheduler.address, set_as_default=False) as other:
            assert fitted(mixture().fit(persisted, executor=other)) == fitted(gm)
        with (
            Client(n_workers=1, processes=False, dashboard_address=":0", set_as_default=False) as elsewhere,
            pytest.raises(ParameterError, match="persisted on the cluster tcp"),
        ):
            mixture().fit(persisted, executor=elsewhere)
    found = zarr.open_array(tmp_path / "density.zarr")[:]
    np.testing.assert_array_equal(found, gm.score_samples(zarr.open_array(path)[:], executor="threads"))


# --- results written by the workers ----------------------------------------------------------------------------------


@pytest.fixture
def ragged(path: str, tmp_path: Path) -> str:
    """The same rows in Parquet, in row groups of uneven length."""
    rows = zarr.open_array(path)[:]
    table = pa.table(dict(zip("abc", rows.T, strict=True)))
    with pq.ParquetWriter(tmp_path / "x.parquet", table.schema) as writer:
        for a, b in pairwise([0, 150, 350, 351, *range(500, ROWS - 99, 190), ROWS]):
            writer.write_table(table.slice(a, b - a))
    return str(tmp_path / "x.parquet")


def read_result(path: Path) -> Any:
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".zarr":
        return zarr.open_array(path)[:]
    table = pq.read_table(path)
    columns = [column.to_numpy() for column in table.columns]
    return columns[0] if len(columns) == 1 else np.column_stack(columns)


@pytest.mark.variations(1, 3)
@pytest.mark.parametrize("suffix", ["zarr", "parquet", "npy"])
def test_workers_write_results(client: Client, path: str, ragged: str, tmp_path: Path, suffix: str) -> None:
    gm = mixture().fit(path, executor=client)
    for data in (path, ragged):
        for question in ("predict", "predict_proba", "score_samples"):
            out = tmp_path / f"{Path(data).suffix[1:]}-{question}.{suffix}"
            assert getattr(gm, question)(data, out=out, executor=client) == out
            found, expected = read_result(out), getattr(gm, question)(data, executor="threads")
            np.testing.assert_array_equal(found, expected.astype(found.dtype))
    if suffix == "parquet":
        assert len(list(out.iterdir())) >= 8  # four a thread
        gm.score_samples(path, out=out, executor=client, overwrite=True)
        np.testing.assert_array_equal(read_result(out), gm.score_samples(path, executor="threads"))
    assert [name for name in os.listdir(tmp_path) if name.startswith(".")] == []


@pytest.mark.variations(1, 3)
@pytest.mark.parametrize("suffix", ["zarr", "parquet", "npy"])
def test_a_result_of_bad_rows_is_absent(client: Client, path: str, tmp_path: Path, suffix: str) -> None:
    gm = mixture().fit(path, executor=client)
    zarr.open_array(path, mode="r+")[5000] = np.inf
    with pytest.raises(NonFiniteError, match="chunk 25"):
        gm.predict(path, out=tmp_path / f"labels.{suffix}", executor=client)
    assert os.listdir(tmp_path) == ["x.zarr"]


def test_a_block_that_fails_is_no_failure_to_write(client: Client, path: str, tmp_path: Path) -> None:
    gm = mixture().fit(path, executor="threads")
    whole = zarr.open_array(path)[:]
    bad = dask.array.from_array(whole, chunks=(CHUNK_ROWS, -1)).map_blocks(lambda block: block / (0 // 0), dtype=float)
    with pytest.raises(SourceError, match=r"Dask block \d+ failed: ZeroDivisionError") as caught:
        gm.predict(bad, out=tmp_path / "labels.zarr", executor=client)
    assert not isinstance(caught.value, OutputError)
    with Client(client.scheduler.address, set_as_default=False) as closed:
        pass
    with pytest.raises(ClusterError, match="executor is closed"):
        gm.score(path, executor=closed)


def test_a_folder_that_workers_do_not_see(tmp_path: Path) -> None:
    layout = ResultLayout(10, None, np.dtype("f8"), ("x",), 5)
    for suffix in ("zarr", "parquet", "npy"):
        sink = open_parted_sink(tmp_path / f"x.{suffix}", layout)
        parts = sink.parts(5, [0, 5])
        for hidden in tmp_path.iterdir():
            hidden.rename(tmp_path / "elsewhere")
        with pytest.raises(OutputError, match="a worker does not see"):
            parts[1].write([np.zeros(5)])
        with pytest.raises(OutputError, match="0 of 10 rows were written"):
            sink.commit()
        sink.abort()
        shutil.rmtree(tmp_path / "elsewhere") if suffix != "npy" else (tmp_path / "elsewhere").unlink()


def test_bad_rows_and_lost_chunks_are_named(client: Client, path: str) -> None:
    gm = mixture().fit(path, executor=client)
    source = open_source(path, options=ReadOptions(chunk_bytes=CHUNK_ROWS * FEATURES * 8))
    Path(path, "c/7/0").write_bytes(b"garbage")
    with pytest.raises(SourceError, match="rows 1400–1599"):
        gm.score(source, executor=client)
    store = zarr.open_array(path, mode="r+")
    store[1400:1600] = np.nan
    with pytest.raises(NonFiniteError, match=r"chunk 7 \(rows 1400–1599\)"):
        mixture().fit(path, executor=client)


def test_a_worker_that_is_too_small_is_refused(client: Client, path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("streamem.running.engines._worker_memory", lambda _: [("tcp://small", 2, 10_000)])
    with pytest.raises(MemoryLimitError, match="tcp://small would need"):
        mixture().fit(path, executor=client)
    with pytest.raises(ParameterError, match=r"executor is 'cluster'; it must be a distributed\.Client"):
        mixture().fit(path, executor="cluster")


class CountAndKill:
    """A task that counts rows; its first run on one chunk kills the worker it runs on."""

    def __init__(self, flag: Path) -> None:
        self.flag = flag

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        if ref.index == 17 and not self.flag.exists():
            self.flag.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return Stats(rows=chunk.rows, x=chunk.x.sum(axis=0))


def test_a_killed_worker_changes_no_bit(path: str, tmp_path: Path) -> None:
    refs = open_source(path, options=ReadOptions(chunk_bytes=CHUNK_ROWS * FEATURES * 8)).chunks()
    flag = tmp_path / "killed"
    with cluster_of(2) as (_, client), DaskExecutor(client) as executor:
        first = executor.reduce(CountAndKill(flag), refs, lambda done: None)
        assert flag.exists()
        again = executor.reduce(CountAndKill(flag), refs, lambda done: None)
    assert first == again
    assert first.rows == ROWS


def test_spans_are_powers_of_two_and_few_enough() -> None:
    class Ref:
        nbytes = 8 * 2**20

    for n_chunks in (1, 3, 100, 10_001, 100_000, 1_000_000):
        for seconds in (None, 1e-4, 0.3, 20.0):
            length = span_length([Ref()] * n_chunks, 4, seconds)  # type: ignore[list-item]
            assert length & (length - 1) == 0
            assert -(-n_chunks // length) <= 10_000
