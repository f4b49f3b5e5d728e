"""Zarr shards that are larger than a chunk: their index is read once, then runs of their inner chunks."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray

from helpers.object_server import ObjectServer
from streamem import Address, ReadOptions, open_source
from streamem.core.errors import SourceChangedError, SourceError
from streamem.core.object_requests import Fetched
from streamem.sources import zarr_shards
from streamem.sources.zarr import ZarrSource

Array = NDArray[Any]

ROWS, SHARD, INNER = 4000, 1000, 50
X = np.random.default_rng(28).normal(size=(ROWS, 3))
CHUNK = 4 * INNER * 24
"""Bytes of four inner chunks: five chunks are a shard."""


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    pytest.importorskip("obstore")
    with ObjectServer().running() as served:
        yield served


@pytest.fixture(autouse=True)
def fresh(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(zarr_shards, "INDICES", zarr_shards._Indices())


def opened(served: ObjectServer, key: str, x: Array = X, write: bool = True, **how: Any) -> ZarrSource:
    if write:
        store = Address(served.address(key), served.storage_options).object_store(whole=True)
        how = {"chunks": (INNER, 3), "shards": (SHARD, 3), **how}
        zarr.create_array(zarr.storage.ObjectStore(store), shape=x.shape, dtype=x.dtype, overwrite=True, **how)[...] = x
    options = ReadOptions(chunk_bytes=CHUNK)
    return open_source(served.address(key), options=options, storage_options=served.storage_options)  # type: ignore[return-value]


def passed(served: ObjectServer, source: ZarrSource) -> tuple[Array, int, int]:
    """The rows, fetched chunk by chunk, and the requests and bytes that it took."""
    served.asked.clear()
    served.sent = 0
    rows = [ref.fetched().load().x for ref in source.chunks()]
    return np.concatenate(rows), served.asked.total(), served.sent


@pytest.mark.parametrize("index", ["end", "start"])
def test_an_index_is_read_once_and_neighbours_by_one_request(index: Any, server: ObjectServer) -> None:
    inner = zarr.codecs.ShardingCodec(chunk_shape=(INNER, 3), index_location=index)
    source = opened(server, f"{index}.zarr", chunks=(SHARD, 3), shards=None, serializer=inner, compressors=None)
    rows, requests, nbytes = passed(server, source)
    assert np.array_equal(rows, X)
    assert requests == ROWS // SHARD + ROWS // (4 * INNER)
    assert nbytes == X.nbytes + ROWS // SHARD * (16 * SHARD // INNER + 4)
    rows, requests, nbytes = passed(server, source)
    assert np.array_equal(rows, X)
    assert (requests, nbytes) == (ROWS // (4 * INNER), X.nbytes)
    told = [ref.fetches() for ref in source.chunks()]
    assert set(told) == {(1, CHUNK + 16 * SHARD // INNER + 4)}


def test_inner_chunks_along_other_axes_and_absent_ones(server: ObjectServer) -> None:
    x = np.zeros((ROWS, 4))
    x[::7] = 1.5
    x[600:1300, 2:] = 0.0
    inner: dict[str, Any] = {"chunks": (INNER, 2), "shards": (SHARD, 4), "fill_value": 0.0}
    rows, requests, _ = passed(server, opened(server, "wide.zarr", x, **inner))
    assert np.array_equal(rows, x)
    assert requests <= 4 + 2 * 27
    near = open_source(opened(server, "wide.zarr", x, **inner)._layout.variables[0].origin)
    assert np.array_equal(np.concatenate([ref.load().x for ref in near.chunks()]), x)


def test_a_shard_that_was_rewritten(server: ObjectServer) -> None:
    """An index that is kept from data opened earlier is read again; one read a moment ago means an error."""
    source = opened(server, "rewritten.zarr")
    refs = source.chunks()
    passed(server, source)
    again = opened(server, "rewritten.zarr", np.round(X, 1))
    assert np.array_equal(passed(server, again)[0], np.round(X, 1))
    assert again.fingerprint() != source.fingerprint()
    known = Fetched(b"\xff" * 324, 0, '"another"', 1000)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zarr_shards._Indices, "of", lambda self, objects, sharding, keys: dict.fromkeys(keys, known))
        patch.setattr(zarr_shards.Sharding, "spans", lambda *what: [(0, 10)])
        with pytest.raises(SourceChangedError, match=r"rewritten.zarr.*c/0/0 was rewritten"):
            refs[0].fetched()


@pytest.mark.parametrize("damage", ["cut", "index", "empty"])
def test_damaged_shards_are_named(damage: str, server: ObjectServer) -> None:
    opened(server, "damaged.zarr")
    content = server.objects["damaged.zarr/c/2/0"]
    damaged = {"cut": content[: len(content) // 2], "index": content[:-324] + b"\x01" * 324, "empty": b""}[damage]
    server.objects["damaged.zarr/c/2/0"] = damaged
    words = "c/2/0" if damage == "empty" else "'c/2/0': the index of the shard is corrupt"
    with pytest.raises(SourceError, match=words):
        passed(server, opened(server, "damaged.zarr", write=False))


def test_on_disk_the_plan_and_the_rows_are_the_same(tmp_path: Path, server: ObjectServer) -> None:
    zarr.create_array(tmp_path / "x.zarr", shape=X.shape, dtype=X.dtype, chunks=(INNER, 3), shards=(SHARD, 3))[...] = X
    near = open_source(tmp_path / "x.zarr", options=ReadOptions(chunk_bytes=CHUNK))
    far = opened(server, "same.zarr")
    assert [(ref.start, ref.rows) for ref in near.chunks()] == [(ref.start, ref.rows) for ref in far.chunks()]
    assert np.array_equal(np.concatenate([ref.load().x for ref in near.chunks()]), X)
    whole = open_source(tmp_path / "x.zarr", options=ReadOptions(chunk_bytes=SHARD * 12))
    assert [ref.rows for ref in whole.chunks()] == [SHARD] * 4
