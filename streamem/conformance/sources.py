"""The laws of a source: a plan that covers all rows in order, and loads that repeat to the bit."""

from __future__ import annotations

import pickle
from typing import Any
from unittest import SkipTest

import numpy as np
from numpy.typing import NDArray

from streamem.conformance.tolerance import assert_equal, require
from streamem.core.chunk import Chunk
from streamem.core.ports import ChunkRef, Source

Array = NDArray[Any]


class SourceSuite:
    """Laws that every source must obey.

    Attributes
    ----------
    chunk_bytes : the target size with which `make_source` opens
    piece_rows : rows of the largest storage piece that the source never splits
    picklable : whether chunk handles can travel to another process
    """

    chunk_bytes = 4096
    piece_rows = 1
    picklable = True

    # --- to override -------------------------------------------------------------------------------------------------

    def make_source(self, chunk_bytes: int) -> Source:
        """The source, opened anew at every call; more than one chunk at `self.chunk_bytes`."""
        raise NotImplementedError

    def expected_rows(self) -> Array:
        """All rows (n, d), in the dtype that they should have."""
        raise NotImplementedError

    def expected_weights(self) -> Array | None:
        """All weights (n,), or None."""
        return None

    def expected_names(self) -> tuple[str, ...] | None:
        """Names of the features, or None."""
        return None

    # --- laws of the plan --------------------------------------------------------------------------------------------

    def test_the_plan_covers_all_rows_in_order(self) -> None:
        """Chunks are numbered from 0, follow each other without gap or overlap to row n_rows, and none is empty."""
        source = self.make_source(self.chunk_bytes)
        stop = 0
        for index, ref in enumerate(source.chunks()):
            require((ref.index, ref.start) == (index, stop), f"chunk {index} starts at {ref.start}, not at {stop}")
            require(ref.rows > 0, f"chunk {index} has {ref.rows} rows")
            stop += ref.rows
        require(stop == source.n_rows == len(self.expected_rows()), f"the plan ends at row {stop} of {source.n_rows}")
        require(source.n_rows == 0 or len(source.chunks()) > 1, "give a source of more than one chunk")

    def test_the_plan_depends_on_the_budget_only(self) -> None:
        """Two openings give equal plans, and so does the same opening asked again; a larger budget no more chunks."""
        first, second = self.make_source(self.chunk_bytes), self.make_source(self.chunk_bytes)
        plan = _plan(first)
        require(plan == _plan(second), "two openings have different plans")
        for ref in first.chunks():
            ref.load()
        require(plan == _plan(first), "loading changed the plan")
        large = self.make_source(1 << 40)
        require(len(large.chunks()) <= len(plan), "a larger budget gives more chunks")

    def test_chunks_respect_the_budget(self) -> None:
        """Rows of a chunk take no more than chunk_bytes, unless a single storage piece is larger."""
        source = self.make_source(self.chunk_bytes)
        row = source.schema.n_features * source.schema.dtype.itemsize
        most = max(self.chunk_bytes, self.piece_rows * row)
        for ref in source.chunks():
            require(
                ref.rows * row <= most, f"chunk {ref.index} of {ref.rows} rows takes {ref.rows * row} > {most} bytes"
            )

    # --- laws of the rows --------------------------------------------------------------------------------------------

    def test_values_are_those_of_the_store(self) -> None:
        """Rows, and weights, equal the reference to the bit."""
        chunks = [ref.load() for ref in self.make_source(self.chunk_bytes).chunks()]
        assert_equal(np.concatenate([chunk.x for chunk in chunks]), self.expected_rows(), "rows")
        expected = self.expected_weights()
        if expected is None:
            require(all(chunk.weight is None for chunk in chunks), "the source invents weights")
        else:
            weights = [chunk.weight for chunk in chunks if chunk.weight is not None]
            assert_equal(np.concatenate(weights), expected.astype(np.float64), "weights")

    def test_chunks_look_as_the_schema_says(self) -> None:
        """Shape, dtype, C order, weights and names."""
        source = self.make_source(self.chunk_bytes)
        schema = source.schema
        require(schema.names == self.expected_names(), f"names are {schema.names}, not {self.expected_names()}")
        require(schema.names is None or len(schema.names) == schema.n_features, "one name a feature")
        require(schema.dtype in (np.float32, np.float64) and bool(schema.origin), f"{schema}")
        require(schema.weighted == (self.expected_weights() is not None), f"weighted is {schema.weighted}")
        for ref in source.chunks():
            x = ref.load().x
            require(x.shape == (ref.rows, schema.n_features), f"chunk {ref.index} has shape {x.shape}")
            require(x.dtype == schema.dtype and x.dtype.isnative, f"chunk {ref.index} has dtype {x.dtype}")
            require(x.flags.c_contiguous, f"chunk {ref.index} is not in C order")

    def test_loading_twice_gives_the_same_bits(self) -> None:
        """In any order."""
        refs = self.make_source(self.chunk_bytes).chunks()
        forwards = [ref.load() for ref in refs]
        for ref, before in zip(reversed(refs), reversed(forwards), strict=True):
            _assert_same_chunk(ref.load(), before, f"chunk {ref.index}")

    def test_fetched_bytes_hold_the_same_rows(self) -> None:
        """Handles that fetch their bytes make rows of them without another look at the store."""
        for ref in self.make_source(self.chunk_bytes).chunks():
            fetched = ref.fetched()
            require(_numbers(fetched) == _numbers(ref), f"chunk {ref.index} changed when it was fetched")
            _assert_same_chunk(fetched.load(), ref.load(), f"chunk {ref.index}")

    def test_declared_bytes_are_true(self) -> None:
        """nbytes is what a loaded chunk takes; loading takes at least that."""
        for ref in self.make_source(self.chunk_bytes).chunks():
            chunk = ref.load()
            held = chunk.x.nbytes + sum(own.nbytes for own in (chunk.weight, chunk.covariates) if own is not None)
            require(ref.nbytes == held, f"chunk {ref.index} takes {held} bytes, nbytes says {ref.nbytes}")
            require(ref.load_nbytes >= ref.nbytes, f"chunk {ref.index} loads in {ref.load_nbytes} < {ref.nbytes} bytes")

    def test_handles_travel(self) -> None:
        """A pickled ref loads the same bits."""
        if not self.picklable:
            raise SkipTest("the handles of this source stay in their process")
        for ref in self.make_source(self.chunk_bytes).chunks():
            copy: ChunkRef = pickle.loads(pickle.dumps(ref))
            require(_numbers(copy) == _numbers(ref), f"chunk {ref.index} changed on its way")
            _assert_same_chunk(copy.load(), ref.load(), f"chunk {ref.index}")

    def test_the_fingerprint_is_stable(self) -> None:
        """Equal for two openings of the same data, before and after reading; no matter how it is cut."""
        sources = [self.make_source(self.chunk_bytes), self.make_source(2 * self.chunk_bytes)]
        fingerprint = sources[0].fingerprint()
        require(bool(fingerprint) and isinstance(fingerprint, str), f"the fingerprint is {fingerprint!r}")
        for ref in sources[0].chunks():
            ref.load()
        again = {source.fingerprint() for source in sources}
        require(again == {fingerprint}, f"the fingerprint changed from {fingerprint} to {again}")


def _numbers(ref: ChunkRef) -> tuple[int, ...]:
    return ref.index, ref.start, ref.rows, ref.nbytes, ref.load_nbytes


def _plan(source: Source) -> list[tuple[int, ...]]:
    return [_numbers(ref) for ref in source.chunks()]


def _assert_same_chunk(found: Chunk, expected: Chunk, what: str) -> None:
    assert_equal(found.x, expected.x, what)
    require((found.weight is None) == (expected.weight is None), f"{what}: weights come and go")
    if found.weight is not None:
        assert_equal(found.weight, expected.weight, f"weights of {what}")
