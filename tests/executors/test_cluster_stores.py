"""Data and results in stores on a Dask cluster; files that workers do not see; clients that are closed, lost, async."""

from __future__ import annotations

import asyncio
import io
import os
import pickle
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import dask
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from distributed import Client, worker_client
from xarray.backends.file_manager import FILE_CACHE

from helpers.clusters import cluster_of
from helpers.fit_bits import fitted
from helpers.format_files import FORMATS
from helpers.object_server import KEY, SECRET, ObjectServer
from helpers.troubled_proxy import TroubledProxy
from helpers.watched_source import WatchedSource, open_data
from streamem import Address, GaussianMixture, ReadOptions, open_source
from streamem.core.errors import ClusterError, OutputError, SchedulerLostError, SourceError
from streamem.core.object_claims import SUFFIX, ObjectClaim
from streamem.core.stored_objects import get, names_below
from streamem.executors.worker_side import ChunkAccess, packed, unpacked
from streamem.running.report import RETRIED
from streamem.sources.store_marks import OfThisProcess

pytestmark = [pytest.mark.cluster, pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")]

X = np.random.default_rng(4).normal(size=(1200, 3)) + 4.0 * (np.arange(1200) % 2)[:, None]
SETTINGS: dict[str, Any] = {"n_components": 2, "random_state": 0, "max_iter": 3, "tol": 0.0, "chunk_bytes": 4800}


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with cluster_of(2) as (_, client):
        yield client


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    pytest.importorskip("obstore")
    with ObjectServer().running() as served:
        store = Address(served.address("x.zarr"), served.storage_options).object_store(whole=True)
        zarr.create_array(zarr.storage.ObjectStore(store), shape=X.shape, chunks=(50, 3), dtype="f8")[...] = X
        for i in range(12):
            file = io.BytesIO()
            pq.write_table(pa.table(dict(zip("abc", X[100 * i :][:100].T, strict=True))), file)
            served.objects[f"t/{i:02}.parquet"] = file.getvalue()
        yield served


def keys_of(dask_scheduler: Any) -> list[str]:
    """All keys that the scheduler has seen."""
    return [str(entry[0]) for entry in dask_scheduler.transition_log]


@pytest.mark.parametrize("key", ["x.zarr", "t"])
def test_the_bits_of_threads_and_no_secret_in_a_key(key: str, client: Client, server: ObjectServer) -> None:
    address = Address(server.address(key), server.storage_options)
    there = GaussianMixture(**SETTINGS).fit(address, executor=client)
    assert fitted(there) == fitted(GaussianMixture(**SETTINGS).fit(address, executor="threads"))
    keys = client.run_on_scheduler(keys_of)
    assert keys
    assert not any(SECRET in each or KEY in each or "127.0.0.1" in each for each in keys)


def test_workers_use_credentials_of_their_own(
    client: Client, server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From their environments, where none are given."""
    theirs = {"AWS_ACCESS_KEY_ID": KEY, "AWS_SECRET_ACCESS_KEY": SECRET}
    options = {name: value for name, value in server.storage_options.items() if "key" not in name}
    address = Address(server.address("x.zarr"), options)
    for name, value in theirs.items():
        monkeypatch.setenv(name, value)
    with_environment(client, theirs)
    try:
        there = GaussianMixture(**SETTINGS).fit(address, executor=client)
    finally:
        with_environment(client, dict.fromkeys(theirs))
    assert fitted(there) == fitted(GaussianMixture(**SETTINGS).fit(address, executor="threads"))


def with_environment(client: Client, values: dict[str, str | None]) -> None:
    """Set variables of the environment of each worker, or take them away; by value, since workers lack this module."""

    def change() -> None:
        for name, value in values.items():
            os.environ.pop(name, None)
            os.environ |= {} if value is None else {name: value}

    client.run(change)


def test_workers_fetch_many_at_once_and_tell_what_was_made_again(client: Client, server: ObjectServer) -> None:
    with TroubledProxy(server.port, latency_s=0.05).running() as proxy:
        options = {**server.storage_options, "endpoint": f"http://127.0.0.1:{proxy.port}"}
        source = open_source(server.address("x.zarr"), options=ReadOptions(chunk_bytes=1200), storage_options=options)
        proxy.most_at_once, proxy.troubles.shares = 0, {"503": 0.05}
        there = GaussianMixture(**SETTINGS).fit(source, executor=client)
    assert proxy.most_at_once > 2, "one request a thread"
    assert there.report_.events[RETRIED] > 0


@pytest.mark.parametrize("suffix", [".zarr", ".parquet", ".npy"])
def test_results_go_to_a_store(suffix: str, client: Client, server: ObjectServer, tmp_path: Path) -> None:
    data = Address(server.address("x.zarr"), server.storage_options)
    out = Address(server.address(f"r/labels{suffix}"), server.storage_options)
    model = GaussianMixture(**SETTINGS).fit(data, executor="threads")
    assert model.predict(data, out=out, executor=client) == out
    model.predict(data, out=tmp_path / f"labels{suffix}", executor="threads")
    assert [name for name in names_below(out.at(server.address("r"))) if name.endswith(SUFFIX)] == []
    if suffix == ".zarr":
        store = zarr.storage.ObjectStore(out.object_store(whole=True))
        np.testing.assert_array_equal(zarr.open_array(store, mode="r")[:], model.predict(X))
    else:
        assert get(out) == (tmp_path / f"labels{suffix}").read_bytes()
    with pytest.raises(OutputError, match="exists already"):
        model.predict(data, out=out, executor=client)
    model.predict(data, out=out, overwrite=True, executor=client)


def test_maps_of_labels_keep_their_grid(client: Client, server: ObjectServer) -> None:
    """Dimensions, chunks and coordinates of the data, as this process would write them: byte for byte."""
    data = Address(server.address("map.zarr"), server.storage_options)
    group = zarr.create_group(zarr.storage.ObjectStore(data.object_store(whole=True)), zarr_format=3)
    for i, name in enumerate("abc"):
        made = group.create_array(name, shape=(30, 40), chunks=(5, 40), dtype="f8", dimension_names=("lat", "lon"))
        made[...] = X[:, i].reshape(30, 40)
    for name, size in (("lat", 30), ("lon", 40)):
        group.create_array(name, shape=(size,), dtype="f8", dimension_names=(name,))[...] = np.arange(size)
    model = GaussianMixture(**SETTINGS).fit(data, executor="threads")
    found = []
    for executor, name in ((client, "by_workers.zarr"), ("threads", "here.zarr")):
        out = Address(server.address(f"maps/{name}"), server.storage_options)
        model.predict(data, out=out, executor=executor)
        found.append({name: get(out.below(name)) for name in sorted(names_below(out))})
    assert found[0].keys() == found[1].keys()
    assert found[0] == found[1]
    assert "lat/zarr.json" in found[0]


def test_a_result_of_bad_rows_is_absent(client: Client, server: ObjectServer) -> None:
    out = Address(server.address("bad/labels.zarr"), server.storage_options)
    model = GaussianMixture(**SETTINGS).fit(X, executor="threads")
    with pytest.raises(ValueError, match="NaN"):
        model.predict(np.vstack([X, np.full((1, 3), np.nan)]), out=out, executor=client)
    assert names_below(out) == []


def test_one_writer_at_a_time(client: Client, server: ObjectServer) -> None:
    out = Address(server.address("one/labels.zarr"), server.storage_options)
    model = GaussianMixture(**SETTINGS).fit(X, executor="threads")
    claim = ObjectClaim(out)
    for executor in (client, "threads"):
        with pytest.raises(OutputError, match="is writing there"):
            model.predict(X, out=out, executor=executor)
    claim.release()
    model.predict(X, out=out, executor=client)


def test_a_folder_that_workers_do_not_see_is_named(client: Client, tmp_path: Path) -> None:
    """Whatever the format says of it: not that one of its chunks is missing."""
    zarr.create_array(str(tmp_path / "x.zarr"), shape=X.shape, chunks=(50, 3), dtype="f8")[...] = X
    np.save(tmp_path / "x.npy", X)
    pq.write_table(pa.table(dict(zip("abc", X.T, strict=True))), tmp_path / "x.parquet")
    with pa.OSFile(str(tmp_path / "x.arrow"), "wb") as file, pa.ipc.new_file(file, pa.schema({"a": "f8"})) as writer:
        writer.write_table(pa.table({"a": X[:, 0]}))
    model = GaussianMixture(**SETTINGS)
    for name in ("x.zarr", "x.npy", "x.parquet", "x.arrow"):
        source = open_source(tmp_path / name)
        (tmp_path / name).rename(tmp_path / "moved")
        with pytest.raises(SourceError, match=rf"chunk 0 .*the worker tcp://.* does not see .*{name}"):
            next(iter(executed(source, client)))
        (tmp_path / "moved").rename(tmp_path / name)
    assert model.fit(tmp_path / "x.npy", executor=client).converged_ in (True, False)


@dataclass(frozen=True)
class OpenedAsItArrives:
    """A file that is opened where the handle of its rows is unpickled, as Hugging Face's mapped files are."""

    path: Path

    def __call__(self, ref: object) -> None:
        """Rows are read as ever."""

    def __reduce__(self) -> Any:
        return _opened, (self.path,)


def _opened(path: Path) -> OpenedAsItArrives:
    path.read_bytes()
    return OpenedAsItArrives(path)


def test_files_that_are_opened_as_handles_arrive(client: Client, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", X)
    source = WatchedSource(open_data(str(tmp_path / "x.npy"), 4800), OpenedAsItArrives(tmp_path / "x.npy"))
    assert sum(executed(source, client)) == len(X)
    (tmp_path / "x.npy").unlink()
    with pytest.raises(
        SourceError, match=r"worker tcp://.* cannot open the data: FileNotFound.*x.npy.* a shared folder"
    ):
        next(iter(executed(source, client)))


@pytest.mark.parametrize("is_there", [True, False])
def test_a_mapped_dataset_that_a_worker_does_not_see(is_there: bool, tmp_path: Path) -> None:
    (folder := tmp_path / "here").mkdir()
    refs = FORMATS["Hugging Face datasets"](folder).open(2048).chunks()
    sent = packed(refs[-1])
    if is_there:
        assert unpacked(sent).load().rows == refs[-1].rows
        return
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(SourceError, match=f"cannot open the data: .*{folder}/.*a store such as s3"):
        unpacked(sent)


@pytest.mark.variations(3, 7)
@pytest.mark.parametrize("kind", ["CSV", "DuckDB", "Delta Lake", "HDF5", "Lance", "netCDF", "ORC"])
def test_files_of_formats_that_a_worker_does_not_see(kind: str, tmp_path: Path) -> None:
    """As on a worker, for there is no difference: the handle travels, and what it reads is not there."""
    (folder := tmp_path / "here").mkdir()
    refs = FORMATS[kind](folder).open(2048).chunks()
    sent = pickle.dumps(refs[-1])
    folder.rename(tmp_path / "elsewhere")
    FILE_CACHE.clear()  # xarray's, of files that this process has open
    words = rf"chunk {len(refs) - 1} .* on .* does not see {folder}/.*a store such as s3"
    with pytest.raises(SourceError, match=words):
        ChunkAccess("token", 0).load(pickle.loads(sent), {})


def executed(source: Any, client: Client) -> Iterator[Any]:
    """Rows of the chunks of a source, counted on workers."""
    from streamem.executors.dask import DaskExecutor

    with DaskExecutor(client) as executor:
        yield from executor.map(lambda chunk, ref: chunk.rows, source.chunks(), lambda done: None)


def test_a_client_closed_in_the_middle(tmp_path: Path) -> None:
    """And used again afterwards: our own error, with the remedy."""
    zarr.create_array(str(tmp_path / "x.zarr"), shape=X.shape, chunks=(50, 3), dtype="f8")[...] = X
    model = GaussianMixture(**SETTINGS | {"max_iter": 50}, init_params="random_from_data")
    with cluster_of(1) as (_, client):
        watched = WatchedSource(open_data(str(tmp_path / "x.zarr"), 4800), lambda ref: time.sleep(0.05))
        closing = Thread(target=lambda: (time.sleep(1.0), client.close()))
        closing.start()
        with pytest.raises(SchedulerLostError, match=r"client was closed.*checkpoint='run.npz'"):
            model.fit(watched, executor=client)
        closing.join()
        with pytest.raises(ClusterError, match="executor is closed; connect it"):
            model.fit(X, executor=client)


def test_a_cluster_closed_in_the_middle(tmp_path: Path) -> None:
    """The active client: what follows does not go to threads without a word."""
    zarr.create_array(str(tmp_path / "x.zarr"), shape=X.shape, chunks=(50, 3), dtype="f8")[...] = X
    model = GaussianMixture(**SETTINGS | {"max_iter": 50}, init_params="random_from_data")
    with (
        dask.config.set(scheduler=None),  # a client that lost its scheduler leaves it set
        cluster_of(1) as (cluster, _),
        Client(cluster.scheduler_address, timeout=2) as active,
    ):
        watched = WatchedSource(open_data(str(tmp_path / "x.zarr"), 4800), lambda ref: time.sleep(0.05))
        closing = Thread(target=lambda: (time.sleep(1.0), cluster.close()))
        closing.start()
        with pytest.raises(SchedulerLostError, match=r"checkpoint='run.npz'"):
            model.fit(watched)
        closing.join()
        with pytest.raises(ClusterError, match="executor='threads'"):
            model.fit(X)
        active.close()
    model.fit(X, executor="threads")
    model.fit(X)


def test_an_asynchronous_client(tmp_path: Path) -> None:
    model = GaussianMixture(**SETTINGS)

    async def calls(address: str) -> GaussianMixture:
        async with Client(address, asynchronous=True, set_as_default=False) as client:
            with pytest.raises(ClusterError, match=r"await asyncio.to_thread\(model.fit"):
                model.fit(X, executor=client)
            return await asyncio.to_thread(GaussianMixture(**SETTINGS).fit, X, executor=client)

    with cluster_of(1) as (cluster, _):
        there = asyncio.run(calls(cluster.scheduler_address))
    assert fitted(there) == fitted(model.fit(X, executor="threads"))


def test_two_fits_at_once_and_one_within_a_task(client: Client, server: ObjectServer) -> None:
    """On one cluster, which holds nothing of them afterwards."""
    address, data = Address(server.address("x.zarr"), server.storage_options), X
    alone = [fitted(GaussianMixture(**SETTINGS).fit(each, executor="threads")) for each in (X, address)]

    def within() -> bytes:
        with worker_client() as there:
            return GaussianMixture(**SETTINGS).fit(data, executor=there).means_.tobytes()

    with ThreadPoolExecutor(3) as pool:
        both = [pool.submit(GaussianMixture(**SETTINGS).fit, each, executor=client) for each in (X, address)]
        task = client.submit(within, pure=False)
        assert [fitted(one.result()) for one in both] == alone
        assert task.result() == GaussianMixture(**SETTINGS).fit(X, executor="threads").means_.tobytes()
    del task
    end = time.monotonic() + 20
    while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) and time.monotonic() < end:
        time.sleep(0.1)
    assert client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) == 0


def test_what_handles_leave_behind() -> None:
    assert pickle.loads(pickle.dumps(OfThisProcess([1, 2]))).value is None
