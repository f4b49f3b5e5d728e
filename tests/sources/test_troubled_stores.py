"""Stores that fail for a while, are changed meanwhile, or refuse: the same bits, or an error that names the object."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from numpy.typing import NDArray

from helpers.object_server import KEY, SECRET, ObjectServer, error
from helpers.subprocess_jobs import run
from helpers.troubled_proxy import TroubledProxy
from streamem import Address, GaussianMixture, ReadOptions, open_source
from streamem.core import retrying
from streamem.core.errors import SourceChangedError, SourceError
from streamem.core.object_requests import Piece, fetch_all, patient
from streamem.core.retrying import ATTEMPTS, LONGEST_PAUSE_S, pauses_of_a_request
from streamem.running.report import RETRIED
from streamem.sources import far_stream
from streamem.sources.held_file import Parts, PartsFile

pytest.importorskip("obstore")
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

X = np.random.default_rng(8).normal(size=(1200, 3)) + 5.0 * (np.arange(1200) % 2)[:, None]
SETTINGS: dict[str, Any] = {"n_components": 2, "random_state": 0, "max_iter": 4, "tol": 0.0}
DATA = ["plain.zarr", "sharded.zarr", "t"]


@pytest.fixture
def server() -> Iterator[ObjectServer]:
    """A server with rows in several formats."""
    with ObjectServer().running() as served:
        fill(served)
        yield served


def fill(served: ObjectServer) -> None:
    for key, how in (("plain.zarr", {"chunks": (50, 3)}), ("sharded.zarr", {"chunks": (25, 3), "shards": (100, 3)})):
        store = Address(served.address(key), served.storage_options).object_store(whole=True)
        zarr.create_array(zarr.storage.ObjectStore(store), shape=X.shape, dtype="f8", **how)[...] = X
    for i in range(12):
        served.objects[f"t/{i:02}.parquet"] = parquet(X[100 * i :][:100])


def parquet(rows: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    pq.write_table(pa.table(dict(zip("abc", rows.T, strict=True))), file)
    return file.getvalue()


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pauses of milliseconds."""
    monkeypatch.setattr(retrying, "FIRST_PAUSE_S", 0.001)
    monkeypatch.setattr(retrying, "LONGEST_PAUSE_S", 0.01)


def behind(proxy: TroubledProxy, server: ObjectServer, **more: Any) -> dict[str, Any]:
    """Options that lead through the proxy."""
    return {**server.storage_options, "endpoint": f"http://127.0.0.1:{proxy.port}", **more}


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("key", DATA)
def test_faults_cost_time_and_no_bit(key: str, server: ObjectServer) -> None:
    shares = {"500": 0.06, "503": 0.06, "429": 0.04, "reset": 0.08, "short": 0.08}
    options = ReadOptions(chunk_bytes=4800)
    with TroubledProxy(server.port).running() as proxy:
        undisturbed = GaussianMixture(**SETTINGS).fit(
            open_source(server.address(key), options=options, storage_options=server.storage_options)
        )
        source = open_source(server.address(key), options=options, storage_options=behind(proxy, server))
        proxy.troubles.shares = shares
        found = GaussianMixture(**SETTINGS).fit(source)
    assert found.means_.tobytes() == undisturbed.means_.tobytes()
    assert len(proxy.troubles.met) >= 3  # which of them depends on how many requests there were
    assert found.report_.events[RETRIED] > 3
    assert "failed for a while and were made again" in str(found.report_)
    assert RETRIED not in undisturbed.report_.events


@pytest.mark.usefixtures("hurried")
def test_slow_answers_are_asked_for_again(server: ObjectServer) -> None:
    with TroubledProxy(server.port, slow_s=30.0).running() as proxy:
        source = open_source(server.address("plain.zarr"), storage_options=behind(proxy, server, timeout="300ms"))
        proxy.troubles.shares = {"slow": 0.1}
        fitted = GaussianMixture(**SETTINGS | {"max_iter": 2}).fit(source)
    assert proxy.troubles.met["slow"] > 0
    assert fitted.report_.events[RETRIED] >= proxy.troubles.met["slow"] - 1


@pytest.mark.usefixtures("hurried")
@pytest.mark.parametrize("key", DATA)
def test_a_store_that_never_recovers_is_named(key: str, server: ObjectServer) -> None:
    with TroubledProxy(server.port).running() as proxy:
        source = open_source(server.address(key), storage_options=behind(proxy, server))
        refs, _ = source.chunks(), proxy.asked.clear()
        proxy.troubles.shares = {"503": 1.0}
        with pytest.raises(SourceError, match="cannot read .*503") as caught:
            refs[0].fetched()
        assert retrying.ATTEMPTS <= proxy.asked["GET"] <= retrying.ATTEMPTS * max(1, refs[0].fetches()[0])
    assert SECRET not in str(caught.value)


@pytest.mark.parametrize("key", DATA)
@pytest.mark.parametrize(("status", "words"), [("403 Forbidden", "403"), ("401 Unauthorized", "401")])
def test_refusals_are_final(key: str, status: str, words: str, server: ObjectServer) -> None:
    source = open_source(server.address(key), storage_options=server.storage_options)
    refs, _ = source.chunks(), server.asked.clear()
    answering(server, lambda method, key: error(status, "Refused"))
    with pytest.raises(SourceError, match=f"cannot read .*{words}"):
        refs[0].fetched()
    assert server.asked["GET"] <= sum(refs[0].fetches()[:1])


def answering(server: ObjectServer, instead: Callable[[str, str], Any]) -> None:
    """Let the server answer something else, where `instead` says so."""
    answer = server._answer

    def answered(method: str, target: str, headers: dict[str, str], body: bytes) -> Any:
        return instead(method, target) or answer(method, target, headers, body)

    server._answer = answered  # type: ignore[method-assign]


def test_an_object_that_is_gone_is_final(server: ObjectServer) -> None:
    source = open_source(server.address("t"), storage_options=server.storage_options)
    refs = source.chunks()
    del server.objects["t/03.parquet"]
    server.asked.clear()
    with pytest.raises(SourceChangedError, match=r"t/03.parquet is gone"):
        [ref.fetched() for ref in refs]
    assert server.asked["GET"] <= 12


CHANGES = {
    "rewritten": lambda content: content[:20] + bytes([content[20] ^ 1]) + content[21:],
    "truncated": lambda content: content[:-9],
}


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("key", "name"), [("plain.zarr", "plain.zarr/c/7/0"), ("t", "t/03.parquet")])
def test_an_object_that_changes_between_passes_is_named(
    key: str, name: str, change: str, server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also when its time stays the same: its ETag does not."""
    source, listed = open_source(server.address(key), storage_options=server.storage_options), []
    fingerprint = type(source).fingerprint

    def changed(self: Any) -> str:
        told = fingerprint(self)
        listed.append(told)
        if len(listed) == 3:  # before the start, after the sample, after the first pass
            server.objects[name] = CHANGES[change](server.objects[name])
        return told

    monkeypatch.setattr(type(source), "fingerprint", changed)
    with pytest.raises(SourceError, match=name.replace(".", r"\.") if key == "t" else "c/7/0"):
        GaussianMixture(**SETTINGS).fit(source)


def test_large_row_groups_are_read_ahead_and_by_version(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """In parts, with many requests at once; rewritten in the middle of one, it is named."""
    monkeypatch.setattr(far_stream, "AHEAD_NBYTES", 2**17)
    many = np.tile(X, (40, 1))
    file = io.BytesIO()
    pq.write_table(pa.table(dict(zip("abc", many.T, strict=True))), file, compression="none", use_dictionary=False)
    server.objects["large.parquet"] = file.getvalue()
    options = ReadOptions(chunk_bytes=96_000)
    source = open_source(server.address("large.parquet"), options=options, storage_options=server.storage_options)
    refs = source.chunks()
    assert len(refs) > 8
    server.latency_s, server.most_at_once, _ = 0.02, 0, server.asked.clear()
    rows = np.concatenate([ref.load().x for ref in refs])
    np.testing.assert_array_equal(rows, many)
    assert server.most_at_once >= 3
    assert server.asked["HEAD"] == 0
    server.latency_s = 0.0
    refs[0].load()
    server.objects["large.parquet"] += b"x"
    with pytest.raises(SourceChangedError, match=r"large.parquet was rewritten"):
        [ref.load() for ref in refs]


def test_a_fingerprint_tells_what_changed(server: ObjectServer) -> None:
    for key, name in (("plain.zarr", "plain.zarr/c/7/0"), ("t", "t/03.parquet")):
        source = open_source(server.address(key), storage_options=server.storage_options)
        before = source.fingerprint()
        assert source.changes() == ""
        server.objects[name] += b"x"
        assert source.fingerprint() != before
        assert name.rpartition("/")[2] in source.changes()
        assert "rewritten, truncated or added" in source.changes()
        del server.objects[name]
        assert source.fingerprint() != before if key != "t" else True


def test_a_store_is_listed_once_before_the_first_chunk(server: ObjectServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """In three pages, and none of the objects is asked for by itself."""
    monkeypatch.setattr("helpers.object_server.PAGE", 100)
    store = Address(server.address("many.zarr"), server.storage_options).object_store(whole=True)
    array = zarr.create_array(zarr.storage.ObjectStore(store), shape=(240, 2), chunks=(1, 2), dtype="f8", fill_value=0)
    array[:1] = 1.0
    server.objects |= {f"many.zarr/c/{i}/0": server.objects["many.zarr/c/0/0"] for i in range(240)}
    lists, chunks = [], []

    def noted(method: str, target: str) -> None:
        if "list-type" in target:
            lists.append(len(chunks))
        elif "/c/" in target:
            chunks.append(target)

    answering(server, noted)
    GaussianMixture(1, max_iter=1, init_params="random_from_data").fit(
        Address(server.address("many.zarr"), server.storage_options)
    )
    assert sum(at == 0 for at in lists) <= 4
    assert len(chunks) >= 240


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["parquet", pytest.param("zarr", marks=pytest.mark.long)])
def test_what_is_fetched_ahead_stays_within_the_limit(
    kind: str, server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory by VmHWM in a process of its own; the store and its options come from the environment."""
    limit, rng = 64 * 2**20, np.random.default_rng(0)
    for name, number in (("small", 4), ("large", 80)):
        x = rng.normal(size=(number * 40_000, 8)).astype("f4")
        if kind == "parquet":
            for i in range(number):
                file = io.BytesIO()
                pq.write_table(pa.table({f"c{j}": x[40_000 * i :][:40_000, j] for j in range(8)}), file)
                server.objects[f"{name}/{i:02}.parquet"] = file.getvalue()
            continue
        store = Address(server.address(name), server.storage_options).object_store(whole=True)
        how: dict[str, Any] = {"chunks": (40_000, 8), "compressors": None}
        zarr.create_array(zarr.storage.ObjectStore(store), shape=x.shape, dtype="f4", **how)[...] = x
    named = {"ACCESS_KEY_ID": KEY, "SECRET_ACCESS_KEY": SECRET, "REGION": "us-east-1", "ALLOW_HTTP": "true"}
    for option, value in (named | {"ENDPOINT": server.storage_options["endpoint"]}).items():
        monkeypatch.setenv(f"AWS_{option}", value)
    server.latency_s = 0.02
    settings = {"n_components": 2, "covariance_type": "diag", "max_iter": 2, "memory_limit": limit}
    settings |= {"init_params": "random_from_data", "random_state": 0}
    taken = run("measure", data=server.address("large"), settings=settings, warm_up=server.address("small"))
    assert server.most_at_once >= 8
    assert taken["peak"] - taken["before"] < limit


def test_credentials_are_renewed(server: ObjectServer) -> None:
    """By the provider, once those it gave have expired."""
    given = []

    def provide() -> dict[str, Any]:
        given.append(1)
        soon = datetime.now(UTC) + timedelta(seconds=-1 if len(given) < 3 else 3600)
        return {"access_key_id": KEY, "secret_access_key": SECRET, "token": None, "expires_at": soon}

    options = {name: value for name, value in server.storage_options.items() if "key" not in name}
    address = Address(server.address("plain.zarr"), {**options, "credential_provider": provide})
    GaussianMixture(**SETTINGS | {"max_iter": 1}).fit(address)
    assert len(given) >= 3


def test_expired_credentials_are_told_with_the_remedy(server: ObjectServer) -> None:
    source = open_source(server.address("plain.zarr"), storage_options=server.storage_options)
    answering(server, lambda method, target: error("400 Bad Request", "ExpiredToken"))
    with pytest.raises(SourceError, match=r"ExpiredToken.*pass a credential_provider"):
        source.chunks()[0].fetched()


def test_who_chose_how_often_is_left_alone(server: ObjectServer) -> None:
    chosen = Address(server.address("plain.zarr"), {**server.storage_options, "retry_config": {"max_retries": 2}})
    store = chosen.object_store()
    assert patient(store) is store
    plain = Address(server.address("plain.zarr"), server.storage_options).object_store()
    assert patient(plain) is not plain
    assert patient(plain) is patient(Address(server.address("t"), server.storage_options).object_store())


def test_pieces_of_objects(server: ObjectServer) -> None:
    server.objects["digits"] = b"0123456789"
    store = Address(server.address("digits"), server.storage_options).object_store()
    asked = [Piece("digits"), Piece("digits", 2, 5), Piece("digits", -3), Piece("absent")]
    found = fetch_all(store, asked, "s3://bucket/")
    told = [None if each is None else (each.content, each.first, each.size) for each in found]
    assert told == [(b"0123456789", 0, 10), (b"234", 2, 10), (b"789", 7, 10), None]
    with pytest.raises(SourceChangedError, match="s3://bucket/digits was truncated"):
        fetch_all(store, [Piece("digits", 5, 11)], "s3://bucket/")
    with pytest.raises(SourceChangedError, match="s3://bucket/digits was rewritten"):
        fetch_all(store, [Piece("digits", 5, 6, '"other"')], "s3://bucket/")


def test_parts_that_adjoin_are_read_as_one() -> None:
    file = PartsFile(Parts((0, 4, 10), (b"0123", b"45", b"abc")))
    assert file.read(6) == b"012345"
    assert file.seek(10) == 10
    assert file.read(9) == b"abc"
    file.seek(3)
    assert file.read(9) == b"345"


def test_pauses_begin_short_and_grow() -> None:
    """Chunks behind a failed request wait for it, so the first pauses are a fraction of a request over a network."""
    many = np.array([list(pauses_of_a_request()) for _ in range(200)])
    most = many.max(axis=0)
    assert many.shape[1] == ATTEMPTS - 1
    assert 0.0 <= many.min() < most[0] <= 0.025
    assert (most <= LONGEST_PAUSE_S).all()
    assert most[-1] > 2.0
