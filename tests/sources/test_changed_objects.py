"""Data on object stores that was rewritten is noticed at the next pass, whatever was listed before."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.feather as feather
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
import zarr
from fsspec.implementations.asyn_wrapper import AsyncFileSystemWrapper
from fsspec.implementations.dirfs import DirFileSystem
from fsspec.implementations.memory import MemoryFileSystem

from helpers.watched_source import Countdown, WatchedSource
from streamem import GaussianMixture, open_source
from streamem.core.errors import SourceChangedError
from streamem.sources.object_marks import fresh_infos, mark_of
from streamem.sources.zarr_stamp import stamp


class ListedStore(MemoryFileSystem):
    """Answers from what it once listed, as s3fs, gcsfs and adlfs do, until it is told to forget or to ask anew."""

    protocol = "listed"
    cachable = False
    told = ("name", "size", "type", "created")

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.store, self.pseudo_dirs = {}, [""]
        self.listed: dict[str, Any] = {}

    def _now(self, path: str) -> dict[str, Any]:
        found = super().info(path)
        return {name: found[name] for name in self.told if name in found}

    def info(self, path: str, **options: Any) -> dict[str, Any]:
        path = self._strip_protocol(path)
        if path not in self.listed:
            self.listed[path] = self._now(path)
        return dict(self.listed[path])

    def invalidate_cache(self, path: str | None = None) -> None:
        self.listed.clear()


class RefreshingStore(ListedStore):
    """Keeps its listing, and asks anew where that is wanted."""

    def info(self, path: str, refresh: bool = False, **options: Any) -> dict[str, Any]:
        return self._now(self._strip_protocol(path)) if refresh else super().info(path)

    def invalidate_cache(self, path: str | None = None) -> None:
        """Not needed."""


class SilentStore(ListedStore):
    """Tells sizes only."""

    told = ("name", "size", "type")


STORES = [ListedStore, RefreshingStore, SilentStore]


def table_of(seed: int, rows: int = 500) -> pa.Table:
    return pa.table({"a": np.random.default_rng(seed).permutation(rows) + 0.0, "b": np.arange(rows) + 0.0})


def put(store: Any, path: str, seed: int, write: Callable[..., Any] = pq.write_table) -> None:
    """Files of one size, whose footers tell the same of both."""
    with store.open(path, "wb") as file:
        write(table_of(seed), file, compression="NONE" if write is pq.write_table else "uncompressed")


def parquet_on(store: Any) -> Any:
    return ds.dataset("/bucket/t", filesystem=store, format="parquet")


def filtered_on(store: Any) -> Any:
    return parquet_on(store).filter(ds.field("a") >= 0)


def feather_on(store: Any) -> Any:
    return ds.dataset("/bucket/t", filesystem=store, format="feather")


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("dataset", [parquet_on, filtered_on, feather_on])
def test_rewritten_files_change_the_fingerprint(dataset: Any, kind: Any) -> None:
    store = kind()
    write = feather.write_feather if dataset is feather_on else pq.write_table
    for name in ("0", "1"):
        put(store, f"/bucket/t/{name}", 0, write)
    source = open_source(dataset(store))
    before = source.fingerprint()
    assert source.fingerprint() == before
    sizes = {name: store.info(f"/bucket/t/{name}")["size"] for name in ("0", "1")}
    put(store, "/bucket/t/1", 1, write)
    assert store._now("/bucket/t/1")["size"] == sizes["1"]
    changed = source.fingerprint()
    assert changed != before
    assert source.fingerprint() == changed


@pytest.mark.parametrize("kind", STORES)
def test_a_file_that_is_gone_is_an_error(kind: Any) -> None:
    store = kind()
    put(store, "/bucket/t/0", 0)
    source = open_source(parquet_on(store))
    store.info("/bucket/t/0")
    store.rm("/bucket/t/0")
    with pytest.raises(SourceChangedError, match="/bucket/t/0"):
        source.fingerprint()


def test_files_of_one_name_and_size_on_two_stores_have_footers_of_their_own() -> None:
    first, second = SilentStore(), SilentStore()
    put(first, "/bucket/t/0", 0)
    with second.open("/bucket/t/0", "wb") as file:
        pq.write_table(table_of(1).rename_columns(["c", "d"]), file, compression="NONE")
    assert first.info("/bucket/t/0")["size"] == second.info("/bucket/t/0")["size"]
    assert [open_source(parquet_on(each)).schema.names for each in (first, second)] == [("a", "b"), ("c", "d")]


def zarr_on(fs: Any, path: str = "/bucket/x.zarr", **settings: Any) -> zarr.Array[Any]:
    where = zarr.storage.FsspecStore(AsyncFileSystemWrapper(fs, asynchronous=True), path=path)
    array = zarr.create_array(where, shape=(400, 2), chunks=(10, 2), dtype="f8", compressors=None, **settings)
    array[:] = np.arange(800.0).reshape(400, 2)
    return array


@pytest.mark.parametrize("kind", STORES)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_rewritten_chunk_changes_the_fingerprint(zarr_format: Any, kind: Any) -> None:
    fs = kind()
    array = zarr_on(fs, zarr_format=zarr_format)
    for path in fs.find("/bucket"):
        fs.info(path)
    source = open_source(array)
    before = source.fingerprint()
    assert source.fingerprint() == before
    row = 0 if kind is SilentStore else 355  # of a store that tells nothing, a few chunks are looked at
    array[row, 0] = -1.0
    assert source.fingerprint() != before


def test_an_array_of_a_group_is_known_by_its_own_objects() -> None:
    fs = ListedStore()
    first, second = zarr_on(fs, "/bucket/g/a"), zarr_on(fs, "/bucket/g/ab")
    before = stamp(first)
    second[0, 0] = -1.0
    assert stamp(first) == before
    first[0, 0] = -1.0
    assert stamp(first) != before


def test_a_url_is_asked_anew(tmp_path: Path) -> None:
    url = "memory://changed/x.zarr"
    array = zarr.create_array(url, shape=(400, 2), chunks=(10, 2), dtype="f8", overwrite=True)
    array[:] = 1.0
    source = open_source(url)
    before = source.fingerprint()
    array[0, 0] = 2.0
    assert source.fingerprint() != before


@pytest.mark.parametrize("bulk", [True, False])
def test_obstore_is_asked_for_etags(bulk: bool) -> None:
    memory = pytest.importorskip("obstore.store").MemoryStore()
    array = zarr.create_array(zarr.storage.ObjectStore(memory), shape=(400, 2), chunks=(10, 2), dtype="f8")
    array[:] = np.arange(800.0).reshape(400, 2)
    source = open_source(array)
    before = source.fingerprint()
    assert source.fingerprint() == before
    array[355 if bulk else slice(355, 356), 0] = -1.0
    assert source.fingerprint() != before


def test_a_fit_notices_a_file_that_was_rewritten_between_passes() -> None:
    store = ListedStore()
    put(store, "/bucket/t/0", 0)
    base = open_source(parquet_on(store))
    source = WatchedSource(base, Countdown(2, lambda: put(store, "/bucket/t/0", 1)))
    with pytest.raises(SourceChangedError, match="changed|rewritten"):
        GaussianMixture(1, max_iter=20, tol=0, n_threads=1).fit(source)


@pytest.mark.parametrize("depth", [1, 2])
def test_file_systems_that_wrap_others_are_asked_through(depth: int) -> None:
    store: Any = ListedStore()
    put(store, "bucket/a/t/0", 0)
    wrapped = DirFileSystem(path="bucket", fs=store)
    wrapped = wrapped if depth == 1 else DirFileSystem(path="a", fs=wrapped)
    path = "a/t/0" if depth == 1 else "t/0"
    arrow = pafs.PyFileSystem(pafs.FSSpecHandler(wrapped))
    source = open_source(ds.dataset([path], filesystem=arrow, format="parquet"))
    before = source.fingerprint()
    put(store, "bucket/a/t/0", 1)
    assert source.fingerprint() != before


def test_marks_are_of_versions_and_never_of_reading() -> None:
    told = {"name": "x", "size": 3, "ETag": '"a"', "atime": 1.0, "nlink": 2, "last_accessed_on": "now"}
    assert mark_of(told) == mark_of({**told, "atime": 2.0, "nlink": 3, "last_accessed_on": "then"})
    for changed in ({"ETag": '"b"'}, {"size": 4}, {"VersionId": "2"}, {"mtime": 1.0}, {"generation": 7}):
        assert mark_of({**told, **changed}) != mark_of(told)
    assert mark_of({"name": "x", "size": 3, "type": "file"}) is None


def test_many_files_are_asked_in_their_order() -> None:
    store = ListedStore()
    paths = [f"/bucket/{i:03}" for i in range(100)]
    for path in paths:
        store.pipe(path, path.encode())
    assert [info["name"] for info in fresh_infos(store, paths)] == paths
