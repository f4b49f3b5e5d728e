"""Sequences: every way to say where they are gives the same steps, whole where they fit, whatever the cut."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import dask.array
import dask.dataframe
import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import xarray
import zarr
from distributed import Client, LocalCluster
from numpy.typing import NDArray

from streamem import GaussianMixture, open_sequences
from streamem.conformance import SourceSuite
from streamem.conformance.tolerance import assert_equal
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, ParameterError, SchemaError, SourceError
from streamem.core.ports import ChunkDone, ChunkRef
from streamem.core.stats import Stats
from streamem.executors import ThreadsExecutor
from streamem.executors.chunk_cache import ChunkCache
from streamem.executors.dask import DaskExecutor
from streamem.running.memory import shared_bytes
from streamem.sources import ReadOptions, open_source
from streamem.sources.plan import sequence_cuts

Array = NDArray[Any]
LENGTHS = [3, 1, 40, 2, 2, 130, 7, 1, 1, 13]
N, D = sum(LENGTHS), 3
ROW = 8 * D


def rows() -> Array:
    return np.random.default_rng(6).normal(size=(N, D))


def ids(name: Callable[[int], Any] = int, order: Sequence[int] = range(len(LENGTHS))) -> list[Any]:
    return [name(order[i]) for i, length in enumerate(LENGTHS) for _ in range(length)]


def table(identify: list[Any], **more: Any) -> pa.Table:
    columns = {name: rows()[:, j] for j, name in enumerate("abc")}
    return pa.table({"id": identify, **columns, **more})


def sequences_of(source: Any) -> list[Array]:
    """The steps of each sequence, put together from its chunks, by what the chunks say."""
    found: list[list[Array]] = []
    going_on = False
    for ref in source.chunks():
        chunk = ref.load()
        assert chunk.sequences is not None
        offsets = chunk.sequences.offsets
        assert offsets.dtype == np.int64
        assert (offsets[0], offsets[-1]) == (0, chunk.rows)
        assert (chunk.sequences.opened, chunk.sequences.continued) == (ref.opened, ref.continued)
        np.testing.assert_array_equal(np.diff(offsets), ref.lengths)
        assert ref.opened == going_on
        pieces = [chunk.x[a:b] for a, b in pairwise(offsets)]
        if ref.opened:
            found[-1].append(pieces.pop(0))
        found += [[piece] for piece in pieces]
        going_on = ref.continued
    assert not going_on
    return [np.concatenate(pieces) for pieces in found]


def assert_sequences(source: Any, expected: Sequence[Array]) -> None:
    found = sequences_of(source)
    assert [len(sequence) for sequence in found] == [len(sequence) for sequence in expected]
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def expected_sequences(x: Array, lengths: Sequence[int] = LENGTHS) -> list[Array]:
    return np.split(x, np.cumsum(lengths)[:-1])


# --- the plan --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(30))
def test_cuts_keep_sequences_whole_where_they_fit(seed: int) -> None:
    rng = np.random.default_rng(seed)
    bounds = np.cumsum([0, *rng.integers(1, 20, size=12)])
    n = int(bounds[-1])
    offsets = np.unique([0, n, *rng.integers(0, n, size=rng.integers(0, n))])
    cuts = sequence_cuts(bounds, offsets)
    assert (cuts[0], cuts[-1]) == (0, n)
    assert all(a < b for a, b in pairwise(cuts))
    assert len(cuts) == len(bounds)
    for low, high, (a, b) in zip(bounds, bounds[2:], pairwise(cuts[1:]), strict=False):
        assert low < a, "a chunk has rows of two old ones at most"
        assert b <= high
    for cut in set(cuts) - set(offsets.tolist()):  # mid-sequence: only at a bound, of a sequence that fills the chunk
        assert cut in bounds
        before = max(c for c in cuts if c < cut)
        assert not ((before < offsets) & (offsets < cut)).any()
    whole = sequence_cuts(bounds, offsets, whole=True)
    assert set(whole) <= set(offsets.tolist())


def test_the_plan_of_this_module_has_every_kind_of_cut() -> None:
    refs = open_sequences(rows(), lengths=LENGTHS, options=ReadOptions(chunk_bytes=30 * ROW)).chunks()
    kinds = {(ref.opened, ref.continued) for ref in refs}
    assert kinds == {(False, False), (False, True), (True, True), (True, False)}
    assert {len(ref.bases) for ref in refs} >= {1, 2}
    assert max(ref.rows for ref in refs) <= 60


@pytest.mark.parametrize("chunk_rows", [*range(1, 45), 100, 129, 130, 131, N - 1, N, 10**6])
def test_every_cut_gives_the_same_sequences(chunk_rows: int) -> None:
    x = rows()
    source = open_sequences(x, lengths=LENGTHS, options=ReadOptions(chunk_bytes=chunk_rows * ROW))
    assert_sequences(source, expected_sequences(x))
    assert all(ref.rows <= 2 * chunk_rows for ref in source.chunks())


def test_one_base_that_holds_all_rows_is_not_copied() -> None:
    x = rows()
    (ref,) = open_sequences(x, lengths=LENGTHS).chunks()
    assert np.shares_memory(ref.load().x, x)


def test_refs_are_what_executors_ask_for() -> None:
    source = open_sequences(rows(), lengths=LENGTHS, options=ReadOptions(chunk_bytes=30 * ROW))
    for ref in source.chunks():
        assert ref.made_of == ref.bases
        np.testing.assert_array_equal(np.diff(ref.sequences.offsets), ref.lengths)
        assert (ref.sequences.opened, ref.sequences.continued) == (ref.opened, ref.continued)


def test_a_ref_of_many_sequences_pickles_its_own_lengths_only(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((100_000, 1)))
    source = open_sequences(
        tmp_path / "x.npy", lengths=np.full(50_000, 2), weight=np.ones(50_000), options=ReadOptions(chunk_bytes=8000)
    )
    assert max(len(pickle.dumps(ref)) for ref in source.chunks()) < 8 * 1000 * 2 + 2000


def test_two_openings_have_one_plan_and_loading_does_not_change_it() -> None:
    def plan(source: Any) -> list[Any]:
        return [
            (r.index, r.start, r.rows, r.nbytes, r.load_nbytes, r.lengths.tolist(), r.opened, r.continued)
            for r in source.chunks()
        ]

    one, other = (open_sequences(rows(), lengths=LENGTHS, options=ReadOptions(chunk_bytes=1000)) for _ in range(2))
    before = plan(one)
    for ref in one.chunks():
        ref.load()
    assert plan(one) == before == plan(other)
    assert one.fingerprint() == other.fingerprint()


def test_the_fingerprint_knows_where_sequences_begin_and_what_they_weigh() -> None:
    x, s = rows(), len(LENGTHS)
    sources = [
        open_source(x),
        open_sequences(x),
        open_sequences(x, lengths=LENGTHS),
        open_sequences(x, lengths=LENGTHS[::-1]),
        open_sequences(x, lengths=LENGTHS, weight=np.ones(s)),
        open_sequences(x, lengths=LENGTHS, weight=np.arange(s)),
        open_sequences(x, lengths=[100, 100], lag=1),
        open_sequences(x, lengths=[100, 100], lag=2),
        open_sequences(x.reshape(10, 20, D)),
        open_sequences(x.reshape(10, 20, D), lengths=[20] * 10),
        open_sequences(x.reshape(10, 20, D), lengths=[19] * 10),
    ]
    assert len({source.fingerprint() for source in sources}) == len(sources)


# --- the ways to say where sequences are -----------------------------------------------------------------------------


def write_group(path: Path, **more: Any) -> zarr.Group:
    group = zarr.open_group(path, mode="w")
    group.create_array("x", data=rows(), chunks=(17, D))
    for name, values in more.items():
        group.create_array(name, data=np.asarray(values), chunks=(6,))
    return group


def by_lengths(tmp: Path) -> Any:
    return open_sequences(rows(), lengths=LENGTHS)


def by_offsets(tmp: Path) -> Any:
    return open_sequences(rows(), offsets=np.cumsum([0, *LENGTHS])[:-1].astype(np.uint32))


def by_offsets_and_end(tmp: Path) -> Any:
    return open_sequences(rows(), offsets=np.cumsum([0, *LENGTHS]).tolist())


def by_a_list_of_arrays(tmp: Path) -> Any:
    return open_sequences(expected_sequences(rows()), options=ReadOptions(chunk_bytes=25 * ROW))


def by_nested_lists(tmp: Path) -> Any:
    return open_sequences(tuple(sequence.tolist() for sequence in expected_sequences(rows())))


def by_an_npy_file_of_offsets(tmp: Path) -> Any:
    np.save(tmp / "x.npy", rows())
    np.save(tmp / "offsets.npy", np.cumsum([0, *LENGTHS]))
    return open_sequences(tmp / "x.npy", offsets=tmp / "offsets.npy", options=ReadOptions(chunk_bytes=25 * ROW))


def by_a_zarr_array_of_offsets(tmp: Path) -> Any:
    zarr.save_array(str(tmp / "starts"), np.cumsum([0, *LENGTHS])[:-1])
    write_group(tmp / "x.zarr")
    return open_sequences(tmp / "x.zarr" / "x", offsets=str(tmp / "starts"), options=ReadOptions(chunk_bytes=1))


def by_offsets_in_the_group(tmp: Path) -> Any:
    write_group(tmp / "x.zarr", begin=np.cumsum([0, *LENGTHS]))
    return open_sequences(tmp / "x.zarr", offsets="begin", options=ReadOptions(chunk_bytes=1))


def by_offsets_beside_the_array(tmp: Path) -> Any:
    write_group(tmp / "x.zarr", begin=np.cumsum([0, *LENGTHS]))
    return open_sequences(str(tmp / "x.zarr" / "x"), offsets="begin", options=ReadOptions(chunk_bytes=1))


def by_lengths_in_an_open_group(tmp: Path) -> Any:
    return open_sequences(write_group(tmp / "x.zarr", steps=LENGTHS), lengths="steps")


def by_lengths_of_an_open_source(tmp: Path) -> Any:
    return open_sequences(open_source(rows(), options=ReadOptions(chunk_bytes=25 * ROW)), lengths=LENGTHS)


def by_numbers_in_a_group(tmp: Path) -> Any:
    return open_sequences(write_group(tmp / "x.zarr", id=ids(lambda i: 7 * i)), sequence_column="id")


def by_texts_in_a_group(tmp: Path) -> Any:
    group = write_group(tmp / "x.zarr")
    named = group.create_array("id", shape=(N,), dtype=str, chunks=(6,))
    named[:] = np.array(ids(lambda i: f"no. {i}"), dtype=object)
    return open_sequences(group, sequence_column="id", options=ReadOptions(chunk_bytes=1))


def by_numbers_in_parquet(tmp: Path) -> Any:
    pq.write_table(table(ids()), tmp / "x.parquet", row_group_size=7)
    return open_sequences(tmp / "x.parquet", sequence_column="id", options=ReadOptions(chunk_bytes=1))


def by_texts_in_a_parquet_folder(tmp: Path) -> Any:
    whole = table(ids("sequence {}".format, order=[5, 3, 9, 1, 0, 8, 7, 6, 2, 4]))
    for i, first in enumerate(range(0, N, 60)):
        pq.write_table(whole.slice(first, 60), tmp / f"{i}.parquet", row_group_size=11)
    return open_sequences(tmp, sequence_column="id")


def by_partition_key(tmp: Path) -> Any:
    whole = table(ids())
    for i, (first, length) in enumerate(zip(np.cumsum([0, *LENGTHS]), LENGTHS, strict=False)):
        (tmp / f"site={i:02d}").mkdir()
        pq.write_table(whole.slice(first, length).drop_columns("id"), tmp / f"site={i:02d}" / "part.parquet")
    return open_sequences(tmp, sequence_column="site")


def by_dictionary_in_a_table(tmp: Path) -> Any:
    encoded = pa.array(ids(str)).dictionary_encode()
    return open_sequences(table(encoded), sequence_column="id", options=ReadOptions(chunk_bytes=20 * ROW))


def by_dates_in_an_arrow_file(tmp: Path) -> Any:
    whole = table(pa.array(ids(), pa.date32()))
    with pa.ipc.new_file(tmp / "x.arrow", whole.schema) as file:
        file.write_table(whole, max_chunksize=9)
    return open_sequences(tmp / "x.arrow", sequence_column="id", options=ReadOptions(chunk_bytes=1))


def by_column_of_a_reader(tmp: Path) -> Any:
    return open_sequences(lambda: table(ids(str)).to_reader(max_chunksize=10), sequence_column="id")


def by_column_of_a_dataset(tmp: Path) -> Any:
    pq.write_table(table(ids(str)), tmp / "x.parquet", row_group_size=50)
    return open_sequences(ds.dataset(tmp / "x.parquet"), sequence_column="id")


def by_column_of_a_filtered_dataset(tmp: Path) -> Any:
    pq.write_table(table(ids(), keep=[True] * N), tmp / "x.parquet", row_group_size=50)
    chosen = ReadOptions(columns=("a", "b", "c"))
    filtered = ds.dataset(tmp / "x.parquet").filter(ds.field("keep"))
    return open_sequences(filtered, sequence_column="id", options=chosen)


def by_texts_in_pandas(tmp: Path) -> Any:
    frame = pd.DataFrame(rows(), columns=list("abc")).assign(id=pd.Series(ids(str), dtype=object))
    return open_sequences(frame, sequence_column="id")


def by_categories_in_pandas(tmp: Path) -> Any:
    frame = pd.DataFrame(rows(), columns=list("abc")).assign(id=pd.Categorical(ids(str)))
    return open_sequences(frame, sequence_column="id", options=ReadOptions(chunk_bytes=40 * ROW))


def by_texts_in_polars(tmp: Path) -> Any:
    return open_sequences(pl.from_arrow(table(ids(str))), sequence_column="id")


def by_texts_in_a_dask_frame(tmp: Path) -> Any:
    frame = dask.dataframe.from_pandas(table(ids(str)).to_pandas(), npartitions=7, sort=False)
    return open_sequences(frame, sequence_column="id", options=ReadOptions(chunk_bytes=1))


def by_coordinate_of_an_xarray(tmp: Path) -> Any:
    array = xarray.DataArray(rows(), dims=("time", "feature"), coords={"run": ("time", ids(str))})
    return open_sequences(array, sequence_column="run", options=ReadOptions(chunk_bytes=31 * ROW))


def by_variable_of_a_dataset(tmp: Path) -> Any:
    data = xarray.Dataset({name: ("time", rows()[:, j]) for j, name in enumerate("abc")} | {"run": ("time", ids())})
    return open_sequences(data, sequence_column="run")


WAYS = [value for name, value in list(globals().items()) if name.startswith("by_")]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_every_way_gives_the_same_sequences(way: Callable[[Path], Any], tmp_path: Path) -> None:
    source = way(tmp_path)
    assert source.n_sequences == len(LENGTHS)
    assert source.schema.n_features == D
    assert_sequences(source, expected_sequences(rows()))


def test_nothing_said_is_one_sequence(tmp_path: Path) -> None:
    source = open_sequences(rows(), options=ReadOptions(chunk_bytes=30 * ROW))
    assert_sequences(source, [rows()])
    assert open_sequences(source) is source
    plain = open_sequences(rows().tolist())
    assert_sequences(plain, [rows()])
    assert open_sequences(np.empty((0, 2))).chunks() == []


# --- sequences of one length, padded ---------------------------------------------------------------------------------


def padded(dtype: Any = np.float64, fill: float = np.nan) -> tuple[Array, list[int]]:
    """Ten sequences of up to 13 steps, and how many steps each has."""
    rng = np.random.default_rng(1)
    steps = [13, 1, 5, 13, 2, 9, 13, 13, 4, 8]
    x = rng.integers(0, 99, size=(10, 13, D)).astype(dtype)
    for i, count in enumerate(steps):
        x[i, count:] = fill
    return x, steps


def in_memory(x: Array, tmp: Path) -> Any:
    return x


def in_a_file(x: Array, tmp: Path) -> Any:
    np.save(tmp / "x.npy", x)
    return tmp / "x.npy"


def in_zarr(x: Array, tmp: Path) -> Any:
    zarr.create_array(tmp / "x.zarr", data=x, chunks=(3, 5, D))
    return tmp / "x.zarr"


def in_a_group(x: Array, tmp: Path) -> Any:
    group = zarr.open_group(tmp / "x.zarr", mode="w")
    group.create_array("x", data=x, chunks=(3, 5, D))
    return group


def in_dask(x: Array, tmp: Path) -> Any:
    return dask.array.from_array(x, chunks=(4, 13, D))


def in_xarray(x: Array, tmp: Path) -> Any:
    return xarray.DataArray(x, dims=("sequence", "step", "feature"))


CUBES = [in_memory, in_a_file, in_zarr, in_a_group, in_dask, in_xarray]


@pytest.mark.parametrize("put", CUBES)
@pytest.mark.parametrize("chunk_rows", [1, 30, 10**6])
def test_three_axes_are_padded_sequences_that_are_never_cut(put: Any, chunk_rows: int, tmp_path: Path) -> None:
    x, _ = padded()
    source = open_sequences(put(x, tmp_path), options=ReadOptions(chunk_bytes=chunk_rows * ROW))
    assert_sequences(source, list(x))
    for ref in source.chunks():
        chunk = ref.load()
        assert chunk.sequences is not None
        assert chunk.sequences.padded
        assert not ref.opened
        assert not ref.continued


@pytest.mark.parametrize("put", CUBES)
@pytest.mark.parametrize("chunk_rows", [1, 30, 10**6])
def test_known_lengths_make_the_rest_padding(put: Any, chunk_rows: int, tmp_path: Path) -> None:
    stored, steps = padded(np.int16, fill=-1)
    expected, _ = padded(np.float32)
    source = open_sequences(put(stored, tmp_path), lengths=steps, options=ReadOptions(chunk_bytes=chunk_rows * ROW))
    assert source.schema.dtype == np.float32
    assert_sequences(source, list(expected))
    assert not np.isnan(stored).any()


def test_what_is_full_can_be_cut() -> None:
    x = rows().reshape(2, 100, D)
    source = open_sequences(x, lengths=[100, 100], options=ReadOptions(chunk_bytes=30 * ROW))
    assert_sequences(source, list(x))
    assert any(ref.opened for ref in source.chunks())
    assert not any(ref.load().sequences.padded for ref in source.chunks())  # type: ignore[union-attr]


def test_features_may_be_on_another_axis() -> None:
    x, _ = padded()
    for axis in (0, 1, -3):
        source = open_sequences(np.moveaxis(x, 2, axis), options=ReadOptions(feature_axis=axis))
        assert_sequences(source, list(x))


# --- weights ---------------------------------------------------------------------------------------------------------

WEIGHTS = np.arange(1.0, 1 + len(LENGTHS)) / 4
ROW_WEIGHTS = np.repeat(WEIGHTS, LENGTHS)


def weigh_sequences(tmp: Path) -> Any:
    return open_sequences(rows(), lengths=LENGTHS, weight=WEIGHTS.tolist(), options=ReadOptions(chunk_bytes=20 * ROW))


def weigh_rows(tmp: Path) -> Any:
    return open_sequences(rows(), lengths=LENGTHS, weight=ROW_WEIGHTS, options=ReadOptions(chunk_bytes=20 * ROW))


def weigh_by_column(tmp: Path) -> Any:
    pq.write_table(table(ids(str), w=ROW_WEIGHTS), tmp / "x.parquet", row_group_size=7)
    return open_sequences(tmp / "x.parquet", sequence_column="id", weight="w", options=ReadOptions(chunk_bytes=1))


def weigh_by_array_in_the_group(tmp: Path) -> Any:
    return open_sequences(write_group(tmp / "x.zarr", n=LENGTHS, w=WEIGHTS), lengths="n", weight="w")


def weigh_by_rows_in_the_group(tmp: Path) -> Any:
    return open_sequences(write_group(tmp / "x.zarr", n=LENGTHS, w=ROW_WEIGHTS), lengths="n", weight="w")


def weigh_by_file(tmp: Path) -> Any:
    np.save(tmp / "w.npy", WEIGHTS)
    return open_sequences(rows(), lengths=LENGTHS, weight=str(tmp / "w.npy"))


def weigh_the_base(tmp: Path) -> Any:
    base = open_source(rows(), weight=ROW_WEIGHTS, options=ReadOptions(chunk_bytes=20 * ROW))
    return open_sequences(base, lengths=LENGTHS)


def weigh_open_sequences(tmp: Path) -> Any:
    base = open_source(rows(), options=ReadOptions(chunk_bytes=20 * ROW))
    return open_source(open_sequences(base, lengths=LENGTHS), weight=WEIGHTS)


def weigh_rows_of_open_sequences(tmp: Path) -> Any:
    return open_source(open_sequences(rows(), lengths=LENGTHS), weight=ROW_WEIGHTS)


WEIGHED = [value for name, value in list(globals().items()) if name.startswith("weigh_")]


@pytest.mark.parametrize("way", WEIGHED, ids=lambda way: way.__name__)
def test_every_row_carries_the_weight_of_its_sequence(way: Callable[[Path], Any], tmp_path: Path) -> None:
    source = way(tmp_path)
    assert source.schema.weighted
    assert source.schema.n_features == D
    found = [ref.load().weight for ref in source.chunks()]
    np.testing.assert_array_equal(np.concatenate(found), ROW_WEIGHTS)
    assert_sequences(source, expected_sequences(rows()))


# --- lags ------------------------------------------------------------------------------------------------------------


def lagged_by_hand(x: Array, lag: int) -> Array:
    out = np.full((len(x), x.shape[1] * (lag + 1)), np.nan)
    for t in range(lag, len(x)):
        window = x[t - lag : t + 1][::-1]
        if not np.isnan(window).all(axis=1).any():
            out[t] = window.ravel()
    return out


@pytest.mark.parametrize("lag", [1, 2, 5, 9])
@pytest.mark.parametrize("chunk_rows", [1, 2, 3, 7, 20, 64, N])
def test_rows_carry_earlier_steps_across_every_cut(lag: int, chunk_rows: int) -> None:
    lengths = [10, 120, 15, 40, 15]
    x = rows()
    x[[3, 55, 56, 199]] = np.nan  # missing steps
    expected = [lagged_by_hand(sequence, lag) for sequence in expected_sequences(x, lengths)]
    base = open_source(x, options=ReadOptions(chunk_bytes=chunk_rows * ROW))
    source = open_sequences(base, lengths=lengths, lag=lag, weight=np.arange(1, 6))
    assert source.schema.n_features == D * (lag + 1)
    assert_sequences(source, expected)
    weights = [ref.load().weight for ref in source.chunks()]
    np.testing.assert_array_equal(np.concatenate(weights), np.repeat(np.arange(1.0, 6), lengths))


def test_chunks_with_lags_keep_to_the_budget() -> None:
    source = open_sequences(rows(), lag=3, options=ReadOptions(chunk_bytes=40 * ROW))
    assert {ref.rows for ref in source.chunks()} == {10}


def test_features_with_lags_have_names() -> None:
    source = open_sequences(table(ids()).drop_columns("c"), sequence_column="id", lag=0)
    assert source.schema.names == ("a", "b")
    longer = open_sequences(table(ids()).drop_columns(["c", "id"]), lag=2)
    assert longer.schema.names == ("a", "b", "a[t-1]", "b[t-1]", "a[t-2]", "b[t-2]")


def test_weights_of_the_base_do_not_shift_with_lags() -> None:
    base = open_source(rows(), weight=ROW_WEIGHTS, options=ReadOptions(chunk_bytes=20 * ROW))
    lengths = [46, 139, 15]
    weighted = open_source(rows(), weight=np.repeat([1.0, 2, 3], lengths), options=ReadOptions(chunk_bytes=20 * ROW))
    source = open_sequences(weighted, lengths=lengths, lag=4)
    found = np.concatenate([ref.load().weight for ref in source.chunks()])
    np.testing.assert_array_equal(found, np.repeat([1.0, 2, 3], lengths))
    assert base.n_rows == source.n_rows


def test_padded_sequences_with_lags() -> None:
    x, steps = padded()
    kept = [i for i, count in enumerate(steps) if count > 2]
    for lengths in (None, [steps[i] for i in kept]):
        source = open_sequences(x[kept], lengths=lengths, lag=2, options=ReadOptions(chunk_bytes=200))
        assert_sequences(source, [lagged_by_hand(sequence, 2) for sequence in x[kept]])


# --- executors -------------------------------------------------------------------------------------------------------


class Total:
    """Sums that depend on where sequences begin and on the order of addition."""

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> Stats:
        assert chunk.sequences is not None
        firsts = chunk.x[chunk.sequences.offsets[:-1]]
        return Stats(x=chunk.x.sum(axis=0) / 3, firsts=firsts.sum(axis=0) / 7, rows=float(chunk.rows))


def ignore(done: ChunkDone) -> None:
    """Nobody is told."""


def counted(tmp: Path) -> Any:
    pq.write_table(table(ids(str)), tmp / "x.parquet", row_group_size=10)
    return open_sequences(tmp / "x.parquet", sequence_column="id", options=ReadOptions(chunk_bytes=1))


def test_threads_and_cluster_give_the_same_bits(tmp_path: Path) -> None:
    source = counted(tmp_path)
    refs = source.chunks()
    found = []
    for n_threads in (1, 2, 3):
        with ThreadsExecutor(n_threads, cache_bytes=shared_bytes(refs, n_threads)) as threads:
            found.append(threads.reduce(Total(), refs, ignore))
    with (
        LocalCluster(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        DaskExecutor(client, 2**20) as executor,
    ):
        found.append(executor.reduce(Total(), refs, ignore))
        assert list(executor.map(Rows(), refs, ignore)) == [ref.rows for ref in refs]
    for other in found[1:]:
        assert_equal(other, found[0], "the sum")


def test_persisted_collections_are_used_where_they_lie() -> None:
    with (
        LocalCluster(processes=False, n_workers=1, threads_per_worker=2, dashboard_address=":0") as cluster,
        Client(cluster) as client,
        DaskExecutor(client, 2**20) as executor,
    ):
        persisted = client.persist(dask.array.from_array(rows(), chunks=(30, D)))
        refs = open_sequences(persisted, lengths=LENGTHS, lag=0, options=ReadOptions(chunk_bytes=1)).chunks()
        assert all(len(ref.on_cluster) == len(ref.bases) for ref in refs)
        found = executor.reduce(Total(), refs, ignore)
        two = [list(executor.map(Rows(), [refs[i] for i in some], ignore)) for some in ((0, 2), (0, 4))]
    same = open_sequences(open_source(rows(), options=ReadOptions(chunk_bytes=30 * ROW)), lengths=LENGTHS).chunks()
    with ThreadsExecutor(1) as threads:
        assert_equal(found, threads.reduce(Total(), same, ignore), "the sum")
    assert two == [[refs[0].rows, refs[2].rows], [refs[0].rows, refs[4].rows]], "handles of other chunks were kept"


def test_a_mixture_of_steps_is_a_mixture_of_rows() -> None:
    x = np.random.default_rng(2).normal(size=(3000, 2)) + np.repeat([[0.0], [5.0]], [1000, 2000], axis=0)
    settings = {"n_components": 2, "random_state": 0, "chunk_bytes": 8000}
    plain = GaussianMixture(**settings).fit(x)
    one = GaussianMixture(**settings).fit(open_sequences(x, options=ReadOptions(chunk_bytes=8000)))
    np.testing.assert_array_equal(one.means_, plain.means_)
    many = open_sequences(x, lengths=[3] * 1000, options=ReadOptions(chunk_bytes=8000))
    several = GaussianMixture(**settings).fit(many)
    np.testing.assert_allclose(several.means_, plain.means_, rtol=1e-12)
    np.testing.assert_array_equal(several.predict(many), plain.predict(x))


def test_only_chunks_that_neighbours_share_are_kept() -> None:
    options = ReadOptions(chunk_bytes=20 * ROW)
    assert shared_bytes(open_sequences(rows(), options=options).chunks(), 4) == 0
    assert shared_bytes(open_source(rows(), options=options).chunks(), 4) == 0
    assert shared_bytes(open_sequences(rows(), lengths=LENGTHS, options=options).chunks(), 4) == 5 * 20 * ROW
    assert shared_bytes(open_sequences(rows(), lag=1, options=options).chunks(), 1) == 2 * 10 * ROW


class Rows:
    """Counts."""

    def __call__(self, chunk: Chunk, ref: ChunkRef) -> int:
        return chunk.rows


@dataclass(frozen=True, eq=False)
class CountedRef:
    """A handle that tells how often it was loaded."""

    base: Any
    loads: list[int]
    start: int
    rows: int
    index: int
    nbytes: int
    load_nbytes: int

    def load(self) -> Chunk:
        self.loads.append(self.index)
        return cast(Chunk, self.base.load())


class CountedSource:
    """A source whose handles tell how often they were loaded."""

    def __init__(self, base: Any) -> None:
        self._base, self.schema, self.n_rows = base, base.schema, base.n_rows
        self.loads: list[int] = []

    def fingerprint(self) -> str:
        return str(self._base.fingerprint())

    def chunks(self) -> list[CountedRef]:
        return [
            CountedRef(ref, self.loads, ref.start, ref.rows, ref.index, ref.nbytes, ref.load_nbytes)
            for ref in self._base.chunks()
        ]


@pytest.mark.parametrize("n_threads", [1, 2, 4])
def test_a_base_that_neighbours_share_is_loaded_once(n_threads: int) -> None:
    x = np.arange(4000.0).reshape(-1, 1)
    base = CountedSource(open_source(x, options=ReadOptions(chunk_bytes=800)))
    refs = open_sequences(base, lengths=[7] * 571 + [3]).chunks()
    assert sum(len(ref.bases) for ref in refs) > 1.8 * len(base.chunks())
    with ThreadsExecutor(n_threads, cache_bytes=shared_bytes(refs, n_threads)) as executor:
        executor.reduce(Total(), refs, ignore)
        list(executor.map(Rows(), refs, ignore))
    assert len(base.loads) == 2 * len(base.chunks())


def test_what_two_threads_want_at_once_is_read_by_one() -> None:
    started, go_on = threading.Event(), threading.Event()
    loads = []

    class Slow(ChunkRef):
        index, nbytes = 0, 8

        def load(self) -> Chunk:
            loads.append(0)
            started.set()
            go_on.wait(5)
            if len(loads) == 1 and fails:
                raise OSError("planted")
            return Chunk(np.ones((1, 1)))

    for fails in (False, True):
        loads.clear(), started.clear(), go_on.clear()
        cache = ChunkCache()
        with ThreadPoolExecutor(2) as pool:
            first = pool.submit(cache.load, "", Slow(), 0)
            assert started.wait(5)
            second = pool.submit(cache.load, "", Slow(), 0)
            go_on.set()
            assert second.result(5).rows == 1
            assert (first.exception(5) is not None) == fails
    assert len(loads) == 2


# --- the laws of a source --------------------------------------------------------------------------------------------


class TestSequenceSource(SourceSuite):
    """Cut in every way."""

    piece_rows = 2 * 4096 // (8 * 3)

    def make_source(self, chunk_bytes: int) -> Any:
        x = np.random.default_rng(3).normal(size=(3000, 3))
        lengths = [1] * 100 + [900] + [3] * 200 + [250] * 5 + [150]
        return open_sequences(x, lengths=lengths, options=ReadOptions(chunk_bytes=chunk_bytes))

    def expected_rows(self) -> Array:
        return np.random.default_rng(3).normal(size=(3000, 3))


class TestWeightedSequences(TestSequenceSource):
    """With weights of sequences, and lags."""

    def make_source(self, chunk_bytes: int) -> Any:
        x = np.random.default_rng(3).normal(size=(3000, 3))
        weight = [1.5, 0, 2]
        return open_sequences(
            x, lengths=[900, 100, 2000], weight=weight, lag=2, options=ReadOptions(chunk_bytes=chunk_bytes)
        )

    def expected_rows(self) -> Array:
        x = super().expected_rows()
        return np.vstack([lagged_by_hand(part, 2) for part in np.split(x, [900, 1000])])

    def expected_weights(self) -> Array:
        return np.repeat([1.5, 0, 2], [900, 100, 2000])


class TestPaddedSequences(TestSequenceSource):
    """Of known lengths in a Zarr array of three axes."""

    piece_rows = 13 * 13

    @pytest.fixture(autouse=True)
    def _write(self, tmp_path: Path) -> None:
        self.x, self.steps = padded()
        zarr.create_array(tmp_path / "x.zarr", data=np.nan_to_num(self.x, nan=7), chunks=(2, 13, D))
        self.path = tmp_path / "x.zarr"

    chunk_bytes = 1000

    def make_source(self, chunk_bytes: int) -> Any:
        return open_sequences(self.path, lengths=self.steps, options=ReadOptions(chunk_bytes=chunk_bytes))

    def expected_rows(self) -> Array:
        return self.x.reshape(-1, D)


# --- what cannot be --------------------------------------------------------------------------------------------------


def ten(**said: Any) -> Any:
    return open_sequences(np.zeros((10, 2)), **said)


def by_column(column: Any, **said: Any) -> Any:
    return open_sequences(pa.table({"x": np.zeros(len(column)), "id": column}), sequence_column="id", **said)


REFUSED = {
    "lengths that do not sum": (lambda: ten(lengths=[3, 4]), DataError, "2 sequences have 7 steps .* has 10 rows"),
    "an empty sequence": (lambda: ten(lengths=[3, 0, 7, 0]), DataError, "sequence 1 has 0 steps, and 2 of 4"),
    "lengths that are no integers": (lambda: ten(lengths=[2.5, 7.5]), DataError, "float64 values that are not whole"),
    "lengths of two axes": (lambda: ten(lengths=[[3, 7]]), DataError, r"lengths has shape \(1, 2\)"),
    "no lengths": (lambda: ten(lengths=[]), DataError, "0 sequences have 0 steps"),
    "offsets that do not begin at 0": (lambda: ten(offsets=[1, 4]), DataError, "offsets are 1, ….*must be 0"),
    "offsets that stand still": (
        lambda: ten(offsets=[0, 4, 4, 8]),
        DataError,
        "sequence 1 begins at row 4 and the next",
    ),
    "offsets beyond the rows": (lambda: ten(offsets=[0, 12]), DataError, "the last is 12, and the array has 10 rows"),
    "offsets that are nowhere": (lambda: ten(offsets="begin"), SourceError, "offsets='begin' is neither the name"),
    "two ways": (lambda: ten(offsets=[0], lengths=[10]), ParameterError, "lengths and offsets were given"),
    "ids that come again": (
        lambda: by_column(list("aabbacc")),
        DataError,
        "column 'id': 'a' begins in row 0, .* comes again in row 4; .* sort or group",
    ),
    "ids that come again after a fall": (lambda: by_column([9, 9, 3, 3, 5, 9]), DataError, "9 begins in row 0.*row 5"),
    "null ids": (lambda: by_column(["a", None, "b"]), DataError, "column 'id' is null in row 1"),
    "NaN ids": (lambda: by_column([1.0, 1.0, float("nan")]), DataError, "column 'id' is null in row 2"),
    "ids that are lists": (lambda: by_column([[1], [2]]), SchemaError, "list<.*cannot identify sequences"),
    "a missing column": (
        lambda: open_sequences(pa.table({"x": [1.0], "idx": [1]}), sequence_column="id"),
        SchemaError,
        "no column 'id'; it holds 'x', 'idx'. Did you mean 'idx'",
    ),
    "a column of an array": (lambda: ten(sequence_column="id"), SchemaError, "ndarray has no columns with names"),
    "a column of a source": (
        lambda: open_sequences(open_source(pa.table({"x": [1.0], "id": [1]})), sequence_column="id"),
        SchemaError,
        "open already",
    ),
    "open sequences": (lambda: open_sequences(ten(), lengths=[10]), ParameterError, "sequences are open already"),
    "a list and lengths": (lambda: open_sequences([np.ones((2, 1))], lengths=[2]), ParameterError, "leave out lengths"),
    "a list of unequal width": (
        lambda: open_sequences([np.ones((2, 3)), np.ones((2, 3)), np.ones((4, 2))]),
        SchemaError,
        "array 2 of the list has 2 features and array 0 has 3",
    ),
    "a list with an empty sequence": (
        lambda: open_sequences([np.ones((2, 3)), np.ones((0, 3))]),
        DataError,
        "sequence 1 .from row 2 on. has 0 steps",
    ),
    "a list of mixed axes": (lambda: open_sequences([np.ones((2, 3)), np.ones(3)]), SchemaError, r"shape \(3,\)"),
    "an empty list": (lambda: open_sequences([]), SchemaError, "list of sequences is empty"),
    "text in a list": (lambda: open_sequences([np.array([["a"]])]), SchemaError, "array 0 of the list holds <U1"),
    "three axes and offsets": (
        lambda: open_sequences(np.ones((2, 3, 4)), offsets=[0, 3]),
        ParameterError,
        r"shape \(2, 3, 4\).*leave out offsets",
    ),
    "lengths longer than the axis": (
        lambda: open_sequences(np.ones((2, 3, 4)), lengths=[3, 4]),
        SchemaError,
        "2 of them, up to 4.*2 sequences of up to 3 steps",
    ),
    "lengths of 0 on three axes": (
        lambda: open_sequences(np.ones((2, 3, 4)), lengths=[3, 0]),
        DataError,
        "sequence 1 .* has 0 steps",
    ),
    "a negative lag": (lambda: ten(lag=-1), ParameterError, "lag is -1"),
    "half a lag": (lambda: ten(lag=0.5), ParameterError, "lag is 0.5"),
    "sequences shorter than the lag": (
        lambda: ten(lengths=[5, 2, 3], lag=2),
        DataError,
        "sequence 1 .from row 5 on. has 2 steps, and lag=2 needs at least 3; 1 of 3",
    ),
    "weights that fit nothing": (
        lambda: ten(lengths=[5, 5], weight=[1, 2, 3]),
        SchemaError,
        r"shape \(3,\); there are 2 sequences in 10 rows",
    ),
    "a negative weight": (lambda: ten(lengths=[5, 5], weight=[1, -2]), DataError, "-2.0 in sequence 1"),
    "weights that are NaN": (lambda: ten(lengths=[5, 5], weight=[np.nan] * 10), DataError, "nan in row 0"),
    "weights of text": (lambda: ten(lengths=[5, 5], weight=np.array(["a", "b"])), SchemaError, "holds <U1"),
    "weights that differ": (
        lambda: ten(lengths=[5, 5], weight=[1] * 7 + [2] * 3),
        DataError,
        "1.0 in row 5 and 2.0 in row 7, both of sequence 1",
    ),
    "a column of weights that differ": (
        lambda: open_sequences(
            pa.table({"x": np.zeros(4), "id": ["a", "a", "b", "b"], "w": [1, 1, 2, 3]}),
            sequence_column="id",
            weight="w",
        ),
        DataError,
        "weight 'w' is 2.0 in row 2 and 3.0 in row 3, both of sequence 1",
    ),
    "a column of weights that is text": (
        lambda: by_column(["a", "a"], weight="id"),
        SchemaError,
        "weight 'id' holds string, which is not numeric",
    ),
    "weights given twice": (
        lambda: open_sequences(open_source(np.ones((2, 1)), weight=np.ones(2)), weight=[1]),
        SchemaError,
        "weights were given twice",
    ),
    "weights given twice to sequences": (
        lambda: open_source(ten(weight=[1]), weight=[1]),
        SchemaError,
        "weights were given twice",
    ),
    "weights of rows that are none": (
        lambda: open_source(ten(lengths=[5, 5]), weight=np.ones((10, 1))),
        SchemaError,
        r"shape \(10, 1\); there are 2 sequences",
    ),
    "weights in the options": (
        lambda: ten(options=ReadOptions(weight_column="w")),
        ParameterError,
        "given with weight=",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_cannot_be_is_refused_in_words(case: str) -> None:
    attempt, kind, words = REFUSED[case]
    with pytest.raises(kind, match=words):
        attempt()


def test_weights_of_the_base_that_differ_are_refused_at_the_read() -> None:
    base = open_source(np.zeros((6, 1)), weight=np.array([1.0, 1, 2, 2, 3, 2]), options=ReadOptions(chunk_bytes=32))
    refs = open_sequences(base, lengths=[2, 2, 2]).chunks()
    refs[0].load()
    with pytest.raises(DataError, match="3.0 in row 4 and 2.0 in row 5 of the sequence from row 4 on"):
        refs[1].load()


def test_padded_sequences_shorter_than_the_lag_are_refused_at_the_read() -> None:
    x = np.zeros((3, 4, 2))
    x[1, 2:] = np.nan
    (ref,) = open_sequences(x, lag=2).chunks()
    with pytest.raises(DataError, match="rows 4–7 has 2 steps before its padding, and lag=2 needs at least 3"):
        ref.load()


def test_a_long_run_of_increasing_ids_needs_no_set() -> None:
    names = [f"{i:05d}" for i in range(3000)]
    source = by_column([name for name in names for _ in range(2)])
    assert source.n_sequences == 3000
    with pytest.raises(DataError, match="'01000' begins in row 2000, .* row 6000"):
        by_column([name for name in [*names, "01000"] for _ in range(2)])


@pytest.mark.parametrize(("chunk_bytes", "rows"), [(None, 2**16), (2**20, 2**17)])
def test_narrow_arrays_are_work_for_several_threads(chunk_bytes: int | None, rows: int) -> None:
    x = np.zeros((300_000, 1))
    options = None if chunk_bytes is None else ReadOptions(chunk_bytes=chunk_bytes)
    for data in (x, x[:, 0][:, None]):
        source = open_sequences(data, lengths=[1000] * 300, options=options)
        assert max(ref.rows for ref in source.chunks()) == pytest.approx(rows, rel=0.03)
