"""Row groups that are larger than a chunk should be: the right rows in any order, decoded once where they are read in
order, with nothing left open; and what a fit makes of it."""

from __future__ import annotations

import gc
import os
import pickle
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import TYPE_CHECKING, Any

import fsspec
import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.fs as pafs
import pyarrow.parquet as pq
import pytest
from numpy.typing import NDArray

from helpers import subprocess_jobs
from helpers.fit_bits import fitted
from streamem import GaussianHMM, GaussianMixture, open_sequences
from streamem.algorithms import StepwiseEM
from streamem.conformance import SourceSuite
from streamem.core.errors import MemoryLimitError, SourceChangedError, SourceError
from streamem.core.ports import ChunkRef, Source
from streamem.sources import ReadOptions, open_source, parquet_stream, parquet_streams
from streamem.sources.parquet import ParquetChunkRef
from streamem.sources.parquet_parts import ParquetPartRef

if TYPE_CHECKING:
    from distributed import Client

Array = NDArray[Any]
MB = 10**6
ROWS, PART, PARTS = 64_000, 4_000, 16
CHUNK_BYTES = PART * 3 * 8
OPTIONS = ReadOptions(chunk_bytes=CHUNK_BYTES)
SETTINGS: dict[str, Any] = {"n_components": 2, "max_iter": 3, "tol": 0.0, "random_state": 0, "chunk_bytes": CHUNK_BYTES}
pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(scope="module")
def x() -> Array:
    rng = np.random.default_rng(0)
    return rng.normal(size=(ROWS, 3)) + 3.0 * rng.integers(0, 2, (ROWS, 1))


@pytest.fixture
def path(x: Array, tmp_path: Path) -> Path:
    """One row group of sixteen chunks."""
    return write(tmp_path / "x.parquet", x)


def write(path: Path, x: Array, rows: int = ROWS, **settings: Any) -> Path:
    table = pa.table(dict(zip("abc", x.T, strict=True)))
    pq.write_table(table, path, row_group_size=rows, **settings)
    return path


def refs_of(path: Path) -> Sequence[ChunkRef]:
    return open_source(path, options=OPTIONS).chunks()


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """Rows decoded of each row group, by its number."""
    counted: Counter[int] = Counter()
    read = parquet_stream.batches_of

    def counting(file: Any, group: Any, layout: Any, rows: int) -> Iterator[Any]:
        for batch in read(file, group, layout, rows):
            counted[group.number] += batch.num_rows
            yield batch

    monkeypatch.setattr(parquet_stream, "batches_of", counting)
    return counted


def open_files(path: Path) -> int:
    """How often this process has the file open, where the system tells (Linux)."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("only Linux tells which files are open")
    links = (Path("/proc/self/fd") / name for name in os.listdir("/proc/self/fd"))
    return sum(os.path.realpath(link) == str(path) for link in links)


def assert_rows(refs: Sequence[ChunkRef], loaded: dict[int, Array], x: Array) -> None:
    for i, ref in enumerate(refs):
        np.testing.assert_array_equal(loaded[i], x[ref.start : ref.start + ref.rows], err_msg=f"chunk {i}")


# --- the plan --------------------------------------------------------------------------------------------------------


def test_a_large_row_group_is_many_chunks(path: Path) -> None:
    refs = refs_of(path)
    assert [ref.rows for ref in refs] == [PART] * PARTS
    assert all(isinstance(ref, ParquetPartRef) for ref in refs)


@pytest.mark.parametrize(
    ("rows", "expected"), [(8_000, [8_000]), (8_001, [2_667] * 3), (10_001, [3_334, 3_334, 3_333])]
)
def test_cuts_are_even_from_twice_the_size_on(x: Array, tmp_path: Path, rows: int, expected: list[int]) -> None:
    assert [ref.rows for ref in refs_of(write(tmp_path / "x.parquet", x[:rows]))] == expected


def test_small_row_groups_beside_large_ones_are_joined(x: Array, tmp_path: Path) -> None:
    for name, first, stop, rows in (("a", 0, 3_000, 1_000), ("b", 3_000, 23_000, 20_000), ("c", 23_000, 25_000, 500)):
        write(tmp_path / f"{name}.parquet", x[first:stop], rows)
    refs = refs_of(tmp_path)
    assert [ref.rows for ref in refs] == [3_000, *[4_000] * 5, 2_000]
    assert_rows(refs, {i: ref.load().x for i, ref in enumerate(refs)}, x)


def test_out_of_order_a_row_group_is_a_chunk(x: Array, path: Path) -> None:
    (ref,) = open_source(path, options=ReadOptions(chunk_bytes=CHUNK_BYTES, in_order=False)).chunks()
    assert isinstance(ref, ParquetChunkRef)
    np.testing.assert_array_equal(ref.load().x, x)


class TestLaws(SourceSuite):
    """Those of every source, and of its handles."""

    chunk_bytes = CHUNK_BYTES
    piece_rows = 2 * PART

    @pytest.fixture(autouse=True)
    def _data(self, x: Array, tmp_path: Path) -> None:
        self.x, self.path = x[:40_000], write(tmp_path / "x.parquet", x[:40_000], 17_000)

    def make_source(self, chunk_bytes: int) -> Source:
        return open_source(self.path, options=ReadOptions(chunk_bytes=chunk_bytes))

    def expected_rows(self) -> Array:
        return self.x

    def expected_names(self) -> tuple[str, ...]:
        return ("a", "b", "c")


# --- rows ------------------------------------------------------------------------------------------------------------


def backwards(refs: Sequence[Any]) -> list[int]:
    return list(range(len(refs)))[::-1]


def shuffled(refs: Sequence[Any]) -> list[int]:
    return np.random.default_rng(1).permutation(np.repeat(np.arange(len(refs)), 3)).tolist()


@pytest.mark.parametrize("order", [backwards, shuffled])
def test_any_order_gives_the_right_rows(x: Array, path: Path, order: Any) -> None:
    refs = refs_of(path)
    for i in order(refs):
        np.testing.assert_array_equal(refs[i].load().x, x[i * PART : (i + 1) * PART])
    assert open_files(path) <= 1


@pytest.mark.parametrize("settings", [{}, {"use_dictionary": False}, {"data_page_size": 1000}, {"compression": "zstd"}])
def test_pages_of_any_kind(x: Array, tmp_path: Path, settings: dict[str, Any]) -> None:
    refs = refs_of(write(tmp_path / "x.parquet", x, **settings))
    assert_rows(refs, {i: ref.load().x for i, ref in enumerate(refs)}, x)


def test_many_threads_at_once_in_any_order(x: Array, path: Path) -> None:
    refs, n_threads = refs_of(path), 8
    barrier = Barrier(n_threads)

    def read(seed: int) -> None:
        for i in np.random.default_rng(seed).permutation(len(refs)).tolist():
            barrier.wait()
            np.testing.assert_array_equal(refs[i].load().x, x[i * PART : (i + 1) * PART])

    with ThreadPoolExecutor(n_threads) as threads:
        list(threads.map(read, range(n_threads)))
    assert open_files(path) <= n_threads


def mixed_table() -> pa.Table:
    rng = np.random.default_rng(2)
    n = 20_000
    numbers = rng.normal(size=n)
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rng.normal(size=3 * n).astype(np.float32)), 3)
    return pa.table(
        {
            "e": lists,
            "a": pa.array(numbers, mask=rng.uniform(size=n) < 0.1),
            "kind": pa.array(np.array(["red", "green", "a longer name"])[rng.integers(0, 3, n)]),
            "count": pa.array(rng.integers(0, 9, n), pa.int8()),
            "w": pa.array(rng.uniform(size=n)),
        }
    )


def test_nulls_lists_text_weights_and_hive_keys(tmp_path: Path) -> None:
    """As the same files give them in one piece."""
    table = mixed_table()
    for year in (2023, 2024):
        (tmp_path / f"year={year}").mkdir()
        pq.write_table(table, tmp_path / f"year={year}" / "x.parquet")
    more = {"categories": "text", "columns": ("e", "a", "kind", "count", "year"), "weight_column": "w"}
    sources = [open_source(tmp_path, options=ReadOptions(chunk_bytes=size, **more)) for size in (2**15, 2**40)]
    parts, (whole,) = sources[0].chunks(), sources[1].chunks()
    assert len(parts) > 20
    chunks, expected = [ref.load() for ref in parts], whole.load()
    np.testing.assert_array_equal(np.concatenate([chunk.x for chunk in chunks]), expected.x)
    np.testing.assert_array_equal(np.concatenate([chunk.weight for chunk in chunks]), expected.weight)
    np.testing.assert_array_equal(expected.x[:20_000, 3], table["a"].to_numpy())
    np.testing.assert_array_equal(expected.x[::20_000, 6], [2023, 2024])


def test_a_store_that_is_not_a_disk_is_asked_for_more_at_a_time(x: Array, path: Path) -> None:
    far = pafs.PyFileSystem(pafs.FSSpecHandler(fsspec.filesystem("file")))
    near = pafs.SubTreeFileSystem(str(path.parent), pafs.LocalFileSystem())
    datasets = [ds.dataset(str(path), filesystem=far), ds.dataset(path.name, filesystem=near)]
    plans = [open_source(dataset, options=OPTIONS).chunks() for dataset in datasets]
    for refs in plans:
        assert_rows(refs, {i: ref.load().x for i, ref in enumerate(refs)}, x)
    buffers = [parquet_stream.buffer_nbytes(refs[0].filesystem) for refs in plans]
    assert buffers == [2**22, 2**18]


def test_only_hive_keys(x: Array, tmp_path: Path) -> None:
    (tmp_path / "year=2024").mkdir()
    write(tmp_path / "year=2024" / "x.parquet", x)
    refs = open_source(tmp_path, options=ReadOptions(columns=("year",), chunk_bytes=CHUNK_BYTES)).chunks()
    assert len(refs) > 1
    assert all((ref.load().x == 2024).all() for ref in refs)


def test_sequences_that_cross_parts_and_look_back(x: Array, path: Path, decoded: Counter[int]) -> None:
    lengths = [10_000, 30_000, 3, 23_997]
    found = open_sequences(path, lengths=lengths, lag=2, options=OPTIONS).chunks()
    expected = open_sequences(x, lengths=lengths, lag=2, options=ReadOptions(chunk_bytes=2**40)).chunks()
    rows = [np.concatenate([ref.load().x for ref in refs]) for refs in (found, expected)]
    np.testing.assert_array_equal(*rows)
    assert decoded == {0: ROWS}


# --- decoded once ----------------------------------------------------------------------------------------------------


def test_in_order_every_row_is_decoded_once(path: Path, decoded: Counter[int]) -> None:
    for ref in refs_of(path):
        ref.load()
    assert decoded == {0: ROWS}


@pytest.mark.parametrize("n_threads", [2, 5])
def test_threads_that_race_decode_every_row_once(
    x: Array, tmp_path: Path, decoded: Counter[int], n_threads: int
) -> None:
    path = write(tmp_path / "x.parquet", x, ROWS // 2)
    for _ in range(10):
        decoded.clear()
        refs = refs_of(path)
        with ThreadPoolExecutor(n_threads) as threads:
            loaded = dict(enumerate(threads.map(lambda ref: ref.load().x, refs)))
        assert_rows(refs, loaded, x)
        assert decoded == {0: ROWS // 2, 1: ROWS // 2}


def test_a_reader_who_was_overtaken_costs_nothing(x: Array, path: Path, decoded: Counter[int]) -> None:
    """By two parts, without having said what it wants."""
    refs, loaded = refs_of(path), {}
    for first in range(0, 15, 3):
        loaded |= {i: refs[i].load().x for i in (first + 2, first + 1, first)}
    assert_rows(refs[:15], loaded, x)
    assert decoded == {0: 15 * PART}


@pytest.mark.parametrize(("asked", "parts"), [([PART], 13), ([], 13 + 2)])
def test_rows_that_somebody_waits_for_stay(
    x: Array, path: Path, decoded: Counter[int], asked: list[int], parts: int
) -> None:
    """Those that nobody had asked for are decoded again from the beginning."""
    ref = refs_of(path)[0]
    stream = parquet_stream.GroupStream(ref.filesystem, ref.row_group, ref.layout, PART)
    stream.asked.extend(asked)
    for number in (12, 1):
        (batch,) = stream.take(parquet_stream.RowRange(number * PART, PART, PART))
        np.testing.assert_array_equal(batch.column("a"), x[number * PART : (number + 1) * PART, 0])
    stream.close()
    assert decoded == {0: parts * PART}


def test_runs_far_apart_do_not_take_each_others_stream(path: Path, decoded: Counter[int]) -> None:
    """As tasks of a cluster read them; one of them begins anew once, and then each goes on."""
    refs = refs_of(path)
    with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
        for i in range(6):
            one.submit(refs[i].load).result()
            other.submit(refs[10 + i].load).result()
        assert decoded[0] <= (1 + 6 + 16) * PART
        assert open_files(path) <= 2


# --- nothing left open -----------------------------------------------------------------------------------------------


def test_files_are_closed(x: Array, tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", x, ROWS // 4)
    refs = refs_of(path)
    for ref in refs:
        ref.load()
        assert open_files(path) <= 1
    assert open_files(path) == 0
    refs[3].load()  # the last part of a row group, whose others nobody takes
    assert open_files(path) == 0
    for ref in refs[::4]:  # the first part of every row group
        ref.load()
        assert open_files(path) == 1
    del refs, ref
    gc.collect()
    assert open_files(path) == 0


def test_pickled_handles_share_their_streams(x: Array, path: Path, decoded: Counter[int]) -> None:
    others = set(parquet_streams._KNOWN)  # what other tests of this process still hold
    refs = refs_of(path)
    refs[0].load()
    sent = [pickle.dumps(ref) for ref in refs]
    assert all(pickle.loads(one).streams is refs[0].streams for one in sent)
    del refs
    gc.collect()
    decoded.clear()
    copies = [pickle.loads(one) for one in sent]  # as in a process that has never seen the plan
    assert_rows(copies, {i: ref.load().x for i, ref in enumerate(copies)}, x)
    assert decoded == {0: ROWS}
    del copies
    gc.collect()
    assert not set(parquet_streams._KNOWN) - others


# --- faults ----------------------------------------------------------------------------------------------------------


def test_damage_in_the_middle_and_its_repair(x: Array, tmp_path: Path) -> None:
    path = write(tmp_path / "x.parquet", x, write_page_checksum=True, use_dictionary=False, compression=None)
    intact = path.read_bytes()
    damaged = bytearray(intact)
    damaged[intact.index(x[40_000, 1].tobytes())] ^= 0xFF
    path.write_bytes(damaged)
    refs = refs_of(path)
    loaded = {i: refs[i].load().x for i in range(5)}
    for i in (10, 11, 10):
        with pytest.raises(SourceError, match=r"cannot read row group 0 of Parquet file .*x\.parquet: .*CRC"):
            refs[i].load()
    assert open_files(path) == 0
    path.write_bytes(intact)
    loaded |= {i: refs[i].load().x for i in range(5, PARTS)}
    assert_rows(refs, loaded, x)


def test_a_file_that_is_cut_short(x: Array, path: Path) -> None:
    refs, intact = refs_of(path), path.read_bytes()
    refs[0].load()
    os.truncate(path, len(intact) // 2)
    with pytest.raises(SourceError, match=r"cannot read Parquet file .*x\.parquet"):
        refs[1].load()
    path.write_bytes(intact)
    np.testing.assert_array_equal(refs[1].load().x, x[PART : 2 * PART])


def test_a_file_that_is_rewritten_between_parts(x: Array, path: Path) -> None:
    refs = refs_of(path)
    refs[0].load()
    write(path, x[::-1])
    np.testing.assert_array_equal(refs[1].load().x, x[::-1][PART : 2 * PART])
    write(path, x[:-1])
    for i in (2, 0):
        with pytest.raises(
            SourceChangedError, match=r"row group 0 of Parquet file .*x\.parquet no longer has 64000 rows"
        ):
            refs[i].load()


# --- fits ------------------------------------------------------------------------------------------------------------


def test_a_fit_has_the_bits_of_small_row_groups(x: Array, path: Path, tmp_path: Path) -> None:
    """The plan is the same; at every number of threads."""
    small = write(tmp_path / "small.parquet", x, PART)
    expected = fitted(GaussianMixture(**SETTINGS, n_threads=1).fit(small))
    for n_threads in (1, 2, 3):
        gm = GaussianMixture(**SETTINGS, n_threads=n_threads).fit(path)
        assert gm.report_.n_chunks == PARTS
        assert fitted(gm) == expected
    assert fitted(GaussianMixture(**SETTINGS, memory_limit="200MiB").fit(path)) == expected


def test_a_cluster_gives_the_same_bits(path: Path, client: Client) -> None:
    expected = fitted(GaussianMixture(**SETTINGS).fit(path))
    assert fitted(GaussianMixture(**SETTINGS).fit(path, executor=client)) == expected


@pytest.mark.parametrize("algorithm", [pytest.param("stepwise", marks=pytest.mark.slow), StepwiseEM(passes=1)])
def test_what_draws_at_random_reads_whole_row_groups(path: Path, decoded: Counter[int], algorithm: Any) -> None:
    gm = GaussianMixture(**SETTINGS).fit(path, algorithm=algorithm)
    assert gm.report_.n_chunks == 1
    assert not decoded


def test_incremental_em_reads_in_order(path: Path, decoded: Counter[int]) -> None:
    gm = GaussianMixture(**SETTINGS).fit(path, algorithm="incremental")
    assert gm.report_.n_chunks == PARTS
    assert decoded[0] == 2 * ROWS  # for the start, and in the first pass, which keeps them


@pytest.mark.parametrize(("n_components", "chunks"), [(2, PARTS), (17, 1)])
def test_chains_of_many_states_read_whole_row_groups(path: Path, n_components: int, chunks: int) -> None:
    """Pieces of their sequences may be asked from the end."""
    hmm = GaussianHMM(n_components, n_iter=1, random_state=0, chunk_bytes=CHUNK_BYTES).fit(path)
    assert hmm.report_.n_chunks == chunks


def test_the_remedy_of_a_refusal_is_one(tmp_path: Path) -> None:
    """What the decoder of a large row group holds of sixteen columns is too much; smaller row groups are not."""
    rows = np.random.default_rng(0).standard_normal((200_000, 16), dtype=np.float32)
    table = pa.table({f"c{i}": column for i, column in enumerate(rows.T)})
    gm = GaussianMixture(2, max_iter=0, random_state=0, memory_limit="40MiB", init_params="random_from_data")
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=len(rows))
    with pytest.raises(MemoryLimitError, match=r"in parts by a decoder that holds pages .* row_group_size=\.\.\."):
        gm.fit(tmp_path / "x.parquet")
    pq.write_table(table, tmp_path / "x.parquet", row_group_size=10_000)
    assert gm.fit(tmp_path / "x.parquet").report_.n_chunks == 20


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="VmHWM is Linux's")
@pytest.mark.slow
@pytest.mark.memory
def test_memory_of_a_file_of_one_row_group(tmp_path: Path) -> None:
    """A million rows and 128 MiB, with dictionaries, the costliest pages: read whole, they took 600 MB."""
    rng = np.random.default_rng(0)
    for name, rows in (("warm-up", 2**13), ("large", 2**20)):
        table = pa.table({f"c{i}": rng.standard_normal(rows, dtype=np.float32) for i in range(32)})
        pq.write_table(table, tmp_path / f"{name}.parquet", row_group_size=rows)
    settings = {
        "n_components": 4,
        "covariance_type": "diag",
        "max_iter": 2,
        "tol": 0,
        "random_state": 0,
        "n_threads": 2,
    }
    settings["init_params"] = "random_from_data"
    measured = subprocess_jobs.run(
        "measure", data=tmp_path / "large.parquet", settings=settings, warm_up=tmp_path / "warm-up.parquet"
    )
    assert measured["threads"] == 2
    assert 100 * MB < measured["fit"] - measured["before"] < 300 * MB


@pytest.mark.slow
@pytest.mark.memory
def test_what_loading_is_said_to_take_is_true(tmp_path: Path) -> None:
    """Of all that Arrow and NumPy hold while one reader goes through a row group."""
    taken = subprocess_jobs.run("read_parts", folder=str(tmp_path))
    assert all(0.2 * said < most < said for most, said in taken.values()), taken
