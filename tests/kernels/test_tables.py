"""Look-ups of codes: the bits of plain sums in order, whatever number of components a vector holds, and wrong codes."""

from __future__ import annotations

import numpy as np
import pytest

from streamem import kernels
from streamem.kernels.features.features import as_rows
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
