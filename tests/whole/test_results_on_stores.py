"""Models, checkpoints and results at addresses of stores: complete, or absent; and refused before the first read."""

from __future__ import annotations

import io
import warnings
import zlib
from collections.abc import Iterator
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray as xr
import zarr
from fsspec.implementations.memory import MemoryFileSystem

from helpers.forked import Forked
from helpers.moto_server import moto
from helpers.object_server import SECRET, ObjectServer, error
from helpers.seaweed import seaweed
from streamem import Address, GaussianMixture, open_source
from streamem.core import stored_objects
from streamem.core.errors import CheckpointMismatchError, ModelFileError, OutputError, SourceError, WriterConflictError
from streamem.core.object_claims import SUFFIX
from streamem.core.stored_objects import etag_of, get, names_below, put, put_after

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(3).normal(size=(400, 2)) + 4.0 * (np.arange(400) % 2)[:, None]
SETTINGS: dict[str, Any] = {"n_components": 2, "random_state": 0, "tol": 0.0}


@pytest.fixture(scope="module")
def bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A bucket of SeaweedFS, a real server."""
    with seaweed(tmp_path_factory.mktemp("weed")) as address:
        yield address


@pytest.fixture(scope="module")
def moto_bucket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Address]:
    """A bucket of moto, which knows S3's conditional writes."""
    with moto(tmp_path_factory.mktemp("moto")) as address:
        yield address


SERVERS = {"seaweed": "bucket", "moto": "moto_bucket"}


@pytest.fixture(params=["memory", "s3", *(pytest.param(name, marks=pytest.mark.slow) for name in SERVERS)])
def folder(request: pytest.FixtureRequest) -> Iterator[Address]:
    """A folder of a store: fsspec's memory, and S3 servers through obstore."""
    if request.param in SERVERS:
        yield request.getfixturevalue(SERVERS[request.param]).below(f"{zlib.crc32(request.node.name.encode()):08x}")
        return
    if request.param == "memory":
        yield Address("memory://results")
        if MemoryFileSystem().exists("/results"):
            MemoryFileSystem().rm("/results", recursive=True)
        return
    pytest.importorskip("obstore")
    with ObjectServer().running() as server:
        yield Address(server.address("results"), server.storage_options)


def fitted(**more: Any) -> GaussianMixture:
    return GaussianMixture(**SETTINGS, **more).fit(X)


def test_a_model_comes_back(folder: Address) -> None:
    model = fitted(max_iter=3)
    address = folder.below("model.npz")
    model.save(address)
    assert GaussianMixture.load(address).means_.tobytes() == model.means_.tobytes()
    assert names_below(folder) == ["model.npz"]
    assert SECRET.encode() not in (get(address) or b"")
    with pytest.raises(ModelFileError, match=r"no such object: .*absent.npz"):
        GaussianMixture.load(folder.below("absent.npz"))
    put(address, (get(address) or b"")[:-40])
    with pytest.raises(ModelFileError, match="cannot be trusted"):
        GaussianMixture.load(address)


def test_a_fit_goes_on_from_a_checkpoint(folder: Address) -> None:
    address, whole = folder.below("c.npz"), fitted(max_iter=8)
    GaussianMixture(**SETTINGS, max_iter=3).fit(X, checkpoint=address)
    assert sorted(names_below(folder)) == ["c.npz", "c.npz.1", "c.npz.2"]
    resumed = GaussianMixture(**SETTINGS, max_iter=8).fit(X, checkpoint=address)
    assert resumed.means_.tobytes() == whole.means_.tobytes()
    assert SECRET.encode() not in (get(address) or b"")
    with pytest.raises(CheckpointMismatchError, match=r"c.npz is the checkpoint of another run"):
        GaussianMixture(**SETTINGS, max_iter=8).fit(X[:300], checkpoint=address)


def test_a_damaged_checkpoint_leaves_the_generation_before(folder: Address) -> None:
    address, whole = folder.below("c.npz"), fitted(max_iter=8)
    GaussianMixture(**SETTINGS, max_iter=3).fit(X, checkpoint=address)
    put(address, b"torn")
    resumed = GaussianMixture(**SETTINGS, max_iter=8).fit(X, checkpoint=address)
    assert resumed.means_.tobytes() == whole.means_.tobytes()


@pytest.mark.parametrize("suffix", [".npy", ".parquet", ".zarr"])
def test_results(folder: Address, suffix: str, tmp_path: Any) -> None:
    model, address = fitted(max_iter=3), folder.below(f"labels{suffix}")
    assert model.predict(X, out=address) == address
    expected = tmp_path / f"labels{suffix}"
    model.predict(X, out=expected)
    if suffix == ".zarr":
        files = {path.relative_to(expected).as_posix(): path for path in expected.rglob("*") if path.is_file()}
        assert sorted(names_below(address)) == sorted(files)
        assert all(get(address.below(name)) == path.read_bytes() for name, path in files.items())
        assert (zarr.open_array(expected, mode="r")[:] == model.predict(X)).all()
    else:
        assert get(address) == expected.read_bytes()
        assert suffix == ".npy" or pq.read_table(expected).num_rows == 400
    with pytest.raises(OutputError, match="exists already"):
        model.predict(X, out=address)
    model.predict(X[:200], out=address, overwrite=True)
    if suffix == ".npy":
        assert len(get(address) or b"") < len(expected.read_bytes())


def test_a_map_keeps_its_coordinates(folder: Address, tmp_path: Any) -> None:
    """Object by object what a folder holds; one that a killed process left is replaced, where that is asked for."""
    data = xr.Dataset({name: (("lat", "lon"), X[:, i].reshape(20, 20)) for i, name in enumerate("ts")})
    data = data.assign_coords(lat=np.arange(20.0), name=(("lat", "lon"), np.full((20, 20), "A")))
    model, address, expected = fitted(max_iter=3), folder.below("labels.zarr"), tmp_path / "labels.zarr"
    model.predict(data, out=expected)
    put(address.below("label/c/0/0"), b"torn")
    put(address.below("label/zarr.json"), b"{}")
    model.predict(data, out=address, overwrite=True)
    files = {path.relative_to(expected).as_posix(): path for path in expected.rglob("*") if path.is_file()}
    assert sorted(names_below(address)) == sorted(files)
    assert {"zarr.json", "label/zarr.json", "lat/zarr.json", "name/zarr.json"} < set(files)
    assert all(get(address.below(name)) == path.read_bytes() for name, path in files.items())
    assert (xr.open_zarr(expected).label.values == model.predict(data).values).all()


@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_result_of_many_objects_that_is_not_whole_does_not_look_so(
    folder: Address, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after some of its objects (nothing is cleaned up then): there is no zarr.json; writing again mends it."""
    model, address, done = fitted(max_iter=3, chunk_bytes=1600), folder.below("r.zarr"), []

    def dying(address: Address, content: Any, create: bool = False) -> None:
        if len(done) == at:
            raise SystemExit
        done.append(address)
        put(address, content, create)

    monkeypatch.setattr("streamem.core.object_claims._lives", lambda pid: False)
    monkeypatch.setattr("streamem.sinks.uploading.UPLOADS", 1)
    monkeypatch.setattr("streamem.sinks.uploading.put", dying)
    monkeypatch.setattr("streamem.sinks.uploading.UploadedSink.abort", lambda sink: None)
    with pytest.raises(SystemExit):
        model.predict_proba(X, out=address)
    assert "zarr.json" not in names_below(address)
    monkeypatch.undo()
    monkeypatch.setattr("streamem.core.object_claims._lives", lambda pid: False)
    model.predict_proba(X, out=address)
    assert "zarr.json" in names_below(address)


def test_a_failure_leaves_nothing(folder: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    model, address = fitted(max_iter=3), folder.below("r.zarr")

    def failing(address: Address, content: Any, create: bool = False) -> None:
        if address.text.endswith("zarr.json"):
            raise OutputError("the store is full")
        put(address, content, create)

    monkeypatch.setattr("streamem.sinks.uploading.put", failing)
    with pytest.raises(OutputError, match="the store is full"):
        model.predict(X, out=address)
    assert names_below(address) == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_is_no_result_is_not_replaced(folder: Address, overwrite: bool) -> None:
    """Such as a Zarr store of format 2, which has no ``zarr.json``."""
    put(folder.below("r.zarr", ".zarray"), b"{}")
    put(folder.below("r.zarr", "0.0"), b"numbers")
    with pytest.raises(OutputError, match=r"r.zarr holds (.zarray|0.0) and is no Zarr store of this format"):
        fitted(max_iter=2).predict(X, out=folder.below("r.zarr"), overwrite=overwrite)
    assert get(folder.below("r.zarr", "0.0")) == b"numbers"


def test_a_result_may_not_lie_in_its_data(folder: Address) -> None:
    model, path = fitted(max_iter=2), folder.below("t")
    fitted(max_iter=2).predict_proba(X, out=path.below("0.parquet"))
    with pytest.raises(OutputError, match="write the result elsewhere"):
        model.predict(path, out=path.below("labels.parquet"))


def test_who_may_not_write_is_told_before_the_first_read(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("obstore")
    with ObjectServer(readonly=True).running() as server:
        rows, folder = Reads(), Address(server.address("results"), server.storage_options)
        model = fitted(max_iter=2)
        for act in (
            lambda: GaussianMixture(**SETTINGS, max_iter=2).fit(rows, checkpoint=folder.below("c.npz")),
            lambda: model.predict(rows, out=folder.below("r.npy")),
            lambda: model.predict(rows, out=folder.below("r.zarr")),
        ):
            with pytest.raises(OutputError, match="403") as caught:
                act()
            assert SECRET not in str(caught.value)
        assert rows.read == 0
        assert not server.objects


@pytest.mark.parametrize(
    ("status", "words"),
    [("404 Not Found", "NoSuchBucket"), ("403 Forbidden", "AccessDenied"), ("400 Bad Request", "ExpiredToken")],
)
def test_a_store_that_refuses_results_is_told_before_the_first_read(status: str, words: str) -> None:
    """A bucket that is not there, one that may not be written, and a token that has expired."""
    pytest.importorskip("obstore")
    with ObjectServer().running() as server:
        refused: list[str] = []
        answer = server._answer

        def refusing(method: str, target: str, headers: dict[str, str], body: bytes) -> Any:
            if method in ("PUT", "POST"):
                refused.append(target)
                return error(status, words)
            return answer(method, target, headers, body)

        server._answer = refusing  # type: ignore[method-assign]
        rows, folder = Reads(), Address(server.address("results"), server.storage_options)
        model = fitted(max_iter=2)
        for act in (
            lambda: GaussianMixture(**SETTINGS, max_iter=2).fit(rows, checkpoint=folder.below("c.npz")),
            lambda: model.predict(rows, out=folder.below("r.zarr")),
            lambda: model.predict(rows, out=folder.below("r.parquet")),
        ):
            with pytest.raises(OutputError, match=words) as caught:
                act()
            assert SECRET not in str(caught.value)
            assert "credential_provider" in str(caught.value) or words != "ExpiredToken"
        assert len(refused) == 3
        assert rows.read == 0


def test_a_token_that_expires_during_a_fit_is_told_at_the_next_save() -> None:
    """And once it was renewed, the same call goes on from what was saved before."""
    pytest.importorskip("obstore")
    with ObjectServer().running() as server:
        answer, expired = server._answer, [False]

        def expiring(method: str, target: str, headers: dict[str, str], body: bytes) -> Any:
            return error("400 Bad Request", "ExpiredToken") if expired[0] else answer(method, target, headers, body)

        server._answer = expiring  # type: ignore[method-assign]
        rows, checkpoint = Reads(), Address(server.address("c.npz"), server.storage_options)
        GaussianMixture(**SETTINGS, max_iter=3).fit(X, checkpoint=checkpoint)
        rows.at = 1, lambda: expired.__setitem__(0, True)
        with pytest.raises((OutputError, SourceError), match=r"(?s)c\.npz.*400.*expired: pass a credential_provider"):
            GaussianMixture(**SETTINGS, max_iter=8).fit(rows, checkpoint=checkpoint)
        expired[0] = False
        resumed = GaussianMixture(**SETTINGS, max_iter=8).fit(X, checkpoint=checkpoint)
        assert resumed.means_.tobytes() == fitted(max_iter=8).means_.tobytes()


class Reads:
    """Rows that count how often they are read."""

    def __init__(self) -> None:

        self._base = open_source(X)
        self.schema, self.n_rows, self.read = self._base.schema, self._base.n_rows, 0
        self.at: tuple[int, Any] = 0, None

    def fingerprint(self) -> str:
        return self._base.fingerprint()

    def chunks(self) -> Any:
        return [Counted(ref, self) for ref in self._base.chunks()]


class Counted:
    """A chunk of them."""

    def __init__(self, ref: Any, source: Reads) -> None:
        self._source, self._ref = source, ref
        self.index, self.start, self.rows = ref.index, ref.start, ref.rows
        self.nbytes, self.load_nbytes = ref.nbytes, ref.nbytes + 1

    def load(self) -> Any:
        self._source.read += 1
        if self._source.read == self._source.at[0]:
            self._source.at[1]()
        return self._ref.load()


def test_a_conditional_write_does_not_replace(folder: Address) -> None:
    put(folder.below("a"), b"first", create=True)
    with pytest.raises(OutputError, match="cannot write"):
        put(folder.below("a"), b"second", create=True)
    assert get(folder.below("a")) == b"first"


def test_two_writers_of_one_checkpoint(folder: Address) -> None:
    """Who comes second notices it at the next save: nothing of the other is overwritten."""
    if folder.scheme == "memory":
        pytest.skip("a store without conditions")
    address, source = folder.below("c.npz"), Reads()
    GaussianMixture(**SETTINGS, max_iter=2).fit(X, checkpoint=address)
    source.at = 1, lambda: put(address, b"of another fit")
    with pytest.raises(WriterConflictError, match=r"c.npz was written by another process"):
        GaussianMixture(**SETTINGS, max_iter=9).fit(source, checkpoint=address.at(address.text))
    assert get(address) == b"of another fit"


def test_a_model_that_lives_on_a_stream(folder: Address) -> None:
    """Its checkpoint, with the positions, is one object: it goes on from there, and another writer is noticed."""
    address, batches = folder.below("live.npz"), [X[i : i + 50] for i in range(0, 400, 50)]
    told: dict[str, Any] = {"batch_rows": 50, "checkpoint": address, "save_every_s": 0}
    model = GaussianMixture(**SETTINGS).fit_stream(iter(batches), **told)
    again = GaussianMixture(**SETTINGS).fit_stream(iter(batches[:1]), **told)
    assert GaussianMixture.load(address).means_.tobytes() == again.means_.tobytes() != model.means_.tobytes()
    if folder.scheme == "memory":
        return

    def meddled() -> Iterator[Any]:
        yield batches[0]
        put(address, b"of another")
        yield batches[1]

    with pytest.raises(WriterConflictError, match=r"live.npz was written by another process"):
        GaussianMixture(**SETTINGS).fit_stream(meddled(), **told)
    assert get(address) == b"of another"


def test_a_conditional_write_that_was_made_twice_is_no_conflict(folder: Address) -> None:
    """As when the answer to the first was lost."""
    if folder.scheme == "memory":
        pytest.skip("a store without conditions")
    address = folder.below("a")
    put(address, b"first")
    etag = etag_of(address)
    put(address, b"second")
    assert put_after(address, b"second", etag) == etag_of(address)
    with pytest.raises(WriterConflictError):
        put_after(address, b"third", etag)
    with pytest.raises(WriterConflictError):
        put_after(address, b"third", None)


def write_slowly(port: int) -> None:
    """In a process of its own: a result of forty chunks."""
    warnings.simplefilter("ignore")
    server = ObjectServer(port=port)
    model = GaussianMixture(**SETTINGS, max_iter=2, chunk_bytes=160, memory_limit="64MiB").fit(X)
    model.predict_proba(X, out=Address(server.address("k.zarr"), server.storage_options))


def test_a_process_killed_while_it_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """It leaves nothing that looks finished, and nothing that hinders the next one."""
    pytest.importorskip("obstore")
    with ObjectServer(latency_s=0.02).running() as server:
        writing = Forked(write_slowly, server.port)
        end = monotonic() + 60
        while sum(key.startswith("k.zarr/c/") for key in server.objects) < 3 and monotonic() < end:
            if writing.returncode is not None:
                break
            sleep(0.005)
        writing.kill()
        _, words = writing.communicate()
        out = Address(server.address("k.zarr"), server.storage_options)
        assert "zarr.json" not in names_below(out)
        assert len(names_below(out)) >= 3, words
        server.latency_s = 0.0
        fitted(max_iter=2).predict_proba(X, out=out)
        assert "zarr.json" in names_below(out)
        assert not [key for key in server.objects if not key.startswith("k.zarr/")]


MANY = np.tile(X, (6000, 1))
"""Results of five parts of an upload."""


def write_large(address: Address) -> None:
    """In a process of its own: one object."""
    warnings.simplefilter("ignore")
    GaussianMixture(**SETTINGS, max_iter=2).fit(X).predict_proba(MANY, out=address)


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".npy", ".parquet"])
def test_a_process_killed_while_it_uploads_one_object(suffix: str, bucket: Address, tmp_path: Path) -> None:
    """On a real server: the object is absent, or whole; the next one writes it."""
    out = bucket.below("killed", f"large{suffix}")
    writing, end = Forked(write_large, out), monotonic() + 120
    while not any(name.endswith(SUFFIX) for name in names_below(bucket.below("killed"))) and monotonic() < end:
        sleep(0.002)  # the claim is there as long as it uploads
    sleep(0.01)
    writing.kill()
    _, words = writing.communicate()
    found, model = get(out), fitted(max_iter=2)
    model.predict_proba(MANY, out=tmp_path / f"large{suffix}")
    expected = (tmp_path / f"large{suffix}").read_bytes()
    assert found in (None, expected), words
    model.predict_proba(MANY, out=out, overwrite=True)  # the server may end by itself what it was told last
    assert get(out) == expected
    assert names_below(bucket.below("killed")) == [f"large{suffix}"]
    stored_objects.delete(out)


def test_probes_are_removed(folder: Address) -> None:
    stored_objects.require_writable(folder.below("model.npz"))
    assert names_below(folder) == []


@pytest.mark.slow
def test_data_and_results_on_a_real_server(bucket: Address, tmp_path: Any) -> None:
    """Rows of Zarr and of a Parquet folder as from memory; a result in several parts of an upload, whole."""
    folder, store = bucket.below("data"), bucket.below("data", "x.zarr").object_store(whole=True)
    zarr.create_array(zarr.storage.ObjectStore(store), shape=X.shape, chunks=(20, 2), dtype="f8")[...] = X
    for i in range(4):
        file = io.BytesIO()
        pq.write_table(pa.table({"a": X[100 * i :][:100, 0], "b": X[100 * i :][:100, 1]}), file)
        put(folder.below("t", f"part={i}", "rows.parquet"), file.getvalue())
    model = fitted(max_iter=3)
    for data in ("x.zarr", "t", "t/*/rows.parquet"):
        assert np.allclose(GaussianMixture(**SETTINGS, max_iter=3).fit(folder.below(data)).means_, model.means_)
    many = np.tile(X, (3000, 1))
    address = folder.below("large.npy")
    model.predict_proba(many, out=address)
    model.predict_proba(many, out=tmp_path / "large.npy")
    assert get(address) == (tmp_path / "large.npy").read_bytes()
    assert len(get(address) or b"") > 2 * stored_objects.PART_NBYTES
