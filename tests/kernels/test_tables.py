"""Look-ups of codes: the bits of plain sums in order, whatever number of components a vector holds, and wrong codes."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from streamem import kernels
from streamem.core.arrays import Params
from streamem.core.small_work import Running
from streamem.kernels.features.features import as_rows
from streamem.kernels.tables.table_kernel import CategoricalKernel
from streamem.machine.lanes import in_lanes

SIZES = np.array([2, 5, 1, 4, 3])
STARTS = np.concatenate([[0], np.cumsum(SIZES)])
ROWS, TILE = 131, 64


@pytest.mark.parametrize("k", [1, 3, 4, 5, 8, 17, 33, 70])
def test_sums_and_statistics_have_the_bits_of_plain_loops(k: int) -> None:
    rng = np.random.default_rng(k)
    x = rng.integers(0, SIZES, (ROWS, len(SIZES))).astype(np.float64)
    x[rng.random(x.shape) < 0.1] = np.nan
    places = np.empty(x.shape, dtype=np.int32)
    absent = int(STARTS[-1])
    assert kernels.places_of(as_rows(x), STARTS, absent, places) == -1
    np.testing.assert_array_equal(places, np.where(np.isnan(x), absent, STARTS[:-1] + np.nan_to_num(x)))
    table, resp = np.log(rng.random((absent + 1, k))), rng.random((ROWS, k))
    expected, sums, weight = np.zeros((ROWS, k)), np.zeros((absent + 1, k)), np.zeros(k)
    for i in range(ROWS):
        weight += resp[i]
        for place in places[i]:
            expected[i] += table[place]
            sums[place] += resp[i]
    found = np.empty((k, ROWS))
    wide, padded = in_lanes(table), in_lanes(resp)
    kernels.look_up(places, wide, np.empty((TILE, wide.shape[1])), found)
    np.testing.assert_array_equal(found.T, expected)
    own, own_weight = np.zeros_like(wide), np.zeros(wide.shape[1])
    kernels.add_at(places, padded, own, own_weight)
    np.testing.assert_array_equal(own[:, :k], sums)
    np.testing.assert_array_equal(own_weight[:k], weight)


@pytest.mark.parametrize("value", [-1.0, 0.5, 5.0, 1e300, -np.inf, np.inf, 2.0**31, -1e-300])
@pytest.mark.parametrize("column", [0, 1, 4])
def test_a_wrong_code_is_found_where_it_is(value: float, column: int) -> None:
    x = np.zeros((7, len(SIZES)))
    x[0] = SIZES - 1
    x[4, column] = value
    x[5, 0] = -3.0  # a later one
    places = np.empty(x.shape, dtype=np.int32)
    assert kernels.places_of(as_rows(x), STARTS, -1, places) == 4 * len(SIZES) + column
    x[4, column] = np.nan  # one that was not observed stands for the first where none may be missing
    assert kernels.places_of(as_rows(x[:5]), STARTS, -1, places) == -1
    assert places[4, column] == STARTS[column]


@pytest.mark.parametrize("numpy", [False, True])
@pytest.mark.parametrize("absent", [-1, 12])
def test_pairs_of_codes_have_one_place(absent: int, numpy: bool) -> None:
    sizes, places = np.array([3.0, 4.0]), np.empty((8, 1), dtype=np.int32)
    x = np.array([[0, 0], [2, 3], [1, 2], [np.nan, 3], [2, np.nan], [np.nan, np.nan], [3, 0], [1, 4e9]])
    with Running(numpy):
        assert kernels.pair_places(as_rows(x[:6]), sizes, absent, False, places) == -1
        assert places[:6, 0].tolist() == [0, 11, 6, *[max(absent, 0)] * 3]
        assert kernels.pair_places(as_rows(x), sizes, absent, False, places) == 12
        assert kernels.pair_places(as_rows(x[7:]), sizes, absent, False, places) == 1
        assert kernels.pair_places(as_rows(x), sizes, absent, True, places) == -1
        assert places[6:, 0].tolist() == [max(absent, 0)] * 2
        for wrong in (-1.0, 0.5, -np.inf, 2.0**-1074):
            for row in ([wrong, np.nan], [np.nan, wrong], [1.0, wrong], [7.0, wrong]):
                bad = kernels.pair_places(as_rows(np.array([[0.0, 0.0], row])), sizes, absent, True, places)
                assert bad == 2 + row.index(wrong)


@pytest.mark.parametrize("numpy", [False, True])
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("k", [1, 3, 5, 17])
def test_groups_are_rows_of_all_their_codes(k: int, weighted: bool, numpy: bool) -> None:
    """Sums over groups, some of which have no row, more of them than a block or a tile holds."""
    rng = np.random.default_rng(k)
    table = rng.random((k, STARTS[-1])) + 0.1
    params = Params(probabilities=table, starts=STARTS)
    lengths = rng.integers(0, 4, 1500)
    bounds = np.concatenate([[0], np.cumsum(lengths)])
    spans, x = (
        np.column_stack([bounds[:-1], bounds[1:]]),
        rng.integers(0, SIZES, (bounds[-1], len(SIZES))).astype(float),
    )
    x[rng.random(x.shape) < 0.1] = np.nan
    weight = rng.random(len(spans)) if weighted else None
    log_weights = np.log(rng.dirichlet(np.ones(k)))
    places = np.where(np.isnan(x), STARTS[-1], STARTS[:-1] + np.nan_to_num(x)).astype(int)
    rows = np.vstack([np.log(table.T), np.zeros((1, k))])[places].sum(axis=1)
    group = np.repeat(np.arange(len(spans)), lengths)
    joint = log_weights + np.array([rows[group == g].sum(axis=0) for g in range(len(spans))])
    density = np.logaddexp.reduce(joint, axis=1)
    posterior: NDArray[np.float64] = np.exp(joint - density[:, None])
    own = np.ones(len(spans)) if weight is None else weight
    weighed = posterior * own[:, None]
    counts = np.zeros((STARTS[-1] + 1, k))
    for j in range(len(SIZES)):
        np.add.at(counts, places[:, j], weighed[group])
    with Running(numpy):
        kernel = CategoricalKernel(params, missing=True)
        found = kernel.mix_groups(x, spans, weight, log_weights)
        np.testing.assert_allclose(found.log_likelihood, own @ density, rtol=1e-12)
        np.testing.assert_allclose(found.responsibilities, weighed.sum(axis=0), rtol=1e-11)
        for times in (1, 2):
            stats = kernel.stats()
            np.testing.assert_allclose(stats.weight, times * weighed[group].sum(axis=0), rtol=1e-11)
            np.testing.assert_allclose(stats.counts, times * counts[:-1].T, rtol=1e-11)
            kernel.accumulate_groups(x, spans, weighed)
