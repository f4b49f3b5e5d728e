"""Every way of not being finite is found, at every place; nothing else is."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from streamem.machine.finite import all_finite

DTYPES = [np.float64, np.float32]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, -np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("size", [1, 2, 3, 8, 37, 64])
def test_what_is_not_finite(dtype: Any, value: float, size: int) -> None:
    for place in range(size):
        x = np.full(size, -1.5, dtype=dtype)
        x[place] = value
        assert not all_finite(x)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("payload", [1, 2**20])
def test_every_nan(dtype: Any, payload: int) -> None:
    bits, top = (np.uint64, 0x7FF0 << 48) if dtype == np.float64 else (np.uint32, 0x7F80 << 16)
    x = np.ones(7, dtype=dtype)
    x.view(bits)[3] = top | payload
    assert np.isnan(x[3])
    assert not all_finite(x)


@pytest.mark.parametrize("dtype", DTYPES)
def test_what_is_finite(dtype: Any) -> None:
    limits = np.finfo(dtype)
    extremes = [limits.max, limits.min, limits.tiny, limits.smallest_subnormal, 0.0, -0.0, 1.0]
    for size in range(len(extremes) + 1):
        assert all_finite(np.array(extremes[:size], dtype=dtype))
    assert all_finite(np.full(1000, limits.max, dtype=dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_from_the_middle_of_an_array(dtype: Any) -> None:
    x = np.ones((9, 3), dtype=dtype)
    x[0, 0] = x[8, 2] = np.nan
    assert all_finite(x[1:8])
    assert not all_finite(x[1:])
    assert not all_finite(x[:8])
