"""Location and spread of columns: few rows tell them, wild and rare values do not move them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from scipy.stats import iqr, norm

from streamem import GaussianMixture
from streamem.core.errors import NumericalError
from streamem.families.anchor import MOST_ROWS, location_and_spread


def rows(n: int, dtype: Any = np.float64) -> Any:
    rng = np.random.default_rng(3)
    return (rng.normal(size=(n, 4)) * [1, 5, 1e-3, 1e4] + [0, 100, -7, 3]).astype(dtype)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_few_rows_are_all_taken(dtype: Any) -> None:
    x = rows(MOST_ROWS, dtype)
    center, deviation = location_and_spread(x, None)
    np.testing.assert_array_equal(center, np.median(x.astype(np.float64), axis=0))
    np.testing.assert_allclose(deviation, iqr(x.astype(np.float64), axis=0) / (2 * norm.ppf(0.75)), rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_some_of_many_tell_within_a_few_per_cent(dtype: Any) -> None:
    """Five standard errors of a median and of a range, Gaussian: √(π/2)/√m and 1.17/√m."""
    x = rows(20 * MOST_ROWS, dtype)
    center, deviation = location_and_spread(x, None)
    spread = np.array([1, 5, 1e-3, 1e4])
    assert (np.abs(center - np.median(x, axis=0)) / spread < 5 * 1.26 / np.sqrt(MOST_ROWS)).all()
    assert (np.abs(deviation / spread - 1) < 5 * 1.17 / np.sqrt(MOST_ROWS)).all()
    again = location_and_spread(x, None)
    np.testing.assert_array_equal(center, again[0])
    np.testing.assert_array_equal(deviation, again[1])


def test_sorted_and_periodic_rows_are_taken_from_everywhere() -> None:
    x = np.column_stack([np.arange(64.0 * MOST_ROWS), np.tile(np.arange(64.0), MOST_ROWS)])
    center, deviation = location_and_spread(x, None)
    assert center / x.max(axis=0) == pytest.approx(0.5, abs=0.03)
    assert deviation / x.max(axis=0) == pytest.approx(0.5 / 1.349, abs=0.03)


def test_what_is_rare_still_has_its_spread() -> None:
    """Quartiles of a column that is nearly always nil are nil; of the few other values some rows know nothing."""
    x = np.zeros((100 * MOST_ROWS, 2))
    x[:5, 1], x[5::2, 0] = 1e3, 1.0
    center, deviation = location_and_spread(x, None)
    assert center[1] == 0
    assert deviation[1] == pytest.approx(1e3 * np.sqrt(5 / len(x)), rel=1e-9)


def test_weights_of_nil_do_not_count() -> None:
    x = rows(3 * MOST_ROWS)
    weight = np.ones(len(x))
    x[::2], weight[::2] = 1e200, 0.0
    np.testing.assert_array_equal(location_and_spread(x, weight)[0], location_and_spread(x[1::2], None)[0])


@pytest.mark.parametrize("n", [1000, 20 * MOST_ROWS])
def test_a_single_value_whose_square_overflows_is_named(n: int) -> None:
    x = rows(n)
    x[n // 3, 2] = -3e200
    with pytest.raises(NumericalError, match=r"column 2 holds values up to 3e\+200, whose squares overflow float64"):
        location_and_spread(x, None)
    x[n // 3, 2] = 1e152  # the squares of which do not: n of them would
    assert np.isfinite(location_and_spread(x, None)[1]).all()
    with pytest.raises(NumericalError, match="column 0"):
        GaussianMixture(2).fit(np.where(x[:, :1] > 3, 1e200, x[:, :1]))
