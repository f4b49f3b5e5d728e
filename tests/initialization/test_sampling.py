"""The starting sample: uniform over rows, in their order, and no larger than asked."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import chi2

from streamem.core.chunk import Chunk
from streamem.core.errors import ImpossibleValueError, NonFiniteError
from streamem.core.ports import ChunkDone
from streamem.executors import ThreadsExecutor
from streamem.initialization.sampling import draw_indices, drawn_rows, located_in_source, sample_rows
from streamem.sources import ReadOptions, open_source


def ignore(done: ChunkDone) -> None:
    """No progress bar."""


def sample(x: NDArray[Any], size: int, seed: int = 0, weight: Any = None) -> Chunk:
    """Through chunks of unequal length and two threads."""
    source = open_source(x, weight=weight, options=ReadOptions(chunk_bytes=7 * x[:1].nbytes))
    with ThreadsExecutor(2) as executor:
        return sample_rows(source.chunks(), source.n_rows, size, executor, np.random.RandomState(seed), None, ignore)


@pytest.mark.parametrize(("n", "size"), [(40, 10), (41, 10), (200, 3), (200, 49), (9, 8)])
def test_every_row_is_as_likely(n: int, size: int) -> None:
    """Chi-square over rows, for both ways of drawing (a permutation of few, rejection among many)."""
    rng, draws = np.random.RandomState(0), 3000
    counts = np.zeros(n)
    for _ in range(draws):
        counts[draw_indices(n, size, rng)] += 1
    # Rows of one draw exclude each other, which narrows the spread of each count by (1 − size/n)·n/(n − 1).
    variance = draws * size / n * (1 - size / n) * n / (n - 1)
    statistic = ((counts - draws * size / n) ** 2).sum() / variance
    assert chi2.ppf(1e-4, n - 1) < statistic < chi2.ppf(1 - 1e-4, n - 1)


@pytest.mark.parametrize(("n", "size"), [(12, 2), (12, 4)])
def test_every_pair_is_as_likely(n: int, size: int) -> None:
    """Neighbours are neither preferred nor avoided."""
    rng, draws = np.random.RandomState(1), 6000
    counts = np.zeros((n, n))
    for _ in range(draws):
        rows = draw_indices(n, size, rng)
        counts[np.ix_(rows, rows)] += 1
    pairs = counts[np.triu_indices(n, 1)]
    expected = draws * size * (size - 1) / (n * (n - 1))
    # For pairs, exclusion narrows the spread or leaves it; the upper bound is of independent counts.
    assert ((pairs - expected) ** 2 / expected).sum() < chi2.ppf(1 - 1e-4, len(pairs) - 1)


@pytest.mark.parametrize(("n", "size"), [(1, 1), (5, 4), (1000, 300), (1000, 17), (2**40, 1000)])
def test_indices_are_distinct_sorted_and_in_range(n: int, size: int) -> None:
    """Also of a source with more rows than memory has bytes."""
    picks = draw_indices(n, size, np.random.RandomState(0))
    assert len(picks) == size
    assert (np.diff(picks) > 0).all()
    assert 0 <= picks[0] <= picks[-1] < n


@pytest.mark.parametrize("size", [50, 51, 10**9])
def test_a_size_of_n_takes_all_rows_and_no_random_number(size: int) -> None:
    """So that a start on small data is scikit-learn's."""
    x, rng = np.arange(100.0).reshape(50, 2), np.random.RandomState(4)
    source = open_source(x, options=ReadOptions(chunk_bytes=100))
    with ThreadsExecutor(2) as executor:
        found = sample_rows(source.chunks(), 50, size, executor, rng, None, ignore)
    assert np.array_equal(found.x, x)
    assert rng.randint(1 << 30) == np.random.RandomState(4).randint(1 << 30)


def test_rows_keep_their_order_and_their_weights() -> None:
    """The sample is a part of the source, with the weights that belong to it."""
    x = np.arange(400.0).reshape(200, 2)
    found = sample(x, 60, weight=x[:, 0] + 0.5)
    assert found.x.shape == (60, 2)
    assert (np.diff(found.x[:, 0]) > 0).all()
    assert np.array_equal(found.x[:, 1], found.x[:, 0] + 1)
    assert found.weight is not None
    assert np.array_equal(found.weight, found.x[:, 0] + 0.5)


@pytest.mark.parametrize(("n", "size"), [(200, 30), (200, 100), (200, 500)])
def test_a_value_of_the_sample_is_found_in_the_source(n: int, size: int) -> None:
    """By a draw of the same indices: few, half and all of the rows."""
    x = np.arange(2.0 * n).reshape(n, 2)
    source = open_source(x, options=ReadOptions(chunk_bytes=7 * x[:1].nbytes))
    found, picks = sample(x, size), drawn_rows(n, size, np.random.RandomState(0))
    for drawn in (0, 17, found.rows - 1):
        bad = ImpossibleValueError(float(found.x[drawn, 1]), 1, "it cannot be", "column 1 of the sample")
        row = int(found.x[drawn, 0]) // 2
        ref = next(ref for ref in source.chunks() if ref.start <= row < ref.start + ref.rows)
        told = located_in_source(bad, found, picks, source.chunks(), ("a", "b"))
        assert (
            told.place == f"chunk {ref.index} (rows {ref.start}–{ref.start + ref.rows - 1}): column 1 'b' of row {row}"
        )
    elsewhere = ImpossibleValueError(-1.0, 1, "it cannot be", "column 1 of the sample")
    assert located_in_source(elsewhere, found, picks, source.chunks(), None) is elsewhere


def test_the_seed_alone_decides() -> None:
    """The same rows for the same seed, others for another."""
    x = np.arange(200.0)[:, None]
    assert np.array_equal(sample(x, 20, seed=1).x, sample(x, 20, seed=1).x)
    assert not np.array_equal(sample(x, 20, seed=1).x, sample(x, 20, seed=2).x)


def test_a_bad_row_is_found_even_if_it_is_not_sampled() -> None:
    """NaN anywhere is an error before the first iteration."""
    x = np.zeros((300, 1))
    x[299] = np.nan
    with pytest.raises(NonFiniteError, match="row 299"):
        sample(x, 1)


def test_memory_follows_the_sample_not_the_rows() -> None:
    """A thousand of 2³⁴ rows take kilobytes; so does a sample out of many chunks."""
    tracemalloc.start()
    try:
        draw_indices(2**34, 1000, np.random.RandomState(0))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 1000 * 8
