"""Zarr and Parquet at addresses of stores: folders, partitions, patterns, options, and many requests at once."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from click.testing import CliRunner
from fsspec.implementations.memory import MemoryFileSystem
from numpy.typing import NDArray
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync

from helpers.object_server import SECRET, ObjectServer
from streamem import Address, GaussianMixture, ReadOptions, open_sequences, open_source
from streamem.cli import main
from streamem.conformance import SourceSuite
from streamem.core.errors import MissingDependencyError, ParameterError, SchemaError, SourceChangedError, SourceError
from streamem.core.ports import Source
from streamem.sources.zarr_far import HeldStore, is_far

Array = NDArray[Any]
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(5)
X = np.concatenate([RNG.normal(size=(600, 3)), RNG.normal(6.0, 1.0, size=(600, 3))])
RNG.shuffle(X)
SETTINGS: dict[str, Any] = {"n_components": 2, "random_state": 0, "max_iter": 4, "tol": 0.0}


def parquet(rows: Array, **columns: Any) -> bytes:
    """A file with the columns a, b, c and others, in row groups of 100."""
    file = io.BytesIO()
    table = pa.table({name: rows[:, i] for i, name in enumerate("abc")} | columns)
    pq.write_table(table, file, row_group_size=100)
    return file.getvalue()


HIVE = {f"t/year={2020 + i}/part{j}.parquet": parquet(X[600 * i + 300 * j :][:300]) for i in range(2) for j in range(2)}
BESIDE = {"t/_SUCCESS": b"", "t/year=2020/_hidden.parquet": b"no Parquet", "t/readme.txt": b"words"}


# --- fsspec's memory: no client of stores is needed -------------------------------------------------------------------


@pytest.fixture
def memory() -> Iterator[MemoryFileSystem]:
    store = MemoryFileSystem()
    for name, content in (HIVE | BESIDE).items():
        store.pipe_file(f"/bucket/{name}", content)
    yield store
    store.rm("/bucket", recursive=True)


@pytest.mark.usefixtures("memory")
def test_a_folder_without_a_suffix_is_found_to_be_parquet() -> None:
    source = open_source("memory://bucket/t")
    assert (source.n_rows, source.schema.names) == (1200, ("a", "b", "c"))
    assert np.array_equal(np.concatenate([ref.load().x for ref in source.chunks()]), X)


@pytest.mark.usefixtures("memory")
def test_partition_keys_of_a_folder() -> None:
    source = open_source("memory://bucket/t", options=ReadOptions(columns=("year", "a")))
    rows = np.concatenate([ref.load().x for ref in source.chunks()])
    assert np.array_equal(rows, np.column_stack([np.repeat([2020.0, 2021.0], 600), X[:, 0]]))


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("pattern", "rows"),
    [
        ("t/*/part1.parquet", np.r_[X[300:600], X[900:]]),
        ("t/**/*.parquet", X),
        ("t/year=2020/part*.parquet", X[:600]),
        ("t/year=2020/*", X[:600]),
    ],
)
def test_patterns(pattern: str, rows: Array) -> None:
    source = open_source(f"memory://bucket/{pattern}")
    assert np.array_equal(np.concatenate([ref.load().x for ref in source.chunks()]), rows)


@pytest.mark.usefixtures("memory")
@pytest.mark.parametrize(
    ("data", "words"),
    [
        ("memory://bucket/absent", "holds nothing that can be read there"),
        ("memory://bucket/absent.parquet", "nothing lies there"),
        ("memory://bucket/absent*.parquet", "no object matches"),
        ("memory://bucket/absent.zarr", "cannot be opened as Zarr"),
        ("memory://bucket/t/readme.txt", "holds nothing that can be read there"),
    ],
)
def test_what_is_not_there(data: str, words: str) -> None:
    with pytest.raises(SourceError, match=words):
        open_source(data)


def test_a_lake_table_is_refused(memory: MemoryFileSystem) -> None:
    memory.pipe_file("/bucket/t/_delta_log/0.json", b"{}")
    for address in ("memory://bucket/t/*/*.parquet", "memory://bucket/t/year=2020/part0.parquet"):
        with pytest.raises(SourceError, match="Delta Lake"):
            open_source(address)
    with pytest.raises((SourceError, MissingDependencyError), match="memory://bucket/t"):
        open_source("memory://bucket/t")


def test_options_are_for_addresses() -> None:
    for data in ("rows.npy", X, ["memory://bucket/t", "rows.npy"]):
        with pytest.raises(ParameterError, match="storage_options are for data at an address"):
            open_source(data, storage_options={"key": "hidden"})


def test_the_command_line_takes_options_for_addresses_only(tmp_path: Any) -> None:
    np.save(tmp_path / "x.npy", X)
    arguments = ["fit", "gmm", str(tmp_path / "x.npy"), "-k", "2", "-o", str(tmp_path / "m.npz")]
    for option, words in (("key=hidden", "is for data at an address"), ("hidden", "one is not NAME=VALUE")):
        outcome = CliRunner().invoke(main, [*arguments, "--storage-option", option])
        assert outcome.exit_code == 2
        assert words in outcome.output
        assert "hidden" not in outcome.output


# --- an S3 server, through obstore ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[ObjectServer]:
    pytest.importorskip("obstore")
    with ObjectServer().running() as served:
        fill(served)
        yield served


def fill(served: ObjectServer) -> None:
    served.objects |= HIVE | BESIDE

    def put(key: str, x: Array, **how: Any) -> None:
        store = Address(served.address(key), served.storage_options).object_store(whole=True)
        zarr.create_array(zarr.storage.ObjectStore(store), shape=x.shape, dtype=x.dtype, **how)[...] = x

    put("direct.zarr", X, chunks=(50, 3))
    put("plain", X, chunks=(50, 3), compressors=None)
    put("sharded.zarr", X, chunks=(25, 3), shards=(100, 3))
    put("gzip.zarr", X, chunks=(50, 3), compressors=zarr.codecs.GzipCodec())
    for i, name in enumerate("abc"):
        put(f"columns.zarr/{name}", X[:, i], chunks=(50,))
    served.objects["columns.zarr/zarr.json"] = b'{"zarr_format": 3, "node_type": "group", "attributes": {}}'
    put("weight.zarr", np.arange(1200) % 3 + 1.0, chunks=(400,))
    arrays = {"rows": X, "by_columns": np.asfortranarray(X), "weight": np.arange(1200) % 3 + 1.0}
    served.objects |= {f"{name}.npy": as_npy(x) for name, x in (arrays | {"lengths": np.full(6, 200)}).items()}


def as_npy(x: Array) -> bytes:
    """What `numpy.save` writes."""
    written = io.BytesIO()
    np.save(written, x)
    return written.getvalue()


DATA = [
    "direct.zarr",
    "plain",
    "sharded.zarr",
    "gzip.zarr",
    "columns.zarr",
    "t",
    "t/*/*.parquet",
    "rows.npy",
    "by_columns.npy",
]


class StoredSuite(SourceSuite):
    """The laws of a source at an address of the server."""

    key: str
    piece_rows = 100

    @pytest.fixture(autouse=True)
    def _served(self, server: ObjectServer) -> None:
        self.server = server

    def make_source(self, chunk_bytes: int) -> Source:
        """What lies there."""
        options = ReadOptions(chunk_bytes=chunk_bytes)
        return open_source(self.server.address(self.key), options=options, storage_options=self.server.storage_options)

    def expected_rows(self) -> Array:
        """All of them."""
        return X


class TestDirect(StoredSuite):
    key = "direct.zarr"


class TestSharded(StoredSuite):
    key = "sharded.zarr"


class TestColumns(StoredSuite):
    key = "columns.zarr"

    def expected_names(self) -> tuple[str, ...]:
        return ("a", "b", "c")


class TestParquet(StoredSuite):
    key = "t"

    def expected_names(self) -> tuple[str, ...]:
        return ("a", "b", "c")


class TestNumPyFile(StoredSuite):
    key = "rows.npy"


class TestNumPyFileByColumns(StoredSuite):
    key = "by_columns.npy"


@pytest.mark.variations(len(DATA), len(DATA))
@pytest.mark.parametrize("key", DATA)
def test_rows_are_the_same_fetched_or_not(key: str, server: ObjectServer) -> None:
    options = ReadOptions(chunk_bytes=4800)
    source = open_source(server.address(key), options=options, storage_options=server.storage_options)
    refs = source.chunks()
    assert all(min(ref.fetches()) > 0 for ref in refs)
    assert np.array_equal(np.concatenate([ref.load().x for ref in refs]), X)
    fetched = [ref.fetched() for ref in refs]
    server.asked.clear()
    assert np.array_equal(np.concatenate([ref.load().x for ref in fetched]), X)
    assert server.asked.total() == 0, "all was fetched before it was decoded"


@pytest.mark.parametrize("key", ["direct.zarr", "columns.zarr", "t", "rows.npy"])
def test_a_fit_has_the_bits_of_one_from_memory(key: str, server: ObjectServer) -> None:
    far = GaussianMixture(**SETTINGS).fit(Address(server.address(key), server.storage_options))
    near = GaussianMixture(**SETTINGS).fit(pa.table(dict(zip("abc", X.T, strict=True))) if key == "t" else X)
    assert np.allclose(far.means_, near.means_, rtol=1e-12)
    assert "chunks fetched ahead" in far.report_.setting
    assert SECRET not in repr(far.report_) + str(far.report_)


@pytest.mark.parametrize("key", ["weight.zarr", "weight.npy"])
def test_weights_at_an_address(key: str, server: ObjectServer) -> None:
    given = {"weight": server.address(key), "storage_options": server.storage_options}
    source = open_source(server.address("direct.zarr"), **given)
    assert np.concatenate([ref.load().weight for ref in source.chunks()]).tolist() == (np.arange(1200) % 3 + 1).tolist()


def test_sequences_at_an_address(server: ObjectServer) -> None:
    address = Address(server.address("t"), server.storage_options)
    for lengths in ([200] * 6, Address(server.address("lengths.npy"), server.storage_options)):
        assert open_sequences(address, lengths=lengths).n_sequences == 6


def test_many_requests_are_made_at_once() -> None:
    """Those of a pass, of the start, of footers; with a thread that computes."""
    pytest.importorskip("obstore")
    with ObjectServer().running() as served:
        fill(served)
        served.latency_s = 0.05
        for key, chunk_bytes in (("direct.zarr", 1200), ("t", 2400)):
            options = ReadOptions(chunk_bytes=chunk_bytes)
            source = open_source(served.address(key), options=options, storage_options=served.storage_options)
            served.most_at_once = 0
            GaussianMixture(**SETTINGS, n_threads=1).fit(source)
            assert served.most_at_once >= 10


def test_a_memory_limit_bounds_what_is_fetched(server: ObjectServer) -> None:
    address = Address(server.address("direct.zarr"), server.storage_options)
    setting = GaussianMixture(**SETTINGS, memory_limit="64MiB").fit(address).report_.setting
    assert setting["chunks fetched ahead"] >= 1


def test_a_rewritten_object_changes_the_fingerprint(server: ObjectServer) -> None:
    names = {"t": "t/year=2021/part1.parquet", "direct.zarr": "direct.zarr/c/7/0", "rows.npy": "rows.npy"}
    for key, name in names.items():
        source = open_source(server.address(key), storage_options=server.storage_options)
        before, content = source.fingerprint(), server.objects[name]
        assert SECRET not in before
        server.objects[name] = content[:-5] + b"x" + content[-4:]
        changed = source.fingerprint()
        server.objects[name] = content
        assert changed != before == source.fingerprint()


@pytest.mark.parametrize("key", ["direct.zarr", "sharded.zarr"])
def test_an_object_that_is_gone_is_named(key: str, server: ObjectServer) -> None:
    source = open_source(server.address(key), storage_options=server.storage_options)
    refs, name = source.chunks(), f"{key}/c/3/0"
    content = server.objects.pop(name)
    try:
        for load in (lambda ref: ref.load(), lambda ref: ref.fetched().load()):
            with pytest.raises(SourceError, match="'?(direct.zarr/|sharded.zarr/)?c/3/0' is missing"):
                [load(ref) for ref in refs]
    finally:
        server.objects[name] = content


def test_a_cut_object_is_named(server: ObjectServer) -> None:
    source = open_source(server.address("plain"), storage_options=server.storage_options)
    content = server.objects["plain/c/3/0"]
    server.objects["plain/c/3/0"] = content[:-8]
    try:
        with pytest.raises(SourceError, match="stored chunk 'c/3/0' is truncated"):
            [ref.fetched().load() for ref in source.chunks()]
    finally:
        server.objects["plain/c/3/0"] = content


@pytest.mark.parametrize("how", [lambda ref: ref.load(), lambda ref: ref.fetched().load()])
@pytest.mark.parametrize("key", ["rows.npy", "by_columns.npy"])
def test_a_numpy_file_that_changes_is_named(key: str, how: Any, server: ObjectServer) -> None:
    source = open_source(server.address(key), storage_options=server.storage_options)
    content = server.objects[key]
    changes = {content[:-1] + b"x": "was rewritten", content[:-8]: "was rewritten", None: "is gone"}
    for changed, words in changes.items():
        server.objects[key] = changed or b""
        if changed is None:
            del server.objects[key]
        with pytest.raises(SourceChangedError, match=f"{key}.*{words}"):
            how(source.chunks()[-1])
    server.objects[key] = content


def test_numpy_files_that_cannot_be_read_are_told(server: ObjectServer) -> None:
    whole = as_npy(X)
    told = {
        "cut.npy": (whole[:-8], "cut.npy is truncated"),
        "other.npy": (b"rows", "cannot read NumPy file .*other.npy"),
        "empty.npy": (b"", "cannot read NumPy file .*empty.npy"),
        "cube.npy": (as_npy(X.reshape(10, 120, 3)), r"shape \(10, 120, 3\); at an address"),
        "objects.npy": (as_npy(np.array([{}, None])), "holds Python objects"),
        "x.arrow": (b"ARROW1", "holds nothing that can be read there; readable at addresses are Zarr, Parquet"),
    }
    for key, (content, words) in told.items():
        server.objects[key] = content
        with pytest.raises((SourceError, SchemaError), match=words):
            open_source(server.address(key), storage_options=server.storage_options)
    with pytest.raises(SourceError, match=r"no such object: NumPy file s3://bucket/absent.npy"):
        open_source(server.address("absent.npy"), storage_options=server.storage_options)


def test_a_name_with_a_star_is_told(memory: MemoryFileSystem) -> None:
    """Such an object matches the pattern that is its name."""
    memory.pipe_file("/bucket/odd/*.npy", as_npy(X))
    with pytest.raises(SourceError, match=r"odd/\*.npy is an object whose name holds a \*"):
        open_source("memory://bucket/odd/*.npy")


def test_a_numpy_file_through_fsspec(memory: MemoryFileSystem) -> None:
    for name, x in (("rows", X), ("by_columns", np.asfortranarray(X))):
        memory.pipe_file(f"/bucket/n/{name}.npy", as_npy(x))
        source = open_source(f"memory://bucket/n/{name}.npy", options=ReadOptions(chunk_bytes=4800))
        assert np.array_equal(np.concatenate([ref.load().x for ref in source.chunks()]), X)
    before = source.fingerprint()
    memory.pipe_file("/bucket/n/by_columns.npy", as_npy(X[:600]))
    assert source.fingerprint() != before
    with pytest.raises(SourceChangedError, match="by_columns.npy.*"):
        source.chunks()[-1].load()


@pytest.mark.parametrize("key", ["t", "t/*/*.parquet", "t/year=2020/part0.parquet", "direct.zarr", "plain", "rows.npy"])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"access_key_id": "stranger"}, "403"),
        ({"secret_access_key": None}, "Missing"),
        ({"acces_key": "hidden-x"}, "acces_key"),
    ],
)
def test_refusals_tell_no_secret(key: str, options: dict[str, Any], words: str, server: ObjectServer) -> None:
    given = {name: value for name, value in (server.storage_options | options).items() if value is not None}
    with pytest.raises(SourceError) as caught:
        open_source(server.address(key), storage_options=given)
    shown = chain_of(caught.value)
    assert words in shown
    assert not any(secret in shown for secret in (SECRET, "hidden-x"))


def test_a_bucket_that_is_not_there(server: ObjectServer) -> None:
    for key in ("t", "t.parquet", "x.zarr"):
        with pytest.raises(SourceError, match=f"s3://elsewhere/{key}"):
            open_source(f"s3://elsewhere/{key}", storage_options=server.storage_options)


def chain_of(error: BaseException | None) -> str:
    """All that a traceback prints of an error and its causes."""
    texts = []
    while error is not None:
        texts.append(f"{error!r} {error}")
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return " ".join(texts)


def test_files_that_differ_are_refused(server: ObjectServer) -> None:
    server.objects |= {"d/0.parquet": parquet(X[:10]), "d/1.parquet": parquet(X[:10], d=np.ones(10))}
    with pytest.raises(SchemaError, match="column 'd'"):
        open_source(server.address("d"), storage_options=server.storage_options)


def addresses(server: ObjectServer) -> Sequence[str]:
    return [server.address(f"t/year=2020/part{j}.parquet") for j in (1, 0)]


def test_a_list_of_addresses_keeps_its_order(server: ObjectServer) -> None:
    source = open_source(addresses(server), storage_options=server.storage_options)
    assert np.array_equal(np.concatenate([ref.load().x for ref in source.chunks()]), np.r_[X[300:600], X[:300]])


def test_the_command_line_reads_from_a_store(server: ObjectServer, tmp_path: Any) -> None:
    options = [f"--storage-option={name}={value}" for name, value in server.storage_options.items()]
    model = tmp_path / "m.npz"
    arguments = ["fit", "gmm", server.address("t"), "-k", "2", "--seed", "0", "-o", str(model), *options]
    outcome = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert outcome.exit_code == 0, outcome.output
    assert SECRET.encode() not in model.read_bytes()
    assert SECRET not in outcome.output


def test_stores_of_this_process_are_near() -> None:
    """Their objects are at hand: threads that read them would work, not wait."""
    store = pytest.importorskip("obstore.store")
    assert not is_far(zarr.storage.ObjectStore(store.MemoryStore()))
    assert not is_far(zarr.storage.MemoryStore())


@pytest.mark.parametrize(
    ("asked", "part"),
    [
        (None, b"0123456789"),
        (RangeByteRequest(2, 5), b"234"),
        (OffsetByteRequest(7), b"789"),
        (SuffixByteRequest(4), b"6789"),
    ],
)
def test_parts_of_objects_in_memory(asked: Any, part: bytes) -> None:
    store = HeldStore(zarr.storage.MemoryStore(), {"a/c/0": b"0123456789"})
    found = sync(store.get("a/c/0", default_buffer_prototype(), asked))
    assert found is not None
    assert found.to_bytes() == part
    assert sync(store.get("a/c/1", default_buffer_prototype(), asked)) is None
