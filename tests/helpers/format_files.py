"""Data of every optional format, written by its own library, and the rows that must come out.

A library that is not installed skips the test that needs it, and says so.
"""

from __future__ import annotations

import gzip
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.orc as orc
import pytest
from numpy.typing import NDArray

from streamem.core.ports import Source
from streamem.sources import ReadOptions, open_source

Array = NDArray[Any]
ROWS = 600
NAMES = ("a", "b", "c")
X = np.random.default_rng(5).normal(size=(ROWS, 3))
WEIGHT = np.random.default_rng(6).uniform(0.1, 2.0, ROWS)
KEPT = np.flatnonzero(np.arange(ROWS) % 5 != 2)
"""Rows that are left where a format knows deletes."""


class Case:
    """Data, and what must come out of it."""

    def __init__(
        self,
        data: Any,
        rows: Array = X,
        names: tuple[str, ...] | None = NAMES,
        piece_rows: int = 1,
        weight: str | None = "w",
        picklable: bool = True,
        weights: Array | None = None,
        **options: Any,
    ) -> None:
        self.data, self.rows, self.names, self.piece_rows = data, np.ascontiguousarray(rows), names, piece_rows
        self.weight, self.picklable, self.options = weight, picklable, options
        self.weights = None if weight is None else WEIGHT[: len(rows)] if weights is None else weights

    def open(self, chunk_bytes: int) -> Source:
        """The source."""
        return open_source(self.data, weight=self.weight, options=ReadOptions(chunk_bytes=chunk_bytes, **self.options))


def needed(name: str) -> Any:
    """A library, or a skip that names it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, while they are imported
        return pytest.importorskip(name, reason=f"{name} is not installed", exc_type=ImportError)


@contextmanager
def quiet() -> Iterator[None]:
    """Warnings of a library that writes are not ours."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def table(n: int = ROWS, **more: Any) -> pa.Table:
    """The features, the weights, and what tells rows apart."""
    columns = dict(zip(NAMES, X[:n].T, strict=True))
    return pa.table({**columns, "w": WEIGHT[:n], "id": np.arange(n), **more})


def polars_lazy(path: Path) -> Case:
    """A scan of a file, filtered and selected."""
    pl = needed("polars")
    pl.from_arrow(table()).write_parquet(path / "x.parquet", row_group_size=70)
    frame = pl.scan_parquet(path / "x.parquet").filter(pl.col("id") % 5 != 2).drop("id")
    return Case(frame, X[KEPT], weights=WEIGHT[KEPT])


def csv_file(path: Path) -> Case:
    """Text that reads back to the same bits."""
    with (path / "x.csv").open("w") as file:
        file.write("a,b,c,w\n")
        file.writelines(
            ",".join(map(repr, [*row, w])) + "\n" for row, w in zip(X.tolist(), WEIGHT.tolist(), strict=True)
        )
    return Case(path / "x.csv", piece_rows=ROWS)


def csv_packed(path: Path) -> Case:
    """Compressed text."""
    text = Path(csv_file(path).data).read_bytes()
    (path / "x.csv.gz").write_bytes(gzip.compress(text, 1))
    return Case(path / "x.csv.gz")


def duckdb_file(path: Path) -> Case:
    """A table of a file, with deleted rows."""
    duckdb = needed("duckdb")
    data = pa.concat_tables([table()] * 10)  # a vector, the least that DuckDB reads, is of 2048 rows
    with duckdb.connect(str(path / "x.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT * FROM data")
        connection.execute("CREATE TABLE other AS SELECT 1 AS a")
        connection.execute("DELETE FROM t WHERE id % 5 = 2")
    del data
    rows, weights = np.tile(X[KEPT], (10, 1)), np.tile(WEIGHT[KEPT], 10)
    return Case(f"{path}/x.duckdb/t", rows, piece_rows=2048, weights=weights, columns=NAMES)


def duckdb_relation(path: Path) -> Case:
    """A query of a connection."""
    duckdb = needed("duckdb")
    connection = duckdb.connect()
    data = table()
    connection.execute("CREATE TABLE t AS SELECT * FROM data")
    del data
    relation = connection.table("t").filter("id % 5 <> 2").order("id").project("a, b, c, w")
    return Case(relation, X[KEPT], picklable=False, weights=WEIGHT[KEPT])


def delta(path: Path) -> Case:
    """Three appends, and a delete."""
    deltalake = needed("deltalake")
    for start in range(0, ROWS, 200):
        deltalake.write_deltalake(str(path / "t"), table().slice(start, 200), mode="append")
    deltalake.DeltaTable(str(path / "t")).delete("id % 5 = 2")
    case = Case(path / "t", piece_rows=200, columns=NAMES)
    # The order of a Delta table's files is that of its own library.
    ids = deltalake.DeltaTable(str(path / "t")).to_pyarrow_table(columns=["id"]).column("id").to_numpy()
    assert sorted(ids) == KEPT.tolist()
    case.rows, case.weights = X[ids], WEIGHT[ids]
    return case


def iceberg_catalog(path: Path, **properties: str) -> Any:
    """A catalog in a file of SQLite."""
    needed("pyiceberg")
    needed("sqlalchemy")
    from pyiceberg.catalog.sql import SqlCatalog

    given = {"warehouse": f"file://{path}/warehouse"} | properties
    catalog = SqlCatalog("c", uri=f"sqlite:///{path}/c.db", **given)
    catalog.create_namespace("n")
    return catalog


def iceberg_table(path: Path) -> Any:
    """Three appends, and a delete."""
    with quiet():
        found = iceberg_catalog(path).create_table("n.t", schema=table().schema)
        for start in range(0, ROWS, 200):
            found.append(table().slice(start, 200))
        found.delete("id in (" + ", ".join(str(i) for i in range(ROWS) if i % 5 == 2) + ")")
    return found


def iceberg(path: Path) -> Case:
    """The table as its catalog gives it."""
    found = iceberg_table(path)
    ids = found.scan(selected_fields=("id",)).to_arrow().column("id").to_numpy()
    assert sorted(ids) == KEPT.tolist()
    return Case(found, X[ids], piece_rows=200, columns=NAMES, weights=WEIGHT[ids])


def lance(path: Path) -> Case:
    """Two fragments, and a delete."""
    library = needed("lance")
    library.write_dataset(table(), str(path / "x.lance"), max_rows_per_file=300).delete("id % 5 = 2")
    return Case(path / "x.lance", X[KEPT], weights=WEIGHT[KEPT], columns=NAMES)


def hugging_face(path: Path) -> Case:
    """A dataset on disk, filtered."""
    datasets = needed("datasets")
    datasets.disable_progress_bars()
    datasets.Dataset(table()).select(KEPT).save_to_disk(str(path / "d"))
    return Case(path / "d", X[KEPT], weights=WEIGHT[KEPT], columns=NAMES)


def hdf5(path: Path) -> Case:
    """A group of columns, compressed."""
    h5py = needed("h5py")
    with h5py.File(path / "x.h5", "w") as file:
        for position, name in enumerate(NAMES):
            file.create_dataset(f"g/{name}", data=X[:, position], chunks=(64,), compression="gzip")
        file["g/w"] = WEIGHT
    return Case(f"{path}/x.h5/g", piece_rows=64)


def hdf5_matrix(path: Path) -> Case:
    """The only dataset of a file, as h5py gives it."""
    h5py = needed("h5py")
    with h5py.File(path / "m.h5", "w") as file:
        file["deep/x"] = X.astype("f4")
    return Case(h5py.File(path / "m.h5")["deep/x"], X.astype("f4"), None, weight=None)


def h5ad(path: Path) -> Case:
    """A sparse matrix of an AnnData file, by rows."""
    needed("h5py")
    positive = np.maximum(X, 0.0)
    write_h5ad(path / "x.h5ad", positive)
    return Case(path / "x.h5ad", positive)


def write_h5ad(path: Path, x: Array, sparse: str = "csr_matrix") -> None:
    """The layout of AnnData 0.1.0, as its documents say."""
    import h5py
    import scipy.sparse

    matrix = getattr(scipy.sparse, sparse)(x)
    with h5py.File(path, "w") as file:
        file.attrs["encoding-type"], file.attrs["encoding-version"] = "anndata", "0.1.0"
        group = file.create_group("X")
        group.attrs["encoding-type"], group.attrs["shape"] = sparse, matrix.shape
        for name in ("data", "indices", "indptr"):
            group[name] = getattr(matrix, name)
        file["obsm/X_pca"] = X.astype("f4")
        for name, index in (("obs", [f"cell{i}" for i in range(len(x))]), ("var", NAMES)):
            frame = file.create_group(name)
            frame.attrs["_index"], frame.attrs["encoding-type"] = "_index", "dataframe"
            frame["_index"] = np.array(index, dtype=object)
        file["obs/w"] = WEIGHT[: len(x)]


def netcdf(path: Path) -> Case:
    """Variables of a file, as xarray writes them."""
    xarray, _ = needed("xarray"), needed("h5netcdf")
    dataset = xarray.Dataset({name: ("row", X[:, i]) for i, name in enumerate(NAMES)} | {"w": ("row", WEIGHT)})
    dataset.to_netcdf(path / "x.nc", engine="h5netcdf", encoding={name: {"chunksizes": (70,)} for name in NAMES})
    return Case(path / "x.nc", piece_rows=70)


def orc_file(path: Path) -> Case:
    """Stripes of a file."""
    orc.write_table(table(), path / "x.orc", stripe_size=1, batch_size=64)
    return Case(path / "x.orc", piece_rows=ROWS // 2, columns=NAMES)


def icechunk(path: Path) -> Case:
    """Arrays of a repository."""
    library, zarr = needed("icechunk"), needed("zarr")
    repository = library.Repository.create(library.local_filesystem_storage(str(path / "r")))
    session = repository.writable_session("main")
    group = zarr.open_group(session.store, mode="a")
    for position, name in enumerate(NAMES):
        group.create_array(name, data=X[:, position].copy(), chunks=(64,))
    group.create_array("w", data=WEIGHT, chunks=(64,))
    session.commit("rows")
    return Case(repository, piece_rows=64)


def ibis(path: Path) -> Case:
    """An expression over polars: Ibis 12 does not know DuckDB 2."""
    found = needed("ibis").polars.connect({"t": needed("polars").from_arrow(table())}).table("t")
    return Case(
        found.filter(found.id % 5 != 2).order_by("id").drop("id"), X[KEPT], picklable=False, weights=WEIGHT[KEPT]
    )


FORMATS: dict[str, Callable[[Path], Case]] = {
    "polars LazyFrame": polars_lazy,
    "CSV": csv_file,
    "CSV, compressed": csv_packed,
    "DuckDB": duckdb_file,
    "DuckDB relation": duckdb_relation,
    "Delta Lake": delta,
    "Apache Iceberg": iceberg,
    "Lance": lance,
    "Hugging Face datasets": hugging_face,
    "HDF5": hdf5,
    "HDF5 matrix": hdf5_matrix,
    "AnnData": h5ad,
    "netCDF": netcdf,
    "ORC": orc_file,
    "Icechunk": icechunk,
    "Ibis": ibis,
}
"""By kind, or by kind and what is special."""
