"""polars, DuckDB, Ibis and Hugging Face: queries that are run anew in every pass, and must give what they gave."""

from __future__ import annotations

import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from helpers.format_files import needed
from streamem import GaussianMixture, ReadOptions, open_sequences, open_source
from streamem.core.errors import MissingDependencyError, ParameterError, SchemaError, SourceChangedError, SourceError
from streamem.sources.formats import flow

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RNG = np.random.default_rng(1)
N = 5000
X = RNG.normal(size=(N, 2)) + 6.0 * RNG.integers(2, size=(N, 1))
TABLE = pa.table(
    {"a": X[:, 0], "b": X[:, 1], "id": np.arange(N), "group": np.arange(N) % 700, "text": ["x", "y"] * (N // 2)}
)
SMALL = ReadOptions(columns=("a", "b"), chunk_bytes=16_000)


def read(data: Any, *columns: str, **options: Any) -> np.ndarray:
    source = open_source(data, options=ReadOptions(columns=columns or None, chunk_bytes=16_000, **options))
    return np.concatenate([ref.load().x for ref in source.chunks()])


def test_batches_are_cut_alike_however_they_come() -> None:
    """The rows of a chunk are a function of the data and the options alone."""
    schema = TABLE.schema
    expected = [TABLE.slice(i, 1000) for i in range(0, N, 1000)]
    for cuts in ([N], [1, 999, 1000, 0, 3000], [7] * (N // 7) + [N % 7]):
        starts = np.cumsum([0, *cuts])
        pieces = [TABLE.slice(a, n) for a, n in zip(starts, cuts, strict=False)]
        found = list(flow.even_batches(pieces, 1000, schema))
        assert [pa.Table.from_batches([batch]) for batch in found] == expected


class Turning(flow.Flow):
    """A query that gives its rows in the other order at every run from the third on."""

    origin, schema, runs = "the query", TABLE.select(["a", "b", "id"]).schema, 0

    @property
    def identity(self) -> int:
        return id(self)

    def batches(self, names: list[str], rows: int) -> list[pa.Table]:
        self.runs += 1
        table = TABLE.select(names)
        return [table if self.runs < 3 else table.take(np.arange(N)[::-1])]


def test_a_column_that_is_read_beside_the_rows_has_their_order() -> None:
    """What identifies rows or sequences comes from a run of its own."""
    query = Turning()
    flow.open_flow(query, SMALL)
    found = np.concatenate([piece.to_numpy() for piece in flow.column_of(query, "id")])
    np.testing.assert_array_equal(found, np.arange(N))
    with pytest.raises(SourceChangedError, match="column 'id' was read beside rows that do not come"):
        list(flow.column_of(query, "id"))


# --- polars ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def scanned(tmp_path: Path) -> Any:
    pl = needed("polars")
    pq.write_table(TABLE, tmp_path / "x.parquet", row_group_size=900)
    return pl.scan_parquet(tmp_path / "x.parquet")


def test_a_lazy_frame_is_read_as_its_rows(scanned: Any) -> None:
    pl = needed("polars")
    chosen = scanned.filter(pl.col("id") % 2 == 0).with_columns(c=pl.col("a") * 2)
    np.testing.assert_array_equal(read(chosen, "c", "b"), np.column_stack([2 * X[::2, 0], X[::2, 1]]))
    ours = GaussianMixture(2, random_state=0, max_iter=3).fit(scanned, columns=["a", "b"])
    theirs = GaussianMixture(2, random_state=0, max_iter=3).fit(X)
    np.testing.assert_allclose(ours.means_, theirs.means_, rtol=1e-9)
    assert len(ours.predict(scanned)) == N
    assert read(scanned, "text", categories="text")[:4, 0].tolist() == [0, 1, 0, 1]
    assert open_source(chosen, weight="id", options=SMALL).schema.weighted
    groups = open_sequences(scanned.sort("group", "id"), sequence_column="group", options=SMALL)
    assert len(groups.offsets) == 701


def test_handles_of_a_lazy_frame_travel_and_columns_are_named(scanned: Any) -> None:
    ref = open_source(scanned, options=SMALL).chunks()[2]
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(ref)).load().x, ref.load().x)
    with pytest.raises(SchemaError, match="polars LazyFrame has no column 'aa'; it holds 'a', 'b'"):
        open_source(scanned, options=ReadOptions(columns=("aa",)))
    with pytest.raises(SourceError, match="polars LazyFrame"):
        open_source(scanned.select("absent"))


def test_rows_without_an_order_are_refused(scanned: Any) -> None:
    """The groups of polars come in another order at every run."""
    pl = needed("polars")
    groups = scanned.group_by("group").agg(pl.col("a", "b").mean())
    sources = [open_source(groups, options=SMALL) for _ in range(3)]
    with pytest.raises(SourceChangedError, match="chunk 0 .* the same order: pass maintain_order=True"):
        [source.chunks()[0].load() for source in sources]
    ordered = scanned.group_by("group", maintain_order=True).agg(pl.col("a", "b").first())
    assert read(ordered, "a", "b").shape == (700, 2)


# --- DuckDB ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def connection() -> Any:
    made = needed("duckdb").connect()
    data = TABLE
    made.execute("CREATE TABLE t AS SELECT * FROM data")
    del data
    return made


def test_a_relation_is_read_beside_what_its_connection_does(connection: Any) -> None:
    relation = connection.table("t").filter("id % 2 = 0")
    source = open_source(relation, options=SMALL)
    refs = source.chunks()
    first = refs[0].load().x
    assert connection.execute("SELECT count(*) FROM t").fetchone() == (N,)  # the connection is free
    np.testing.assert_array_equal(np.concatenate([first, *(ref.load().x for ref in refs[1:])]), X[::2])
    assert read(relation, "text", categories="text").shape == (N // 2, 1)
    connection.execute("CREATE TEMP TABLE own AS SELECT a, b FROM t")
    np.testing.assert_array_equal(read(connection.table("own")), X)


def test_a_relation_that_changes_or_has_no_order_is_refused(connection: Any) -> None:
    source = open_source(connection.table("t"), options=SMALL)
    connection.execute("UPDATE t SET a = a + 1 WHERE id = 4000")
    with pytest.raises(SourceChangedError, match="order\\('id'\\)"):
        [ref.load() for ref in source.chunks()]
    unordered = connection.sql("SELECT a, b FROM t ORDER BY random()")
    with pytest.raises(SourceChangedError, match="chunk 0"):
        read(unordered)
    with pytest.raises(ParameterError, match="x.duckdb/table"):
        pickle.dumps(source.chunks()[0])
    with pytest.raises(SchemaError, match="DuckDB relation has no column 'z'"):
        open_source(connection.table("t"), options=ReadOptions(columns=("z",)))


@pytest.fixture
def database(tmp_path: Path) -> str:
    path = str(tmp_path / "x.duckdb")
    with needed("duckdb").connect(path) as made:
        data = TABLE
        made.execute("CREATE TABLE t AS SELECT * FROM data")
        made.execute("CREATE VIEW v AS SELECT a, b FROM t WHERE id < 1000 ORDER BY id")
        made.execute('CREATE SCHEMA s; CREATE TABLE s."odd name" AS SELECT a FROM t LIMIT 3')
        del data
    return path


def test_tables_and_views_of_a_database_file(database: str) -> None:
    np.testing.assert_array_equal(read(f"{database}/t", "b", "a"), X[:, ::-1])
    np.testing.assert_array_equal(read(f"{database}/v"), X[:1000])
    assert len(read(f"{database}/s/odd name")) == 3
    assert read(f"{database}/t", "text", categories="text")[:3, 0].tolist() == [0, 1, 0]
    with pytest.raises(SchemaError, match=r"holds s/odd name, t, v|holds t, v, s/odd name"):
        open_source(database)
    with pytest.raises(SchemaError, match="no table 'u'; it holds"):
        open_source(f"{database}/u")


def test_a_database_file_that_changes_or_is_taken_is_told(database: str, tmp_path: Path) -> None:
    duckdb = needed("duckdb")
    source = open_source(f"{database}/t", options=SMALL)
    before = source.fingerprint()
    with duckdb.connect(database) as taken:
        taken.execute("DELETE FROM t WHERE id % 3 = 0")
        with pytest.raises(SourceError, match="close it there, or pass a relation"):
            open_source(f"{database}/t")
    assert source.fingerprint() != before
    np.testing.assert_array_equal(read(f"{database}/t", "a", "b"), X[np.arange(N) % 3 != 0])
    (tmp_path / "no.duckdb").write_bytes(b"no database, but long enough to be looked at" * 400)
    with pytest.raises(SourceError, match="cannot open DuckDB file"):
        open_source(tmp_path / "no.duckdb")


def test_chunks_of_a_database_file_share_one_database_in_memory(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Any number of threads read at once, and the last one lets the file go: others may write it then."""
    duckdb = needed("duckdb")
    refs = open_source(f"{database}/t", options=SMALL).chunks()
    started, start = [], duckdb.connect
    monkeypatch.setattr(duckdb, "connect", lambda *what, **more: started.append(what) or start(*what, **more))
    assert sum(ref.load().rows for ref in refs) == N
    left = refs[0].table.batches(["a"], refs[0].start, refs[0].rows)
    next(left)
    with ThreadPoolExecutor(3) as pool:
        read = list(pool.map(lambda ref: ref.load().x, [*refs] * 4))
    np.testing.assert_array_equal(np.concatenate(read[: len(refs)]), X)
    left.close()
    assert len(started) <= 1
    with start(database) as written:
        written.execute("DELETE FROM t WHERE id < 100")


# --- Ibis and Hugging Face -------------------------------------------------------------------------------------------


def test_an_ibis_table_is_read_as_its_rows() -> None:
    ibis = needed("ibis")
    frame = needed("polars").from_arrow(TABLE)  # Ibis 12 does not know DuckDB 2
    table = ibis.polars.connect({"t": frame}).table("t")
    np.testing.assert_array_equal(read(table.filter(table.id < 100).order_by("id"), "a", "b"), X[:100])
    with pytest.raises(SchemaError, match="pass a table"):
        open_source(table.a)


@pytest.fixture
def datasets() -> Any:
    found = needed("datasets")
    found.disable_progress_bars()
    return found


def test_datasets_of_hugging_face(datasets: Any, tmp_path: Path) -> None:
    dataset = datasets.Dataset(TABLE)
    np.testing.assert_array_equal(read(dataset, "a", "b"), X)
    mixed_up = dataset.shuffle(seed=0)
    np.testing.assert_array_equal(read(mixed_up, "a", "b"), X[np.array(mixed_up["id"])])
    assert open_source(dataset, options=SMALL).fingerprint() != open_source(mixed_up, options=SMALL).fingerprint()
    datasets.DatasetDict(train=dataset, test=dataset).save_to_disk(str(tmp_path / "d"))
    np.testing.assert_array_equal(read(tmp_path / "d" / "train", "a", "b"), X)
    for data in (tmp_path / "d", datasets.DatasetDict(train=dataset)):
        with pytest.raises(ParameterError, match="splits 'train'"):
            open_source(data)


def test_streams_of_hugging_face_are_read_anew(datasets: Any) -> None:
    stream = datasets.Dataset(TABLE).to_iterable_dataset()
    np.testing.assert_array_equal(read(stream, "a", "b"), X)


# --- all -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [
        ("deltalake", "t", "delta"),
        ("pyiceberg", "x.metadata.json", "iceberg"),
        ("icechunk", "r", "icechunk"),
        ("lance", "x.lance", "lance"),
        ("datasets", "d", "datasets"),
        ("h5py", "x.h5", "hdf5"),
        ("h5py", "x.h5ad", "hdf5"),
        ("duckdb", "x.duckdb", "duckdb"),
    ],
)
def test_a_missing_library_is_named_with_what_installs_it(
    module: str, name: str, extra: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside = {"t": ["_delta_log"], "r": ["snapshots", "refs"], "d": ["state.json", "dataset_info.json"]}.get(name, [])
    for each in inside:
        (tmp_path / name / each).mkdir(parents=True)
    if not inside:
        (tmp_path / name).write_bytes(b"")
    for known in [known for known in sys.modules if known.partition(".")[0] == module]:
        monkeypatch.delitem(sys.modules, known)
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingDependencyError, match=rf'pip install "streamem\[{extra}\]"'):
        open_source(tmp_path / name)
