"""az://, gs:// and https:// : fitted from, and where they can be written, models, results and streams' files there."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from zarr.storage import ObjectStore

from helpers.object_server import ObjectServer
from helpers.other_stores import ACCOUNT_KEY, azurite, certificate_in, fake_gcs, plain_http
from streamem import Address, GaussianMixture, open_source
from streamem.appending import read_appended
from streamem.core.errors import OutputError, SourceChangedError, SourceError, WriterConflictError
from streamem.core.object_requests import Piece, fetch_all
from streamem.core.stored_objects import etag_of, get, names_below, put, put_after

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(3).normal(size=(400, 2)) + 4.0 * (np.arange(400) % 2)[:, None]
SETTINGS: dict[str, Any] = {"n_components": 2, "random_state": 0, "tol": 0.0, "max_iter": 3}


@pytest.fixture(params=["gs", pytest.param("az", marks=pytest.mark.slow)])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Address]:
    """A folder of Google's protocol, and of Azurite, a real server."""
    pytest.importorskip("obstore")
    if request.param == "az":
        with azurite(tmp_path) as box:
            yield box.below("f")
        return
    with ObjectServer(google=True).running() as server:
        yield Address(server.address("f"), server.storage_options)


def parquet(rows: Any) -> bytes:
    written = io.BytesIO()
    pq.write_table(pa.table({"a": rows[:, 0], "b": rows[:, 1]}), written, row_group_size=100)
    return written.getvalue()


def fitted(data: Any) -> GaussianMixture:
    return GaussianMixture(**SETTINGS).fit(data)


def test_data_models_results_and_streams(folder: Address) -> None:
    # From Zarr, plain and with shards (whose index is the end of an object), and from a folder of Parquet.
    for name, shards in (("plain.zarr", None), ("shards.zarr", (200, 2))):
        store = ObjectStore(folder.below(name).object_store(whole=True))
        zarr.create_array(store, data=X, chunks=(100, 2), shards=shards)
        assert np.allclose(fitted(folder.below(name)).means_, fitted(X).means_, rtol=1e-12)
    for i in range(2):
        put(folder.below("rows", f"{i}.parquet"), parquet(X[200 * i : 200 * i + 200]))
    model = fitted(folder.below("rows"))
    assert np.allclose(model.means_, fitted(X).means_, rtol=1e-12)

    # Models, checkpoints that are gone on from, one writer.
    model.save(folder.below("m.npz"))
    assert GaussianMixture.load(folder.below("m.npz")).means_.tobytes() == model.means_.tobytes()
    GaussianMixture(**{**SETTINGS, "max_iter": 2}).fit(folder.below("rows"), checkpoint=folder.below("c.npz"))
    resumed = GaussianMixture(**SETTINGS).fit(folder.below("rows"), checkpoint=folder.below("c.npz"))
    assert resumed.means_.tobytes() == model.means_.tobytes()
    seen = etag_of(folder.below("c.npz"))
    put(folder.below("c.npz"), b"of another")
    with pytest.raises(WriterConflictError, match="another process"):
        put_after(folder.below("c.npz"), b"of this", seen)
    assert get(folder.below("c.npz")) == b"of another"

    # Results, complete or refused.
    labels = fitted(X).predict(X)
    for name in ("l.npy", "l.parquet", "l.zarr"):
        model.predict(folder.below("rows"), out=folder.below(name))
        with pytest.raises(OutputError, match="exists already"):
            model.predict(folder.below("rows"), out=folder.below(name))
    assert (np.load(io.BytesIO(get(folder.below("l.npy")) or b"")) == labels).all()
    read = zarr.open_array(ObjectStore(folder.below("l.zarr").object_store(whole=True)), mode="r")
    assert (read[:] == labels).all()

    # A model on a stream, its history beside it, saved again and again.
    told = {"history": folder.below("h.arrows"), "checkpoint": folder.below("live.npz"), "save_every_s": 0.0}
    live = GaussianMixture(2, random_state=0).fit_stream(lambda: iter(np.split(X, 8)), batch_rows=50, **told)
    assert live.report_.n_rows == 400
    assert read_appended(told["history"]).num_rows == 8
    assert {"live.npz", "live.npz.1", "h.arrows/part-00000000000000000000.arrows"} < set(names_below(folder))


def test_what_cannot_be_read_is_told(folder: Address) -> None:
    put(folder.below("rows", "0.parquet"), parquet(X))
    source = open_source(folder.below("rows"))
    put(folder.below("rows", "0.parquet"), parquet(X[::-1]))
    with pytest.raises(SourceChangedError, match=r"0\.parquet"):
        fitted(source)
    with pytest.raises(SourceError, match="absent"):
        fitted(folder.below("absent"))
    if folder.scheme == "az":
        wrong = Address(folder.text, {**folder.options, "account_key": "bm9ib2R5"})
        with pytest.raises(SourceError, match="403"):
            fitted(wrong.below("rows"))
        with pytest.raises(SourceError, match="403") as refused:
            fitted(X).predict(X, out=wrong.below("l.npy"))
        assert ACCOUNT_KEY not in str(refused.value)


@pytest.mark.parametrize("many", [False, True])
def test_last_bytes_where_the_store_knows_none(many: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """As of Azure: the footer of a Parquet file is asked for by its place. One request has another way than many."""
    obstore = pytest.importorskip("obstore")
    asked, get_async, get_here = [], obstore.get_async, obstore.get

    class NotSupportedError(Exception):
        """As obstore raises it."""

    def noted(options: Any) -> None:
        asked.append(options)
        if isinstance((options or {}).get("range"), dict):
            raise NotSupportedError("Azure does not support suffix range requests")

    async def without_suffixes(store: Any, key: str, *, options: Any = None) -> Any:
        noted(options)
        return await get_async(store, key, options=options)

    def without_suffixes_here(store: Any, key: str, *, options: Any = None) -> Any:
        noted(options)
        return get_here(store, key, options=options)

    monkeypatch.setattr(obstore, "get_async", without_suffixes)
    monkeypatch.setattr(obstore, "get", without_suffixes_here)
    with ObjectServer(objects={"a": b"0123456789"}).running() as server:
        store = Address(server.address("a"), server.storage_options).object_store()
        for last, content in ((3, b"789"), (99, b"0123456789")):
            for found in fetch_all(store, [Piece("a", -last)] * (2 if many else 1), "s3://bucket/"):
                assert found is not None
                assert (bytes(found.content), found.first, found.size) == (content, 10 - len(content), 10)
    assert asked[-1]["if_match"]


def objects(folder: Path) -> dict[str, bytes]:
    """Zarr and Parquet, as files of a folder."""
    zarr.create_array(folder / "plain.zarr", data=X, chunks=(100, 2))
    for i, name in enumerate("ab"):
        zarr.open_group(folder / "columns.zarr").create_array(name, data=X[:, i])
    zarr.create_array(folder / "shards.zarr", data=X, chunks=(100, 2), shards=(200, 2))
    (folder / "rows.parquet").write_bytes(parquet(X))
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_data_on_fake_gcs_server(tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    with fake_gcs(objects(tmp_path)) as box:
        for name in ("plain.zarr", "shards.zarr", "rows.parquet"):
            assert np.allclose(fitted(box.below(name)).means_, fitted(X).means_, rtol=1e-12)
        with pytest.raises(SourceError, match="absent"):
            fitted(box.below("absent.zarr"))


@pytest.mark.parametrize("kind", [pytest.param("http", marks=pytest.mark.slow), "https"])
def test_data_by_http(kind: str, tmp_path: Path) -> None:
    pytest.importorskip("obstore")
    (tmp_path / "files").mkdir()
    objects(tmp_path / "files")
    certificate = certificate_in(tmp_path) if kind == "https" else None
    options: dict[str, Any] = {"allow_invalid_certificates": True} if certificate else {}
    with plain_http(tmp_path / "files", certificate) as where:
        for name in ("plain.zarr", "shards.zarr", "rows.parquet"):
            assert np.allclose(fitted(Address(f"{where}/{name}", options)).means_, fitted(X).means_, rtol=1e-12)
        with pytest.raises(SourceError, match=r"absent.parquet: the web server has no such file"):
            fitted(Address(f"{where}/absent.parquet", options))
        with pytest.raises(SourceError, match=r"absent.zarr cannot be opened as Zarr"):
            fitted(Address(f"{where}/absent.zarr", options))
        (tmp_path / "files/plain.zarr/c/3/0").unlink()
        with pytest.raises(SourceError, match="c/3/0' is missing"):
            fitted(Address(f"{where}/plain.zarr", options))
        with pytest.raises(SourceError, match="its metadata are not consolidated"):
            fitted(Address(f"{where}/columns.zarr", options))
        with pytest.raises(OutputError, match="405"):
            fitted(X).predict(X, out=Address(f"{where}/l.npy", options))
        if certificate:
            told = {"retry_config": {"max_retries": 0}}
            with pytest.raises(SourceError, match="its certificate is not trusted"):
                fitted(Address(f"{where}/rows.parquet", told))
