"""Metadata may claim anything: what is there is listed, and a plan that no memory holds is refused with arithmetic."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask.array as da
import dask.dataframe as dd
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import xarray
import zarr

from streamem import GaussianMixture, ReadOptions, open_source
from streamem.core.errors import MemoryLimitError, SourceError, StreamemError
from streamem.sources import plan, zarr_grid
from streamem.sources.dask_blocks import MOST_BLOCKS
from streamem.sources.zarr_beside import read_numbers

FILL = ReadOptions(missing_chunks="fill")


def claiming(path: Path, shape: tuple[int, ...], chunks: tuple[int, ...], **settings: Any) -> zarr.Array[Any]:
    """A store with that in its metadata, and two chunks: the first and the last."""
    kept = {"dtype": "f4", "fill_value": 1.0, "compressors": None, "zarr_format": 3, **settings}
    array = zarr.create_array(path, shape=shape, chunks=chunks, **kept)
    ones = np.arange(math.prod(chunks), dtype="f4").reshape(chunks)
    array[tuple(slice(0, size) for size in chunks)] = ones
    array[tuple(slice(size - chunk, size) for size, chunk in zip(shape, chunks, strict=True))] = ones
    return array


HUGE: dict[str, tuple[tuple[int, ...], tuple[int, ...], dict[str, Any]]] = {
    "10¹² chunks": ((10**12, 2), (1, 2), {}),
    "10¹² chunks, 2": ((10**12, 2), (1, 2), {"zarr_format": 2}),
    "10⁸ chunks": ((1000, 1000, 100), (1, 1, 1), {}),
    "10³⁰ chunks": ((10**15, 10**15), (1, 1), {}),
    "10⁹ shards": ((10**10, 2), (5, 2), {"shards": (10, 2)}),
}


@pytest.mark.parametrize("name", HUGE)
def test_missing_chunks_of_a_huge_grid_are_counted_from_those_that_are_there(name: str, tmp_path: Path) -> None:
    shape, chunks, settings = HUGE[name]
    array = claiming(tmp_path / "x.zarr", shape, chunks, **settings)
    size = zarr_grid.grid_of(array).size
    axis = 2 if len(shape) == 3 else None
    with pytest.raises(SourceError, match=f"{size - 2} of {size} stored chunks are missing .the first: "):
        open_source(str(tmp_path / "x.zarr"), options=ReadOptions(feature_axis=axis))


def test_a_sparse_cube_is_planned_and_stamped_by_what_it_holds(tmp_path: Path) -> None:
    array = claiming(tmp_path / "x.zarr", (1000, 1000, 100), (1, 1, 1))
    source = open_source(str(tmp_path / "x.zarr"), options=ReadOptions(missing_chunks="fill", feature_axis=2))
    assert source.n_rows == 10**6
    assert len(source.chunks()) <= 1000
    before = source.fingerprint()
    assert source.fingerprint() == before
    array[3, 4, 5] = 7.0
    written = source.fingerprint()
    assert written != before
    array[3, 4, 5] = 8.0
    assert source.fingerprint() != written


def test_a_plan_that_no_memory_holds_is_refused_with_arithmetic(tmp_path: Path) -> None:
    claiming(tmp_path / "x.zarr", (10**13, 2), (1, 2))
    source = open_source(str(tmp_path / "x.zarr"), options=FILL)
    with pytest.raises(MemoryLimitError, match=r"74505.8 GiB, 38\d{6} chunks .*chunk_bytes="):
        source.chunks()
    with pytest.raises(MemoryLimitError, match="ReadOptions.chunk_bytes="):
        GaussianMixture(1).fit(source)


def test_the_advice_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "MOST_CHUNKS", 1000)
    with pytest.raises(MemoryLimitError) as caught:
        plan.even_cuts(10**12, row_nbytes=16, chunk_bytes=2**20)
    advised = int(str(caught.value).partition("chunk_bytes=")[2].partition(")")[0])
    assert len(plan.even_cuts(10**12, row_nbytes=16, chunk_bytes=advised)) <= 1000


def test_numbers_beside_the_data_are_bounded_too(tmp_path: Path) -> None:
    claiming(tmp_path / "x.zarr", (10**12,), (1,))
    with pytest.raises(SourceError, match="999999999998 of 1000000000000 stored chunks are missing"):
        read_numbers(str(tmp_path / "x.zarr"), "lengths", None)


@pytest.mark.parametrize("few", [0, 10**6])
@pytest.mark.parametrize("store", ["disk", "memory"])
@pytest.mark.parametrize("settings", [{}, {"zarr_format": 2}, {"shards": (6, 2)}])
def test_both_ways_find_the_same(
    settings: dict[str, Any], store: str, few: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(zarr_grid, "FEW", few)
    kept = tmp_path / "x.zarr" if store == "disk" else zarr.storage.MemoryStore()
    array = zarr.create_array(kept, name="sub", shape=(60, 2), chunks=(3, 1), dtype="f4", fill_value=0, **settings)
    array[:] = 1.0
    assert zarr_grid.absent_chunks(array) is None
    array[30:36] = 0.0
    absent = zarr_grid.absent_chunks(array)
    assert absent is not None
    grid = zarr_grid.grid_of(array)
    per_axis = -(-6 // zarr_grid.storage_unit(array)[0])
    assert absent.number == per_axis * grid.shape[1]
    assert absent.first == grid.key(30 // zarr_grid.storage_unit(array)[0] * grid.shape[1])


def lying_npy(path: Path) -> Any:
    np.save(path / "x.npy", np.zeros((4, 2)))
    raw = (path / "x.npy").read_bytes()
    lie = b"(1000000000000000000, 2), }"
    at = raw.index(b"(4, 2), }")
    (path / "x.npy").write_bytes(raw[:at] + lie + raw[at + len(lie) :])
    return str(path / "x.npy")


def broadcast(path: Path) -> Any:
    return np.broadcast_to(np.zeros(2), (10**14, 2))


def lazy_xarray(path: Path) -> Any:
    values = xarray.DataArray(np.broadcast_to(np.zeros(2), (10**14, 2)), dims=("row", "feature"))
    return xarray.Dataset({"a": values[:, 0], "b": values[:, 1]})


def many_blocks(path: Path) -> Any:
    return da.zeros((MOST_BLOCKS + 1, 1), chunks=(1, 1))


CLAIMS: dict[str, Callable[[Path], Any]] = {
    "npy": lying_npy,
    "array": broadcast,
    "xarray": lazy_xarray,
    "dask": many_blocks,
}


@pytest.mark.parametrize("name", CLAIMS)
def test_what_claims_too_much_is_a_clear_error(name: str, tmp_path: Path) -> None:
    with pytest.raises(StreamemError, match="is truncated|do not fit into memory"):
        open_source(CLAIMS[name](tmp_path)).chunks()


def test_a_frame_of_too_many_partitions_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    lazy = dd.from_pandas(pd.DataFrame({"a": np.arange(8.0)}), npartitions=4)
    monkeypatch.setattr("streamem.sources.dask_blocks.MOST_BLOCKS", 3)
    with pytest.raises(MemoryLimitError, match="has 4 blocks.*repartition"):
        open_source(lazy)


def test_a_footer_that_claims_other_rows_than_its_columns_is_refused(tmp_path: Path) -> None:
    """The row group's own number of rows is one thrift integer of the footer, which is edited."""
    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"a": np.arange(100.0), "b": np.arange(100.0)}), path)
    raw = path.read_bytes()
    footer = raw[-8 - int.from_bytes(raw[-8:-4], "little") : -8]
    claims = [i for i in range(len(footer) - 3) if footer[i : i + 3] == bytes([0x16, 0xC8, 0x01])]  # i64, zigzag 100
    lied = 0
    for i in claims:
        edited = footer[: i + 1] + bytes([0xCA, 0x01]) + footer[i + 3 :]
        path.write_bytes(raw[: -8 - len(footer)] + edited + raw[-8:])
        try:
            claimed = pq.ParquetFile(path).metadata.row_group(0).num_rows
        except (pa.ArrowException, OSError):
            continue
        if claimed == 101:
            lied += 1
            with pytest.raises(SourceError, match="row group 0 claims 101 rows, and 100 values of column 'a'"):
                open_source(str(path))
    assert lied == 1


def test_parts_of_a_row_group_are_bounded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("streamem.sources.plan.MOST_CHUNKS", 10)
    pq.write_table(pa.table({"a": np.arange(1000.0)}), tmp_path / "x.parquet")
    source = open_source(str(tmp_path / "x.parquet"), options=ReadOptions(chunk_bytes=80))
    with pytest.raises(MemoryLimitError, match="1000 rows of 8 bytes"):
        source.chunks()
