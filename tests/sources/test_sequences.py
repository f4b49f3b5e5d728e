"""Sequences: every way to say where they are gives the same steps, whole where they fit, whatever the cut."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
from numpy.typing import NDArray

from streamem import open_sequences
from streamem.conformance import SourceSuite
from streamem.core.chunk import Chunk
from streamem.core.errors import DataError, ParameterError, SchemaError, SourceError
from streamem.core.ports import ChunkDone, ChunkRef, Composed, Held, Sequenced
from streamem.core.stats import Stats
from streamem.executors import ThreadsExecutor
from streamem.executors.chunk_cache import ChunkCache
from streamem.memory import shared_bytes
from streamem.sources import ReadOptions, open_source
from streamem.sources.plan import sequence_cuts
from streamem.sources.sequences import SequenceSource

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
        pieces = [chunk.x[a:b] for a, b in zip(offsets, offsets[1:], strict=False)]
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
    assert all(a < b for a, b in zip(cuts, cuts[1:], strict=False))
    assert len(cuts) == len(bounds)
    for (low, high), (a, b) in zip(
        zip(bounds, bounds[2:], strict=False), zip(cuts[1:], cuts[2:], strict=False), strict=True
    ):
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
        assert isinstance(ref, Composed)
        assert isinstance(ref, Sequenced)
        assert isinstance(ref, Held)


def test_a_ref_of_many_sequences_pickles_its_own_lengths_only(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((100_000, 1)))
    source = open_sequences(
        tmp_path / "x.npy", lengths=np.full(50_000, 2), weight=np.ones(50_000), options=ReadOptions(chunk_bytes=8000)
    )
    assert max(len(pickle.dumps(ref)) for ref in source.chunks()) < 8 * 1000 * 2 + 2000
