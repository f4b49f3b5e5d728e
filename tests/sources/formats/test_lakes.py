"""Delta Lake, Iceberg, Lance and Icechunk: one version of a table, whatever is written to it since."""

from __future__ import annotations

import base64
import json
import struct
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from helpers.format_files import iceberg_catalog, needed, quiet
from helpers.watched_source import Countdown, WatchedSource
from streamem import GaussianMixture, ReadOptions, open_sequences, open_source
from streamem.cli.main import main
from streamem.core.errors import CheckpointMismatchError, SchemaError, SourceChangedError, SourceError

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
RNG = np.random.default_rng(3)
X = RNG.normal(size=(900, 2)) + 6.0 * RNG.integers(2, size=(900, 1))


def rows(start: int, stop: int, **more: Any) -> pa.Table:
    return pa.table({"a": X[start:stop, 0], "b": X[start:stop, 1], "id": np.arange(start, stop), **more})


def read(data: Any, *names: str, **options: Any) -> np.ndarray:
    source = open_source(data, options=ReadOptions(columns=names or ("id",), chunk_bytes=1600, **options))
    found = [ref.load().x for ref in source.chunks()]
    return np.concatenate(found) if found else np.empty((0, 1))


def ids(data: Any) -> list[int]:
    return sorted(read(data)[:, 0].astype(int).tolist())


@dataclass
class Lake:
    """How the library of a format does what the tests ask for."""

    path: Any
    append: Callable[[pa.Table], None]
    delete: Callable[[str], None]
    newest: Callable[[], Any]
    earlier: Callable[[int], Any]
    clean: Callable[[], None]


def delta(folder: Path) -> Lake:
    deltalake = needed("deltalake")
    path = str(folder / "table")

    def clean() -> None:
        deltalake.DeltaTable(path).vacuum(0, dry_run=False, enforce_retention_duration=False)

    return Lake(
        path,
        lambda data: deltalake.write_deltalake(path, data, mode="append"),
        lambda condition: deltalake.DeltaTable(path).delete(condition),
        lambda: deltalake.DeltaTable(path),
        lambda steps: deltalake.DeltaTable(path, version=deltalake.DeltaTable(path).version() - steps),
        clean,
    )


def iceberg(folder: Path) -> Lake:
    with quiet():
        catalog = iceberg_catalog(folder)
        table = catalog.create_table("n.t", schema=rows(0, 1).schema)

    def append(data: pa.Table) -> None:
        catalog.load_table("n.t").append(data)

    def delete(condition: str) -> None:
        with quiet():
            catalog.load_table("n.t").delete(condition)

    def earlier(steps: int) -> Any:
        now = catalog.load_table("n.t")
        snapshot = now.current_snapshot()
        for _ in range(steps):
            snapshot = now.snapshot_by_id(snapshot.parent_snapshot_id)
        return now.scan(snapshot_id=snapshot.snapshot_id)

    def clean() -> None:
        for file in Path(table.location().removeprefix("file://")).glob("data/*.parquet"):
            file.unlink()

    location = table.location().removeprefix("file://")
    return Lake(location, append, delete, lambda: catalog.load_table("n.t"), earlier, clean)


def lance(folder: Path) -> Lake:
    library = needed("lance")
    path = str(folder / "table.lance")

    def clean() -> None:
        for file in Path(path).glob("data/*.lance"):
            file.unlink()

    return Lake(
        path,
        lambda data: library.write_dataset(data, path, mode="append" if Path(path).exists() else "create"),
        lambda condition: library.dataset(path).delete(condition),
        lambda: library.dataset(path),
        lambda steps: library.dataset(path, version=library.dataset(path).version - steps),
        clean,
    )


LAKES = {"delta": delta, "iceberg": iceberg, "lance": lance}


@pytest.fixture(params=LAKES)
def lake(request: pytest.FixtureRequest, tmp_path: Path) -> Lake:
    made = LAKES[request.param](tmp_path)
    made.append(rows(0, 300))
    made.append(rows(300, 600))
    return made


def test_deletes_are_honoured_and_earlier_versions_are_read(lake: Lake) -> None:
    lake.delete("id < 100")
    assert ids(lake.path) == ids(lake.newest()) == list(range(100, 600))
    assert ids(lake.earlier(1)) == list(range(600))
    assert ids(lake.earlier(2)) == list(range(300))


def test_an_opened_version_does_not_move(lake: Lake) -> None:
    source = open_source(lake.path, options=ReadOptions(columns=("id",), chunk_bytes=1600))
    before = source.fingerprint()
    lake.append(rows(600, 900))
    lake.delete("id < 100")
    assert source.fingerprint() == before
    assert sum(ref.load().rows for ref in source.chunks()) == source.n_rows == 600
    now = open_source(lake.path, options=ReadOptions(columns=("id",))).fingerprint()
    assert now != before


def test_a_table_that_moved_is_named_when_a_fit_is_resumed(lake: Lake, tmp_path: Path) -> None:
    def fit(data: Any) -> GaussianMixture:
        model = GaussianMixture(2, random_state=0, max_iter=3, tol=0.0)
        return model.fit(data, columns=["a", "b"], checkpoint=tmp_path / "c.npz")

    first = fit(lake.path)
    fit(lake.path)
    lake.append(rows(600, 900))
    with pytest.raises(
        CheckpointMismatchError, match=r"data: '.*(version|snapshot) \d+.* there, .*(version|snapshot) \d+"
    ):
        fit(lake.path)
    np.testing.assert_array_equal(fit(lake.earlier(1)).means_, first.means_)


def test_files_that_are_removed_during_a_fit_are_named(lake: Lake) -> None:
    source = open_source(lake.path, options=ReadOptions(columns=("id",), chunk_bytes=1600))
    lake.delete("id >= 0")
    lake.clean()
    with pytest.raises(SourceError, match=r"(version|snapshot|removed)"):
        source.chunks()[-1].load()


def test_a_table_that_is_vacuumed_during_a_fit(lake: Lake) -> None:
    """The version that is fitted is named, and what keeps its files."""
    base = open_source(lake.path, options=ReadOptions(columns=("a", "b"), chunk_bytes=1600))
    vacuum = Countdown(2 * len(base.chunks()), lambda: (lake.delete("id >= 0"), lake.clean()))
    model = GaussianMixture(2, random_state=0, max_iter=50, tol=0.0, init_params="random_from_data")
    with pytest.raises(
        SourceError, match=r"(version|snapshot) \d+.*(fit the table as it is now|tag the one)"
    ) as caught:
        model.fit(WatchedSource(base, vacuum), executor="threads")
    assert isinstance(caught.value, SourceChangedError) or str(lake.path).endswith(".lance")


def test_columns_that_are_missing_are_named(lake: Lake) -> None:
    for data in (lake.path, lake.newest()):
        with pytest.raises(SchemaError, match=r"has no column 'aa'; it holds 'a', 'b', 'id'. Did you mean 'a'"):
            open_source(data, options=ReadOptions(columns=("aa",)))


def test_sequences_and_weights_are_columns(lake: Lake) -> None:
    assert open_sequences(lake.path, sequence_column="id").offsets.tolist() == list(range(601))
    source = open_source(lake.path, weight="id", options=ReadOptions(columns=("a",)))
    assert source.schema.weighted


def test_the_command_line_reads_a_path(lake: Lake, tmp_path: Path) -> None:
    model, labels = str(tmp_path / "m.npz"), str(tmp_path / "l.npy")
    lake.delete("id < 100")
    done = CliRunner().invoke(
        main, ["fit", "gmm", str(lake.path), "-k", "2", "--columns", "a,b", "-o", model], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    assert CliRunner().invoke(main, ["predict", model, str(lake.path), "-o", labels]).exit_code == 0
    assert len(np.load(labels)) == 500


# --- Delta Lake ------------------------------------------------------------------------------------------------------


def delta_actions(path: str) -> list[dict[str, Any]]:
    """All actions of a table's log."""
    logs = sorted(Path(path, "_delta_log").glob("*.json"))
    return [json.loads(line) for log in logs for line in log.read_text().splitlines()]


def commit(path: str, *actions: dict[str, Any]) -> None:
    number = len(list(Path(path, "_delta_log").glob("*.json")))
    Path(path, "_delta_log", f"{number:020}.json").write_text("\n".join(map(json.dumps, actions)))


def deletion_vector(positions: list[int]) -> dict[str, Any]:
    """An inline deletion vector, by the protocol of Delta Lake: one bitmap of one array container, in Z85."""
    array = struct.pack(f"<{len(positions)}H", *positions)
    roaring = struct.pack("<IIHHI", 12346, 1, 0, len(positions) - 1, 16) + array
    content = struct.pack("<IQI", 1681511377, 1, 0) + roaring
    content += b"\0" * (-len(content) % 4)
    ascii85 = base64.b85encode(content).decode()
    theirs = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ.-:+=^!/*?&<>()[]{}@%$#"
    ours = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&()*+-;<=>?@^_`{|}~"
    text = ascii85.translate(str.maketrans(ours, theirs))
    return {"storageType": "i", "pathOrInlineDv": text, "sizeInBytes": len(content), "cardinality": len(positions)}


def test_deletion_vectors_are_honoured(tmp_path: Path) -> None:
    """What Spark and Databricks write instead of a new file."""
    lake = delta(tmp_path)
    lake.append(rows(0, 300))
    lake.append(rows(300, 600))
    add = next(action["add"] for action in reversed(delta_actions(lake.path)) if "add" in action)
    features = ["deletionVectors"]
    protocol = {"minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": features, "writerFeatures": features}
    vector = deletion_vector([0, 1, 50, 299])
    gone = {key: add[key] for key in ("path", "size", "partitionValues")} | {"dataChange": True, "deletionTimestamp": 0}
    commit(lake.path, {"protocol": protocol}, {"remove": gone}, {"add": add | {"deletionVector": vector}})
    assert sorted(set(range(600)) - set(ids(lake.path))) == [300, 301, 350, 599]
    assert ids(lake.earlier(1)) == list(range(600))


def test_partition_columns_and_columns_that_came_later(tmp_path: Path) -> None:
    deltalake = needed("deltalake")
    path = str(tmp_path / "t")
    years = pa.array(np.repeat([2023, 2024], 150), pa.int32())
    deltalake.write_deltalake(path, rows(0, 300, year=years, place=["a b/c"] * 300), partition_by=["year", "place"])
    later = rows(300, 400, year=pa.array([2025] * 100, pa.int32()), place=[None] * 100, more=np.arange(100.0))
    deltalake.write_deltalake(path, later, mode="append", schema_mode="merge")
    found = read(path, "id", "year", "more")
    found = found[np.argsort(found[:, 0])]
    np.testing.assert_array_equal(found[:, 1], np.repeat([2023, 2024, 2025], [150, 150, 100]))
    np.testing.assert_array_equal(found[:, 2], [*[np.nan] * 300, *range(100)])
    places = read(path, "id", "place", categories="text")
    np.testing.assert_array_equal(places[np.argsort(places[:, 0]), 1], [*[0.0] * 300, *[np.nan] * 100])


def test_columns_that_were_renamed_are_found(tmp_path: Path) -> None:
    """Column mapping: the files keep the names under which they were written."""
    lake = delta(tmp_path)
    lake.append(rows(0, 300))
    metadata = next(action["metaData"] for action in delta_actions(lake.path) if "metaData" in action)
    schema = json.loads(metadata["schemaString"])
    for number, field in enumerate(schema["fields"]):
        own = field["name"]
        field["metadata"] = {"delta.columnMapping.id": number + 1, "delta.columnMapping.physicalName": own}
        field["name"] = {"a": "id", "id": "first", "b": "b"}[own]
    metadata = metadata | {"schemaString": json.dumps(schema)}
    metadata["configuration"] = {"delta.columnMapping.mode": "name", "delta.columnMapping.maxColumnId": "3"}
    commit(lake.path, {"protocol": {"minReaderVersion": 2, "minWriterVersion": 5}}, {"metaData": metadata})
    np.testing.assert_array_equal(
        read(lake.path, "first", "b", "id"), np.column_stack([range(300), X[:300, 1], X[:300, 0]])
    )


def test_what_is_no_delta_table_is_named(tmp_path: Path) -> None:
    needed("deltalake")
    (tmp_path / "t" / "_delta_log").mkdir(parents=True)
    (tmp_path / "t" / "_delta_log" / f"{0:020}.json").write_text("{}")
    with pytest.raises(SourceError, match="Delta table"):
        open_source(tmp_path / "t")


def test_an_empty_table_has_no_rows(tmp_path: Path) -> None:
    lake = delta(tmp_path)
    lake.append(rows(0, 300))
    lake.delete("id >= 0")
    assert open_source(lake.path).n_rows == 0


# --- Iceberg ---------------------------------------------------------------------------------------------------------


def test_filters_of_a_scan_are_pushed_down(tmp_path: Path) -> None:
    lake = iceberg(tmp_path)
    for start in (0, 300, 600):
        lake.append(rows(start, start + 300))
    scan = lake.newest().scan("id >= 250 and id < 310 and b > -99", selected_fields=("a", "id"))
    source = open_source(scan, options=ReadOptions(chunk_bytes=800))
    assert source.schema.names == ("a", "id")
    assert ids(scan) == list(range(250, 310))
    files = {getattr(ref.base, "row_group", None) or ref.base.row_groups for ref in source.chunks()}
    assert len(files) == 2  # the third is not opened
    assert "where" in source.fingerprint()
    assert "removed" not in source.fingerprint()


def test_columns_keep_their_identity(tmp_path: Path) -> None:
    """Renamed, swapped, added and widened columns."""
    with quiet():
        table = iceberg_catalog(tmp_path).create_table("n.t", schema=rows(0, 1, n=pa.array([1], pa.int32())).schema)
        table.append(rows(0, 300, n=pa.array(range(300), pa.int32())))
        with table.update_schema() as update:
            update.rename_column("a", "old")
            update.add_column("new", _double())
            update.update_column("n", _long())
        with table.update_schema() as update:
            update.rename_column("b", "a")
        names = ("old", "a", "id", "n", "new")
        later = pa.table(
            dict(zip(names, [X[300:400, 0], X[300:400, 1], *[np.arange(300, 400)] * 2, X[300:400, 0]], strict=True))
        )
        table.append(later)
    found = read(table, "old", "a", "n", "new", "id")
    found = found[np.argsort(found[:, 4])]
    np.testing.assert_array_equal(found[:, :2], X[:400])
    np.testing.assert_array_equal(found[:, 2], range(400))
    np.testing.assert_array_equal(found[:, 3], [*[np.nan] * 300, *X[300:400, 0]])


def _double() -> Any:
    return needed("pyiceberg.types").DoubleType()


def _long() -> Any:
    return needed("pyiceberg.types").LongType()


def test_files_of_deleted_positions_are_honoured(tmp_path: Path) -> None:
    """What Spark and Trino write: a file of (file_path, pos) beside the data."""
    from streamem.sources.formats import iceberg as ours

    lake = iceberg(tmp_path)
    lake.append(rows(0, 300))
    scan = lake.newest().scan()
    (task,) = scan.plan_files()
    path = tmp_path / "deletes.parquet"
    columns = {"file_path": [task.file.file_path] * 3, "pos": pa.array([3, 0, 299], pa.int64())}
    pq.write_table(pa.table(columns), path)
    deletes = type(task.file).from_args(file_path=str(path), file_format=task.file.file_format)
    task.delete_files = {deletes}
    found = ours._deletes(scan, [task])
    assert found[task.file.file_path].tolist() == [0, 3, 299]
    scan.plan_files = lambda: [task]
    assert ids(scan) == [i for i in range(300) if i not in (0, 3, 299)]


def test_a_folder_with_two_newest_metadata_is_refused(tmp_path: Path) -> None:
    lake = iceberg(tmp_path)
    lake.append(rows(0, 300))
    newest = max(Path(lake.path, "metadata").glob("*.metadata.json"))
    twin = newest.with_name(newest.name[:5] + "-twin.metadata.json")
    twin.write_bytes(newest.read_bytes())
    with pytest.raises(SourceError, match="both its newest metadata.*load_table"):
        open_source(lake.path)
    assert ids(twin) == list(range(300))


# --- Lance, Icechunk -------------------------------------------------------------------------------------------------


def test_a_scanner_of_lance_pushes_its_filter_down(tmp_path: Path) -> None:
    lake = lance(tmp_path)
    lake.append(rows(0, 600))
    scanner = lake.newest().scanner(columns=["id"], filter="id % 3 = 0")
    assert ids(scanner) == list(range(0, 600, 3))


def test_a_snapshot_of_icechunk_does_not_move(tmp_path: Path) -> None:
    library, zarr = needed("icechunk"), needed("zarr")
    repository = library.Repository.create(library.local_filesystem_storage(str(tmp_path / "r")))
    session = repository.writable_session("main")
    array = zarr.create_array(session.store, shape=(300, 2), chunks=(64, 2), dtype="f8")
    array[:] = X[:300]
    first = session.commit("first")
    source = open_source(repository)
    before = source.fingerprint()
    assert first in before
    session = repository.writable_session("main")
    zarr.open_array(session.store, mode="a")[:] = X[300:600]
    with pytest.raises(ValueError, match="not committed"):
        open_source(session)
    session.commit("second")
    assert source.fingerprint() == before
    np.testing.assert_array_equal(np.concatenate([ref.load().x for ref in source.chunks()]), X[:300])
    newest = open_source(str(tmp_path / "r"))
    np.testing.assert_array_equal(np.concatenate([ref.load().x for ref in newest.chunks()]), X[300:600])
    assert newest.fingerprint() != before
    tagged = open_source(repository.readonly_session(snapshot_id=first))
    np.testing.assert_array_equal(tagged.chunks()[0].load().x, source.chunks()[0].load().x)
