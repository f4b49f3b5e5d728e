"""Data of every format that are large beside what reading them may take: written piece by piece, opened elsewhere."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.orc as orc
import pyarrow.parquet as pq

from helpers.format_files import iceberg_catalog, needed, quiet

WIDTH, PIECE = 8, 2**16
NAMES = [f"c{i}" for i in range(WIDTH)]


def pieces(rows: int) -> Iterator[pa.Table]:
    """Rows in pieces, each of 4 MiB."""
    for start in range(0, rows, PIECE):
        values = np.random.default_rng(start).normal(size=(WIDTH, min(PIECE, rows - start)))
        yield pa.table(dict(zip(NAMES, values, strict=True)))


def reader(rows: int) -> pa.RecordBatchReader:
    """The same, as a stream."""
    schema = next(pieces(1)).schema
    return pa.RecordBatchReader.from_batches(schema, (b for piece in pieces(rows) for b in piece.to_batches()))


def parquet(path: Path, rows: int) -> Path:
    """One file of row groups of 4 MiB."""
    with pq.ParquetWriter(path / "x.parquet", next(pieces(1)).schema) as writer:
        for piece in pieces(rows):
            writer.write_table(piece)
    return path / "x.parquet"


def arrays(path: Path, rows: int, library: Any, chunks: Any) -> None:
    """A dataset x of an HDF5 file, compressed."""
    with library.File(path, "a") as file:
        x = file.create_dataset("x", (rows, WIDTH), "f8", chunks=chunks, compression="gzip", compression_opts=1)
        for number, piece in enumerate(pieces(rows)):
            x[number * PIECE : number * PIECE + piece.num_rows] = np.column_stack(piece.columns)


def write_csv(path: Path, rows: int) -> Path:
    """Text of 17 digits."""
    import pyarrow.csv as csv

    with csv.CSVWriter(path / "x.csv", next(pieces(1)).schema) as writer:
        for piece in pieces(rows):
            writer.write_table(piece)
    return path / "x.csv"


def write_orc(path: Path, rows: int) -> Path:
    """Stripes of some mebibytes."""
    with orc.ORCWriter(path / "x.orc", stripe_size=2**22) as writer:
        for piece in pieces(rows):
            writer.write(piece)
    return path / "x.orc"


def write_delta(path: Path, rows: int) -> Path:
    """A tenth of the rows is deleted."""
    library = needed("deltalake")
    library.write_deltalake(str(path / "t"), reader(rows))
    library.DeltaTable(str(path / "t")).delete("c0 < -1.28")
    return path / "t"


def write_iceberg(path: Path, rows: int) -> Path:
    """One data file an append."""
    with quiet():
        table = iceberg_catalog(path).create_table("n.t", schema=next(pieces(1)).schema)
        half = [*pieces(rows)]
        for part in (half[: len(half) // 2], half[len(half) // 2 :]):
            if part:
                table.append(pa.concat_tables(part))
    return Path(table.location().removeprefix("file://"))


def write_lance(path: Path, rows: int) -> Path:
    """A tenth of the rows is deleted."""
    library = needed("lance")
    library.write_dataset(reader(rows), str(path / "x.lance")).delete("c0 < -1.28")
    return path / "x.lance"


def write_duckdb(path: Path, rows: int) -> Path:
    """A tenth of the rows is deleted."""
    stream = reader(rows)
    with needed("duckdb").connect(str(path / "x.duckdb")) as connection:
        connection.execute("CREATE TABLE t AS SELECT * FROM stream")
        connection.execute("DELETE FROM t WHERE c0 < -1.28")
    del stream
    return path / "x.duckdb"


def write_hugging_face(path: Path, rows: int) -> Path:
    """Arrow files on disk."""
    datasets = needed("datasets")
    datasets.disable_progress_bars()
    found = datasets.Dataset.from_parquet(str(parquet(path, rows)), cache_dir=str(path / "cache"))
    found.save_to_disk(str(path / "d"))
    return path / "d"


def write_hdf5(path: Path, rows: int) -> Path:
    """One dataset."""
    arrays(path / "x.h5", rows, needed("h5py"), (4096, WIDTH))
    return path / "x.h5"


def write_h5ad(path: Path, rows: int) -> Path:
    """A sparse matrix by rows, half of it zeros, written in pieces."""
    with needed("h5py").File(path / "x.h5ad", "w") as file:
        group = file.create_group("X")
        group.attrs["encoding-type"], group.attrs["shape"] = "csr_matrix", (rows, WIDTH)
        data = group.create_dataset("data", (0,), "f8", maxshape=(None,), chunks=(2**15,))
        indices = group.create_dataset("indices", (0,), "i4", maxshape=(None,), chunks=(2**15,))
        indptr = group.create_dataset("indptr", (rows + 1,), "i8")
        for number, piece in enumerate(pieces(rows)):
            x = np.column_stack(piece.columns)
            where, columns = np.nonzero(x > 0)
            stop = len(data) + len(columns)
            counts = np.cumsum(np.bincount(where, minlength=len(x)))
            indptr[number * PIECE + 1 : number * PIECE + 1 + len(x)] = len(data) + counts
            for dataset, values in ((data, x[where, columns]), (indices, columns)):
                start = len(dataset)
                dataset.resize((stop,))
                dataset[start:] = values
        frame = file.create_group("var")
        frame.attrs["_index"] = "_index"
        frame["_index"] = np.array(NAMES, dtype=object)
    return path / "x.h5ad"


def write_netcdf(path: Path, rows: int) -> Path:
    """One variable with dimensions."""
    with needed("h5netcdf").File(path / "x.nc", "w") as file:
        file.dimensions = {"row": rows, "feature": WIDTH}
        x = file.create_variable(
            "x", ("row", "feature"), "f8", chunks=(4096, WIDTH), compression="gzip", compression_opts=1
        )
        for number, piece in enumerate(pieces(rows)):
            x[number * PIECE : number * PIECE + piece.num_rows] = np.column_stack(piece.columns)
    return path / "x.nc"


def write_icechunk(path: Path, rows: int) -> Path:
    """One array."""
    library, zarr = needed("icechunk"), needed("zarr")
    repository = library.Repository.create(library.local_filesystem_storage(str(path / "r")))
    session = repository.writable_session("main")
    x = zarr.create_array(session.store, shape=(rows, WIDTH), chunks=(16_384, WIDTH), dtype="f8")
    for number, piece in enumerate(pieces(rows)):
        x[number * PIECE : number * PIECE + piece.num_rows] = np.column_stack(piece.columns)
    session.commit("rows")
    return path / "r"


WRITERS: dict[str, Callable[[Path, int], Path]] = {
    "polars": parquet,
    "CSV": write_csv,
    "DuckDB": write_duckdb,
    "DuckDB relation": write_duckdb,
    "Delta Lake": write_delta,
    "HDF5": write_hdf5,
    "AnnData": write_h5ad,
    "Iceberg": write_iceberg,
    "Hugging Face": write_hugging_face,
    "Lance": write_lance,
    "netCDF": write_netcdf,
    "ORC": write_orc,
    "Icechunk": write_icechunk,
    "Ibis": parquet,
}


def opened(kind: str, path: str) -> Any:
    """What a user passes: a path, or the object of a library that has no paths."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if kind == "polars":
            return needed("polars").scan_parquet(path)
        if kind == "DuckDB relation":
            connection = needed("duckdb").connect(path, read_only=True, config={"memory_limit": "64MiB", "threads": 2})
            return connection.table("t")
        if kind == "Ibis":
            needed("polars")
            return needed("ibis").polars.connect().read_parquet(path)
    return f"{path}/x" if kind == "netCDF" else path
